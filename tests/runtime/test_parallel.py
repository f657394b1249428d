"""One device and many give the same: inverse, Gram matrix, weights, rankings; and what a mesh must not do."""

import importlib.util
import os
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from jax.sharding import Mesh
from meshes import random_data, sent, spd
from reference import abstract_batch

from jaxrec import (
    Ease,
    Edlae,
    FitError,
    InputError,
    Interactions,
    ItemWeights,
    Lae,
    Rlae,
    evaluate,
    load_model,
    plan,
    recommend,
    save,
)
from jaxrec.closed_form import gram as gram_module
from jaxrec.closed_form import mesh as mesh_solver
from jaxrec.closed_form import products
from jaxrec.closed_form.gram import gram_matrix, host_gram_on_mesh, mesh_gram, squared_norms
from jaxrec.closed_form.mesh import invert
from jaxrec.data import row_batches
from jaxrec.evaluation.ranking import _top_k_on_mesh, top_k
from jaxrec.runtime import parallel
from jaxrec.solvers.spd import SweepLayout, negative_inverse, sweep_layout

DEVICES = (1, 2, 8)
ITEMS = (1, 13, 67, 150)


@pytest.fixture(params=(1, pytest.param(2, marks=pytest.mark.slow), 8))
def mesh(request):
    return parallel.make_mesh(jax.devices()[: request.param])


# -- meshes -----------------------------------------------------------------------------------------------------------


def test_a_mesh_is_all_devices_a_sequence_or_a_mesh_of_any_shape():
    assert parallel.make_mesh().size == 8
    assert parallel.make_mesh(jax.devices()[2:5]).devices.tolist() == jax.devices()[2:5]
    grid = Mesh(np.array(jax.devices()[:6]).reshape(2, 3), ("a", "b"))
    assert parallel.make_mesh(grid).devices.tolist() == jax.devices()[:6]
    assert parallel.make_mesh(parallel.make_mesh(grid)) == parallel.make_mesh(grid)


class Other:
    device_kind = "another kind"


@pytest.mark.parametrize(
    ("devices", "complaint"),
    [
        (lambda: [jax.devices()[0], Other()], "of one kind, got another kind, cpu"),
        (lambda: [jax.devices()[0]] * 2, "each only once"),
        (lambda: [], "at least one device"),
        (lambda: 8, "a mesh takes devices, such as .*, got 8"),
        (lambda: "cpu", "a mesh takes devices, such as .*, got 'cpu'"),
    ],
)
def test_unusable_meshes_are_refused(devices, complaint):
    with pytest.raises(InputError, match=complaint):
        parallel.make_mesh(devices())


def test_collectives_of_no_axis_are_the_identity():
    x = jnp.arange(3)
    assert parallel.psum(x, None) is x and parallel.all_gather(x, None) is x and parallel.axis_index(None) == 0


# -- the inverse ------------------------------------------------------------------------------------------------------


def inverse_on(mesh, a, penalty=1e-3):
    """(A + D(penalty))^-1 by the solver of the closed forms, padded by 1 / penalty."""
    size = sweep_layout(len(a), mesh.size).size
    placed = parallel.place_columns(a.astype(np.float32), mesh, (size, size))
    return invert(placed, np.full(len(a), penalty), mesh, fill=1.0)


@pytest.mark.parametrize("n", (*ITEMS, 300))
def test_inverse_equals_float64(n, mesh, rng):
    a = spd(n, rng)
    found = inverse_on(mesh, a)
    a += 1e-3 * np.eye(n)
    size = sweep_layout(n, mesh.size).size
    assert found.shape == (size, size) and len(found.sharding.device_set) == mesh.size
    expected = np.linalg.inv(a)
    np.testing.assert_allclose(found[:n, :n], expected, rtol=0, atol=5e-6 * np.abs(expected).max())
    np.testing.assert_allclose(found, found.T, rtol=0, atol=1e-6 * np.abs(expected).max())
    np.testing.assert_array_equal(np.asarray(found)[:, n:], np.eye(size)[:, n:])


