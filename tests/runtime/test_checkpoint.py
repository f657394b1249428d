"""What stands in the place of a checkpoint."""

import io
import json
import os

import numpy as np
import pytest

from jaxrec import Ials, InputError, MultVae
from jaxrec.runtime import checkpoint

BELONGS = {"method": "x"}


def npy():
    file = io.BytesIO()
    np.save(file, np.arange(3))
    return file.getvalue()


def npz(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


NO_CHECKPOINTS = {
    "empty": b"",
    "text": b"hello",
    "array": npy(),
    "other arrays": npz(user=[1]),
    "header of numbers": npz(header=np.arange(3)),
    "header of a list": npz(header=np.array("[1]")),
    "header of a number": npz(header=np.array("3")),
    "header of no JSON": npz(header=np.array("{")),
    "nested header": npz(header=np.array("[" * 100_000)),
    "another format": npz(header=np.array(json.dumps({"format": "jaxrec checkpoint 0"}))),
    "cut short": npz(header=np.array(json.dumps({"format": checkpoint.FORMAT, **BELONGS})), a=np.zeros(9))[:-30],
}


@pytest.mark.parametrize("content", NO_CHECKPOINTS.values(), ids=NO_CHECKPOINTS)
def test_what_is_no_checkpoint_is_refused_before_the_fit(content, tmp_path, data, monkeypatch):
    path = tmp_path / "ck"
    path.write_bytes(content)
    for look in (checkpoint.check_target, lambda path: checkpoint.read(path, BELONGS)):
        with pytest.raises(InputError, match=r"is no checkpoint of this version of jaxrec; .*\.$"):
            look(path)
    for method in (Ials(2), MultVae()):
        monkeypatch.setattr(type(method), "_solve", lambda *args, **options: pytest.fail("a fit began"))
        with pytest.raises(InputError, match="is no checkpoint"):
            method.fit(data, checkpoint=path)
    assert path.read_bytes() == content


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_what_is_no_file_is_refused(kind, tmp_path, data):
    path = tmp_path / "ck"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    with pytest.raises(InputError, match="name another file"):
        Ials(2).fit(data, checkpoint=path)


@pytest.mark.parametrize("odd", [3, ["x"], b"x"])
def test_what_is_no_path_is_refused(odd):
    with pytest.raises(InputError, match="must be a path"):
        checkpoint.check_target(odd)


@pytest.mark.parametrize(
    "changed",
    [
        {"user_factors": np.zeros((3, 2), np.float32)},
        {"item_factors": np.array(["x"])},
        {"course": np.zeros(3)},
        {"course": np.zeros((1, 99))},
        {"course": np.array([["a", "b"]])},
    ],
    ids=str,
)
def test_arrays_of_another_shape_are_refused(changed, tmp_path, data):
    path = tmp_path / "ck"
    Ials(2, sweeps=1).fit(data, checkpoint=path)
    with np.load(path) as stored:
        arrays = dict(stored) | changed
    with open(path, "wb") as file:
        np.savez(file, **arrays)
    with pytest.raises(InputError, match="is no checkpoint"):
        Ials(2, sweeps=2).fit(data, checkpoint=path)
