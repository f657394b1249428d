"""Are cosines determined by the objective? Curvature against formulas and finite differences, verdicts, the report."""

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import cosines, factorization_loss, unweighted_als
from scipy.linalg import expm

from jaxrec import InputError, Interactions, LowRankEdlae
from jaxrec import similarity as sim
from jaxrec.similarity.curvature import with_best_common_scale
from jaxrec.similarity.lists import CHOICES

REG = {"product": 20.0, "factor": 1.5}
CLOSED_FORMS = {"product": sim.closed_form_product, "factor": sim.closed_form_factor}
OBJECTIVES = {"product": sim.product_objective, "factor": sim.factor_objective}


@pytest.fixture
def x(rng) -> np.ndarray:
    taste = rng.random((4, 12)) ** 2
    return (rng.random((80, 12)) < taste[rng.integers(0, 4, 80)]).astype(np.float64)


@pytest.fixture
def data(x) -> Interactions:
    return Interactions.from_triples(*np.nonzero(x), n_users=80, n_items=12)


@pytest.fixture
def product_model(data):
    return sim.closed_form_product(sim.eigenpairs(data, 4), REG["product"])


def root_of(x):
    """R with R'R = X'X."""
    return np.linalg.cholesky(x.T @ x).T


class TestCurvature:
    def test_is_zero_for_the_product_and_the_formula_for_the_factor_objective(self, x, data, rng, x64):
        direction = rng.normal(size=4)
        pairs = sim.eigenpairs(data, 4)
        sigma, reg = np.sqrt(pairs.values), REG["factor"]
        model = sim.closed_form_factor(pairs, reg)
        found = sim.gauge_curvature(
            lambda p: sim.factor_objective(x, *p, reg), (model.encoder, model.decoder), direction
        )
        assert float(found) == pytest.approx(8 * reg * np.sum(direction**2 * np.maximum(sigma - reg, 0)), rel=1e-10)
        model = sim.closed_form_product(pairs, 20.0)
        for generator in (direction, rng.normal(size=(4, 4))):
            flat = sim.gauge_curvature(
                lambda p: sim.product_objective(x, *p, 20.0), (model.encoder, model.decoder), generator
            )
            assert abs(float(flat)) < 1e-9

    def test_equals_finite_differences_along_the_exponential(self, x, rng, x64):
        a, b, generator = rng.normal(size=(12, 3)), rng.normal(size=(12, 3)), rng.normal(size=(3, 3))

        def along(t):
            return factorization_loss("factor", x, a @ expm(t * generator), b @ expm(-t * generator.T), 2.0)

        step = 1e-3
        expected = (along(step) - 2 * along(0) + along(-step)) / step**2
        found = sim.gauge_curvature(lambda p: sim.factor_objective(x, *p, 2.0), (a, b), generator)
        assert float(found) == pytest.approx(expected, rel=1e-4)

    def test_hessian_holds_every_rescaling(self, x, rng, x64):
        params = rng.normal(size=(12, 3)), rng.normal(size=(12, 3))
        found = sim.rescaling_curvature(lambda p: sim.factor_objective(x, *p, 2.0), params)
        direction = rng.normal(size=3)
        single = sim.gauge_curvature(lambda p: sim.factor_objective(x, *p, 2.0), params, direction)
        assert direction @ found.hessian @ direction == pytest.approx(float(single), rel=1e-9)

    def test_relative_curvature_of_weight_decay(self, x, data, x64):
        pairs, reg = sim.eigenpairs(data, 4), REG["factor"]
        model, s = sim.closed_form_factor(pairs, reg), np.sqrt(pairs.values) - reg
        found = sim.rescaling_curvature(lambda p: sim.factor_objective(x, *p, reg), (model.encoder, model.decoder))
        np.testing.assert_allclose(found.score_curvature, 8 * s**2, rtol=1e-9)
        ratios = np.sort(reg / s)
        assert len(found.relative) == 3  # interlaced, since the common scale is left out
        assert (ratios[:-1] - 1e-12 <= found.relative).all() and (found.relative <= ratios[1:] + 1e-12).all()
        assert found.verdict == "determined" and "determined by the objective" in str(found)

    @pytest.mark.parametrize(
        ("kind", "reg", "verdict"),
        (
            ("product", 20.0, "arbitrary"),
            ("factor", 1.0, "determined"),
            ("factor", 0.05, "weak"),
            ("factor", 1e-5, "arbitrary"),
        ),
    )
    def test_verdicts_in_float32(self, x, data, kind, reg, verdict):
        model = CLOSED_FORMS[kind](sim.eigenpairs(data, 4), reg)
        sides = model.encoder.astype(np.float32), model.decoder.astype(np.float32)
        root = jnp.asarray(root_of(x), jnp.float32)
        found = sim.rescaling_curvature(lambda p: OBJECTIVES[kind](root, *p, reg), sides)
        assert found.verdict == verdict
        assert str(found).startswith(verdict)
        assert (found.n_flat == 3) == (verdict == "arbitrary")

    def test_factors_that_are_no_minimum_are_called_unfinished(self, x, data):
        model = sim.rescale(sim.closed_form_factor(sim.eigenpairs(data, 4), 1.0), [1, 1, 1, 3])
        found = sim.rescaling_curvature(lambda p: sim.factor_objective(x, *p, 1.0), (model.encoder, model.decoder))
        assert found.verdict == "unfinished" and "a scale is off by" in str(found)

    def test_the_step_undoes_a_small_rescaling(self, x, data, x64):
        d = np.array([0.02, -0.01, 0.0, 0.01])
        model = sim.rescale(sim.closed_form_factor(sim.eigenpairs(data, 4), 1.5), np.exp(d))
        found = sim.rescaling_curvature(lambda p: sim.factor_objective(x, *p, 1.5), (model.encoder, model.decoder))
        np.testing.assert_allclose(np.diff(found.step + d), 0, atol=5e-4)  # the common scale is not looked at
        assert found.verdict == "determined"

    def test_best_common_scale(self, x, data, x64):
        model = sim.closed_form_factor(sim.eigenpairs(data, 4), 1.5)
        for kind, scale in (("factor", 1.0), ("product", 40.0)):
            sides = 40 * jnp.asarray(model.encoder), jnp.asarray(model.decoder) / 40
            found = with_best_common_scale(lambda p, kind=kind: OBJECTIVES[kind](x, *p, 1.5), sides)
            np.testing.assert_allclose(found[0], scale * model.encoder, rtol=1e-4)
            np.testing.assert_allclose(found[1], model.decoder / scale, rtol=1e-4)

    def test_axes_turn_the_dimensions(self, x, data, rng, x64):
        model = sim.closed_form_factor(sim.eigenpairs(data, 4), 1.5)
        rotation = np.linalg.qr(rng.normal(size=(4, 4)))[0]
        turned = sim.transform(model, rotation)
        objective = lambda p: sim.factor_objective(x, *p, 1.5)  # noqa: E731
        straight = sim.rescaling_curvature(objective, (model.encoder, model.decoder))
        found = sim.rescaling_curvature(objective, (turned.encoder, turned.decoder), axes=rotation.T)
        np.testing.assert_allclose(found.hessian, straight.hessian, atol=1e-9)
        axes = sim.principal_axes(x @ turned.encoder, turned.decoder)
        found = sim.rescaling_curvature(objective, (turned.encoder, turned.decoder), axes=axes)
        np.testing.assert_allclose(found.relative, straight.relative, rtol=1e-9)
        with pytest.raises(InputError, match=r"axes must have shape \[4, 4\]"):
            sim.rescaling_curvature(objective, (model.encoder, model.decoder), axes=np.eye(3))

    def test_where_nothing_depends_on_the_factors(self, x):
        with pytest.raises(InputError, match="the objective rises along no scaling of the scores"):
            sim.rescaling_curvature(lambda p: 0 * jnp.sum(p[0]), (np.ones((3, 2)), np.ones((4, 2))))
        with pytest.raises(InputError, match="derivatives are not finite"):
            sim.rescaling_curvature(lambda p: jnp.sum(p[0] ** 2) / 0.0, (np.ones((3, 2)), np.ones((4, 2))))

    def test_the_common_scale_is_no_freedom(self, x, data):
        """A penalty on ratios of scales alone: doubling A and halving B costs nothing, and changes no cosine."""
        model = sim.canonical_gauge(sim.closed_form_product(sim.eigenpairs(data, 3), 20.0))

        def objective(p):
            a, b = p
            logs = jnp.log(jnp.sum(a**2, axis=0)) - jnp.log(jnp.sum(b**2, axis=0))
            return sim.product_objective(x, a, b, 20.0) + 5 * jnp.sum((logs - jnp.mean(logs)) ** 2)

        found = sim.rescaling_curvature(objective, (model.encoder, model.decoder))
        assert abs(np.linalg.eigvalsh(found.hessian)[0]) < 1e-2 < np.linalg.eigvalsh(found.hessian)[1]
        assert found.verdict == "determined"

    def test_one_dimension_has_nothing_to_rescale(self, x, data):
        model = sim.closed_form_product(sim.eigenpairs(data, 1), 20.0)
        found = sim.rescaling_curvature(lambda p: sim.product_objective(x, *p, 20.0), (model.encoder, model.decoder))
        assert len(found.relative) == 0 and found.verdict == "determined"


