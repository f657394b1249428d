"""Models whose arrays are not what they must be, saved with a right checksum: refused before anything computes."""

import hashlib
import json
import os

import jax
import numpy as np
import pytest

from jaxrec import InputError, Interactions, load_model, recommend, save
from jaxrec.data import Catalogue
from jaxrec.deep.network import Network, modules
from jaxrec.methods import METHODS
from jaxrec.models import FitInfo, Fitted, ItemFactors, ItemScores, ItemWeights, PairWeights, SparseItemWeights
from jaxrec.status import Certificate
from jaxrec.validation import SHAPES, validate

ITEMS, FEATURES = 7, 3


def normal(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def kinds():
    """A model of each kind, with a method it could come from."""
    architecture = METHODS["mult-vae"](hidden=(4,), latent=2).architecture(ITEMS)
    tied = METHODS["autoencoder"](encoder=(4, 2), decoder=(4,), tied=True).architecture(ITEMS)
    return {
        "weights": ("ease", ItemWeights(normal(ITEMS, ITEMS), normal(ITEMS))),
        "factors": ("pure-svd", ItemFactors(normal(ITEMS, FEATURES), normal(ITEMS, FEATURES))),
        "scores": ("popularity", ItemScores(normal(ITEMS))),
        "pairs": (
            "higher-order",
            PairWeights(normal(ITEMS, ITEMS), np.array([[0, 1], [2, 6]], np.int32), normal(2, ITEMS)),
        ),
        "sparse": (
            "item-knn",
            SparseItemWeights(
                np.array([0, 2, 2, 3, 3, 3, 3, 4], np.int64), np.array([1, 6, 0, 2], np.int32), normal(4), normal(ITEMS)
            ),
        ),
        "network": ("mult-vae", Network(modules.init(architecture, jax.random.key(0)), architecture)),
        "tied": ("autoencoder", Network(modules.init(tied, jax.random.key(0)), tied)),
    }


MODELS = kinds()
TIED = {"encoder": (4, 2), "decoder": (4,), "tied": True}
SETTINGS = {"mult-vae": {"hidden": (4,), "latent": 2}, "autoencoder": TIED}


@pytest.fixture
def folder(tmp_path):
    """Saves a model of a kind, and gives the folder."""

    def saved(kind):
        name, model = MODELS[kind]
        method = METHODS[name](**SETTINGS.get(name, {}))
        data = {"name": "toy", "fingerprint": "x"}
        info = FitInfo(method, Certificate.exact(), Catalogue(ITEMS, np.array(list("abcdefg"))), data, {"solve": 1.0})
        save(tmp_path / "model", Fitted(model, info))
        return tmp_path / "model"

    return saved


def sealed(folder, change=None, config=None):
    """Changes the arrays or the config of a saved model, with a checksum that is right again."""
    described = json.loads((folder / "config.json").read_text())
    if change is not None:
        file = folder / described["arrays"]["file"]
        with np.load(file) as stored:
            arrays = dict(stored)
        change(arrays)
        np.savez(file, **arrays)
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        content = described["arrays"]["content"]
        for name in list(content):
            if name not in arrays:
                del content[name]
        for name, array in arrays.items():
            kind = content.get(name, {}).get("kind", "numpy")
            content[name] = {"kind": kind, "dtype": str(array.dtype), "shape": array.shape}
        described["arrays"] |= {"file": f"arrays.{digest[:8]}.npz", "sha256": digest}
        file.rename(folder / described["arrays"]["file"])
    (folder / "config.json").write_text(json.dumps(described | (config or {})))


def refused(folder, *words):
    with pytest.raises(InputError) as caught:
        load_model(folder)
    sentence = str(caught.value)
    assert "\n" not in sentence and sentence.endswith(".") and len(sentence) < 700
    assert all(word in sentence for word in words), sentence


@pytest.mark.parametrize("kind", MODELS)
def test_whole_models_pass(kind, folder):
    loaded = load_model(folder(kind))
    history = Interactions.from_lists([[0, 1]], ITEMS)
    np.testing.assert_array_equal(recommend(loaded, history, 3).items, recommend(MODELS[kind][1], history, 3).items)
    assert loaded.info.items.ids.tolist() == list("abcdefg")


@pytest.mark.parametrize("name", ["mult-vae", "mult-dae", "rec-vae", "autoencoder"])
def test_the_shapes_of_a_network(name):
    architecture = METHODS[name](**({"tied": True, "bias": False} if name == "autoencoder" else {})).architecture(11)
    _, state = modules.skeleton(architecture)
    flat = {".".join(map(str, path)): leaf.shape for path, leaf in modules.nnx.to_flat_state(state)}
    assert architecture.shapes == flat


@pytest.mark.parametrize("field", ["indices", "indptr", "pairs"])
@pytest.mark.parametrize("value", [-1, ITEMS, 300, 2**30, -(2**31)])
def test_indices_outside(field, value, folder):
    def change(arrays):
        arrays[f"model.{field}"].reshape(-1)[1] = value

    there = folder("pairs" if field == "pairs" else "sparse")
    sealed(there, change)
    refused(there, field)


CASES = [
    (kind, name, how)
    for kind, (_, model) in MODELS.items()
    for name in (model.architecture.shapes if kind in ("network", "tied") else SHAPES[type(model)])
    for how in ("shorter", "longer", "flat", "type", "nan", "gone")
]


@pytest.mark.parametrize(("kind", "name", "how"), CASES)
def test_arrays_of_another_shape_or_type(kind, name, how, folder):
    there = folder(kind)
    dotted = f"model.parameters.{name}" if kind in ("network", "tied") else f"model.{name}"

    def change(arrays):
        array = arrays[dotted]
        made = {"shorter": array[:-1], "longer": np.concatenate([array, array[:1]]), "flat": array[None]}
        made |= {"type": np.array(["x"] * array.size).reshape(array.shape), "nan": np.full_like(array, 0) * np.nan}
        if how == "gone":
            del arrays[dotted]
        else:
            arrays[dotted] = made[how]

    sealed(there, change)
    if (how == "gone" and name in ("unexplained", "offset")) or (how == "nan" and name == "unexplained"):
        load_model(there)
    else:
        refused(there)


def test_an_array_more(folder):
    for kind in ("weights", "network"):
        for extra in ("model.x", "model.padding", "model.parameters.x", "model.architecture"):
            there = folder(kind)
            sealed(there, lambda arrays, extra=extra: arrays.update({extra: normal(2)}))
            refused(there)


def test_a_model_in_memory_is_validated_the_same():
    with pytest.raises(InputError, match=r"here: weights has shape \(7, 7\) where \(8, 8\) is wanted"):
        validate(MODELS["weights"][1], 8, "here")


DEEP: list = []
for _ in range(60):
    DEEP = [DEEP]
ODD = [None, True, 3, -1, 10**400, 1e300, "x", "x" * 100_000, [], {}, DEEP, ["x"]]
KEYS = ["versions", "model", "method", "certificate", "data", "seconds", "n_items", "arrays"]


@pytest.mark.parametrize("value", ODD, ids=lambda value: str(value)[:9])
@pytest.mark.parametrize("key", KEYS)
def test_values_of_another_type_in_the_config(key, value, folder):
    there = folder("scores")
    sealed(there, config={key: value})
    if key == "versions" or (key, value) in [("data", {}), ("data", []), ("seconds", {})]:
        load_model(there)  # not needed, or as good as empty
    else:
        refused(there)


@pytest.mark.parametrize(
    "changed",
    [
        {"detail": {"x": [1]}},
        {"detail": {"x": "y"}},
        {"detail": [1]},
        {"residual": "x"},
        {"residual": None},
        {"status": "fine"},
        {"status": ["ok"]},
        {"more": 1},
    ],
    ids=str,
)
def test_a_certificate_of_a_wrong_type(changed, folder):
    there = folder("scores")
    certificate = json.loads((there / "config.json").read_text())["certificate"]
    sealed(there, config={"certificate": certificate | changed})
    refused(there, "damaged")


def test_figures_that_are_not_finite_come_back(folder):
    there = folder("scores")
    certificate = json.loads((there / "config.json").read_text())["certificate"]
    sealed(there, config={"certificate": certificate | {"detail": {"x": "nan", "y": "inf"}, "residual": "nan"}})
    assert "x nan, y inf" in str(load_model(there).info.certificate)


@pytest.mark.parametrize("versions", [{}, None, [], {"jaxrec": 3}, {"jaxrec": "x" * 10**5}], ids=lambda v: str(v)[:9])
def test_a_newer_format_that_does_not_say_by_whom(versions, folder):
    there = folder("scores")
    sealed(there, config={"format_version": 2, "versions": versions})
    refused(there, "format 2", "upgrade jaxrec")


@pytest.mark.parametrize("place", ["config.json", "arrays"])
@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "itself"])
def test_only_regular_files_are_read(place, kind, folder):
    there = folder("scores")
    path = there / "config.json" if place == "config.json" else next(there.glob("arrays.*"))
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero" if kind == "device" else path)
    refused(there)


