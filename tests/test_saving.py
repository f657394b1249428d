"""Saved models come back bit for bit, damage is named in one sentence, and no interruption loses the old model."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import textwrap
import tracemalloc
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrec import saving
from jaxrec._checks import InputError
from jaxrec.data import Catalogue, Interactions
from jaxrec.evaluation.ranking import recommend
from jaxrec.linear.ease import Ease
from jaxrec.linear.popularity import Popularity
from jaxrec.models import FitInfo, Fitted, ItemScores, ItemWeights
from jaxrec.status import Certificate, Status


def fitted(model, *, method=None, ids=None, titles=None, residual=3e-7):
    info = FitInfo(
        method=method or Ease(reg=12.5),
        certificate=Certificate(Status.OK, residual, 1e-3, {"smallest diagonal": 0.25}),
        items=Catalogue(model.n_items, ids, titles),
        data={"name": "toy", "users": 3, "items": np.int64(model.n_items), "fingerprint": "abc"},
        seconds={"gram": 0.5, "inverse": 1.25},
    )
    return Fitted(model, info)


def item_weights(rng, n=6, dtype=np.float32):
    return ItemWeights(rng.standard_normal((n, n)).astype(dtype))


def same_array(saved, loaded):
    assert isinstance(loaded, jax.Array) == isinstance(saved, jax.Array)
    assert saved.dtype == loaded.dtype and saved.shape == loaded.shape
    assert np.asarray(saved).tobytes() == np.asarray(loaded).tobytes()


def files(folder):
    return sorted(os.listdir(folder))


def refused(folder, *words):
    """The one sentence with which loading `folder` is refused."""
    with pytest.raises(InputError) as caught:
        saving.load_model(folder)
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert "\n" not in message and message.endswith(".")
    return message


@pytest.fixture
def saved(tmp_path, rng):
    """A folder with a saved model, and what was saved."""
    model = fitted(item_weights(rng, 40), titles=np.array([f"title {i}" for i in range(40)]))
    saving.save(tmp_path / "model", model)
    return tmp_path / "model", model


@pytest.mark.parametrize("on_device", [False, True], ids=["numpy", "jax"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_arrays_come_back_bit_for_bit(tmp_path, rng, on_device, dtype):
    for number, array in enumerate((rng.standard_normal((7, 7)), rng.standard_normal(7))):
        array = array.astype(jnp.dtype(dtype))
        array = jnp.asarray(array) if on_device else array
        model = ItemWeights(array) if array.ndim == 2 else ItemScores(array)
        saving.save(tmp_path / str(number), fitted(model))
        loaded = saving.load_model(tmp_path / str(number)).model
        assert type(loaded) is type(model)
        same_array(array, jax.tree.leaves(loaded)[0])


def test_double_precision_survives_in_a_session_without_it(tmp_path, rng):
    with jax.enable_x64(True):
        weights = jnp.asarray(rng.standard_normal((3, 3)))
    saving.save(tmp_path / "model", fitted(ItemWeights(weights)))
    same_array(weights, saving.load_model(tmp_path / "model").model.weights)


def test_the_order_in_memory_is_kept(tmp_path, rng):
    model = ItemWeights(np.asfortranarray(rng.standard_normal((5, 5)).astype(np.float32)))
    saving.save(tmp_path / "model", fitted(model))
    np.testing.assert_array_equal(saving.load_model(tmp_path / "model").model.weights, model.weights)


@pytest.mark.parametrize(
    "names",
    [
        {},
        {"ids": np.array([5, 3, 8, 1, 0, 2], np.int32)},
        {"ids": np.array(["a", "bb", "", "ĉ", "e", "f"])},
        {"titles": np.array(["Amélie", "七人の侍", "", "🎬", "x" * 300, 'a, "b"\n'])},
        {"titles": np.array(["one", "two", "three", "four", "five", "six"], object)},
    ],
    ids=["none", "int ids", "str ids", "unicode titles", "object titles"],
)
def test_names_of_items_come_back(tmp_path, rng, names):
    saving.save(tmp_path / "model", fitted(item_weights(rng), **names))
    items = saving.load_model(tmp_path / "model").info.items
    for field in ("ids", "titles"):
        expected = names.get(field)
        if expected is None:
            assert getattr(items, field) is None
        else:
            assert getattr(items, field).tolist() == expected.tolist()


def test_items_chosen_from_a_matrix_without_ids_are_still_told_from_its_columns(tmp_path, rng):
    data = Interactions.from_csr(_random_csr(rng, 50, 20))
    saving.save(tmp_path / "model", Ease(reg=5.0).fit(data.select_items(np.array([7, 2, 9, 11]))))
    loaded = saving.load_model(tmp_path / "model")
    history = Interactions.from_lists([[2, 11]], 20)
    assert history.aligned_to(loaded).indices.tolist() == [1, 3]
    edited(tmp_path / "model", n_items_of_origin=None)
    with pytest.raises(InputError, match="lists has 20 items and the model 4; they must agree"):
        history.aligned_to(saving.load_model(tmp_path / "model"))


def test_what_is_known_about_the_fit_comes_back(tmp_path, rng):
    for method in (Ease(reg=12.5), Popularity()):
        before = fitted(item_weights(rng), method=method, residual=float("nan")).info
        saving.save(tmp_path / "model", Fitted(item_weights(rng), before))
        after = saving.load_model(tmp_path / "model").info
        assert after.method == method and type(after.method) is type(method)
        assert after.data == before.data and after.seconds == before.seconds
        assert np.isnan(after.certificate.residual)
        assert dataclasses.replace(after.certificate, residual=0.0) == dataclasses.replace(
            before.certificate, residual=0.0
        )


def test_loaded_models_recommend_the_same(tmp_path, rng):
    data = Interactions.from_csr(_random_csr(rng, 50, 20))
    for name, method in {"ease": Ease(reg=5.0), "popularity": Popularity()}.items():
        model = method.fit(data)
        saving.save(tmp_path / name, model)
        loaded = saving.load_model(tmp_path / name)
        expected, got = (recommend(one.model, data, k=20) for one in (model, loaded))
        np.testing.assert_array_equal(expected.items, got.items)
        np.testing.assert_array_equal(expected.scores, got.scores)


def _random_csr(rng, n_users, n_items):
    import scipy.sparse as sp

    return sp.csr_array((rng.random((n_users, n_items)) < 0.2).astype(np.float32))


def test_config_is_readable_strict_json(saved):
    folder, model = saved
    config = json.loads((folder / "config.json").read_text("utf-8"), parse_constant=pytest.fail)
    assert config["method"] == {"name": "ease", "hyper_parameters": dataclasses.asdict(model.info.method)}
    assert config["arrays"]["content"]["model.weights"] == {"kind": "numpy", "dtype": "float32", "shape": [40, 40]}
    assert set(config["versions"]) >= {"jaxrec", "jax", "numpy"}
    assert files(folder) == [config["arrays"]["file"], "config.json"]


def test_a_second_save_replaces_the_first(saved, rng):
    folder, _ = saved
    old = files(folder)
    new = fitted(item_weights(rng, 4))
    saving.save(folder, new)
    same_array(new.model.weights, saving.load_model(folder).model.weights)
    assert len(files(folder)) == 2 and files(folder) != old
    saving.save(folder, new)
    same_array(new.model.weights, saving.load_model(folder).model.weights)


def test_no_second_copy_is_made_in_memory(tmp_path):
    model = fitted(ItemWeights(np.ones((4096, 4096), np.float32)))
    size = model.model.weights.nbytes
    peaks = []
    for work in (lambda: saving.save(tmp_path / "model", model), lambda: saving.load_model(tmp_path / "model")):
        tracemalloc.start()
        work()
        peaks.append(tracemalloc.get_traced_memory()[1] / size)
        tracemalloc.stop()
    assert peaks[0] < 0.6 and peaks[1] < 1.1, peaks


# -- damage -----------------------------------------------------------------------------------------------------------


def arrays_file(folder) -> Path:
    (path,) = folder.glob("arrays.*.npz")
    return path


@pytest.mark.parametrize("keep", [0, 1, 30, 0.5, -100, -1])
def test_truncated_arrays(saved, keep):
    folder, _ = saved
    whole = arrays_file(folder).read_bytes()
    arrays_file(folder).write_bytes(whole[: int(keep * len(whole)) if keep == 0.5 else keep])
    refused(folder, "cut short or altered")


def test_a_flipped_bit_anywhere(saved, rng):
    folder, _ = saved
    whole = arrays_file(folder).read_bytes()
    for at in [0, len(whole) - 1, *rng.integers(len(whole), size=20)]:
        altered = bytearray(whole)
        altered[at] ^= 1
        arrays_file(folder).write_bytes(altered)
        refused(folder, "cut short or altered")


def test_missing_files(saved, tmp_path):
    folder, _ = saved
    arrays_file(folder).unlink()
    refused(folder, "lacks its arrays")
    (folder / "config.json").unlink()
    refused(folder, "holds no config.json")
    refused(tmp_path / "nowhere", "there is no such folder")
    (tmp_path / "file").write_text("x")
    refused(tmp_path / "file", "not a saved jaxrec model")


@pytest.mark.parametrize("text", [b"", b"{", b"\xff\xfe\x00", b'{"format": "jaxrec model"'])
def test_broken_json(saved, text):
    folder, _ = saved
    (folder / "config.json").write_bytes(text)
    refused(folder, "cannot be read as JSON")


@pytest.mark.parametrize("text", ["[]", "null", "{}", '{"model_type": "bert"}'])
def test_foreign_json(saved, text):
    folder, _ = saved
    (folder / "config.json").write_text(text)
    refused(folder, "not a saved jaxrec model")


def edited(folder, **changes):
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps(config | changes))


def test_a_newer_format(saved):
    folder, _ = saved
    edited(folder, format_version=99, versions={"jaxrec": "7.0"})
    refused(folder, "format 99", "jaxrec 7.0", "upgrade")


@pytest.fixture
def once_more(monkeypatch):
    """Ease as it is after it lost a setting, `shape`, of which the value "square" is what is left."""
    monkeypatch.setitem(saving.REMOVED, "ease", {"shape": "square"})


def test_a_setting_that_is_gone_is_dropped_where_it_had_its_default(saved, once_more):
    folder, model = saved
    edited(folder, method={"name": "ease", "hyper_parameters": {"reg": 12.5, "shape": "square"}})
    loaded = saving.load_model(folder)
    assert loaded.info.method == Ease(reg=12.5)
    same_array(model.model.weights, loaded.model.weights)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"reg": 12.5, "shape": "round"}, "shape='round' is gone"),
        ({"reg": 12.5, "solver": "direct"}, "solver must be one of auto, host, jax, got 'direct'"),
    ],
)
def test_a_model_of_settings_that_are_gone_must_be_fitted_again(saved, once_more, settings, complaint):
    folder, _ = saved
    edited(folder, method={"name": "ease", "hyper_parameters": settings})
    refused(folder, "of ease of an older version of jaxrec", complaint, "fit it again")


@pytest.mark.parametrize("name", list(saving.REMOVED))
def test_what_is_said_to_be_gone_is_dropped(saved, name):
    folder, _ = saved
    known = {field.name for field in dataclasses.fields(saving.METHODS[name])}
    edited(folder, method={"name": name, "hyper_parameters": saving.REMOVED[name]})
    method = saving.load_model(folder).info.method
    assert all(getattr(method, field) == was for field, was in saving.REMOVED[name].items() if field in known)


@pytest.mark.parametrize(
    "changes",
    [
        {"format_version": "one"},
        {"format_version": None},
        {"model": "Transformer"},
        {"model": ["ItemWeights"]},
        {"method": {"name": "ease", "hyper_parameters": {"depth": 3}}},
        {"method": {"name": "unheard of", "hyper_parameters": {}}},
        {"certificate": {}},
        {"certificate": None},
        {"n_items": 3},
        {"arrays": {}},
        {"arrays": None},
        {"arrays": {"file": "../arrays.npz", "sha256": "0" * 64, "content": {}}},
    ],
    ids=str,
)
def test_a_damaged_config(saved, changes):
    folder, model = saved
    edited(folder, **changes)
    if "delete the folder" not in refused(folder):
        saving.save(folder, model)  # the advice given
        same_array(model.model.weights, saving.load_model(folder).model.weights)


def test_announced_arrays_must_be_there(saved):
    folder, _ = saved
    arrays = json.loads((folder / "config.json").read_text("utf-8"))["arrays"]
    for content in (
        {"model.weights": {"kind": "numpy", "dtype": "float32", "shape": [2, 2]}},
        {"model.weights": {"kind": "numpy", "dtype": "float64", "shape": [40, 40]}},
        {"model.bias": {"kind": "numpy", "dtype": "float32", "shape": [40]}},
    ):
        edited(folder, arrays=arrays | {"content": content})
        refused(folder, "config.json is damaged")


def test_pickled_arrays_are_not_opened(saved):
    """Even with a right checksum: unpickling runs whatever the file says."""
    folder, _ = saved
    np.savez(folder / "evil.npz", **{"model.weights": np.array([print], object)})
    import hashlib

    digest = hashlib.sha256((folder / "evil.npz").read_bytes()).hexdigest()
    (folder / "evil.npz").rename(folder / f"arrays.{digest[:8]}.npz")
    content = {"model.weights": {"kind": "numpy", "dtype": "object", "shape": [1]}}
    edited(folder, arrays={"file": f"arrays.{digest[:8]}.npz", "sha256": digest, "content": content})
    refused(folder)


# -- targets ----------------------------------------------------------------------------------------------------------


def test_only_models_are_overwritten(tmp_path, rng):
    model = fitted(item_weights(rng))
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("years of work")
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert" / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "file").write_text("x")
    for name in ("thesis", "bert", "file", "missing/model"):
        before = files(tmp_path / name) if (tmp_path / name).is_dir() else None
        with pytest.raises(InputError):
            saving.save(tmp_path / name, model)
        assert before is None or files(tmp_path / name) == before
    (tmp_path / "empty").mkdir()
    saving.save(tmp_path / "empty", model)
    (tmp_path / "empty" / "notes.txt").write_text("kept")
    saving.save(tmp_path / "empty", model)
    assert "notes.txt" in files(tmp_path / "empty")


def test_unknown_kinds_are_refused(tmp_path, rng):
    @dataclasses.dataclass
    class Mine:
        n_items: int = 2

    with pytest.raises(InputError, match="ItemWeights"):
        saving.save(tmp_path / "model", fitted(Mine()))
    with pytest.raises(InputError, match="ease"):
        saving.save(tmp_path / "model", fitted(item_weights(rng), method=Mine()))
    assert not (tmp_path / "model").exists()


# -- interruption -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
@pytest.mark.parametrize(
    ("step", "call"),
    [("numpy.savez", 1), ("json.dumps", 1), ("os.replace", 1), ("os.replace", 2)]
    + [("os.fsync", call) for call in (1, 2, 3)],
)
def test_an_interrupted_save_leaves_the_old_model_and_nothing_else(saved, rng, monkeypatch, error, step, call):
    folder, old = saved
    before = files(folder)
    module, name = step.split(".")
    real, calls = getattr(sys.modules[module], name), []

    def interrupted(*args, **kwargs):
        calls.append(1)
        if step == "numpy.savez":
            args[0].write(b"half a file")
        if len(calls) == call:
            raise error
        return real(*args, **kwargs)

    monkeypatch.setattr(sys.modules[module], name, interrupted)
    with pytest.raises(error):
        saving.save(folder, fitted(item_weights(rng, 5)))
    monkeypatch.undo()
    assert files(folder) == before
    same_array(old.model.weights, saving.load_model(folder).model.weights)
    with pytest.raises(error), monkeypatch.context() as patch:
        calls.clear()
        patch.setattr(sys.modules[module], name, interrupted)
        saving.save(folder.parent / "new", fitted(item_weights(rng, 5)))
    assert not (folder.parent / "new").exists()


KILLED = """
    import os, signal, sys
    import numpy as np
    from jaxrec import saving
    from jaxrec.models import ItemWeights

    folder, where = sys.argv[1:]
    fitted = saving.load_model(folder)

    def die(*args):
        os.kill(os.getpid(), signal.SIGKILL)

    def half_written(file, **arrays):
        file.write(b"x" * 1000)
        file.flush()
        die()

    if where == "arrays":
        np.savez = half_written
    if where == "before config":
        saving.write_json = die
    if where == "before sweep":
        saving._sweep = die
    saving.save(folder, fitted._replace(model=ItemWeights(np.zeros((40, 40), np.float32))))
