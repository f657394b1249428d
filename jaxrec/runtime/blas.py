"""In-place matrix products on parts of a NumPy array, through the BLAS that SciPy ships.

NumPy's `matmul` cannot accumulate (`c -= a' b` makes a temporary and a second pass over memory), and SciPy's own
wrappers copy any operand that is a part of a larger array. The routine behind them does both in place. SciPy
publishes its address for compiled callers in `scipy.linalg.cython_blas`; here it is called with ctypes, which also
releases the interpreter lock.

All products of one algorithm go through this one library. NumPy carries a second OpenBLAS with threads of its own,
which keep spinning for a while after each call: alternating between the two cost a factor of 3 on two cores.

Small calls from several threads of ours must each stay on their own thread (`one_thread`): an OpenBLAS with threads
makes them wait for each other, which cost a factor of 3 to 10 on two cores.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import scipy.linalg.cython_blas

_INT = ctypes.POINTER(ctypes.c_int)
_POINTER = ctypes.c_void_p
_GEMM = ctypes.CFUNCTYPE(
    None,
    *(ctypes.c_char_p, ctypes.c_char_p, _INT, _INT, _INT),  # transa, transb, m, n, k
    *(_POINTER, _POINTER, _INT, _POINTER, _INT),  # alpha, a, lda, b, ldb
    *(_POINTER, _POINTER, _INT),  # beta, c, ldc
)
# Modules that are linked with an OpenBLAS: NumPy's own and SciPy's. With another BLAS nothing is found, nor needed.
_LINKED = ("numpy._core._multiarray_umath", "scipy.linalg.cython_blas")
_NAMES = [f"{prefix}openblas_{{}}_num_threads{suffix}" for prefix in ("scipy_", "") for suffix in ("64_", "")]
_lock, _inside, _before = threading.Lock(), 0, []
_ROUTINES = {np.dtype(np.float32): ("sgemm", ctypes.c_float), np.dtype(np.float64): ("dgemm", ctypes.c_double)}


def routine(module: Any, name: str, prototype: Any) -> Any:
    """A BLAS or LAPACK routine that SciPy publishes in `module`, as a ctypes function of the given prototype."""
    capsule = module.__pyx_capi__[name]
    api = ctypes.pythonapi
    get_name = ctypes.PYFUNCTYPE(ctypes.c_char_p, ctypes.py_object)(("PyCapsule_GetName", api))
    get_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(("PyCapsule_GetPointer", api))
    return prototype(get_pointer(capsule, get_name(capsule)))


@functools.cache
def _routine(name: str) -> Any:
    return routine(scipy.linalg.cython_blas, name, _GEMM)


def add_product(
    c: np.ndarray, a: np.ndarray, b: np.ndarray, *, alpha: float = 1.0, beta: float = 1.0, transpose_a: bool = False
) -> None:
    """Computes c <- beta c + alpha op(a) b in place, where op(a) is a or its transpose.

    Args:
      c: [M, N] written; like a and b a part of a row-major array (unit stride along rows), float32 or float64.
      a: [M, K], or [K, M] with `transpose_a`.
      b: [K, N].
      alpha: factor of the product.
      beta: factor of the old c; 0 overwrites it.
      transpose_a: multiply by the transpose of a.
    """
    (m, n), k = c.shape, b.shape[0]
    if a.shape != ((k, m) if transpose_a else (m, k)) or b.shape != (k, n):
        raise ValueError(f"shapes do not agree: c {c.shape}, a {a.shape}, b {b.shape}")
    if 0 in (m, n, k):
        raise ValueError("empty operand")
    name, scalar = _ROUTINES[c.dtype]
    for x in (a, b, c):
        if x.dtype != c.dtype or x.strides[1] != x.itemsize or x.strides[0] < x.shape[1] * x.itemsize:
            raise ValueError("operands must be parts of row-major arrays of one dtype")

    def stride(x: np.ndarray):
        return ctypes.byref(ctypes.c_int(x.strides[0] // x.itemsize))

    # BLAS is column-major, where a row-major array reads as its transpose: c' <- beta c' + alpha b' op(a)'.
    _routine(name)(
        b"N",
        b"T" if transpose_a else b"N",
        *(ctypes.byref(ctypes.c_int(size)) for size in (n, m, k)),
        *(ctypes.byref(scalar(alpha)), b.ctypes.data, stride(b), a.ctypes.data, stride(a)),
        *(ctypes.byref(scalar(beta)), c.ctypes.data, stride(c)),
    )


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Within it, a BLAS call of NumPy or SciPy runs on the thread that makes it. Several threads may enter it."""
    global _inside, _before
    with _lock:
        if _inside == 0:
            _before = [get() for get, _ in thread_counts()]
            _set_threads([1] * len(_before))
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                _set_threads(_before)


def _set_threads(counts: list[int]) -> None:
    for (_, put), count in zip(thread_counts(), counts, strict=True):
        put(count)


@functools.cache
def thread_counts() -> list[tuple[Any, Any]]:
    """Of each OpenBLAS that is loaded, the functions that tell and set its number of threads."""
    found = []
    for module in _LINKED:
        try:
            library = ctypes.CDLL(importlib.import_module(module).__file__)
        except (ImportError, OSError, TypeError):
            continue
        for name in _NAMES:
            if hasattr(library, name.format("set")):
                found.append((getattr(library, name.format("get")), getattr(library, name.format("set"))))
                break
    return found
