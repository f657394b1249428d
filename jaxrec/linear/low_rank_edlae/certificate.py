"""The certificate of low-rank EDLAE: both gradients, and how far the decoder is from the best one for its encoder."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jaxtyping import Array, Float

from jaxrec.data.interactions import Interactions
from jaxrec.linear.low_rank_edlae import kernels
from jaxrec.linear.low_rank_edlae.kernels import LowRankProblem
from jaxrec.models import ItemFactors
from jaxrec.runtime import parallel
from jaxrec.solvers.columns import largest_share, sample_by
from jaxrec.status import Certificate, Status, last_checks

GRADIENT_LIMIT = 1e-3  # of the decoder, which is explicit
ENCODER_LIMIT = 1e-2  # of the encoder that "fixed_point" ends with
ROUNDING_LIMIT = 3e-2  # of the excess
SAMPLE = 64  # items that are looked at
CANCELS = 1e-6  # share of a sum that must be left when something is subtracted
NULL = 1e-13  # singular values below this share of the largest count as 0

_excess = jax.jit(kernels.excess)
_gradients = jax.jit(kernels.gradients)


def certify(
    train: Interactions,
    gram: Float[Array, "I I"],
    problem: LowRankProblem,
    model: ItemFactors,
    *,
    stationary: bool = True,
) -> Certificate:
    """The evidence on factors, as told in `LowRankEdlae.fit`, from X'X itself rather than from its factorization.

    Args:
      train: interactions X.
      gram: [I, I] X'X.
      problem: from `prepare`.
      model: U and V.
      stationary: whether they shall be a stationary point.

    Cost: 16 I^2 k flops and `decoder_errors`; three I x I matrices besides those given.
    """
    encoder, decoder = model.encoder, model.decoder
    in_encoder, in_decoder = map(float, _gradients(problem, gram, encoder, decoder))
    share, scale = float(_excess(problem, encoder, decoder)), float(problem.scale)
    full_rank = float(jnp.sum(problem.unexplained - problem.penalty))
    rounding = float(jnp.finfo(gram.dtype).eps) * float(jnp.sum(problem.diagonal)) / max(scale, 1e-30)
    detail = {
        "loss": full_rank + share * scale,
        "loss at full rank": full_rank,
        "excess": share,
        "estimated rounding error": rounding,
        "encoder gradient": in_encoder,
    }
    if not np.isfinite([in_encoder, in_decoder, share]).all():
        return Certificate(Status.NOT_FINITE, in_decoder, GRADIENT_LIMIT, detail)
    parts = (parallel.to_host(part)[: train.n_items] for part in (problem.penalty, encoder, decoder))
    error, worst = decoder_errors(train, *(np.asarray(part, np.float64) for part in parts))
    detail |= {"estimated error of the decoder": error, "estimated error of the worst item": worst}
    if rounding > ROUNDING_LIMIT:
        status = Status.ILL_CONDITIONED
    elif share > 1 or (stationary and in_encoder > ENCODER_LIMIT):
        status = Status.RESIDUAL_TOO_LARGE
    else:
        status = last_checks(in_decoder, GRADIENT_LIMIT, error, worst)
    return Certificate(status, in_decoder, GRADIENT_LIMIT, detail)


@np.errstate(all="ignore")  # what overflows is not certified
def decoder_errors(
    train: Interactions, penalty: np.ndarray, encoder: np.ndarray, decoder: np.ndarray
) -> tuple[float, float]:
    """The relative error of the weights zd(UV'), given U, in the Frobenius norm, and of the worst item looked at.

    With O the encoder without its row j, the rows v_j of the best decoder solve O'G O v = O'X'x_j, where G is
    X'X + Lambda without item j: with H = G U and M = U'G U the matrix is M - u h' - h u' + g uu', and the right-hand
    side h - g u, of the rows u and h of item j. Its inverse times the gradient is what is wrong with v, and is measured
    by the weights O v that it makes. Of the items that are looked at half are those that M in place of their own matrix
    says have the largest errors; what an item takes away from it counts as well. Where that leaves too few digits, as
    of an item that all but owns a factor, its row is solved for from the data.

    Args:
      train: interactions X.
      penalty: [I] diagonal of Lambda.
      encoder: [I, K] float64 U.
      decoder: [I, K] float64 V.

    Cost: 4 nnz K + 16 I K^2 flops, and 64 systems of K equations; blocks of I x K numbers and of U x K.
    """
    x: Any = train.to_csr(np.float64)
    response = x.T @ (x @ encoder) + penalty[:, None] * encoder
    own = np.asarray(x.multiply(x).sum(axis=0)).ravel() + penalty
    matrix, moments = encoder.T @ response, encoder.T @ encoder
    by_u, by_h = (np.einsum("ik,ik->i", part, decoder)[:, None] for part in (encoder, response))
    gradient = decoder @ matrix - encoder * by_h - response * by_u + own[:, None] * encoder * (by_u + 1) - response
    left = (np.diagonal(matrix) - 2 * encoder * response + own[:, None] * encoder**2) / np.diagonal(matrix)
    left = np.nan_to_num(left, nan=1.0).min(axis=1).clip(np.finfo(np.float64).eps)
    guess = gradient @ np.linalg.pinv(matrix, CANCELS, hermitian=True)
    items, examples = sample_by(np.einsum("ik,ik->i", guess @ moments, guess).clip(0) / left**2, SAMPLE)
    wrong = np.empty((len(items), len(matrix)))
    for at, item in enumerate(items.tolist()):
        u, h = encoder[item], response[item]
        crossed = np.outer(u, h)
        system = matrix - crossed - crossed.T + own[item] * np.outer(u, u)
        solved = None if left[item] < CANCELS else _solved(system, gradient[item])
        wrong[at] = decoder[item] - best_row(x, penalty, encoder, item) if solved is None else solved
    sizes = off_diagonal_squares(encoder, moments, decoder, np.arange(len(encoder)))
    errors = off_diagonal_squares(encoder, moments, wrong, items)
    lost, total = float(examples @ errors), float(sizes.sum())
    whole = float(np.sqrt(lost / total)) if total > 0 else float("inf" if lost > 0 else 0)
    return whole, largest_share(np.sqrt(errors), np.sqrt(sizes[items]))


def _solved(system: np.ndarray, right: np.ndarray) -> np.ndarray | None:
    """What solves a positive definite system, however its unknowns are scaled; None where too few digits are left."""
    scale = 1 / np.sqrt(np.maximum(np.diagonal(system), np.finfo(np.float64).tiny))
    try:
        factor = scipy.linalg.cho_factor(system * np.outer(scale, scale))
    except (np.linalg.LinAlgError, ValueError):  # not positive definite, not finite
        return None
    if np.diagonal(factor[0]).min() ** 2 < CANCELS:
        return None
    return scale * scipy.linalg.cho_solve(factor, scale * right)


def off_diagonal_squares(encoder: np.ndarray, moments: np.ndarray, rows: np.ndarray, items: np.ndarray) -> np.ndarray:
    """[S] the squared norms of zd(UV')_j for rows v_j [S, K] of some items, from U and U'U.

    They are v'U'U v - (u'v)^2, but where the diagonal is so large that this has no digits; there U v is formed.
    """
    inside = np.einsum("ik,ik->i", encoder[items], rows) ** 2
    squares = np.einsum("ik,ik->i", rows @ moments, rows) - inside
    for at in np.flatnonzero(squares < CANCELS * inside):
        product = encoder @ rows[at]
        product[items[at]] = 0
        squares[at] = product @ product
    return squares


def best_row(x: Any, penalty: np.ndarray, encoder: np.ndarray, item: int) -> np.ndarray:
    """[K] the best row of the decoder for one item, by least squares on all users and on the penalty of all others.

    Cost: some (U + I) K^2 flops; a matrix of that many rows.
    """
    others = encoder.copy()
    others[item] = 0
    rows = np.vstack([x @ others, np.sqrt(penalty)[:, None] * others])
    scale = 1 / np.maximum(np.linalg.norm(rows, axis=0), np.finfo(np.float64).tiny)
    target = np.append(x[:, [item]].toarray().ravel(), np.zeros(len(others)))
    return scale * np.linalg.lstsq(rows * scale, target, rcond=NULL)[0]