def test_indefinite_matrix_gives_nan_on_every_device(mesh, rng):
    a = spd(90, rng).astype(np.float32)
    a[50, 50] = -1
    assert np.isnan(np.asarray(inverse_on(mesh, a))[:90, :90]).all()


def precisions(jaxpr):
    """The precision of every product in a jaxpr, at any depth."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            yield equation.params["precision"]
        for value in jax.tree.leaves(list(equation.params.values()), is_leaf=is_jaxpr):
            if is_jaxpr(value):
                yield from precisions(getattr(value, "jaxpr", value))


def is_jaxpr(value) -> bool:
    return hasattr(value, "eqns") or hasattr(value, "jaxpr")


@pytest.mark.parametrize("n", (1, 8, 67, 129, 300, 1000, 4096, 4100, 16_980, 40_981, 65_536, 100_000))
@pytest.mark.parametrize("n_devices", (1, 2, 8))
def test_blocks_follow_the_stated_rules(n, n_devices):
    size, block, chunk = sweep_layout(n, n_devices)
    assert size >= n and size % (block * n_devices) == 0 and size % chunk == 0
    assert block <= max(128, n / (8 * n_devices)) + 64 and block <= 512 and chunk <= max(block, 1024)
    assert size <= max(n + n / 32, n + 8 * n_devices) or block == 8
    if n >= 4096 * n_devices:
        assert block % 128 == 0


# -- the Gram matrix --------------------------------------------------------------------------------------------------

GRAMS = {"devices": mesh_gram, "hosts": host_gram_on_mesh}


@pytest.mark.parametrize("n_items", ITEMS)
@pytest.mark.parametrize("binary", (True, False), ids=("binary", "weighted"))
@pytest.mark.parametrize("path", GRAMS)
def test_gram_equals_the_definition_exactly(path, n_items, binary, mesh, rng):
    data = random_data(rng, n_items=n_items, binary=binary)
    size = sweep_layout(n_items, mesh.size).size
    x = np.pad(data.to_csr(np.float64).toarray(), ((0, 0), (0, size - n_items)))
    found = GRAMS[path](data, mesh, size)
    np.testing.assert_array_equal(found, x.T @ x)
    assert found.dtype == jnp.float32 and {s.data.shape for s in found.addressable_shards} == {
        (size, size // mesh.size)
    }
    np.testing.assert_array_equal(squared_norms(data), (x**2).sum(0)[:n_items])


@pytest.mark.parametrize("path", GRAMS)
def test_gram_counts_beyond_float32_integers(path, mesh, rng, monkeypatch):
    data = random_data(rng)
    monkeypatch.setattr(gram_module, "EXACT_COUNTS", 5)  # the wide accumulators must be taken, and give the same counts
    np.testing.assert_array_equal(GRAMS[path](data, mesh, 128)[:67, :67], gram_matrix(data))


def test_gram_in_many_batches(mesh, rng):
    data = random_data(rng)
    np.testing.assert_array_equal(mesh_gram(data, mesh, 80, batch_size=7)[:67, :67], gram_matrix(data))


def test_gram_sends_sparse_indices_alone():
    mesh = parallel.make_mesh()
    total = jax.ShapeDtypeStruct((512, 512), jnp.float32, sharding=parallel.sharding(mesh, parallel.COLUMNS))
    rows = [
        jax.ShapeDtypeStruct((64, 16), kind, sharding=parallel.sharding(mesh, parallel.ROWS))
        for kind in (jnp.int32, jnp.float32)
    ]
    compiled = gram_module._add_gram_on_mesh.lower(total, *rows, binary=True, mesh=mesh).compile()
    assert sent(compiled) == {("all-gather", "s32[64,16]"), ("all-gather", "f32[64,16]")}
    assert compiled.memory_analysis().alias_size_in_bytes == 4 * 512 * 64


# -- fits -------------------------------------------------------------------------------------------------------------

METHODS = (Ease(5.0), Edlae(5.0, 0.4), Lae(50.0), Rlae(5.0, 0.2, xi=0.3))


@pytest.mark.parametrize("method", METHODS, ids=lambda m: type(m).__name__)
@pytest.mark.parametrize("n_items", (13, 67))
def test_sharded_weights_equal_unsharded(method, n_items, mesh, rng):
    data = random_data(rng, n_items=n_items)
    (expected, _), (found, info) = method.fit(data), method.fit(data, devices=mesh)
    assert found.n_items == n_items and len(found.weights.sharding.device_set) == mesh.size
    np.testing.assert_allclose(found.to_host().weights, expected.weights, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(np.asarray(found.weights)[:, n_items:], 0)
    np.testing.assert_array_equal(np.asarray(found.weights)[n_items:], 0)
    assert info.certificate.residual < 1e-5


def test_devices_and_hosts_build_the_same_fit(rng, monkeypatch):
    data = random_data(rng)
    expected = Ease(5.0).fit(data, devices=jax.devices()).model
    monkeypatch.setattr(gram_module, "host_gram_on_mesh", mesh_gram)  # as on accelerators
    found = Ease(5.0).fit(data, devices=jax.devices()).model
    np.testing.assert_array_equal(found.weights, expected.weights)


def test_one_device_of_the_jax_solver_works_in_place_too(rng):
    data = random_data(rng, n_items=150)
    found = Ease(5.0, solver="jax").fit(data).model
    np.testing.assert_allclose(found.to_host().weights, Ease(5.0).fit(data).model.weights, rtol=0, atol=1e-5)
    np.testing.assert_allclose(
        found.score_host(data.to_csr()), Ease(5.0).fit(data).model.score_host(data.to_csr()), atol=1e-5
    )


@pytest.mark.parametrize("method", (Ease(solver="host"), Ease(dtype="float64")), ids=str)
def test_a_mesh_is_refused_by_host_solvers(method, rng):
    with pytest.raises(InputError, match="leave out devices"):
        method.fit(random_data(rng), devices=jax.devices())


def test_a_false_answer_on_a_mesh_is_not_certified(rng, monkeypatch):
    right = negative_inverse
    monkeypatch.setattr(mesh_solver, "negative_inverse", lambda *a: 1.01 * right(*a) + 1e-4)
    jax.clear_caches()
    with pytest.raises(FitError):
        Ease(5.0).fit(random_data(rng), devices=jax.devices())
    monkeypatch.undo()
    jax.clear_caches()


def test_weights_need_no_collective_beyond_those_of_the_sweep():
    mesh, layout = parallel.make_mesh(), SweepLayout(512, 32, 64)
    compiled = lowered_solve(mesh, layout).compile()
    assert sent(compiled) == {("all-reduce", "f32[32,32]"), ("all-gather", "f32[32,512]")}


def lowered_solve(mesh, layout):
    shapes = ((layout.size, layout.size), parallel.COLUMNS), ((layout.size,), parallel.ROWS)
    gram, penalty = (
        jax.ShapeDtypeStruct(shape, jnp.float32, sharding=parallel.sharding(mesh, how)) for shape, how in shapes
    )
    return mesh_solver._solve_on_mesh.lower(gram, penalty, np.float32(0), mesh=mesh, layout=layout)


@pytest.mark.parametrize(("layout", "limit"), [(SweepLayout(4096, 128, 512), 0.6), (sweep_layout(65_536, 8), 0.5)])
def test_memory_of_the_solver_on_eight_devices_compiled_without_allocating(layout, limit):
    mesh, n = parallel.make_mesh(), layout.size
    compiled = lowered_solve(mesh, layout).compile()
    memory = compiled.memory_analysis()
    local = 4 * n * n // 8
    assert memory.temp_size_in_bytes < limit * local
    assert memory.alias_size_in_bytes >= local  # the weights lie where the Gram matrix lay
    assert not [shape for _, shape in sent(compiled) if f"{n},{n}" in shape]
    planned = Ease().plan(10**6, n, 10**8, "8xv5e")
    if layout == sweep_layout(n, 8):
        assert memory.argument_size_in_bytes + memory.temp_size_in_bytes <= planned.total <= 1.2 * (local + 5 * 2**26)


def test_every_product_states_its_precision():
    mesh, layout = parallel.make_mesh(), SweepLayout(512, 32, 64)
    weights = jax.ShapeDtypeStruct((512, 512), jnp.float32)
    ints, floats = (jax.ShapeDtypeStruct((16, 8), kind) for kind in (jnp.int32, jnp.float32))
    highest = jax.lax.Precision.HIGHEST
    traced = {
        "solve": jax.make_jaxpr(lambda g, p: mesh_solver._solve_on_mesh(g, p, 0.0, mesh=mesh, layout=layout))(
            weights, jax.ShapeDtypeStruct((512,), jnp.float32)
        ),
        "weighted Gram": jax.make_jaxpr(lambda *a: gram_module._add_gram_on_mesh(*a, binary=False, mesh=mesh))(
            weights, ints, floats
        ),
        "certificate": jax.make_jaxpr(lambda *a: products._times_on_mesh(*a, mesh=mesh))(
            weights, jax.ShapeDtypeStruct((512, 8), jnp.float32)
        ),
        "ranking": jax.make_jaxpr(lambda w, b: _top_k_on_mesh(ItemWeights(w), b, 5, True, mesh=mesh))(
            weights, abstract_batch(16, 8)
        ),
    }
    for name, jaxpr in traced.items():
        found = list(precisions(jaxpr.jaxpr))
        assert found and all(p == (highest, highest) for p in found), (name, found)


@pytest.mark.parametrize("platform", ("cpu", "cuda", "tpu"))
def test_lowers_for_every_platform(platform):
    mesh, layout = parallel.make_mesh(), SweepLayout(512, 32, 64)
    gram = jax.ShapeDtypeStruct((512, 512), jnp.float32, sharding=parallel.sharding(mesh, parallel.COLUMNS))
    penalty = jax.ShapeDtypeStruct((512,), jnp.float32, sharding=parallel.sharding(mesh, parallel.ROWS))
    solve = partial(mesh_solver._solve_on_mesh, mesh=mesh, layout=layout)
    exported = export.export(jax.jit(solve), platforms=[platform])(gram, penalty, np.float32(0))
    assert exported.platforms == (platform,) and exported.nr_devices == 8
    assert "all_gather" in exported.mlir_module()


# -- rankings ---------------------------------------------------------------------------------------------------------


def sharded(weights: np.ndarray, mesh) -> ItemWeights:
    n, size = len(weights), sweep_layout(len(weights), mesh.size).size
    padded = np.zeros((size, size), np.float32)
    padded[:n, :n] = weights
    return ItemWeights(parallel.place(padded, mesh, parallel.COLUMNS), padding=size - n)


@pytest.mark.parametrize("n_items", ITEMS)
@pytest.mark.parametrize("k", (1, 7, 100))
@pytest.mark.parametrize("exclude_seen", (True, False))
def test_rankings_with_many_ties_are_exactly_the_same(n_items, k, exclude_seen, mesh, rng):
    """Small integer weights, half of them negative: most scores tie, and padded columns would beat negative ones."""
    data = random_data(rng, n_items=n_items)
    weights = rng.integers(-2, 2, (n_items, n_items)).astype(np.float32)
    expected = recommend(ItemWeights(weights), data, k, exclude_seen=exclude_seen)
    found = recommend(sharded(weights, mesh), data, k, exclude_seen=exclude_seen)
    np.testing.assert_array_equal(found.items, expected.items)
    np.testing.assert_array_equal(found.scores, expected.scores)


@pytest.mark.parametrize("sign", (1, -1))
def test_nan_is_refused_on_every_path_unless_it_is_of_an_excluded_item(sign, mesh):
    """lax.top_k goes by bits: -NaN would rank last, and nobody would know."""
    weights = np.tile(np.arange(20, dtype=np.float32), (20, 1))
    weights[0, 5] = np.copysign(np.nan, sign)
    data = Interactions.from_lists([[0, 5], [0, 7]], 20)
    dense, split = jnp.asarray(weights), sharded(weights, mesh)
    for model in (ItemWeights(weights), split):
        with pytest.raises(InputError, match="user row 1 are NaN"):
            recommend(model, data, 3)
        assert recommend(model, data.rows([0]), 3).items.tolist() == [[19, 18, 17]]
    (batch,) = row_batches(data, 2)
    for scores, items in (top_k(ItemWeights(dense), batch, 3), _top_k_on_mesh(split, batch, 3, True, mesh=mesh)):
        assert np.isnan(scores[1, 0]) and items[1, 0] == 5 and items[0].tolist() == [19, 18, 17]


def test_ranking_sends_candidates_alone():
    mesh = parallel.make_mesh()
    weights = jax.ShapeDtypeStruct((512, 512), jnp.float32, sharding=parallel.sharding(mesh, parallel.COLUMNS))
    batch = abstract_batch(16, 8)
    compiled = _top_k_on_mesh.lower(ItemWeights(weights, 3), batch, 5, True, mesh=mesh).compile()
    found = sent(compiled)
    assert found and found <= {
        ("all-gather", f"{kind}[{shape}]") for kind in ("f32", "s32") for shape in ("16,40", "40,16")
    }


def test_evaluation_of_a_sharded_model_is_the_same(mesh, rng):
    data = random_data(rng, n_users=60)
    fold_in, targets = held_out(data, rng)
    names = "recall@5,ndcg@10,coverage@3"
    expected = evaluate(Ease(5.0).fit(data), fold_in, targets, names).mean
    found = evaluate(Ease(5.0).fit(data, devices=mesh), fold_in, targets, names).mean
    assert found == pytest.approx(expected, abs=1e-5)


def held_out(data, rng):
    shown = rng.random(data.nnz) < 0.6
    return [
        Interactions.from_triples(
            data.user_of_entry[part], data.indices[part], n_users=data.n_users, n_items=data.n_items
        )
        for part in (shown, ~shown)
    ]


def test_a_sharded_model_scores_like_the_whole_one(mesh, rng):
    data = random_data(rng)
    weights = rng.normal(size=(67, 67)).astype(np.float32)
    (batch,) = row_batches(data, data.n_users)
    model = sharded(weights, mesh)
    np.testing.assert_allclose(model.score(batch), ItemWeights(weights).score(batch), atol=1e-4)
    np.testing.assert_allclose(
        model.score_host(data.to_csr()), ItemWeights(weights).score_host(data.to_csr()), atol=1e-4
    )


# -- saving and planning ----------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")  # Orbax's own
def test_saved_and_loaded_on_other_devices(rng, tmp_path):
    pytest.importorskip("orbax.checkpoint", reason="the extra package orbax-checkpoint is not installed")
    data = random_data(rng)
    fitted = Ease(5.0).fit(data, devices=jax.devices())
    save(tmp_path / "model", Ease(50.0).fit(data))  # is replaced
    for _ in range(2):
        save(tmp_path / "model", fitted)
    assert len(list((tmp_path / "model").iterdir())) == 3  # config.json, one npz file, one folder of parts
    for devices in (None, jax.devices()[:2], jax.devices()[:3]):
        model, info = load_model(tmp_path / "model", devices)
        assert model.n_items == 67 and info.method == Ease(5.0)
        np.testing.assert_array_equal(model.weights, fitted.model.weights)
        np.testing.assert_array_equal(recommend(model, data, 5).items, recommend(fitted, data, 5).items)
    save(tmp_path / "model", fitted._replace(model=fitted.model.to_host()))
    assert len(list((tmp_path / "model").iterdir())) == 2


def test_saving_without_orbax_says_what_to_do(rng, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "orbax.checkpoint", None)
    fitted = Ease(5.0).fit(random_data(rng), devices=jax.devices())
    with pytest.raises(InputError, match="pip install orbax-checkpoint, or save"):
        save(tmp_path / "model", fitted)


def test_plans_for_devices_here_and_elsewhere():
    here = plan(10**5, 20_000, 10**7, "ease", devices=parallel.make_mesh(jax.devices()[:2]))
    assert "host, on 2 CPU devices" in here.where
    one, eight = (plan(10**6, 100_000, 10**8, "ease", devices=text) for text in ("h100", "8xH100"))
    assert one.fits and eight.fits and one.total > 6 * eight.total and one.seconds > 6 * eight.seconds
    assert not plan(10**6, 100_000, 10**8, "ease", devices="v5e").fits
    assert plan(10**6, 100_000, 10**8, Edlae(), devices="8xv5e").fits
    for wrong in ("h1000", "0xh100", "axh100"):
        with pytest.raises(InputError, match="devices must be a mesh"):
            plan(10, 10, 10, "ease", devices=wrong)


def memory_row(devices: str) -> str:
    """A row of the table in the documentation."""

    def planned(n_items):
        return Ease().plan(10**6, n_items, 10**8, devices)

    cells = [planned(n) for n in (20_000, 50_000, 100_000, 200_000)]
    texts = [f"{made.total / 1e9:.1f} GB" if made.fits else "no" for made in cells]
    largest = max(n for n in range(1000, 500_000, 1000) if planned(n).fits)
    return f"| {devices} | {' | '.join(texts)} | {largest:,} |"


@pytest.mark.parametrize("devices", ("v5e", "8xv5e", "8xv2", "h100", "8xh100"))
def test_the_memory_table_of_the_documentation_is_what_plan_says(devices):
    page = Path(__file__).parents[2] / "docs" / "from-one-chip-to-a-pod.md"
    if not page.exists():
        pytest.skip("the documentation is not part of this copy of the sources")
    assert memory_row(devices) in page.read_text("utf-8").splitlines()


# -- several processes ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    """The folder and what two processes of four devices printed, over localhost, with `jax.distributed`."""
    with socket.socket() as found:
        try:
            found.bind(("localhost", 0))
        except OSError as error:
            pytest.skip(f"no port of localhost can be opened here: {error}")
        port = found.getsockname()[1]
    script = Path(__file__).with_name("multihost_worker.py")
    # Neither reads a compiled program that the other is still writing.
    environment = {key: value for key, value in os.environ.items() if key != "JAX_COMPILATION_CACHE_DIR"}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    folder = tmp_path_factory.mktemp("shared")
    running = [
        subprocess.Popen(
            [sys.executable, "-W", "error", script, str(port), str(rank), "2", "4", folder],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        said = [process.communicate(timeout=1000)[0] for process in running]
    finally:
        for process in running:
            process.kill()
            process.communicate()
    if any("aren't implemented on the CPU backend" in text for text in said):
        pytest.skip("this jaxlib has no collectives between CPU processes")
    return folder, said


def test_two_processes_of_four_devices_give_the_same(two_processes):
    """Each process compares the parts it owns with NumPy."""
    for rank, text in enumerate(two_processes[1]):
        assert f"process {rank} of 2: all equal" in text, text[-4000:]


@pytest.mark.filterwarnings("ignore")  # Orbax's own
def test_two_processes_save_one_model_and_load_it(two_processes):
    pytest.importorskip("orbax.checkpoint", reason="the extra package orbax-checkpoint is not installed")
    folder, said = two_processes
    for rank, text in enumerate(said):
        assert f"process {rank} of 2: saved and loaded" in text, text[-4000:]
    model, info = load_model(folder / "model", jax.devices()[:2])  # by one process, on other devices
    assert model.n_items == 150 and info.method == Ease(20.0)


def test_without_orbax_two_processes_say_so(two_processes):
    if importlib.util.find_spec("orbax") is not None:
        pytest.skip("orbax-checkpoint is installed")
    for rank, text in enumerate(two_processes[1]):
        assert f"process {rank} of 2: not saved: models that are split" in text, text[-4000:]
