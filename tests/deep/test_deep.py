"""Deep autoencoders: losses and forward passes from the papers' equations in NumPy, and what training promises."""

import dataclasses
import os
import signal
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse as sp
from scipy.special import expit, log_softmax, logsumexp
from scipy.stats import norm

from jaxrec import (
    Autoencoder,
    Edlae,
    FitError,
    HeldOut,
    InputError,
    Interactions,
    MultDae,
    MultVae,
    RecVae,
    evaluate,
    load_model,
    save,
)
from jaxrec.data.batching import packed_rows
from jaxrec.deep import rec_vae
from jaxrec.deep.network import losses
from jaxrec.deep.network.architecture import Architecture
from jaxrec.deep.network.step import GROUPS, StepConfig, StepNumbers, group, init, kept_entries, step
from jaxrec.deep.network.step import loss as loss_and_parts
from jaxrec.deep.network.training import Run
from jaxrec.runtime import parallel

SMALL = {"hidden": (8,), "latent": 4, "epochs": 6, "batch_size": 64, "kl_steps": 20}


compiled_loss = jax.jit(loss_and_parts, static_argnames="config")


@pytest.fixture
def x(data):
    return data.to_csr(np.float64).toarray()


# -- references: float64, user by user, from the papers ---------------------------------------------------------------


def dense(p, layer, h):
    return h @ p[f"{layer}.kernel"] + p[f"{layer}.bias"]


def kl_of_normals(mean, variance):
    return sum(0.5 * (m**2 + v - 1 - np.log(v)) for m, v in zip(mean, variance, strict=True))


def mult_vae(p, row, kept, dropout, noise, beta):
    """Negative ELBO of one user: Liang et al. 2018, equation 7."""
    unit = row / np.sqrt(row @ row)
    h = np.tanh(dense(p, "encoder.layers.0", np.where(kept, unit / (1 - dropout), 0)))
    mean, log_variance = np.split(dense(p, "encoder.layers.1", h), 2)
    z = mean + np.sqrt(np.exp(log_variance)) * noise
    f = dense(p, "decoder.layers.1", np.tanh(dense(p, "decoder.layers.0", z)))
    likelihood = sum(count * (value - logsumexp(f)) for count, value in zip(row, f, strict=True))
    return -likelihood + beta * kl_of_normals(mean, np.exp(log_variance))


def rec_vae_encoder(p, unit):
    """Shenbin et al. 2020, section 3.2: each hidden layer is fed with the sum of those before."""
    before = []
    h = unit
    for layer in range(5):
        h = dense(p, f"encoder.layers.{layer}", h) + sum(before)
        h = h * expit(h)
        h = (h - h.mean()) / np.sqrt(h.var() + 0.1)
        h = h * p[f"encoder.norms.{layer}.scale"] + p[f"encoder.norms.{layer}.bias"]
        before.append(h)
    return np.split(dense(p, "encoder.layers.5", h), 2)


def rec_vae_elbo(p, old, row, noise, gamma):
    """Negative ELBO of one user with the composite prior, by the sample z: Shenbin et al. 2020, section 3.3."""
    unit = row / np.sqrt(row @ row)
    mean, log_variance = rec_vae_encoder(p, unit)
    old_mean, old_log_variance = rec_vae_encoder(old, unit)
    z = mean + np.exp(log_variance / 2) * noise
    posterior = norm.logpdf(z, mean, np.exp(log_variance / 2))
    prior = np.log(
        3 / 20 * norm.pdf(z)
        + 3 / 4 * norm.pdf(z, old_mean, np.exp(old_log_variance / 2))
        + 1 / 10 * norm.pdf(z, 0, np.exp(5))
    )
    return -row @ log_softmax(dense(p, "decoder.layers.0", z)) + gamma * row.sum() * np.sum(posterior - prior)


def test_losses(rng, x64):
    f, x = rng.normal(size=(5, 7)), (rng.random((5, 7)) < 0.4).astype(float)
    q = expit(f)
    multinomial = [-sum(x[b] * np.log(np.exp(f[b]) / np.exp(f[b]).sum())) for b in range(5)]
    packed = packed_rows(Interactions.from_csr(sp.csr_array(x)), np.arange(5), 6, 8, parts=3)
    found = losses.multinomial(jnp.concatenate([f, np.full((1, 7), 9.0)]), packed)
    np.testing.assert_allclose(found, [*multinomial, 0], rtol=1e-12)
    expected = {
        "squared": [np.linalg.norm(x[b] - f[b]) ** 2 for b in range(5)],
        "logistic": [-sum(x[b] * np.log(q[b]) + (1 - x[b]) * np.log(1 - q[b])) for b in range(5)],
    }
    for name, values in expected.items():
        np.testing.assert_allclose(getattr(losses, name)(jnp.asarray(f), jnp.asarray(x)), values, rtol=1e-12)
    weighted = [sum((3.0 if c else 1.0) / 2 * (c - v) ** 2 for c, v in zip(x[b], f[b], strict=True)) for b in range(5)]
    np.testing.assert_allclose(losses.gaussian(jnp.asarray(f), jnp.asarray(x), 3.0), weighted, rtol=1e-12)


