"""What no autoencoder of a given width can do better than: the optima of linear ones (Steck & Garcia Garcia 2021).

Any autoencoder, however deep, whose last hidden layer has K outputs H and whose output is H W' (plus a bias, maybe)
gives a matrix of rank K. So its squared error on X is at least the error of the best matrix of rank K, which a linear
autoencoder reaches: sum of the squared singular values of X from the (K + 1)th on (Eckart & Young 1936). Depth and
nonlinearity cannot lower the training error of an autoencoder below it.

What it rests on, and what becomes of other settings:

- *Squared error, every cell alike.* Softmax, logistic or weighted losses are refused.
- *A bias of the output.* For any H W' the best bias is the mean of what is left; that centres all columns. So the bound
  is the bound of X minus its column means, whatever the penalty, and a linear autoencoder with a bias reaches it.
- *Noise at the input or in hidden layers.* H is any matrix, so the bound holds for every draw of the noise, and for its
  mean; it is reached only without noise.
- *A penalty on H and W, reg (||H||^2 + ||W||^2).* Over all H, W of a product of singular values p_j the least is
  2 reg sum p_j (the nuclear norm), hence p_j = (s_j - reg)_+: `bottleneck_penalty`.
- *A penalty on the kernels.* It bounds the encoder, not H, and for a nonlinear encoder nothing better is known here
  than the bound without it. For linear autoencoders the optimum is known: `weight_penalty`, `tied_penalty` and
  `product_penalty`; these are no bounds for nonlinear ones.

It says nothing about metrics on held-out items.

Supervised targets are another matter. A network from X to other targets Y still has an output of rank K, so that its
loss is at least Eckart and Young's of Y. But a linear one gives X B, whose columns are combinations of the columns of
X: it explains nothing of Y outside of them, and ends at `reduced_rank`, above that floor. Networks that are not linear
have the room in between. An autoencoder's X lies within its own columns: there both are the same, and no room is left.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from jaxrec import _checks
from jaxrec._checks import InputError
from jaxrec.closed_form import spectral
from jaxrec.data.interactions import Interactions
from jaxrec.solvers.lanczos import lanczos

DENSE_UP_TO = 6000  # items, for which all eigenvalues are computed
RANGE = 1e-12  # of the largest eigenvalue of X'X: what is below is rounding
Values = Float[np.ndarray, " n"]


class Spectrum(NamedTuple):
    """The squared singular values of X, largest first.

    Attributes:
      values: [n] of them; all, or the first so many.
      total: their sum over all, the squared norm of X (of the centred X where `bias`).
      n: how many there are in all.
    """

    values: np.ndarray
    total: float
    n: int


class Bound(NamedTuple):
    """The optimum of the linear autoencoders, and what it is of.

    Attributes:
      value: the least loss, in squared interactions summed over all users, penalty included.
      nothing: the loss of predicting 0 (with a bias, the means) for everyone.
      width: K.
      tight: whether some linear autoencoder reaches it under the settings it was asked for.
      of: what was minimised, in words.
    """

    value: float
    nothing: float
    width: int
    tight: bool
    of: str


def spectrum(train: Interactions, width: int, *, bias: bool = False) -> Spectrum:
    """The squared singular values of X, or of X minus its column means, in float64.

    Args:
      train: U x I interactions X.
      width: how many are wanted at least.
      bias: centre the columns.

    Returns:
      Spectrum; all values up to `DENSE_UP_TO` items, else `width` of them.

    Cost: a Gram matrix and 4/3 I^3 flops on the host; beyond `DENSE_UP_TO` items Lanczos, about 20 nnz width.
    Raises: ArpackError of SciPy where Lanczos iterations do not converge (`lanczos`).
    """
    _checks.count("width", width, at_least=1)
    n = train.n_items
    total = spread(train, bias)
    if n <= DENSE_UP_TO or 2 * width > n:
        values = np.linalg.eigvalsh(spectral.gram(train, bias))[::-1]
    else:
        values = lanczos(spectral.gram_operator(train, bias), width, tolerance=1e-10).values
    return Spectrum(np.maximum(values, 0), total, n)


def eckart_young(found: Spectrum, width: int) -> float:
    """The least ||X - H W'||^2 over H [U, K] and W [I, K]: the sum of the squared singular values beyond the Kth."""
    return max(0.0, found.total - float(np.sum(_first(found, width))))


def explained(inputs: Interactions, targets: Interactions, *, bias: bool = False) -> Spectrum:
    """The squared singular values of P Y: of what linear maps of the inputs can explain of the targets, in float64.

    P = X (X'X)^+ X' projects on the columns of X. With X'X = Q D Q' on its range, P Y has the singular values of
    D^(-1/2) Q' X'Y, so that nothing of U x U is made.

    Args:
      inputs: U x I interactions X.
      targets: U x J interactions Y of the same users.
      bias: centre the columns of both.

    Returns:
      Spectrum, whose `total` is the squared norm of Y, more than the sum of the values by what nothing explains.
      Directions of X below 1e-6 of its largest singular value count as none: of numbers like 0/1 there is nothing.

    Raises:
      InputError: X and Y differ in users.

    Cost: Gram matrices, 9 I^3 flops and, with the smaller of I and J, 2 I J min(I, J), on the host.
    """
    if inputs.n_users != targets.n_users:
        raise InputError(
            f"targets must have a row for each user of the inputs, got {targets.n_users} rows and {inputs.n_users} "
            "users; take both from the same interactions, with select_items."
        )
    n = inputs.n_users
    of_x, of_y = (spectral.column_means(part) if bias else np.zeros(part.n_items) for part in (inputs, targets))
    cross = (inputs.to_csr(np.float64).T @ targets.to_csr(np.float64)).toarray() - n * np.outer(of_x, of_y)
    values, vectors = np.linalg.eigh(spectral.gram(inputs, bias))
    kept = values > RANGE * max(values[-1], 0)
    whitened = (vectors[:, kept] / np.sqrt(values[kept])).T @ cross
    small = whitened @ whitened.T if len(whitened) < targets.n_items else whitened.T @ whitened
    return Spectrum(np.maximum(np.linalg.eigvalsh(small)[::-1], 0), spread(targets, bias), len(small))


