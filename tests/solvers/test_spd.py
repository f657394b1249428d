"""The SPD inverse: the JAX kernel and its in-place CPU twin against float64 NumPy."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrec.runtime.blas import add_product
from jaxrec.solvers import svd
from jaxrec.solvers.columns import row_chunk
from jaxrec.solvers.spd import SweepLayout, negative_inverse, spd_inverse
from jaxrec.solvers.spd_host import mirror_lower, spd_invert_in_place
from jaxrec.status import Status

SIZES = (1, 2, 7, 64, 65, 300)


def spd(n: int, rng, ridge: float = 3.0) -> np.ndarray:
    x = rng.normal(size=(2 * n + 1, n))
    return x.T @ x / 2 + ridge * np.eye(n)


def by_sweep(a, block):
    """The inverse by a sweep over pivot blocks of a given size."""
    n = len(a)
    size = -(-n // block) * block
    padded = jnp.pad(a, (0, size - n)) + jnp.diag((jnp.arange(size) >= n).astype(a.dtype))
    return -negative_inverse(padded, SweepLayout(size, block, row_chunk(size, block)))[:n, :n]


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("block", (16, 64, None))
def test_jax_inverse_equals_float64(n, block, rng):
    a = spd(n, rng)
    kernel = spd_inverse if block is None else partial(by_sweep, block=block)
    found = jax.jit(kernel)(a.astype(np.float32))
    np.testing.assert_allclose(found, np.linalg.inv(a), rtol=0, atol=2e-5 * np.abs(np.linalg.inv(a)).max())
    np.testing.assert_allclose(found, found.T, rtol=0, atol=1e-6 * np.abs(found).max())


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("dtype", (np.float32, np.float64))
@pytest.mark.parametrize("lapack_up_to", (0, 1000), ids=("sweep", "lapack"))
def test_host_inverse_equals_float64(n, dtype, lapack_up_to, rng):
    a = spd(n, rng)
    work = np.tril(a).astype(dtype)  # the upper triangle must not be read
    assert spd_invert_in_place(work, block=32, lapack_up_to=lapack_up_to) is Status.OK
    mirror_lower(work, block=24)
    np.testing.assert_allclose(work, np.linalg.inv(a), rtol=0, atol=300 * np.finfo(dtype).eps * np.abs(work).max())


@pytest.mark.parametrize("lapack_up_to", (0, 1000), ids=("sweep", "lapack"))
@pytest.mark.parametrize("bad", (3, 50))
def test_host_inverse_reports_an_indefinite_matrix(lapack_up_to, bad, rng):
    a = spd(90, rng)
    a[bad, bad] = -1
    assert spd_invert_in_place(a, block=32, lapack_up_to=lapack_up_to) is Status.NOT_POSITIVE_DEFINITE


def test_jax_inverse_of_an_indefinite_matrix_is_nan(rng):
    a = spd(90, rng).astype(np.float32)
    a[50, 50] = -1
    assert np.isnan(jax.jit(partial(by_sweep, block=32))(a)).all()


def test_host_inverse_refuses_what_it_cannot_overwrite(rng):
    read_only = spd(4, rng)
    read_only.flags.writeable = False
    shapes = np.zeros((3, 4)), np.asfortranarray(spd(4, rng)), np.zeros(3)
    for wrong in (*shapes, np.eye(3, dtype=int), np.eye(3, dtype=">f4"), read_only):
        with pytest.raises(ValueError, match="square row-major"):
            spd_invert_in_place(wrong)


def test_empty_matrix():
    assert spd_inverse(jnp.zeros((0, 0))).shape == (0, 0)
    assert spd_invert_in_place(np.zeros((0, 0))) is Status.OK


def test_derivatives_match_finite_differences(rng, x64):
    a, direction = spd(12, rng), spd(12, rng)
    weight = rng.normal(size=(12, 12))

    @jax.jit
    def value(t):
        return jnp.sum(weight * spd_inverse(a + t * direction))

    slope = jax.jit(jax.grad(value))
    step = 1e-5
    numeric = (value(step) - value(-step)) / (2 * step)
    np.testing.assert_allclose(slope(0.0), numeric, rtol=1e-7)
    np.testing.assert_allclose(jax.jit(lambda t: jax.jvp(value, (t,), (1.0,))[1])(0.0), numeric, rtol=1e-7)
    second = (slope(step) - slope(-step)) / (2 * step)
    np.testing.assert_allclose(jax.jit(jax.grad(slope))(0.0), second, rtol=1e-6)


def test_inverse_maps_over_a_batch(rng):
    batch = np.stack([spd(40, rng) for _ in range(3)]).astype(np.float32)
    found = jax.jit(jax.vmap(partial(by_sweep, block=16)))(batch)
    np.testing.assert_allclose(found, np.linalg.inv(batch.astype(np.float64)), atol=1e-5)


def test_mirror_lower_ignores_the_upper_triangle(rng):
    a = rng.normal(size=(50, 50))
    expected = np.tril(a) + np.tril(a, -1).T
    mirror_lower(a, block=16)
    np.testing.assert_array_equal(a, expected)


@pytest.mark.parametrize("dtype", (np.float32, np.float64))
@pytest.mark.parametrize("transpose_a", (False, True))
def test_add_product_on_parts_of_arrays(dtype, transpose_a, rng):
    c, a, b = (rng.normal(size=(40, 50)).astype(dtype) for _ in range(3))
    left, right, target = a[3:10, 5:15], b[2:9, 4:30], c[7:17, 20:46]
    if not transpose_a:
        left = a[3:13, 5:12]
    expected = c.copy()
    expected[7:17, 20:46] = 0.5 * target - 2 * (left.T if transpose_a else left) @ right
    add_product(target, left, right, alpha=-2, beta=0.5, transpose_a=transpose_a)
    np.testing.assert_allclose(c, expected, rtol=1e-4 if dtype == np.float32 else 1e-12)


def test_add_product_refuses_what_blas_would_misread(rng):
    a, b, c = rng.normal(size=(3, 4)), rng.normal(size=(4, 5)), np.zeros((3, 5))
    add_product(c, a, b)
    for bad in ((c, b, a), (c, a.astype(np.float32), b), (np.zeros((5, 3)).T, a, b), (c[:, ::2], a, b[:, ::2])):
        with pytest.raises(ValueError):
            add_product(*bad)


@pytest.mark.parametrize("rank", (1, 10, 60))
def test_truncated_svd_by_subspace_iteration(rng, rank, x64):
    """On a matrix of decaying spectrum, tall enough that the whole SVD is not taken; as a matrix and as an operator."""
    left, right = (np.linalg.qr(rng.normal(size=(n, 300)))[0] for n in (420, 300))
    s = 0.9 ** np.arange(300)
    a = left * s @ right.T
    operator = svd.Operator(a.shape, a.dtype, lambda v: a @ v, lambda v: a.T @ v)
    of_matrix = jax.jit(svd.truncated_svd, static_argnums=1)(a, rank, jax.random.key(1))
    of_operator = jax.jit(lambda key: svd.truncated_svd(operator, rank, key))(jax.random.key(1))
    for u, values, v in (of_matrix, of_operator):
        assert u.shape == (420, rank) and v.shape == (300, rank)
        np.testing.assert_allclose(values, s[:rank], rtol=1e-8)
        np.testing.assert_allclose(
            (u * values[None, :]) @ v.T, left[:, :rank] * s[:rank] @ right[:, :rank].T, atol=1e-6
        )
        np.testing.assert_allclose(u.T @ u, np.eye(rank), atol=1e-12)


def test_truncated_svd_of_small_matrices_and_large_ranks_is_exact(rng, x64):
    for shape, rank in (((30, 20), 7), ((20, 30), 20), ((300, 280), 150)):
        a = rng.normal(size=shape)
        u, s, v = jax.jit(svd.truncated_svd, static_argnums=1)(a, rank, jax.random.key(0))
        whole = np.linalg.svd(a)
        np.testing.assert_allclose(s, whole[1][:rank], rtol=1e-10)
        np.testing.assert_allclose(
            (u * s[None, :]) @ v.T, whole[0][:, :rank] * whole[1][:rank] @ whole[2][:rank], atol=1e-10
        )