@jax.tree_util.register_pytree_with_keys_class
class Variable:
    """A leaf in a box, as the variables of Flax NNX are."""

    def __init__(self, value):
        self.value = value

    def tree_flatten_with_keys(self):
        return [(jax.tree_util.GetAttrKey("value"), self.value)], None

    @classmethod
    def tree_unflatten(cls, _, children):
        return cls(*children)


class TestTowers:
    """Two towers with a hidden layer, their last layers being the factors; boxed as in NNX and bare as in Linen."""

    @pytest.fixture(params=(lambda leaf: leaf, Variable), ids=("linen", "nnx"))
    def tower(self, request, rng):
        box = request.param
        shapes = {"hidden": (6, 5), "head": (5, 3)}
        params = {
            side: {
                name: {"kernel": box(rng.normal(size=shape)), "bias": box(rng.normal(size=shape[1]))}
                for name, shape in shapes.items()
            }
            for side in ("user", "item")
        }
        inputs = {side: rng.normal(size=(8, 6)) for side in params}

        def embed(side, params):
            layers = {
                name: {key: getattr(leaf, "value", leaf) for key, leaf in layer.items()}
                for name, layer in params[side].items()
            }
            bias = {name: layer["bias"][None, :] for name, layer in layers.items()}
            hidden = jnp.tanh(inputs[side] @ layers["hidden"]["kernel"] + bias["hidden"])
            return hidden @ layers["head"]["kernel"] + bias["head"]

        target = rng.normal(size=(8, 8))

        def objective(decay):
            def loss(params):
                error = target - embed("user", params) @ embed("item", params).T
                return jnp.sum(error**2) + decay * sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(params))

            return loss

        return objective, params

    SIDES: ClassVar = {"user": ("user/head/kernel", "user/head/bias"), "item": "item/head"}

    def test_only_weight_decay_sees_the_gauge(self, tower, rng, x64):
        objective, params = tower
        direction = rng.normal(size=3)
        assert abs(float(sim.gauge_curvature(objective(0.0), params, direction, **self.SIDES))) < 1e-9
        heads = [params[side]["head"][key] for side in ("user", "item") for key in ("kernel", "bias")]
        squares = sum(np.sum((np.atleast_2d(getattr(head, "value", head)) * direction) ** 2) for head in heads)
        found = sim.gauge_curvature(objective(0.3), params, direction, **self.SIDES)
        assert float(found) == pytest.approx(4 * 0.3 * squares, rel=1e-9)
        np.testing.assert_allclose(sim.rescaling_curvature(objective(0.0), params, **self.SIDES).hessian, 0, atol=1e-9)

    def test_leaves_must_be_named_so_that_each_fits_one(self, tower):
        objective, params = tower
        for sides, message in (
            ({}, "user and item must name the leaves of the two sides, of: item/head/bias"),
            (
                {"user": "head/kernel", "item": "item/head/kernel"},
                "'head/kernel' must fit one place, and fits 2, in: item/head/bias",
            ),
            ({"user": "user/tail", "item": "item/head/kernel"}, "'user/tail' must fit one place, and fits 0"),
            ({"user": "user/hidden/kernel", "item": "item/head/kernel"}, "the same last axis, got axes"),
        ):
            with pytest.raises(InputError, match=message):
                sim.gauge_curvature(objective(0.0), params, np.ones(3), **sides)
        with pytest.raises(InputError, match=r"direction must have shape \[3\] or \[3, 3\], got \[4\]"):
            sim.gauge_curvature(objective(0.0), params, np.ones(4), **self.SIDES)