def prepared(method, data, rng, dtype="float64"):
    """A config in float64, random parameters and a batch of the first 20 users that leaves 4 rows to fill."""
    task = method.task(data)
    architecture = dataclasses.replace(task.config.architecture, compute=dtype, parameters=dtype)
    config = dataclasses.replace(task.config, architecture=architecture)
    state = init(config, jax.random.key(3))
    parameters = {name: jnp.asarray(rng.normal(0, 0.3, leaf.shape)) for name, leaf in state.parameters.items()}
    return config, state._replace(parameters=parameters), task.numbers, packed_rows(data, np.arange(20), 24, 32)


def with_first_layer(config, first_layer):
    return dataclasses.replace(config, architecture=dataclasses.replace(config.architecture, first_layer=first_layer))


def test_mult_vae_is_the_annealed_elbo(data, x, rng, x64):
    config, state, numbers, batch = prepared(MultVae(hidden=(8,), latent=4, kl_weight=0.3, kl_steps=10), data, rng)
    key = jax.random.key(5)
    drop_key, _, code_key = jax.random.split(key, 3)
    kept = np.ones((20, 24), bool)
    keeps = kept_entries(drop_key, batch, 0.5)
    kept[batch.owners[batch.values != 0], batch.items[batch.values != 0]] = keeps[batch.values != 0]
    assert 0.4 < kept[x[:20] > 0].mean() < 0.6
    noise = np.asarray(jax.random.normal(code_key, (24, 4), jnp.float64))
    for number, beta in ((0, 0.0), (2, 0.2), (50, 0.3)):
        expected = np.mean([mult_vae(state.parameters, x[b], kept[b], 0.5, noise[b], beta) for b in range(20)])
        total, parts = compiled_loss(config, state.parameters, {}, batch, numbers, number, key)
        assert float(total) == pytest.approx(expected, rel=1e-8)
        assert float(parts.total) == pytest.approx(float(parts.reconstruction + beta * parts.kl), rel=1e-8)


def test_rec_vae_has_its_composite_prior(data, x, rng, x64):
    config, state, numbers, batch = prepared(RecVae(hidden=6, latent=4, gamma=0.01), data, rng)
    old = {name: leaf + 0.1 for name, leaf in group(state.parameters, "encoder").items()}
    key = jax.random.key(5)
    noise = np.asarray(jax.random.normal(jax.random.split(key, 3)[2], (24, 4), jnp.float64))
    expected = np.mean([rec_vae_elbo(state.parameters, old, x[b], noise[b], 0.01) for b in range(20)])
    total, _ = compiled_loss(config, state.parameters, old, batch, numbers._replace(dropout=0.0), 0, key)
    assert float(total) == pytest.approx(expected, rel=1e-8)


def test_mult_dae_decays_kernels_only(data, x, rng, x64):
    config, state, numbers, batch = prepared(MultDae(latent=4, reg=0.3), data, rng)
    p = {name: np.asarray(leaf) for name, leaf in state.parameters.items()}
    unit = x[:20] / np.linalg.norm(x[:20], axis=1, keepdims=True)
    f = dense(p, "decoder.layers.0", np.tanh(dense(p, "encoder.layers.0", unit)))
    squares = np.sum(p["encoder.layers.0.kernel"] ** 2) + np.sum(p["decoder.layers.0.kernel"] ** 2)
    expected = -np.mean(np.sum(x[:20] * log_softmax(f, axis=1), axis=1)) + 0.3 * squares
    total, _ = compiled_loss(config, state.parameters, {}, batch, numbers._replace(dropout=0.0), 0, jax.random.key(0))
    assert float(total) == pytest.approx(float(expected), rel=1e-8)


