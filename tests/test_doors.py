"""What public functions take, and that each of them is a door."""

import inspect
import re
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import jaxrec
from jaxrec import InputError, Interactions, Weights
from jaxrec._checks import doors
from jaxrec.data import from_frame, splits
from jaxrec.factorization import fold_in
from jaxrec.methods import METHODS

# What is for the function itself to look at: open on purpose, or an array, whose shape and type matter as well.
OPEN = {
    *("Any", "np.ndarray", "ArrayLike", "PackedBatch", "Problem", "Solution"),
    *("str | Iterable[str | Metric]", "Mapping[str, Sequence[float]]", "Sequence[str | int] | np.ndarray"),
}
X = sp.random(60, 20, 0.2, format="csr", random_state=1, data_rvs=np.ones)
DATA = Interactions.from_csr(X)
PARTS = splits.per_user_random(DATA)
FITTED = jaxrec.Popularity().fit(DATA)
NARROW = jaxrec.ItemWeights(np.ones((9, 20)))
EASE = jaxrec.Ease(10.0).fit(DATA)


def public_functions():
    """By name, with those of the public classes that take arguments."""
    for name in jaxrec.__all__:
        public = getattr(jaxrec, name)
        if not inspect.isclass(public):
            yield name, public
            continue
        for own, value in vars(public).items():
            value = getattr(value, "__func__", value)
            if inspect.isfunction(value) and not own.startswith("_"):
                yield f"{name}.{own}", value
    yield from ((how.__name__, how) for how in splits.SPLITS.values())
    yield from {"from_frame": from_frame, "fold_in": fold_in}.items()


FUNCTIONS = dict(public_functions())


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_a_public_function_is_a_door_to_kinds_that_are_known(name):
    function = FUNCTIONS[name]
    written = {key: str(kind) for key, kind in function.__annotations__.items() if key != "return"}
    checked = {kind for kind in written.values() if kind not in OPEN}
    assert all(map(doors.kind_of, checked)), f"say in a @kind what is taken for {checked}, or look at it"
    hooks = {"architecture", "step_config", "step_numbers", "task", "penalty", "training_data", "transform_weights"}
    inner = {"scores", "settings", "to_json"}
    if checked - {"int", "bool"} and name.rpartition(".")[2] not in hooks | inner | {"problem"}:
        assert hasattr(function, "__wrapped__"), f"{name} is no @door"


def test_a_door_passes_on_what_is_right_and_converts_what_counts_as_it():
    @doors.door
    def asked(data: "Interactions", k: "int" = 3, *more: "float", share: "float | None" = None, on: "bool" = False):
        return data, k, more, share, on

    data, k, more, share, on = asked(X, np.int64(5), 0.5, share=np.float32(0.5), on=np.True_)
    assert isinstance(data, Interactions) and (k, share, on) == (5, 0.5, True) and more == (0.5,)
    assert type(k) is int and type(share) is float and type(on) is bool
    assert asked(DATA)[1:] == (3, (), None, False)
    with pytest.raises(TypeError, match="unexpected keyword"):
        asked(DATA, other=3)
    with pytest.raises(TypeError, match="missing 1 required"):
        asked()


@pytest.mark.parametrize(
    ("written", "wrong"),
    [
        ("int", [1.0, True, "3", None, np.ones(1), 1j]),
        ("float", ["0.5", None, True, [1.0], 10**400, np.ones(1), 1j]),
        ("bool", [0, 1, None, "yes", np.ones(1)]),
        ("str", [b"a", 3, None, Path("a")]),
        ("str | os.PathLike", [3, b"a", None, "a\0"]),
        ("str | None", [3]),
        ("Callback", [3, "len"]),
        ("Callable[[int], int] | None", [3]),
        ("PRNGKeyArray", [0, None, jax.random.split(jax.random.key(0)), np.ones(2), np.zeros(3, np.uint32)]),
        ("Literal['a', 'b']", ["c", None, np.array(["a", "b"]), ["a"], 10**5000]),
        ("DTypeLike", ["no", "\ud800", object, complex, 3, None, np.ones(3)]),
        ("Interactions", [None, 3, X.toarray(), "msweb", PARTS, PARTS.test, FITTED, pd.DataFrame()]),
        ("HeldOut", [None, DATA, PARTS, (DATA,), (DATA, None)]),
        ("Catalogue", [DATA, ["a"], 3]),
        ("int | Catalogue", [DATA, 1.5, None]),
        ("str | Split", [None, PARTS.test, 3]),
        ("Weights", ["log", DATA.values, X, 3]),
        ("Method | str", [None, jaxrec.Ease, "eese", FITTED]),
        ("Fitted", [jaxrec.Ease(), jaxrec.Ease, FITTED.model, None, "m", (1, 2)]),
        (
            "Scorer | Fitted",
            [jaxrec.Ease(), jaxrec.Ease, np.eye(20), None, "ease", NARROW],
        ),
        ("RowBatch", [X, DATA, None]),
        ("sp.csr_array", [X.toarray(), DATA, None]),
        ("UserItemFactors", [FITTED, FITTED.model, None]),
    ],
)
def test_what_is_no_such_thing_is_refused_in_one_sentence_that_names_the_argument(written, wrong):
    taken = doors.kind_of(written)
    for value in wrong:
        with pytest.raises(InputError) as caught:
            taken("given", value)
        said = str(caught.value)
        assert "given" in said and said.endswith(".") and "\n" not in said and len(said) < 500, said


