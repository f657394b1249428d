"""Meshes of devices and placement on them: the only file that names Mesh, PartitionSpec, NamedSharding or shard_map.

Every large matrix of this library is split the same way: device p of D owns a contiguous block of columns. A kernel is
written once, with `axis=None` for one device; on a mesh it sees its own columns and speaks to the others through
`psum`, `all_gather` and `axis_index`, which do nothing if `axis` is None.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxrec._checks import InputError, briefly

AXIS = "items"
COLUMNS = PartitionSpec(None, AXIS)  # of a matrix
ROWS = PartitionSpec(AXIS)  # of a matrix; or the entries of a vector
REPLICATED = PartitionSpec()


def make_mesh(devices: Mesh | Sequence[Any] | np.ndarray | None = None) -> Mesh:
    """The one-dimensional mesh that fits are split over.

    Args:
      devices: the devices in order, or a mesh of any shape and axis names, whose devices are taken row by row; None is
        all that JAX sees, on all hosts.

    Raises:
      InputError: what is no device, none, a device twice, or devices of different kinds (each waits for the slowest,
        and the smallest memory limits all).
    """
    if devices is None:
        devices = jax.devices()
    several: Any = devices.devices if isinstance(devices, Mesh) else devices
    several = several.ravel() if isinstance(several, np.ndarray) else several
    flat = list(several) if isinstance(several, list | tuple | np.ndarray) else [several]
    if wrong := [device for device in flat if not hasattr(device, "device_kind")]:
        raise InputError(
            f"a mesh takes devices, such as jax.devices()[:2], or a jax.sharding.Mesh, got {briefly(wrong[0])}."
        )
    kinds = sorted({device.device_kind for device in flat})
    if len(kinds) > 1:
        raise InputError(f"the devices of a mesh must be of one kind, got {', '.join(kinds)}; leave out the others.")
    if not flat or len(set(flat)) < len(flat):
        raise InputError(f"a mesh takes at least one device and each only once, got {len(flat)} of them: {flat}.")
    return Mesh(np.asarray(flat, object), (AXIS,), axis_types=(AxisType.Auto,))


def default_mesh() -> Mesh:
    """The mesh of the default device alone."""
    return make_mesh(list(jax.numpy.zeros(()).devices()))


def psum(x: Any, axis: str | None) -> Any:
    """The sum of x over the devices of `axis`; x if `axis` is None."""
    return x if axis is None else lax.psum(x, axis)


def all_gather(x: Any, axis: str | None, dimension: int = 0) -> Any:
    """The x of all devices of `axis` laid end to end along `dimension`; x if `axis` is None."""
    return x if axis is None else lax.all_gather(x, axis, axis=dimension, tiled=True)


def axis_index(axis: str | None) -> Any:
    """The number of this device on `axis`; 0 if `axis` is None."""
    return 0 if axis is None else lax.axis_index(axis)


def over_columns(kernel: Callable, mesh: Mesh | None, inputs: Any, outputs: Any) -> Callable:
    """`kernel(..., axis=)` as one function of whole arrays: run on every device of `mesh`, or as it is if None.

    Args:
      kernel: works on the part of each argument that one device owns.
      mesh: what `make_mesh` returned, or None.
      inputs: a placement (COLUMNS, ROWS or REPLICATED) for each positional argument.
      outputs: a placement for each result.
    """
    if mesh is None:
        return partial(kernel, axis=None)
    return jax.shard_map(partial(kernel, axis=AXIS), mesh=mesh, in_specs=inputs, out_specs=outputs, check_vma=True)


def sharding(mesh: Mesh, placement: PartitionSpec) -> NamedSharding:
    """How an array placed as COLUMNS, ROWS or REPLICATED lies on `mesh`, for `jax.jit` and shapes without arrays."""
    return NamedSharding(mesh, placement)


def place(array: np.ndarray, mesh: Mesh, placement: PartitionSpec) -> jax.Array:
    """The host array on `mesh`; each process hands over the parts of its own devices, of the same whole array."""
    return jax.make_array_from_callback(array.shape, sharding(mesh, placement), lambda index: array[index])


def place_rows(arrays: Sequence[np.ndarray], mesh: Mesh, fill: Sequence[Any] | None = None) -> list[jax.Array]:
    """The arrays split over `mesh` by rows, padded to a multiple of its size with zeros, or with `fill` for each."""
    fill = fill or [0] * len(arrays)
    more = [((0, -len(array) % mesh.size), *[(0, 0)] * (array.ndim - 1)) for array in arrays]
    return [
        place(np.pad(array, width, constant_values=value), mesh, ROWS)
        for array, width, value in zip(arrays, more, fill, strict=True)
    ]


def zeros(shape: tuple[int, int], mesh: Mesh | None, dtype: Any = np.float32) -> jax.Array:
    """A matrix of zeros, split by columns over `mesh`, or whole on the default device."""
    placed = None if mesh is None else sharding(mesh, COLUMNS)
    return jax.jit(lambda: jax.numpy.zeros(shape, dtype), out_shardings=placed)()


def fill_columns(shape: tuple[int, int], mesh: Mesh, fill: Callable[[slice], np.ndarray]) -> jax.Array:
    """A matrix of `shape` split by columns, each device's part computed on the host of that device, one at a time.

    `jax.make_array_from_callback` would keep the parts of all its devices in host memory until the last is computed.

    Args:
      shape: (rows, columns); the number of devices divides the columns.
      mesh: what `make_mesh` returned.
      fill: from a slice of columns to that part of the matrix.
    """
    placed = sharding(mesh, COLUMNS)
    places: dict[Any, Any] = dict(placed.addressable_devices_indices_map(shape))
    parts = [jax.block_until_ready(jax.device_put(fill(index[1]), device)) for device, index in places.items()]
    return jax.make_array_from_single_device_arrays(shape, placed, parts)


def place_columns(array: np.ndarray, mesh: Mesh, shape: tuple[int, int]) -> jax.Array:
    """The matrix split over `mesh` by columns, padded with zeros to `shape`; the host copies one part at a time."""

    def fill(columns: slice) -> np.ndarray:
        real = array[:, columns]
        out = np.zeros((shape[0], len(range(*columns.indices(shape[1])))), array.dtype)
        out[: len(real), : real.shape[1]] = real
        return out

    return fill_columns(shape, mesh, fill)


def replicate(arrays: Any, mesh: Mesh | None) -> Any:
    """The same array, or a tree of them, whole on every device of the mesh; within `jax.jit`."""
    return arrays if mesh is None else constrain(arrays, mesh, REPLICATED)


def constrain(arrays: Any, mesh: Mesh, placement: PartitionSpec) -> Any:
    """The same array, or a tree of them, placed as COLUMNS, ROWS or REPLICATED; within `jax.jit`."""
    return lax.with_sharding_constraint(arrays, sharding(mesh, placement))


def to_host(array: Any) -> np.ndarray:
    """The whole array as NumPy on every process, wherever its parts lie."""
    if isinstance(array, jax.Array) and not array.is_fully_addressable and (mesh := mesh_of(array)):
        array = jax.jit(lambda x: x, out_shardings=sharding(mesh, REPLICATED))(array)
    return np.asarray(array)


def mesh_of(tree: Any) -> Mesh | None:
    """The mesh that the arrays of `tree` are split over; None if each lies whole on one device or on the host."""
    for leaf in jax.tree.leaves(tree):
        placed = leaf.sharding if isinstance(leaf, jax.Array) else None
        if isinstance(placed, NamedSharding) and isinstance(placed.mesh, Mesh) and placed.mesh.size > 1:
            return make_mesh(placed.mesh)
    return None