def test_another_target_is_what_the_outputs_are_compared_with(data, x, rng, x64):
    inputs, targets = data.select_items(np.arange(10)), data.select_items(np.arange(10, 24))
    config = StepConfig(Architecture(10, (5,), n_outputs=14, normalize=False), "squared")
    p = {name: rng.normal(size=leaf.shape) for name, leaf in init(config, jax.random.key(0)).parameters.items()}
    assert p["decoder.layers.0.kernel"].shape == (5, 14)
    assert config.architecture.n_parameters == 10 * 5 + 5 + 5 * 14 + 14
    users = np.arange(30)
    batch, target = (packed_rows(part, users, 32, 32) for part in (inputs, targets))
    found = compiled_loss(config, p, {}, batch, StepNumbers(), 0, jax.random.key(0), target)[0]
    outputs = dense(p, "decoder.layers.0", np.tanh(dense(p, "encoder.layers.0", x[:30, :10])))
    assert found == pytest.approx(np.sum((x[:30, 10:] - outputs) ** 2) / 30)


def test_gathered_and_dense_first_layers_agree(data, rng, x64):
    config, state, numbers, batch = prepared(MultVae(hidden=(8,), latent=4), data, rng)
    found = []
    for first_layer in ("dense", "gather"):
        one = with_first_layer(config, first_layer)
        of = jax.grad(lambda p, one=one: loss_and_parts(one, p, {}, batch, numbers, 3, jax.random.key(0))[0])
        found.append(jax.jit(of)(state.parameters))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12), *found)


def test_the_first_layer_goes_by_a_stated_rule():
    shape = Architecture(3200, (4,))
    assert shape.gathers(100.0) and not shape.gathers(100.1)
    assert not Architecture(3200, (4,), first_layer="dense").gathers(1) and Architecture(
        2, (4,), first_layer="gather"
    ).gathers(9)


@pytest.mark.parametrize("full_emphasis", (True, pytest.param(False, marks=pytest.mark.slow)))
def test_a_linear_map_with_dropped_items_comes_to_its_closed_form(data, x, full_emphasis):
    """With full emphasis EDLAE, without it DLAE: the expected loss is within 0.1 % of its optimum."""
    method = Autoencoder(
        **{"encoder": (), "decoder": (), "loss": "squared", "bias": False, "normalize": False, "schedule": "cosine"},
        **{"reg": 5.0, "dropout": 0.3, "full_emphasis": full_emphasis, "batch_size": 150},
        **{"epochs": 1200, "learning_rate": 0.01},
    )
    trained = np.asarray(method.fit(data).model.parameters["decoder.layers.0.kernel"], np.float64)
    penalty = 5.0 + 0.3 / 0.7 * (x**2).sum(0)
    if full_emphasis:
        best = np.asarray(Edlae(reg=5.0, dropout=0.3).fit(data).model.weights, np.float64)
        trained = trained - np.diag(np.diag(trained))
    else:
        best = np.linalg.solve(x.T @ x + np.diag(penalty), x.T @ x)

    def expected_loss(b):
        return np.sum((x - x @ b) ** 2) + np.sum(penalty[:, None] * b**2)

    assert 1 - 1e-6 < expected_loss(trained) / expected_loss(best) < 1.001


# -- what training promises -------------------------------------------------------------------------------------------


def test_the_best_epoch_is_returned_and_patience_ends_the_training(data):
    held_out = HeldOut(data.rows(np.arange(40)), Interactions.from_csr(data.to_csr()[39::-1]))  # of others, on purpose
    seen = []
    method = MultVae(**SMALL | {"epochs": 40, "patience": 2, "learning_rate": 0.05})
    fitted = method.fit(data, validation=held_out, callback=lambda number, epoch: seen.append(epoch.validation))
    best = int(np.argmax(seen))
    assert len(seen) == best + 3 < 40
    assert evaluate(fitted, *held_out, "ndcg@100").mean["ndcg@100"] == pytest.approx(seen[best], abs=1e-9)
    detail = fitted.info.certificate.detail
    assert detail["best epoch"] == best + 1 and detail["ndcg@100 on the validation users"] == seen[best]
    assert detail["epochs"] == len(seen) and detail["users per second"] > 0


def test_keys_and_callbacks(data):
    def kernel(epochs, key, callback=None):
        fitted = MultVae(**SMALL | {"epochs": epochs}).fit(data, key=jax.random.key(key), callback=callback)
        return np.asarray(fitted.model.parameters["decoder.layers.1.kernel"])

    np.testing.assert_array_equal(kernel(6, 1, lambda number, _: number == 2), kernel(2, 1))
    assert np.abs(kernel(2, 1) - kernel(2, 2)).max() > 1e-2


