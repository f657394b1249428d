"""One battery over every registered method."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from jaxrec import InputError, Interactions, Plan, Scorer, Status, load_model, plan, recommend, save
from jaxrec.data import row_batches
from jaxrec.deep import rec_vae
from jaxrec.methods import METHODS
from jaxrec.runtime import parallel

pytestmark = pytest.mark.parametrize("name", METHODS)
NOT_PERSONAL = {"popularity": "gives everyone the same scores"}
RANDOM_START = "starts from random factors, one draw an item"
# Networks, small and for a few epochs: at this size all the time goes into compiling them.
NETWORKS = {
    "mult-vae": {"hidden": (8,), "latent": 4, "kl_weight": 0.01, "kl_steps": 0},
    "mult-dae": {"latent": 4},
    "rec-vae": {"hidden": 8, "latent": 4, "gamma": 1e-4},
    "autoencoder": {"encoder": (8, 4), "decoder": (8,)},
}
SETTINGS = {
    name: {"epochs": 60, "batch_size": 30, "dropout": 0.1, "learning_rate": 0.02} | more
    for name, more in NETWORKS.items()
}
ORDER_MATTERS = {name: RANDOM_START for name in ("elsa", "ials", *NETWORKS)}
# Enough rank for the two kinds of items, and not for the holes as well.
FEW_KINDS = {"pure-svd": {"rank": 4}, "elsa": {"rank": 4}}
# Not convex: it stops where the loss stops falling, and rounding, which depends on the order, decides where that is;
# the loss is the same, but the scores of a rare item may differ by much.
ORDER_TOLERANCE = {"low-rank-edlae": 0.2}
ON_A_MESH = {"low-rank-edlae": 0.2, "ials": 1e-3, **dict.fromkeys(NETWORKS, 1e-2)}  # for the same reason
ORDER_SETTINGS = {"low-rank-edlae": {"rank": 4}}  # few enough that the descent is over soon

# A system is solved for each history; layers are summed in another order.
SCORE_TOLERANCE = {"ials": 1e-5, **dict.fromkeys(NETWORKS, 1e-5)}


def made(name, **more):
    """The method, with its defaults but for what `SETTINGS` makes smaller."""
    return METHODS[name](**SETTINGS.get(name, {}) | more)


@pytest.fixture(autouse=True)
def few_layers(monkeypatch):
    """Two hidden layers of RecVAE in place of five, which compile faster."""
    monkeypatch.setattr(rec_vae, "HIDDEN_LAYERS", 2)


@pytest.fixture
def checkerboard() -> Interactions:
    """Even users like even items and odd users odd ones; each misses one of its kind, which is the right answer."""
    x = np.add.outer(np.arange(40), np.arange(20)) % 2 == 0
    missing = [(u, (u + 2 * (u % 7)) % 20) for u in range(40)]
    for u, i in missing:
        x[u, i] = False
    return Interactions.from_triples(*np.nonzero(x), n_users=40, n_items=20)


@pytest.fixture(scope="module")
def data() -> Interactions:
    rng = np.random.default_rng(0)
    x = rng.random((60, 23)) < rng.random(23) ** 2
    titles = [f"item {i}" for i in range(23)]
    return Interactions.from_triples(*np.nonzero(x), n_users=60, n_items=23, titles=titles)


@pytest.fixture(scope="module")
def fit(data):
    """The fit of a method of a name to the data, made once: most tests only read it."""
    return functools.cache(lambda name, **more: made(name, **more).fit(data))


def test_fit_reports_itself(name, data, fit):
    model, info = fit(name)
    assert info.method == made(name) and info.certificate.status is Status.OK
    assert info.certificate.residual <= info.certificate.limit
    assert info.data["fingerprint"] == data.fingerprint and info.items is data.items
    assert all(seconds >= 0 for seconds in info.seconds.values()) and info.seconds
    assert isinstance(model, Scorer) and model.n_items == data.n_items


def test_config_is_frozen_hashable_and_printable(name):
    method = METHODS[name]()
    assert (
        hash(method) == hash(METHODS[name]())
        and eval(repr(method), dict(METHODS), {type(method).__name__: METHODS[name]}) == method
    )
    with pytest.raises(dataclasses.FrozenInstanceError):
        method.reg = 3


def test_fills_in_a_checkerboard(name, checkerboard):
    if name in NOT_PERSONAL:
        pytest.skip(NOT_PERSONAL[name])
    first = recommend(made(name, **FEW_KINDS.get(name, {})).fit(checkerboard).model, checkerboard, 1).items[:, 0]
    np.testing.assert_array_equal(first, [(u + 2 * (u % 7)) % 20 for u in range(40)])


def test_saved_and_loaded_models_recommend_the_same(name, data, fit, tmp_path):
    fitted = fit(name)
    save(tmp_path / "model", fitted)
    loaded = load_model(tmp_path / "model")
    for before, after in zip(recommend(fitted.model, data, 5), recommend(loaded.model, data, 5), strict=True):
        np.testing.assert_array_equal(before, after)
    assert loaded.info.method == fitted.info.method and loaded.info.certificate == fitted.info.certificate


def test_items_may_come_in_any_order(name, data, fit, rng):
    if name in ORDER_MATTERS:
        pytest.skip(ORDER_MATTERS[name])
    order = rng.permutation(data.n_items)
    method = made(name, **ORDER_SETTINGS.get(name, {}))
    plain = fit(name, **ORDER_SETTINGS.get(name, {})).model.score_host(data.to_csr())
    shuffled = data.select_items(order)
    found = method.fit(shuffled).model.score_host(shuffled.to_csr())
    np.testing.assert_allclose(found, plain[:, order], atol=ORDER_TOLERANCE.get(name, 1e-5))


def test_same_data_same_result(name, data, fit):
    jax.tree.map(np.testing.assert_array_equal, made(name).fit(data).model, fit(name).model)


@pytest.mark.parametrize("devices", (pytest.param(1, marks=pytest.mark.slow), 8))
def test_a_mesh_gives_the_same(name, devices, data, fit):
    if name in NETWORKS and devices < 8:
        pytest.skip("compiles long, and 8 devices show the same")
    mesh = parallel.make_mesh(jax.devices()[:devices])
    method = made(name, **ORDER_SETTINGS.get(name, {}))
    alone = fit(name, **ORDER_SETTINGS.get(name, {}))
    expected = alone.model.score_host(data.to_csr())
    model, info = method.fit(data, devices=mesh)
    found = model.score_host(data.to_csr())
    np.testing.assert_allclose(found, expected, atol=ON_A_MESH.get(name, 1e-5) * np.abs(expected).max())
    if name == "low-rank-edlae":
        np.testing.assert_allclose(info.certificate.detail["loss"], alone.info.certificate.detail["loss"], rtol=1e-4)
    assert info.certificate.status is Status.OK and model.n_items == data.n_items
    assert recommend(model, data, 4).items.shape == (60, 4)


def test_both_scoring_paths_agree(name, data, fit):
    model = fit(name).model
    (batch,) = row_batches(data, data.n_users)
    expected = model.score_host(data.to_csr())
    atol = SCORE_TOLERANCE.get(name, 1e-6) * max(1, np.abs(expected).max())
    np.testing.assert_allclose(model.score(batch), expected, atol=atol)
    np.testing.assert_allclose(jax.jit(lambda m, b: m.score(b))(model, batch), model.score(batch), atol=atol)


def test_unseen_users_are_folded_in(name, fit, rng):
    model = fit(name).model
    unseen = Interactions.from_triples(*np.nonzero(rng.random((30, 23)) < 0.2), n_users=30, n_items=23)
    assert recommend(model, unseen, 4).items.shape == (30, 4)


def test_histories_are_matched_with_a_model_by_their_items(name, data, fit, tmp_path, rng):
    fitted = fit(name)
    save(tmp_path / "model", fitted)
    shuffled = data.select_items(rng.permutation(23))
    expected = recommend(fitted, data, 5)
    for model in (fitted, fitted.model):
        found = recommend(model, shuffled, 5)
        np.testing.assert_array_equal(found.items, expected.items)
        assert found.titles() == expected.titles()
    loaded = load_model(tmp_path / "model")
    assert loaded.model.items is loaded.info.items and fitted.model.items is data.items


def test_nothing_to_learn_from_is_refused(name):
    with pytest.raises(InputError, match="no interactions"):
        made(name).fit(Interactions.from_triples([], [], n_users=2, n_items=2))


def test_plan(name):
    made = plan(1000, 500, 20_000, name)
    assert isinstance(made, Plan) and made.total > 0 and made.fits and "GB" in str(made)
    assert made.parts == plan(1000, 500, 20_000, METHODS[name]()).parts
    with pytest.raises(InputError, match="n_items must be at least 1"):
        plan(10, 0, 5, name)
    with pytest.raises(InputError, match="method must be one of"):
        plan(10, 10, 5, name + "?")


def test_numbers_are_checked_and_made_plain(name):
    """Of every field that is a number: what is none, or NaN, is refused in one sentence; NumPy's become Python's."""

    def with_field(field, value):
        method = METHODS[name]()
        object.__setattr__(method, field, value)  # the constructor's types are checked in tests, and only there
        method.__post_init__()
        return method

    for field in dataclasses.fields(METHODS[name]):
        kind = field.type.partition(" ")[0]
        if kind not in ("int", "float"):
            continue
        for wrong in ("1", float("nan"), -1, 1j, True, np.array(0.5), np.float32("nan")):
            with pytest.raises(InputError, match=rf"^{field.name} must .*\.$"):
                with_field(field.name, wrong)
        plain = {"int": 1, "float": 0.5}[kind]
        same = with_field(field.name, np.dtype(f"{kind}32").type(plain))
        assert type(getattr(same, field.name)) is type(plain) and repr(same) == repr(with_field(field.name, plain))
