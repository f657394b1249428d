"""One of several processes of the multi-host tests: multihost_worker.py PORT RANK PROCESSES DEVICES_EACH FOLDER."""

# ruff: noqa: E402

import importlib.util
import os
import sys
import warnings
from pathlib import Path

port, rank, processes, each = map(int, sys.argv[1:5])
folder = Path(sys.argv[5])
os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={each}"

import jax
import numpy as np

jax.distributed.initialize(f"localhost:{port}", processes, rank, initialization_timeout=600)

from jaxrec import Ease, InputError, Interactions, evaluate, load_model, recommend, save
from jaxrec.closed_form.gram import host_gram_on_mesh, mesh_gram
from jaxrec.closed_form.mesh import invert
from jaxrec.runtime import parallel
from jaxrec.solvers.spd import sweep_layout


def check_own_parts(array, expected, atol):
    assert len(array.addressable_shards) == each and not array.is_fully_addressable
    for shard in array.addressable_shards:
        np.testing.assert_allclose(shard.data, expected[shard.index], rtol=0, atol=atol)


rng = np.random.default_rng(0)  # the same on every process
mesh = parallel.make_mesh()
assert mesh.size == processes * each

x = rng.normal(size=(600, 256))
a = x.T @ x / 2 + 3 * np.eye(256)
inverse = np.linalg.inv(a)
placed = parallel.place(a.astype(np.float32), mesh, parallel.COLUMNS)
found = invert(placed, np.full(256, 1e-6), mesh)
assert found.shape == (256, 256)
check_own_parts(found, inverse, 5e-6 * np.abs(inverse).max())

n_items = 150
shown = rng.random((80, n_items)) < 0.05 + 0.5 * rng.random(n_items) ** 2
data = Interactions.from_triples(*np.nonzero(shown), n_users=80, n_items=n_items)
size = sweep_layout(n_items, mesh.size).size
dense = np.pad(shown.astype(float), ((0, 0), (0, size - n_items)))
for gram in (host_gram_on_mesh, mesh_gram):
    check_own_parts(gram(data, mesh, size), dense.T @ dense, 0)

expected = Ease(20.0).fit(data)
fitted = Ease(20.0).fit(data, devices=mesh)
check_own_parts(fitted.model.weights, np.pad(expected.model.weights, (0, size - n_items)), 1e-5)
assert fitted.info.certificate.residual < 1e-5

targets = Interactions.from_triples(*np.nonzero(~shown & (rng.random(shown.shape) < 0.1)), n_users=80, n_items=n_items)
metrics = [evaluate(model, data, targets, "recall@10").mean["recall@10"] for model in (expected, fitted)]
assert abs(metrics[0] - metrics[1]) < 1e-3, metrics
np.testing.assert_allclose(recommend(fitted, data, 5).scores, recommend(expected, data, 5).scores, atol=1e-4)
print(f"process {rank} of {processes}: all equal")

if importlib.util.find_spec("orbax") is None:
    try:
        save(folder / "model", fitted)
    except InputError as error:
        print(f"process {rank} of {processes}: not saved: {error}")
    sys.exit()
warnings.simplefilter("ignore")  # Orbax's own
for reg in (50.0, 20.0):  # the second replaces the first
    save(folder / "model", Ease(reg).fit(data, devices=mesh))
    loaded = load_model(folder / "model", mesh)
    assert loaded.info.method == Ease(reg)
assert len(list((folder / "model").iterdir())) == 3  # config.json, one npz file, one folder of parts
check_own_parts(loaded.model.weights, np.asarray(parallel.to_host(fitted.model.weights)), 0)
np.testing.assert_array_equal(recommend(loaded, data, 5).items, recommend(fitted, data, 5).items)
print(f"process {rank} of {processes}: saved and loaded")