CHILD = """
    import os, signal, sys
    import numpy as np
    from jaxrec import Interactions, RecVae
    from jaxrec.deep import rec_vae
    rec_vae.HIDDEN_LAYERS = 1
    with np.load(sys.argv[1]) as stored:
        data = Interactions.from_triples(stored["users"], stored["items"], n_users=150, n_items=24)
    def die(number, epoch):
        if number == 3:
            os.kill(os.getpid(), signal.SIGKILL)
    {method}.fit(data, checkpoint=sys.argv[2], callback=die)
"""


@pytest.mark.slow
def test_killed_and_resumed_is_unbroken(data, x, tmp_path, monkeypatch):
    """RecVAE has everything to restore: two optimisers, the prior, the number of the step."""
    monkeypatch.setattr(rec_vae, "HIDDEN_LAYERS", 1)  # compiles faster
    method = RecVae(hidden=6, latent=4, epochs=6, batch_size=64)
    users, items = np.nonzero(x)
    np.savez(tmp_path / "data.npz", users=users, items=items)
    checkpoint = tmp_path / "run.npz"
    code = textwrap.dedent(CHILD).format(method=method)
    words = [sys.executable, "-c", code, str(tmp_path / "data.npz"), str(checkpoint)]
    ran = subprocess.run(words, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}, timeout=1000)
    assert ran.returncode == -signal.SIGKILL and checkpoint.exists()
    begun = []
    resumed = method.fit(data, checkpoint=checkpoint, callback=lambda number, _: begun.append(number))
    assert begun[0] > 1
    unbroken = method.fit(data)
    for name, leaf in unbroken.model.parameters.items():
        np.testing.assert_array_equal(resumed.model.parameters[name], leaf, err_msg=name)
    with pytest.raises(InputError, match="belongs to another run"):
        method.fit(data, key=jax.random.key(1), checkpoint=checkpoint)


def test_bfloat16_saves_and_resembles_float32(data, tmp_path):
    plain = MultDae(latent=4, epochs=3).fit(data)  # also compiles for the next test
    half = MultDae(latent=4, epochs=3, compute="bfloat16", parameters="bfloat16").fit(data)
    expected, found = (fitted.model.score_host(data.to_csr()) for fitted in (plain, half))
    assert found.dtype == np.float32
    assert 0 < np.abs(found - expected).max() < 0.1 * np.abs(expected).max()
    save(tmp_path / "half", half)
    np.testing.assert_array_equal(load_model(tmp_path / "half").model.score_host(data.to_csr()), found)


def test_the_certificate_says_what_it_is(data):
    certificate = MultDae(latent=4, epochs=3).fit(data).info.certificate
    detail = certificate.detail
    assert detail["of the same users at the end"] < detail["reconstruction at the start"]
    assert detail["epochs"] == 3 and "best epoch" not in detail
    assert certificate.limit == float("inf") and "no proof of an optimum" in MultDae.fit.__doc__
    assert str(certificate).startswith("ok: no proof of an optimum, gradient at the end ")
    assert "KKT" not in str(certificate) and "inf" not in str(certificate)
    with pytest.raises(FitError, match=r"lower learning_rate"):
        MultDae(latent=4, epochs=3, learning_rate=1e30).fit(data)


@pytest.mark.parametrize("key", range(4))
def test_a_first_batch_of_short_histories_is_no_failure(rng, key):
    """The mean loss of all users is above that of a first step on short histories, however well it goes."""
    users = np.repeat(np.arange(40), [2, 18] * 20)
    items = np.concatenate([rng.choice(24, n, replace=False) for n in [2, 18] * 20])
    data = Interactions.from_triples(users, items, n_users=40, n_items=24)
    detail = MultDae(latent=4, batch_size=1, epochs=2).fit(data, key=jax.random.key(key)).info.certificate.detail
    assert detail["of the same users at the end"] < detail["reconstruction at the start"]
    if key == 0:  # the first user has two items
        assert detail["reconstruction at the end"] > detail["reconstruction at the start"]


