"""Arrays that are split over devices, on disk: each process writes and reads its own parts, by Orbax."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxrec._checks import InputError
from jaxrec.runtime import parallel


def new_name() -> str:
    """A name for a folder of parts, the same on every process."""
    token = secrets.randbits(32)
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        token = int(multihost_utils.broadcast_one_to_all(np.uint32(token)))
    return f"parts.{token:08x}"


def wait_for_all() -> None:
    """Returns once every process has come here."""
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices("jaxrec.save")


def write(folder: Path, array: jax.Array) -> None:
    """Writes `array` to the new folder `folder`, which all processes must see; every process calls this."""
    _checkpoints().save(folder.absolute(), {"array": array})


def read(folder: Path, shape: tuple[int, int], dtype: Any, devices: Any = None) -> jax.Array:
    """The array that `write` wrote, split by columns over as many of `devices` as divide its columns.

    Args:
      folder: what was written.
      shape: its shape.
      dtype: its type.
      devices: a mesh or devices, which need not be those that wrote it; default all.
    """
    flat = list(parallel.make_mesh(devices).devices.flat)
    count = max(d for d in range(1, len(flat) + 1) if shape[1] % d == 0)
    placed = parallel.sharding(parallel.make_mesh(flat[:count]), parallel.COLUMNS)
    wanted = jax.ShapeDtypeStruct(shape, dtype, sharding=placed)
    return _checkpoints().restore(
        folder.absolute(),
        args=_orbax().args.PyTreeRestore(
            item={"array": wanted}, restore_args=_orbax().checkpoint_utils.construct_restore_args({"array": wanted})
        ),
    )["array"]


def _orbax() -> Any:
    try:
        import orbax.checkpoint  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise InputError(
            "models that are split over devices are saved and loaded by orbax, which is not installed: "
            "pip install orbax-checkpoint, or save fitted._replace(model=fitted.model.to_host())."
        ) from None
    return orbax.checkpoint


def _checkpoints() -> Any:
    orbax = _orbax()
    return orbax.Checkpointer(orbax.PyTreeCheckpointHandler())
