"""Checkpoints of a long run: one npz file, replaced in one step, that says what it belongs to.

Killed at any moment, the file is the one before or the one after, whole.
"""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxrec._checks import InputError
from jaxrec.runtime.files import replacing

FORMAT = "jaxrec checkpoint 1"


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
    path = Path(path)
    if not path.absolute().parent.is_dir():
        raise InputError(f"checkpoint {path} cannot be written: its folder does not exist; create it first.")
    if path.is_dir() or not path.name or not os.access(path.absolute().parent, os.W_OK):
        why = "it is a folder" if path.is_dir() or not path.name else "its folder is not writable"
        raise InputError(f"checkpoint {path} cannot be written: {why}; name another file.")
    if not path.exists():
        return None
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        header = json.loads(str(arrays.pop("header")))
        if header.pop("format") != FORMAT:
            raise KeyError("format")
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{path} is no checkpoint of this version of jaxrec; delete it or name another file."
        ) from error
    wanted = json.loads(json.dumps(belongs_to))
    for name in {**wanted, **header}:
        if header.get(name) != wanted.get(name):
            raise InputError(
                f"checkpoint {path} belongs to another run ({name} is {header.get(name)!r} there and "
                f"{wanted.get(name)!r} here); delete it or name another file."
            )
    return arrays