def test_a_config_nested_too_deeply_or_too_large(folder, monkeypatch):
    there = folder("scores")
    (there / "config.json").write_text("[" * 200_000)
    refused(there, "nested too deeply")
    with open(there / "config.json", "wb") as file:
        file.truncate(2**31)
    refused(there, "larger than")


def test_arrays_damaged_under_a_right_checksum(folder):
    there = folder("weights")
    described = json.loads((there / "config.json").read_text())
    whole = (there / described["arrays"]["file"]).read_bytes()
    flipped = bytearray(whole)
    flipped[whole.index(normal(ITEMS, ITEMS).tobytes()) + 5] ^= 1
    for raw in (whole[:-30], whole[: len(whole) // 2], whole[20:], bytes(flipped), b"", b"PK\x05\x06" + bytes(18)):
        digest = hashlib.sha256(raw).hexdigest()
        (there / f"arrays.{digest[:8]}.npz").write_bytes(raw)
        described["arrays"] |= {"file": f"arrays.{digest[:8]}.npz", "sha256": digest}
        (there / "config.json").write_text(json.dumps(described))
        refused(there, "damaged")


def test_more_bytes_than_announced_are_not_read(folder):
    there = folder("weights")
    described = json.loads((there / "config.json").read_text())
    file = there / described["arrays"]["file"]
    with open(file, "r+b") as more:
        more.truncate(2**33)
    refused(there, "cut short or altered")


def test_a_save_in_between_is_read_again(folder, monkeypatch):
    """The arrays that a config names are swept away between reading the one and the others."""
    from jaxrec import saving

    there = folder("weights")
    read = saving._read_config
    seen = []

    def then_saved(path):
        config = read(path)
        seen.append(config["arrays"]["file"])
        if len(seen) == 1:
            monkeypatch.undo()
            save(there, load_model(there)._replace(model=ItemWeights(np.zeros((ITEMS, ITEMS), np.float32))))
            monkeypatch.setattr(saving, "_read_config", then_saved)
        return config

    monkeypatch.setattr(saving, "_read_config", then_saved)
    assert not load_model(there).model.weights.any()
    assert len(set(seen)) == 2


def test_names_longer_than_others_take_their_own_room(tmp_path):
    ids = ["a\0", "a", "é" * 9000, "", "\n", '"', "g"]
    info = FitInfo(METHODS["popularity"](), Certificate.exact(), Catalogue(ITEMS, np.array(ids, object)), {}, {})
    save(tmp_path / "model", Fitted(ItemScores(normal(ITEMS)), info))
    assert load_model(tmp_path / "model").info.items.ids.tolist() == ids
    assert sum(path.stat().st_size for path in (tmp_path / "model").iterdir()) < 70_000


@pytest.mark.parametrize("names", [b"[", b"3", b"[1, 2]", b'["a"]', b"\xff", b'{"a": 1}', b"[" * 9999])
def test_names_that_are_no_list_of_texts(names, folder):
    there = folder("scores")
    sealed(there, lambda arrays: arrays.update({"items.ids": np.frombuffer(names, np.uint8)}))
    refused(there)


def test_every_kind_that_is_saved_is_validated():
    from jaxrec.saving import MODELS as SAVED

    assert set(SAVED.values()) == {*SHAPES, Network}
