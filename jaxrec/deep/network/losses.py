"""The losses of autoencoders, one number a user: pure functions of outputs, histories and codes."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxrec._checks import InputError
from jaxrec.data.batching import PackedBatch
from jaxrec.data.interactions import Interactions

RECONSTRUCTIONS = ("multinomial", "squared", "gaussian", "logistic")
# RecVAE's prior: shares of the standard normal, of the encoder before, and of a normal of variance exp(10).
COMPOSITE_SHARES = (3 / 20, 3 / 4, 1 / 10)
WIDE_LOG_VARIANCE = 10.0

PerUser = Float[Array, " B"]
Rows = Float[Array, "B I"]
Codes = Float[Array, "B K"]


def check_values(loss: str, train: Interactions) -> None:
    """Refuses interactions for which a loss is no likelihood: it might have no minimum."""
    low, high = train.values.min(), train.values.max()
    if low < 0 and loss == "multinomial":
        wanted = "of at least 0"
    elif (low < 0 or high > 1) and loss == "logistic":
        wanted = "between 0 and 1"
    else:
        return
    raise InputError(
        f"the {loss} loss takes values {wanted}, and {train.name} has {low:g} to {high:g}; use train.binarised(), or "
        "jaxrec.Autoencoder with another loss."
    )


def multinomial(outputs: Rows, histories: PackedBatch) -> PerUser:
    """[B] - sum_i x_i log softmax(f)_i, the multinomial likelihood without its constant (Liang et al. 2018, eq. 2).

    Of the [B, I] outputs f only their log-sum-exp and those at the entries of x are needed.
    """
    x = histories.values
    return histories.totals(x) * jax.nn.logsumexp(outputs, axis=1) - histories.totals(x * histories.at(outputs))


def squared(outputs: Rows, x: Rows, weights: Any = 1.0) -> PerUser:
    """[B] sum_i w_i (x_i - f_i)^2."""
    return jnp.sum(weights * (x - outputs) ** 2, axis=1)


def gaussian(outputs: Rows, x: Rows, confidence: Any) -> PerUser:
    """[B] sum_i c_i / 2 (x_i - f_i)^2 with c_i = `confidence` where x_i is not 0, else 1 (Liang et al. 2018, eq. 3)."""
    return squared(outputs, x, jnp.where(x != 0, confidence, 1.0) / 2)


def logistic(outputs: Rows, x: Rows, weights: Any = 1.0) -> PerUser:
    """[B] sum_i w_i (log(1 + e^f_i) - x_i f_i), binary cross-entropy of f (Liang et al. 2018, eq. 4)."""
    return jnp.sum(weights * (jax.nn.softplus(outputs) - x * outputs), axis=1)


def normal_kl(mean: Codes, log_variance: Codes) -> PerUser:
    """[B] KL(N(mean, e^log_variance) || N(0, 1)), the second term of the ELBO."""
    return 0.5 * jnp.sum(jnp.exp(log_variance) + mean**2 - 1 - log_variance, axis=1)


def log_normal(z: Any, mean: Any, log_variance: Any) -> Any:
    """The log density of N(mean, e^log_variance) at z, entry by entry."""
    return -0.5 * (log_variance + math.log(2 * math.pi) + (z - mean) ** 2 * jnp.exp(-log_variance))


def log_composite_prior(z: Codes, old_mean: Codes, old_log_variance: Codes) -> Codes:
    """[B, K] the log density of RecVAE's prior, coordinate by coordinate (Shenbin et al. 2020, section 3.3).

    A mixture of N(0, 1), of what the encoder made of the same user before its last update, and of N(0, e^10).
    """
    parts = (
        log_normal(z, 0.0, 0.0),
        log_normal(z, old_mean, old_log_variance),
        log_normal(z, 0.0, WIDE_LOG_VARIANCE),
    )
    weighted = [part + math.log(share) for part, share in zip(parts, COMPOSITE_SHARES, strict=True)]
    return jax.nn.logsumexp(jnp.stack(weighted), axis=0)


def composite_kl(z: Codes, mean: Codes, log_variance: Codes, old_mean: Codes, old_log_variance: Codes) -> PerUser:
    """[B] log q(z) - log p(z) of one sample z of q = N(mean, e^log_variance), p the composite prior."""
    return jnp.sum(log_normal(z, mean, log_variance) - log_composite_prior(z, old_mean, old_log_variance), axis=1)
