"""Files opened with care, and written in one step, also where the disk is full."""

import errno
import json
import os
import resource

import numpy as np
import pytest

from jaxrec import InputError
from jaxrec.runtime import checkpoint, files


def special(kind, path):
    """Puts something that is no regular file at `path`."""
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    return path


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_only_regular_files_are_read(kind, tmp_path):
    path = special(kind, tmp_path / "x")
    with pytest.raises(InputError, match="give a file"), files.regular(path):
        pass
    with pytest.raises(InputError, match="give a file"):
        files.read_json(path)


def test_a_link_to_a_file_is_followed(tmp_path):
    (tmp_path / "x").write_text("[1]")
    (tmp_path / "link").symlink_to(tmp_path / "x")
    assert files.read_json(tmp_path / "link") == [1]


def test_json_is_bounded(tmp_path):
    (tmp_path / "deep").write_text("[" * 200_000)
    with pytest.raises(ValueError, match="too deeply"):
        files.read_json(tmp_path / "deep")
    (tmp_path / "large").write_text(json.dumps("x" * 100))
    with pytest.raises(InputError, match="larger than 50 bytes"):
        files.read_json(tmp_path / "large", at_most=50)


@pytest.fixture
def full_disk():
    """No file may grow beyond 10 kB."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("write", ["json", "text", "checkpoint"])
def test_a_full_disk_leaves_the_old_file_and_names_it(write, tmp_path, full_disk):
    path = tmp_path / "out"
    path.write_text("old")
    with pytest.raises(OSError) as caught:
        if write == "json":
            files.write_json(path, ["x"] * 10_000)
        elif write == "text":
            files.write_text(path, "x" * 100_000)
        else:
            checkpoint.write(path, {}, {"a": np.zeros(100_000)})
    assert caught.value.errno in (errno.EFBIG, errno.ENOSPC) and caught.value.filename == str(path)
    assert os.listdir(tmp_path) == ["out"] and path.read_text() == "old"