class TestReport:
    def test_of_an_objective_that_sees_scores_alone(self, x, data, product_model):
        root = root_of(x)
        report = sim.gauge_report(product_model, lambda a, b: sim.product_objective(root, a, b, 20.0), data, k=3)
        assert report.verdict == "arbitrary" and list(report.choices) == list(CHOICES)
        assert report.free > 0.5 and report.width > 1
        assert report.choices["as_given"].same_lists == 1 > report.choices["reconstruction"].same_lists
        text = str(report)
        assert "verdict    arbitrary: 3 of 3 rescalings" in text and "same top 3" in text and "item orthonormal" in text
        assert report.record()["verdict"] == "arbitrary" and len(report.record()["relative_curvature"]) == 3

    def test_numbers_are_those_of_the_cosines(self, data, rng):
        fitted = LowRankEdlae(rank=3, reg=5.0).fit(data)
        report = sim.gauge_report(fitted, n_pairs=20_000, k=4)
        assert report.verdict == "unknown" and "give the objective" in str(report)
        assert "reconstruction" not in report.choices
        expected = cosines(fitted.model.decoder)[~np.eye(12, dtype=bool)]
        assert report.choices["as_given"].mean == pytest.approx(expected.mean(), abs=0.02)
        assert report.choices["as_given"].std == pytest.approx(expected.std(), abs=0.02)
        i, j = np.nonzero(~np.eye(12, dtype=bool))
        low, high = sim.cosine_range(fitted.model.decoder, i, j)
        assert report.free == pytest.approx(((low == -1) & (high == 1)).mean(), abs=0.02)

    def test_of_user_and_item_factors(self, x, rng):
        p, q = unweighted_als(x, 3, 1.0, seed=0, sweeps=500)
        q[5] = 0
        report = sim.gauge_report((p, q), n_pairs=50, k=20)
        assert report.n_zero == 1 and report.k == 10 and "1 of them zero" in str(report)
        assert "reconstruction" in report.choices and np.isfinite(report.choices["reconstruction"].mean)

    @pytest.mark.parametrize(("reg", "sweeps", "verdict"), ((1.0, 400, "determined"), (0.001, 15, "unfinished")))
    def test_of_alternating_least_squares(self, x, reg, sweeps, verdict):
        """With little weight decay the scales stay where the first sweeps left them."""
        pair = unweighted_als(x, 4, reg, 0, sweeps)

        def objective(p, q):
            error = x.astype(np.float32) - jnp.matmul(p, q.T, precision="highest")
            return jnp.sum(error**2) + reg * (jnp.sum(p**2) + jnp.sum(q**2))

        assert sim.gauge_report(pair, objective).verdict == verdict

    def test_needs_two_items(self):
        items = np.zeros((4, 2))
        items[1] = 1
        with pytest.raises(InputError, match="at least two items with nonzero factors, got 1"):
            sim.gauge_report((np.ones((3, 2)), items))
