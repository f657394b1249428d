"""Checkpoints of a long run: one npz file, replaced in one step, that says what it belongs to.

Killed at any moment, the file is the one before or the one after, whole.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxrec._checks import InputError, shown
from jaxrec._checks.doors import kind
from jaxrec._checks.doors import path as a_path
from jaxrec.runtime.archive import DAMAGE, Archive
from jaxrec.runtime.files import regular, replacing

FORMAT = "jaxrec checkpoint 1"
MOST_HEADER = 2**22  # bytes


def identity(method: str, data: str, key: Any, **others: Any) -> dict[str, Any]:
    """What a run that is taken up again must share with the one before, in JSON's types.

    Args:
      method: its configuration in words, without what may change from one run to the other.
      data: fingerprint of what it is trained on.
      key: random key of the run, or None.
      **others: what else must be the same, by name, in JSON's types.
    """
    words = None if key is None else np.asarray(jax.random.key_data(key)).tolist()
    return {"method": method, "data": data, "key": words, **others}


def write(path: str | os.PathLike, belongs_to: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    """Replaces the checkpoint at `path` by these arrays, on the disk when it returns.

    Args:
      path: a file; its folder must exist.
      belongs_to: what must be the same when the run is taken up again, from `identity`.
      arrays: by name.
    """
    header = np.array(json.dumps({"format": FORMAT, **belongs_to}, sort_keys=True))
    with replacing(path, f"{Path(path).name}.part") as file:
        np.savez(file, header=header, **arrays)  # pyright: ignore[reportArgumentType]


def read(path: str | os.PathLike, belongs_to: dict[str, Any]) -> dict[str, np.ndarray] | None:
    """The arrays of the checkpoint at `path`; None if there is none yet.

    Raises:
      InputError: the file is damaged or foreign, or belongs to another run; or it cannot be written.
    """
    if (stored := _opened(path)) is None:
        return None
    header, arrays = stored
    wanted = json.loads(json.dumps(belongs_to))
    for name in {**wanted, **header}:
        if header.get(name) != wanted.get(name):
            raise InputError(
                f"checkpoint {path} belongs to another run ({name[:40]} is {shown(header.get(name))} there and "
                f"{shown(wanted.get(name))} here); delete it or name another file."
            )
    return arrays


def require(
    path: str | os.PathLike, found: dict[str, np.ndarray], like: dict[str, Any], course_width: int, bits: bool = False
) -> None:
    """Refuses the arrays of a checkpoint that are not shaped like those of the run that takes it up.

    Args:
      path: of the checkpoint.
      found: what `read` returned.
      like: arrays of the same shapes, by name.
      course_width: columns of the array "course".
      bits: whether numbers must be as wide as those, of which they are the bits, too; else they are floating-point.
    """
    wanted = {name: (array.shape, array.dtype.itemsize if bits else "f") for name, array in like.items()}
    there = {name: found[name] for name in like if name in found}
    held = {name: (array.shape, array.dtype.itemsize if bits else array.dtype.kind) for name, array in there.items()}
    course = found.get("course", np.zeros(0))
    if held != wanted or course.ndim != 2 or course.shape[1] != course_width or course.dtype.kind != "f":
        raise InputError(f"{path} is no checkpoint of this version of jaxrec; delete it or name another file.")


def check_target(path: str | os.PathLike) -> None:
    """Refuses a file that is no checkpoint or could not be written, before time is spent; it need not exist.

    Raises:
      InputError: as of `read`, but for whose run it is.
    """
    _opened(a_path("checkpoint", path), only_header=True)


@kind("checkpoint: str | os.PathLike | None")
def target(name: str, value: Any) -> str | os.PathLike | None:
    """A file that is a checkpoint, or could become one, or None."""
    del name
    if value is not None:
        check_target(value)
    return value


def _opened(path: str | os.PathLike, only_header: bool = False) -> tuple[dict[str, Any], dict[str, np.ndarray]] | None:
    """The header and the arrays of a checkpoint; None if there is none yet."""
    path = Path(path)
    if not path.absolute().parent.is_dir():
        raise InputError(f"checkpoint {path} cannot be written: its folder does not exist; create it first.")
    if path.is_dir() or not path.name or not os.access(path.absolute().parent, os.W_OK):
        why = "it is a folder" if path.is_dir() or not path.name else "its folder is not writable"
        raise InputError(f"checkpoint {path} cannot be written: {why}; name another file.")
    if not path.exists():
        return None
    try:
        with regular(path) as file:
            archive = Archive(file, str(path))
            if (said := archive.headers["header"]).nbytes > MOST_HEADER or said.shape != () or said.dtype.kind != "U":
                raise ValueError("a header that is none")
            header = json.loads(archive.read(["header"])["header"].item())
            if header.pop("format") != FORMAT:
                raise ValueError("another format")
            return header, {} if only_header else archive.read(set(archive.headers) - {"header"})
    except DAMAGE as error:
        why = f"{path} is no checkpoint of this version of jaxrec"
        if isinstance(error, InputError):
            why = str(error).rstrip(".")
        raise InputError(f"{why}; delete it or name another file.") from error