CALLS = {
    "dense": (lambda: jaxrec.Ease(1.0).fit(X.toarray()), "Interactions.from_csr"),
    "frame": (lambda: jaxrec.Ease(1.0).fit(pd.DataFrame({"user": [1]})), "jaxrec.data.from_frame"),
    "path": (lambda: jaxrec.Ease(1.0).fit("ratings.csv"), "jaxrec.load"),
    "split": (lambda: jaxrec.Ease(1.0).fit(PARTS), r"\.train"),
    "held out": (lambda: jaxrec.Ease(1.0).fit(PARTS.test), r"\.fold_in"),
    "not fitted": (lambda: jaxrec.evaluate(jaxrec.Ease(), DATA, DATA), "call its fit first"),
    "recommend not fitted": (lambda: jaxrec.recommend(jaxrec.Ease(), DATA), "call its fit first"),
    "matrix for a model": (lambda: jaxrec.evaluate(X @ X.T, DATA, DATA), "must be what fit returned"),
    "no model": (lambda: jaxrec.evaluate(None, DATA, DATA), "must be what fit returned"),
    "name for a model": (lambda: jaxrec.evaluate("ease", DATA, DATA), "must be what fit returned"),
    "no metrics": (lambda: jaxrec.evaluate(FITTED, PARTS.test, metrics=None), "names with cut-offs"),
    "number for metrics": (lambda: jaxrec.evaluate(FITTED, PARTS.test, metrics=20), "names with cut-offs"),
    "number as metric": (lambda: jaxrec.evaluate(FITTED, PARTS.test, metrics=[20]), "name with its cut-off"),
    "upper case": (lambda: jaxrec.evaluate(FITTED, PARTS.test, metrics="NDCG@10"), "the closest is ndcg"),
    "titles": (lambda: jaxrec.recommend(FITTED, DATA).titles(DATA), r"take its \.items"),
    "weights by name": (lambda: jaxrec.Ials().fit(DATA, cell_weights="log"), r"Weights\.log"),
    "weights as values": (lambda: jaxrec.Ials().fit(DATA, cell_weights=DATA.values), r"Weights\.log"),
    "weights as matrix": (lambda: jaxrec.WeightedEase().fit(DATA, cell_weights=X), r"Weights\.log"),
    "validation": (lambda: jaxrec.MultVae().fit(DATA, validation=DATA), r"such as split\.test"),
    "whole split as validation": (lambda: jaxrec.MultVae().fit(DATA, validation=PARTS), r"take its \.test"),
    "swapped save": (lambda: jaxrec.save(FITTED, "m"), "path must be a path"),
    "save a model": (lambda: jaxrec.save("m", FITTED.model), "its model alone"),
    "save a method": (lambda: jaxrec.save("m", jaxrec.Ease()), "call its fit first"),
    "update a model": (lambda: jaxrec.update(EASE.model, DATA), "its model alone"),
    "row": (lambda: DATA.rows(3), "one-dimensional"),
    "text row": (lambda: DATA.rows(["1"]), "whole numbers"),
    "row beyond": (lambda: DATA.rows([10**6]), "beyond n_users"),
    "half a row": (lambda: DATA.rows([1.5]), "whole numbers"),
    "ragged rows": (lambda: DATA.rows([[1], [1, 2]]), "must be an array"),
    "item beyond": (lambda: DATA.select_items([10**6]), "beyond n_items"),
    "titles for items": (lambda: DATA.select_items(["Toy Story"]), "whole numbers"),
    "short mask": (lambda: DATA.keep([True]), "truth values"),
    "list of items": (lambda: Interactions.from_csr(X, items=["a"] * 20), "must be a Catalogue"),
    "seed for a key": (lambda: jaxrec.Ials().fit(DATA, key=0), r"jax\.random\.key\(0\)"),
    "weights that fit nothing": (lambda: jaxrec.evaluate(NARROW, PARTS.test), "has shape"),
    "split a matrix by a bad name": (lambda: jaxrec.split(X, "randm"), "the closest is random"),
    "history by number": (lambda: jaxrec.recommend(FITTED, 1), r"data\.user_index\(id\)"),
    "history by title": (lambda: jaxrec.recommend(FITTED, ["SQL Server"]), "must be Interactions"),
    "load a frame": (lambda: jaxrec.load(pd.DataFrame()), r"jaxrec\.data\.from_frame"),
    "setting": (lambda: jaxrec.split(DATA, "random", sed=1), "it has test_fraction, seed"),
    "which pair": (lambda: jaxrec.similar_items(_ials(), choice="balanced"), r"model\.user_factors"),
    "huge": (lambda: jaxrec.plan(10**400, 10, 10), "below 2"),
    "choice": (lambda: jaxrec.Ials(target=np.array(["one", "one"])), "must be one of"),
    "truth": (lambda: jaxrec.Dan(zero_diagonal="no"), "True or False"),
    "matrix to score": (lambda: EASE.model.score(X), "jaxrec.recommend"),
    "data to score on the host": (lambda: EASE.model.score_host(DATA), r"data\.to_csr\(\)"),
    "other items to score": (lambda: EASE.model.score_host(X[:, :9]), "have 9 items and the model 20"),
    "objective of no number": (
        lambda: jaxrec.gauge_report((np.ones((9, 2)), np.ones((9, 2))), lambda *pair: "x"),
        "must return a number made by JAX, got 'x'",
    ),
    "gram of nothing": (lambda: jaxrec.Ease().gram(None), "must be Interactions"),
}  # fmt: skip