@pytest.mark.parametrize(
    ("wrong", "why"),
    (
        ({"encoder": (0,)}, "a width of encoder must be at least 1"),
        ({"encoder": 4}, "encoder must be a tuple"),
        ({"encoder": (8, 4), "decoder": (4,), "tied": True}, r"tied weights need decoder=\(8,\)"),
        ({"encoder": (), "decoder": (4,)}, "one linear map"),
        ({"encoder": (4,), "decoder": (4,), "penalty": "bottleneck"}, "last hidden layer"),
        ({"full_emphasis": True}, "needs a dropout above 0 and loss 'squared'"),
        ({"hidden_dropout": 1.0}, "hidden_dropout must be at least 0 and below 1"),
        ({"loss": "hinge"}, "loss must be one of"),
        ({"compute": "float16"}, "compute must be one of"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0"),
    ),
)
def test_bad_settings_are_refused(wrong, why):
    method = Autoencoder()
    for name, value in wrong.items():
        object.__setattr__(method, name, value)  # the constructor's types are checked in tests, and only there
    with pytest.raises(InputError, match=rf"{why}.*\.$"):
        method.__post_init__()


def test_counts_have_no_logistic_loss(data):
    counts = dataclasses.replace(data, values=2 * data.values)
    with pytest.raises(InputError, match="values between 0 and 1"):
        Autoencoder(loss="logistic", epochs=1).fit(counts)


@pytest.mark.parametrize("method", (MultDae, MultVae, RecVae, Autoencoder))
def test_negative_values_have_no_multinomial_loss(data, method):
    ratings = dataclasses.replace(data, values=np.where(np.arange(data.nnz) % 9, data.values, -1).astype(np.float32))
    with pytest.raises(InputError, match=r"multinomial loss takes values of at least 0, .* has -1 to 1; .*\.$"):
        method(epochs=1).fit(ratings)


def test_numbers_beyond_the_type_are_no_certified_training(data):
    with pytest.raises(FitError, match="not finite"):
        MultDae(latent=4, epochs=1).fit(dataclasses.replace(data, values=data.values * np.float32(1e25)))


def test_where_there_is_nothing_to_learn_a_training_is_fine():
    single = Interactions.from_triples(np.arange(20), np.zeros(20, int), n_users=20, n_items=1)
    assert str(MultDae(latent=2, epochs=2).fit(single).info.certificate).startswith("ok")


def test_widths_of_numpy_are_plain():
    method = MultVae()
    object.__setattr__(method, "hidden", (np.int64(8),))  # the constructor's types are checked in tests, and only there
    method.__post_init__()
    assert str(method) == str(MultVae((8,)))


def test_validation_of_another_catalogue_is_refused(data):
    other = Interactions.from_lists([[0, 3], [1]], 20)
    with pytest.raises(InputError, match="must have the same items, got 24, 20 and 20 of them"):
        MultDae().fit(data, validation=HeldOut(other, other))


def test_flax_is_asked_for_by_name(data, monkeypatch):
    monkeypatch.setitem(sys.modules, "flax", None)
    with pytest.raises(InputError, match=r"pip install 'jaxrec\[deep\]'"):
        MultVae().fit(data)


def test_the_config_of_a_step_is_all_that_compiles(data):
    before = step._cache_size()
    for rate in (1e-3, 2e-3):
        MultVae(**SMALL | {"learning_rate": rate, "dropout": 0.1 + rate, "latent": 5}).fit(data)
    assert step._cache_size() == before + 1
    assert StepConfig(Architecture(3, (2,))) == StepConfig(Architecture(3, (2,))) and StepNumbers().dropout == 0


@pytest.mark.parametrize("first_layer", ("dense", "gather"))
@pytest.mark.parametrize("loss", ("multinomial", "logistic"))
def test_a_step_on_a_mesh_is_the_same_and_only_adds_gradients_up(data, first_layer, loss):
    """The batch is split over devices with the entries of its users; the noise does not depend on that."""
    method = Autoencoder((8,), loss=loss, dropout=0.5, batch_size=44)
    task = method.task(data)
    task = task._replace(config=with_first_layer(task.config, first_layer))
    found = []
    for mesh in (None, parallel.make_mesh()):
        run = Run(task, data, mesh, None, jax.random.key(2), None, {})
        batch = run.batch_of(np.arange(44))
        fixed = (run.task.config, run._start()[0], batch, run.numbers, run.noise_key, GROUPS, run.mesh)
        if mesh is not None:
            assert batch.rows.shape == (8, 6) and batch.items.size < 2 * found[0][1]
            compiled = step.lower(*fixed).compile().as_text()
            assert "all-reduce(" in compiled and "all-gather" not in compiled and "all-to-all" not in compiled
        state, losses_before = step(*fixed)
        found.append((state.parameters, batch.items.size, losses_before))
    (one, _, before), (split, _, same) = found
    assert float(before.total) == pytest.approx(float(same.total), rel=1e-5)
    for name, leaf in one.items():
        np.testing.assert_allclose(split[name], leaf, rtol=1e-3, atol=1e-4)
