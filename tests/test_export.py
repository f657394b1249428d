"""The kernels lower for every platform, which can be checked on a machine that has only a CPU."""

import jax
import jax.numpy as jnp
import pytest
from jax import export

from jaxrec import ItemScores, ItemWeights, stats
from jaxrec.data import RowBatch
from jaxrec.linear import ease
from jaxrec.recommend import top_k

PLATFORMS = ("cpu", "cuda", "tpu")
square = jax.ShapeDtypeStruct((300, 300), jnp.float32)
scalar = jax.ShapeDtypeStruct((), jnp.float32)
batch = RowBatch(
    jax.ShapeDtypeStruct((8,), jnp.int32),
    jax.ShapeDtypeStruct((8, 16), jnp.int32),
    jax.ShapeDtypeStruct((8, 16), jnp.float32),
)
KERNELS = {
    "ease.weights": (ease.weights, (square, scalar)),
    "ease gradient": (jax.grad(lambda g, r: ease.weights(g, r).sum(), argnums=1), (square, scalar)),
    "binary Gram": (lambda *a: stats.add_gram(*a, binary=True), (square, batch.items, batch.values)),
    "weighted Gram": (lambda *a: stats.add_gram(*a, binary=False), (square, batch.items, batch.values)),
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
