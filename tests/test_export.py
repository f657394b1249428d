"""The kernels lower for every platform, which can be checked on a machine that has only a CPU."""

from functools import partial

import jax
import jax.numpy as jnp
import pytest
from jax import export
from reference import abstract_batch

from jaxrec import ItemScores, ItemWeights
from jaxrec.closed_form import gram as gram_module
from jaxrec.closed_form.gram import add_gram
from jaxrec.evaluation.ranking import _top_k_on_mesh, top_k
from jaxrec.experiments.low_rank import iterative
from jaxrec.factorization.weighted_ease import iterate
from jaxrec.linear import ease
from jaxrec.linear.low_rank_edlae import fixed_point, kernels
from jaxrec.runtime import parallel

PLATFORMS = ("cpu", "cuda", "tpu")
square = jax.ShapeDtypeStruct((300, 300), jnp.float32)
scalar = jax.ShapeDtypeStruct((), jnp.float32)
batch = abstract_batch(8, 16)
KERNELS = {
    "ease.weights": (ease.weights, (square, scalar)),
    "ease gradient": (jax.grad(lambda g, r: ease.weights(g, r).sum(), argnums=1), (square, scalar)),
    "binary Gram": (lambda *a: add_gram(*a, binary=True), (square, batch.items, batch.values)),
    "weighted Gram": (lambda *a: add_gram(*a, binary=False), (square, batch.items, batch.values)),
    "linear top-k": (lambda w, b: top_k(ItemWeights(w), b, 10), (square, batch)),
    "popularity top-k": (
        lambda s, b: top_k(ItemScores(s), b, 10),
        (jax.ShapeDtypeStruct((300,), jnp.float32), batch),
    ),
}


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("kernel", KERNELS)
def test_lowers(kernel, platform):
    function, arguments = KERNELS[kernel]
    exported = export.export(jax.jit(function), platforms=[platform])(*arguments)
    assert exported.platforms == (platform,)
    module = exported.mlir_module()
    if "Gram" in kernel or "top-k" in kernel or "ease" in kernel:
        assert "dot_general" in module or "popularity" in kernel
    if kernel == "binary Gram":
        assert "bf16" in module


# -- on a mesh --------------------------------------------------------------------------------------------------------


def split(shape, dtype, placement):
    return jax.ShapeDtypeStruct(shape, dtype, sharding=parallel.sharding(parallel.make_mesh(), placement))


def sharded_gram(binary, dtype):
    rows = [split((16, 8), kind, parallel.ROWS) for kind in (jnp.int32, jnp.float32)]
    kernel = partial(gram_module._add_gram_on_mesh, binary=binary, mesh=parallel.make_mesh())
    return kernel, (split((512, 512), dtype, parallel.COLUMNS), *rows)


def sharded_ranking(exclude_seen):
    def rank(weights, history):
        return _top_k_on_mesh(ItemWeights(weights, padding=3), history, 10, exclude_seen, mesh=parallel.make_mesh())

    return rank, (split((512, 512), jnp.float32, parallel.COLUMNS), batch)


SHARDED = {
    "binary Gram": sharded_gram(True, jnp.float32),
    "binary Gram of many users": sharded_gram(True, jnp.int32),
    "weighted Gram": sharded_gram(False, jnp.float32),
    "ranking": sharded_ranking(False),
    "ranking without seen items": sharded_ranking(True),
}


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("kernel", SHARDED)
def test_lowers_on_a_mesh(kernel, platform):
    function, arguments = SHARDED[kernel]
    exported = export.export(jax.jit(function), platforms=[platform])(*arguments)
    assert exported.platforms == (platform,) and exported.nr_devices == 8
    module = exported.mlir_module()
    # Candidates are brought together by the compiler, from the placement asked for; the Gram kernel gathers itself.
    assert "all_gather" in module if "Gram" in kernel else "dot_general" in module
    assert ("bf16" in module) == ("binary" in kernel)


# -- low rank ---------------------------------------------------------------------------------------------------------

vector = jax.ShapeDtypeStruct((300,), jnp.float32)
factors = jax.ShapeDtypeStruct((300, 6), jnp.float32)
key = jax.ShapeDtypeStruct((), jax.random.key(0).dtype)
problem = kernels.LowRankProblem(square, square, vector, vector, vector)
LOW_RANK = {
    "prepare": (kernels.prepare, (square, vector)),
    "excess": (kernels.excess, (problem, factors, factors)),
    "gradients": (kernels.gradients, (problem, square, factors, factors)),
    "best decoder": (kernels.best_decoder, (problem, factors)),
    "fixed point": (fixed_point.fixed_point, (problem, factors, scalar, scalar)),
    "ADMM": (iterative.admm_step, (problem, iterative.AdmmState(factors, factors, vector, vector), scalar)),
    **{
        f"one shot, {kind}": (partial(lambda kind, p, key: kernels.one_shot(p, kind, 6, key), kind), (problem, key))
        for kind in kernels.ONE_SHOTS
    },
}


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("kernel", LOW_RANK)
def test_low_rank_kernels_lower(kernel, platform):
    function, arguments = LOW_RANK[kernel]
    exported = export.export(jax.jit(function), platforms=[platform])(*arguments)
    assert exported.platforms == (platform,)
    assert ("cholesky" if kernel == "prepare" else "dot_general") in exported.mlir_module().lower()


# -- weighted full rank -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("platform", PLATFORMS)
def test_weighted_full_rank_lowers(platform):
    mesh = parallel.make_mesh()
    kinds = (jnp.int32, jnp.float32, jnp.float32)
    batches = [tuple(split((3, 16, 8), kind, parallel.COLUMNS) for kind in kinds)]
    square = split((512, 512), jnp.float32, parallel.COLUMNS)
    columns, shift = (split((64,), kind, parallel.ROWS) for kind in (jnp.int32, jnp.float32))

    def solve(b, inverse, columns, shift, batches, reg, tolerance, most):
        return iterate._solve_block(b, inverse, columns, (shift, shift), batches, (reg, tolerance, most), False, mesh)

    count = jax.ShapeDtypeStruct((), jnp.int32)
    arguments = (square, square, columns, shift, batches, scalar, scalar, count)
    exported = export.export(jax.jit(solve), platforms=[platform])(*arguments)
    assert exported.platforms == (platform,) and exported.nr_devices == 8
    module = exported.mlir_module()
    assert "all_gather" in module and "while" in module and "HIGHEST" in module and "DEFAULT" not in module