def reduced_rank(inputs: Interactions, targets: Interactions, width: int, *, bias: bool = False) -> Bound:
    """The least ||Y - X B||^2 over B of rank K: ||Y||^2 less the first K squared singular values of P Y.

    Y - X B is (Y - P Y) + (P Y - X B), orthogonal to each other. The best matrix of rank K for P Y is P Y V V', V its
    first right singular vectors, and has the form X B (reduced rank regression; Izenman 1975). It is what linear
    networks of any depth come to whose narrowest layer has K outputs, and no bound for others: see above.

    Args:
      inputs: U x I interactions X.
      targets: U x J interactions Y of the same users.
      width: K.
      bias: whether the output has a bias.

    Raises:
      InputError: an argument is out of range, or X and Y differ in users.

    Cost: see `explained`.
    """
    _checks.count("width", width, at_least=1)
    found = explained(inputs, targets, bias=bias)
    of = f"squared error of a linear map of rank {width} to other targets{' plus a bias' if bias else ''}"
    return Bound(eckart_young(found, width), found.total, width, True, of)


def bottleneck_penalty(found: Spectrum, width: int, reg: float) -> float:
    """The least ||X - H W'||^2 + reg (||H||^2 + ||W||^2): ||X||^2 - sum over the first K of (s - reg)_+^2."""
    return _by_direction(found, width, reg, "factor", lambda s, p: 2 * reg * s * p)


def weight_penalty(found: Spectrum, width: int, reg: float) -> float:
    """The least ||X - X U V'||^2 + reg (||U||^2 + ||V||^2), over linear encoders U [I, K] and decoders V [I, K].

    The optimum lies in the first singular directions, each scaled by p = (1 - reg / s^2)_+ (Kunin et al., ICML 2019)
    at the price of 2 reg p.
    """
    return _by_direction(found, width, reg, "l2", lambda s, p: 2 * reg * p)


def tied_penalty(found: Spectrum, width: int, reg: float) -> float:
    """The least ||X - X W W'||^2 + reg ||W||^2: as `weight_penalty` with half the strength, there being one kernel."""
    return weight_penalty(found, width, reg / 2)


def product_penalty(found: Spectrum, width: int, reg: float) -> float:
    """The least ||X - X B||^2 + reg ||B||^2, B of rank K: s^2 reg / (s^2 + reg) a direction (Jin et al., KDD 2021)."""
    return _by_direction(found, width, reg, "product", lambda s, p: reg * p**2)


def linear_optimum(
    train: Interactions, width: int, *, reg: float = 0.0, penalty: str = "bottleneck", bias: bool = False
) -> Bound:
    """The least loss of linear autoencoders of width K on the data.

    Args:
      train: U x I interactions X.
      width: K, outputs of the last hidden layer; from the number of items on there is no bottleneck.
      reg: strength of the penalty, at least 0.
      penalty: with `reg`: "bottleneck", which bounds every autoencoder; "weights", "tied" or "product", which only
        linear ones share (see the functions of these names).
      bias: whether the output has a bias, without a penalty of its own.

    Raises:
      InputError: an argument is out of range.

    Cost: see `spectrum`.
    """
    _checks.nonnegative("reg", reg)
    _checks.one_of("penalty", penalty, tuple(PENALTIES))
    _checks.count("width", width, at_least=1)
    width = min(width, train.n_items)
    found = spectrum(train, width, bias=bias)
    value = PENALTIES[penalty](found, width, reg) if reg > 0 else eckart_young(found, width)
    return Bound(value, found.total, width, True, described(width, reg, penalty, bias))


def described(width: int, reg: float, penalty: str, bias: bool) -> str:
    """What the bound of `linear_optimum` is of, in words."""
    what = f"squared error{f' with the {penalty} penalty, reg={reg:g},' if reg > 0 else ''} of a rank of {width}"
    return what + (" plus a bias" if bias else "")


PENALTIES = {
    "bottleneck": bottleneck_penalty,
    "weights": weight_penalty,
    "tied": tied_penalty,
    "product": product_penalty,
}


def spread(train: Interactions, bias: bool) -> float:
    """What predicting nothing leaves: ||X||^2, or with a bias the same of X minus its column means."""
    squares = float(np.sum(train.values.astype(np.float64) ** 2))
    shift = spectral.column_means(train)
    return squares - train.n_users * float(shift @ shift) * bias


def _first(found: Spectrum, width: int) -> np.ndarray:
    if width > len(found.values) and len(found.values) < found.n:
        raise InputError(f"the spectrum holds {len(found.values)} values, fewer than width={width}; ask for more.")
    return found.values[:width]


def _by_direction(found: Spectrum, width: int, reg: float, kind: str, price: Callable[[Any, Any], Any]) -> float:
    """The loss where each of the first singular directions is scaled by its shrinkage, at a price."""
    values = _first(found, width)
    s = np.sqrt(values)
    p = spectral.shrinkage(s, reg, kind)
    return found.total - float(np.sum(values * p * (2 - p) - price(s, p)))
