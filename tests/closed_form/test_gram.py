"""Gram matrices: both paths against the definition, exact counts, and the off-diagonal norm from probes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import gram as naive_gram

from jaxrec import Interactions
from jaxrec.closed_form import gram as gram_module
from jaxrec.closed_form.gram import add_gram, gram_matrix, mesh_gram, offdiagonal_norm
from jaxrec.runtime import parallel


def random_data(rng, n_users=211, n_items=67, nnz=3000, binary=True) -> Interactions:
    values = None if binary else rng.integers(1, 6, nnz)
    users = rng.integers(0, n_users, nnz)
    items = (n_items * rng.random(nnz) ** 2).astype(int)
    return Interactions.from_triples(users, items, values, n_users=n_users, n_items=n_items, repeats="first")


def on_a_device(data, batch_size=4096):
    return mesh_gram(data, parallel.default_mesh(), data.n_items, batch_size)


@pytest.mark.parametrize("binary", (True, False))
@pytest.mark.parametrize("path", (gram_matrix, lambda data: on_a_device(data, 64)), ids=("host", "jax"))
def test_both_paths_equal_the_definition_exactly(binary, path, rng):
    data = random_data(rng, binary=binary)
    np.testing.assert_array_equal(path(data), naive_gram(data.to_csr().toarray()))


def test_real_valued_data(rng):
    data = random_data(rng)
    object.__setattr__(data, "values", rng.normal(size=data.nnz).astype(np.float32))
    expected = naive_gram(data.to_csr(np.float64).toarray())
    np.testing.assert_allclose(gram_matrix(data), expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(on_a_device(data, 64), expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(gram_matrix(data, np.float64), expected, rtol=1e-13, atol=1e-13)


def test_rows_are_written_in_blocks(rng, monkeypatch):
    data = random_data(rng)
    monkeypatch.setattr(gram_module, "BLOCK_BYTES", 1)  # the smallest blocks, 16 rows
    np.testing.assert_array_equal(gram_matrix(data), naive_gram(data.to_csr().toarray()))


def test_empty_users_and_items():
    data = Interactions.from_triples([1, 3, 3], [2, 2, 5], n_users=6, n_items=8)
    expected = naive_gram(data.to_csr().toarray())
    np.testing.assert_array_equal(gram_matrix(data), expected)
    np.testing.assert_array_equal(on_a_device(data, 4), expected)


@pytest.mark.parametrize("path", (gram_matrix, on_a_device), ids=("host", "jax"))
def test_counts_beyond_float32_integers_take_the_exact_path(path, rng, monkeypatch):
    """With the threshold lowered, the wide accumulators must be used and give the same counts."""
    data = random_data(rng)
    monkeypatch.setattr(gram_module, "EXACT_COUNTS", 5)
    used = set()
    add, to_csr = gram_module._add_gram_on_mesh, Interactions.to_csr
    monkeypatch.setattr(
        gram_module, "_add_gram_on_mesh", lambda total, *a, **k: used.add(total.dtype.name) or add(total, *a, **k)
    )
    monkeypatch.setattr(Interactions, "to_csr", lambda self, dtype=np.float32: used.add(np.dtype(dtype).name) or to_csr(
        self, dtype))  # fmt: skip
    found = path(data)
    assert used == {"float64" if path is gram_matrix else "int32"}
    monkeypatch.undo()
    np.testing.assert_array_equal(found, naive_gram(data.to_csr().toarray()))


def test_weighted_sums_are_rounded_once():
    data = Interactions.from_triples([0, 1, 2], [0, 0, 0], [4097, 4097, 4097])  # squares that float32 cannot hold
    assert gram_matrix(data)[0, 0] == np.float32(3 * 4097**2) != 3 * np.float32(4097) ** 2


def test_an_int32_total_counts_where_float32_stops():
    one_user = jnp.zeros((1, 1), jnp.int32), jnp.ones((1, 1), jnp.float32)
    full = 2**24
    assert add_gram(jnp.full((1, 1), full, jnp.float32), *one_user, binary=True)[0, 0] == full  # stuck
    assert add_gram(jnp.full((1, 1), full, jnp.int32), *one_user, binary=True)[0, 0] == full + 1


def test_device_gram_uses_one_matrix_pass_for_binary_data_and_full_precision_otherwise():
    def dots(binary):
        args = jnp.zeros((6, 6)), jnp.zeros((4, 3), jnp.int32), jnp.zeros((4, 3))
        jaxpr = jax.make_jaxpr(lambda *a: add_gram(*a, binary=binary))(*args)
        return [eqn for eqn in jaxpr.eqns if eqn.primitive.name == "dot_general"]

    (exact,), (full,) = dots(True), dots(False)
    assert {v.aval.dtype.name for v in exact.invars} == {"bfloat16"}
    assert exact.params["preferred_element_type"] == jnp.float32
    assert full.params["precision"] == (jax.lax.Precision.HIGHEST,) * 2


def test_offdiagonal_norm_is_unbiased_and_blind_to_the_diagonal(rng):
    matrix = rng.normal(size=(30, 30))
    signs = rng.choice([-1.0, 1.0], (30, 4000))
    expected = np.sqrt(np.sum(matrix**2) - np.sum(np.diag(matrix) ** 2))
    assert offdiagonal_norm(matrix @ signs, signs) == pytest.approx(expected, rel=0.02)
    pairs = signs.reshape(30, 2000, 2).transpose(1, 0, 2)  # two probes at a time, where the bias of n would halve it
    squares = [offdiagonal_norm(matrix @ two, two) ** 2 for two in pairs]
    assert np.mean(squares) == pytest.approx(expected**2, rel=0.05)
    diagonal = np.diag(rng.normal(size=30))
    assert offdiagonal_norm(diagonal @ signs, signs) == pytest.approx(0, abs=1e-12)