"""


@pytest.mark.parametrize("where", ["arrays", "before config", "before sweep"])
def test_a_killed_save_leaves_a_whole_model(saved, rng, where):
    folder, old = saved
    command = [sys.executable, "-c", textwrap.dedent(KILLED), str(folder), where]
    assert subprocess.run(command, timeout=600).returncode == -signal.SIGKILL
    assert len(files(folder)) == 3  # what the killed save left lies beside the model
    expected = np.zeros((40, 40), np.float32) if where == "before sweep" else old.model.weights
    same_array(expected, saving.load_model(folder).model.weights)
    new = fitted(item_weights(rng))
    saving.save(folder, new)  # and the next save sweeps it away
    assert len(files(folder)) == 2
    same_array(new.model.weights, saving.load_model(folder).model.weights)


def test_saves_at_the_same_time_leave_one_whole_model(tmp_path):
    code = """
        import sys
        import numpy as np
        from jaxrec import saving
        folder, value = sys.argv[1:]
        fitted = saving.load_model(folder)
        for _ in range(10):
            fitted.model.weights[:] = float(value)
            saving.save(folder, fitted)
    """
    folder = tmp_path / "model"
    saving.save(folder, fitted(ItemWeights(np.zeros((30, 30), np.float32))))
    command = [sys.executable, "-c", textwrap.dedent(code), str(folder)]
    running = [subprocess.Popen([*command, str(value)]) for value in (1, 2)]
    assert [process.wait(timeout=600) for process in running] == [0, 0]
    assert len(np.unique(saving.load_model(folder).model.weights)) == 1
    assert len(files(folder)) == 2


# -- JSON -------------------------------------------------------------------------------------------------------------


def test_json_is_strict_and_plain(tmp_path):
    value = {
        "numpy": [np.float32(0.5), np.int64(3), np.bool_(True), np.arange(3)],
        "not finite": [float("nan"), float("inf"), np.float32("-inf")],
        "other": (Status.OK, Certificate(Status.OK, 0.0, 1.0), None, Path("x"), "é"),
        1: "key",
    }
    saving.write_json(tmp_path / "out.json", value)
    text = (tmp_path / "out.json").read_text("utf-8")
    assert json.loads(text, parse_constant=pytest.fail) == {
        "numpy": [0.5, 3, True, [0, 1, 2]],
        "not finite": ["nan", "inf", "-inf"],
        "other": ["ok", {"status": "ok", "residual": 0.0, "limit": 1.0, "detail": {}}, None, "x", "é"],
        "1": "key",
    }
    assert files(tmp_path) == ["out.json"]


def test_json_replaces_in_one_step(tmp_path, monkeypatch):
    saving.write_json(tmp_path / "out.json", "old")
    monkeypatch.setattr(os, "fsync", lambda handle: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        saving.write_json(tmp_path / "out.json", "new")
    assert json.loads((tmp_path / "out.json").read_text()) == "old" and files(tmp_path) == ["out.json"]
