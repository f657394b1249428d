"""The iterative methods on a mesh: the same numbers as on one device, and no matrix that is gathered whole."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from meshes import most_sent, random_data, sent, shape_of, spd

from jaxrec import InputError, LowRankEdlae, Mrf, Slim
from jaxrec.closed_form.gram import default_gram, gram_matrix
from jaxrec.data import Interactions
from jaxrec.linear import higher_order, item_knn
from jaxrec.linear.low_rank_edlae import certificate, kernels
from jaxrec.linear.low_rank_edlae import method as low_rank
from jaxrec.linear.slim import method as slim
from jaxrec.runtime import parallel
from jaxrec.solvers.columns import columns_product, row_chunk, take_columns
from jaxrec.solvers.spd import SweepLayout, cholesky_and_inverse, sweep_layout

COLUMNS, WHOLE = parallel.COLUMNS, parallel.REPLICATED


@pytest.fixture(params=(pytest.param(1, marks=pytest.mark.slow), 8))
def mesh(request):
    return parallel.make_mesh(jax.devices()[: request.param])


# -- kernels ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", (5, 67, 150, 300))
def test_the_sweep_finds_both_factors(n, mesh, rng):
    a = spd(n, rng)
    layout = sweep_layout(n, mesh.size)
    padded = np.eye(layout.size, dtype=np.float32)
    padded[:n, :n] = a

    def kernel(a, axis):
        return cholesky_and_inverse(a, layout, axis)

    found = parallel.over_columns(kernel, mesh, COLUMNS, (COLUMNS, COLUMNS))(parallel.place(padded, mesh, COLUMNS))
    lower = np.linalg.cholesky(a)
    for matrix, expected in zip(found, (lower.T, np.linalg.inv(lower)), strict=True):
        matrix = np.asarray(matrix)
        np.testing.assert_allclose(matrix[:n, :n], expected, rtol=0, atol=2e-5 * np.abs(expected).max())
        np.testing.assert_array_equal(matrix[n:], np.eye(layout.size)[n:])
    upper, inverse = map(np.asarray, found)
    assert (np.tril(upper, -1) == 0).all() and (np.triu(inverse, 1) == 0).all()


def test_products_and_columns_of_split_matrices(mesh, rng):
    size = 8 * 12
    a, b = rng.normal(size=(2, size, size)).astype(np.float32)
    placed = [parallel.place(matrix, mesh, COLUMNS) for matrix in (a, b)]
    product = parallel.over_columns(columns_product, mesh, (COLUMNS, COLUMNS), COLUMNS)(*placed)
    np.testing.assert_allclose(product, a @ b, rtol=0, atol=1e-4)
    wanted = np.array([3, 95, 40, 3])
    taken = parallel.over_columns(take_columns, mesh, (COLUMNS, WHOLE), WHOLE)(placed[0], wanted)
    np.testing.assert_array_equal(taken, a[:, wanted])


@pytest.mark.parametrize("shape", [(96, 96), (104, 160)])
def test_placing_pads_with_zeros(shape, mesh, rng):
    a = rng.normal(size=(90, 91)).astype(np.float32)
    placed = np.asarray(parallel.place_columns(a, mesh, shape))
    np.testing.assert_array_equal(placed, np.pad(a, ((0, shape[0] - 90), (0, shape[1] - 91))))


# -- nothing is gathered whole ----------------------------------------------------------------------------------------


def test_iterations_gather_rows_by_chunks():
    mesh, n = parallel.make_mesh(), 1024
    rho, floats = shape_of((n,), mesh, WHOLE), (np.float32(1), np.float32(1))
    square = shape_of((n, n), mesh)
    admm = slim._steps.lower(square, square, rho, *floats, True, mesh).compile()
    assert 0 < most_sent(admm) <= n * row_chunk(n)
    similar = item_knn._weights.lower(square, np.float32(1), 10, mesh).compile()
    assert most_sent(similar) <= n
    pairs = 512
    matrices = [shape_of(shape, mesh) for shape in ((n, n), (pairs, n), (n, pairs), (pairs, pairs))]
    layouts = SweepLayout(n, 64, 128), SweepLayout(pairs, 64, 64)
    of = jax.ShapeDtypeStruct((pairs, 2), jnp.int32, sharding=parallel.sharding(mesh, WHOLE))
    floats, start = tuple(np.float32((1, 2, 3))), (matrices[1], matrices[1])
    compiled = higher_order._admm.lower(tuple(matrices), of, floats, 3, start, layouts, mesh).compile()
    assert 0 < most_sent(compiled) <= n * row_chunk(n)


def test_low_rank_sends_blocks_of_vectors():
    mesh, n, rank = parallel.make_mesh(), 1024, 8
    layout = SweepLayout(n, 64, 128)
    square, vector = shape_of((n, n), mesh), shape_of((n,), mesh, WHOLE)
    prepare = low_rank.prepare_on.lower(mesh, square, vector, layout).compile()
    assert 0 < most_sent(prepare) <= n * layout.block
    problem = kernels.LowRankProblem(shape_of((n, n), mesh, parallel.ROWS), square, vector, vector, vector)
    thin = shape_of((n, rank), mesh, WHOLE)
    key = jax.random.key(0)
    programs = {
        "one_shot": low_rank._one_shot.lower(problem, "eigen", rank, key),
        "best_decoder": low_rank._best_decoder.lower(problem, thin),
        "fixed_point": low_rank._fixed_point.lower(problem, thin, 3, 1e-5),
        "excess": certificate._excess.lower(problem, thin, thin),
        "gradients": certificate._gradients.lower(problem, square, thin, thin),
    }
    for name, lowered in programs.items():
        compiled = lowered.compile()
        # Parts of a matrix may change hands, each going to one device, but none is copied to all.
        assert most_sent(compiled) <= max(n * 32, n * n // mesh.size), (name, sent(compiled))


# -- whole fits -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("binary", (True, False))
@pytest.mark.parametrize("method", (Slim(5.0, 0.5), Slim(5.0, 0.5, nonnegative=False), Mrf(2.0, density=0.2)), ids=str)
def test_weights_are_those_of_one_device(method, binary, mesh, rng):
    data = random_data(rng, binary=binary)
    found = method.fit(data, devices=mesh).model.score_host(data.to_csr())
    expected = method.fit(data).model.score_host(data.to_csr())
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5 * np.abs(expected).max())


@pytest.fixture(scope="module")
def tastes() -> Interactions:
    """300 items of 20 tastes, of which a user has a few."""
    rng = np.random.default_rng(5)
    likes = (rng.random((900, 20)) < 0.15) @ (rng.random((20, 300)) < 0.15)
    x = (rng.random((900, 300)) < 0.02 + 0.3 * (likes > 0)).astype(bool)
    return Interactions.from_triples(*np.nonzero(x), n_users=900, n_items=300)


@pytest.mark.parametrize("devices", (pytest.param(1, marks=pytest.mark.slow), 8))
def test_low_rank_prepares_the_same_problem(devices, tastes):
    mesh = parallel.make_mesh(jax.devices()[:devices])
    n = tastes.n_items
    one = low_rank.prepare(gram_matrix(tastes), 0.3, 20.0)
    many = low_rank.prepare(default_gram(tastes, mesh), 0.3, 20.0, mesh, n)
    for name in one._fields:
        expected, found = np.asarray(getattr(one, name)), np.asarray(getattr(many, name))
        found = found[tuple(slice(n) for _ in found.shape)]
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max(), err_msg=name)
    assert float(many.scale) == pytest.approx(float(one.scale), rel=1e-5)


@pytest.mark.parametrize("rank", (5, *(pytest.param(rank, marks=pytest.mark.slow) for rank in (20, 200))))
@pytest.mark.parametrize("method", ("closed_form", "fixed_point"))
def test_low_rank_is_as_good_on_eight_devices(method, rank, tastes):
    configured = LowRankEdlae(rank, reg=20.0, method=method)
    details = [configured.fit(tastes, devices=mesh).info.certificate.detail for mesh in (None, jax.devices())]
    assert details[1]["excess"] == pytest.approx(details[0]["excess"], rel=0.01, abs=2e-6)


def test_solvers_without_a_mesh_are_refused_on_one():
    data = Interactions.from_triples([0, 1, 1], [0, 0, 1])
    for method in (Mrf(solver="host"), Mrf(dtype="float64")):
        with pytest.raises(InputError, match="devices compute in float32"):
            method.fit(data, devices=jax.devices())