def _ials():
    return jaxrec.Ials(rank=2, sweeps=1).fit(DATA)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_natural_mistake_is_told_what_helps(call):
    tried, remedy = call
    with pytest.raises(InputError, match=remedy) as caught:
        tried()
    assert re.fullmatch(r"[^\n]{1,400}\.", str(caught.value)), caught.value


@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_fit_refuses_what_is_no_data_and_takes_a_sparse_matrix(name):
    method = METHODS[name]()
    for wrong in (None, X.toarray(), "msweb", PARTS):
        with pytest.raises(InputError, match="train must be Interactions or a SciPy sparse matrix"):
            method.fit(wrong)
    with pytest.raises(InputError, match="there are no interactions to learn from"):
        method.fit(sp.csr_array((60, 20)))
    with pytest.raises(InputError, match="n_users must be a whole number"):
        method.plan(1e5, 10, 10)


def test_a_sparse_matrix_will_do_everywhere_and_means_what_from_csr_makes_of_it():
    fitted = jaxrec.Ease(10.0).fit(X)
    assert np.array_equal(fitted.model.weights, EASE.model.weights)
    for own, matrix in ((DATA, X), (DATA.rows(np.arange(9)), X[:9].tocoo())):
        assert np.array_equal(jaxrec.recommend(fitted, own).items, jaxrec.recommend(fitted, matrix).items)
    train, targets = (part.to_csr() for part in PARTS.test)
    assert jaxrec.evaluate(EASE, train, targets).mean == jaxrec.evaluate(EASE, PARTS.test).mean
    left_out = jaxrec.evaluate_leave_user_out(jaxrec.Ease(10.0), X)
    assert left_out.mean == jaxrec.evaluate_leave_user_out(jaxrec.Ease(10.0), DATA).mean
    assert jaxrec.split(X, "random", seed=3).test.targets.nnz == int(0.2 * X.nnz)
    assert jaxrec.update(fitted, X, added=X[:2]).train.n_users == 62
    assert jaxrec.tune("ease", X, {"reg": [10.0]}).best.report.n_users == left_out.n_users
    assert Weights.constant(X, 1.0).shape == X.shape


def test_evaluate_takes_a_held_out_and_says_what_it_lacks():
    assert jaxrec.evaluate(EASE, PARTS.test).mean == jaxrec.evaluate(EASE, *PARTS.test).mean
    for fold_in_, targets in ((PARTS.test, DATA), (DATA, None)):
        with pytest.raises(InputError, match="takes fold_in and targets, or both in one"):
            jaxrec.evaluate(EASE, fold_in_, targets)


class Own:
    """A scorer of somebody else, whose scores may have another shape."""

    n_items = 20

    def __init__(self, rows, columns, where):
        self.more = rows, columns
        setattr(self, where, self._score)

    def _score(self, history):
        n = history.rows.shape[0] if hasattr(history, "rows") else history.shape[0]
        return np.ones((n + self.more[0], 20 + self.more[1]), np.float32)


@pytest.mark.parametrize("where", ["score", "score_host"])
@pytest.mark.parametrize("more", [(0, -1), (1, 0), (0, 1)])
def test_scores_of_another_shape_are_refused(where, more):
    with pytest.raises(InputError, match="a model must score each item for each history"):
        jaxrec.recommend(Own(*more, where), DATA)


@pytest.mark.parametrize("where", ["score", "score_host"])
def test_a_scorer_of_ones_own_will_do(where):
    assert jaxrec.recommend(Own(0, 0, where), DATA, 3).items.shape == (60, 3)
