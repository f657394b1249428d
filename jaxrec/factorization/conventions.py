"""What the hyper-parameters of other packages and papers mean here.

All of them minimise one loss (`jaxrec.factorization.ials.method`), and none writes it like another:

=====================  ====================  ==============  ===============  ==========================
                       weight of a positive  weight of rest  target           regularization of a row
=====================  ====================  ==============  ===============  ==========================
Hu et al. 2008         1 + alpha r           1               1                reg
implicit               alpha r               1               1                reg
iALS 2021, irspack     c + a0                a0              c / (c + a0)     reg (n + a0 N)^nu
irspack, ORIGINAL      c + a0                a0              1                reg (n + a0 N)^nu
ALX                    1 + a0                a0              1 / (1 + a0)     reg (n + a0 N)
=====================  ====================  ==============  ===============  ==========================

r is the value of an interaction; c is 1, r or log(1 + r / eps); n counts the entries of the row and N its cells.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from jaxrec import _checks
from jaxrec.data.interactions import Interactions
from jaxrec.factorization import Ials
from jaxrec.factorization.weights import WeightRule, Weights


class Convention(NamedTuple):
    """A loss in the terms of this package: `made.method(rank=64).fit(x, cell_weights=made.cell_weights)`.

    Attributes:
      cell_weights: W.
      reg: L2 strength.
      reg_exponent: nu.
      target: of the entries, "one" or "shrunk".
    """

    cell_weights: Weights
    reg: float
    reg_exponent: float
    target: str

    def method(self, **settings: Any) -> Ials:
        """`Ials` with this loss and other settings as given."""
        return Ials(reg=self.reg, reg_exponent=self.reg_exponent, target=self.target, **settings)  # pyright: ignore


class ForImplicit(NamedTuple):
    """Hyper-parameters of the package implicit, and what its user factors are times the user factors of iALS."""

    alpha: float
    regularization: float
    scale: float


def hu(x: Interactions, alpha: float = 40.0, reg: float = 0.1) -> Convention:
    """The loss of Hu, Koren and Volinsky (ICDM 2008): weight 1 + alpha r, target 1, plain reg."""
    return Convention(Weights.constant(x, alpha), reg, 0.0, "one")


def implicit(x: Interactions, alpha: float = 1.0, regularization: float = 0.01) -> Convention:
    """The loss of `implicit.als.AlternatingLeastSquares`: weight alpha r, without the 1 that Hu et al. add.

    With plain 0/1 feedback and alpha = 1 nothing is weighted at all. Its negative values (disliked items) have no
    counterpart here and are refused.
    """
    _checks.positive("alpha", alpha)
    n = x.n_items
    rule = WeightRule(np.ones(n), np.full(n, float(alpha)), np.full(n, -1.0), *map(np.float64, (1, 0, np.inf)))
    return Convention(rule.on(x), regularization, 0.0, "one")


def ials(x: Interactions, alpha0: float = 0.1, reg: float = 0.003, nu: float = 1.0) -> Convention:
    """The loss of the iALS and iALS++ papers and their reference code (Rendle et al. 2021): values count as 1."""
    weights = Weights.constant(x.binarised(), 1.0, unobserved_weight=alpha0)
    return Convention(weights, reg, nu, "shrunk")


def alx(x: Interactions, unobserved_weight: float = 0.1, reg: float = 0.003) -> Convention:
    """The loss of ALX (Mehta et al. 2021): the loss of iALS with nu = 1."""
    return ials(x, unobserved_weight, reg)


def irspack(
    x: Interactions,
    alpha0: float,
    reg: float = 0.001,
    nu: float = 1.0,
    confidence_scaling: str = "none",
    epsilon: float = 1.0,
    loss_type: str = "IALSPP",
) -> Convention:
    """The loss of `irspack.IALSRecommender`, without its features and `nu_star` (for which see `same_total_reg`).

    Args:
      x: the interactions; their values are c, unlike in the papers.
      alpha0: weight of a missing cell, above 0; by irspack's own default, 0 in version 0.5.2, they do not count at all.
      reg: L2 strength.
      nu: exponent of its scaling.
      confidence_scaling: "none", or "log" for c = log(1 + r / epsilon).
      epsilon: of "log".
      loss_type: "IALSPP", or "ORIGINAL" with target 1.
    """
    _checks.one_of("confidence_scaling", confidence_scaling, ("none", "log"))
    _checks.one_of("loss_type", loss_type, ("IALSPP", "ORIGINAL"))
    if confidence_scaling == "log":
        weights = Weights.log(x, 1.0, epsilon, unobserved_weight=alpha0)
    else:
        weights = Weights.constant(x, 1.0, unobserved_weight=alpha0)
    return Convention(weights, reg, nu, "shrunk" if loss_type == "IALSPP" else "one")


def to_implicit(alpha0: float, reg: float) -> ForImplicit:
    """What to give implicit for the loss of iALS with nu = 0 and 0/1 feedback.

    For the same item factors the user factors of implicit are `scale` times the ones of iALS, so that rankings agree.
    The joint optimum differs in how the factor is shared between users and items under the regularization.

    Args:
      alpha0: > 0, weight of a missing cell.
      reg: L2 strength with nu = 0.
    """
    _checks.positive("alpha0", alpha0)
    return ForImplicit(alpha=1 + 1 / alpha0, regularization=reg / alpha0, scale=1 + alpha0)


def same_total_reg(x: Interactions, reg: float, alpha0: float, nu: float, new_nu: float) -> float:
    """The strength for which exponent `new_nu` gives all rows together the regularization that `nu` gives with `reg`.

    Args:
      x: the interactions.
      reg: strength with `nu`.
      alpha0: > 0, weight of a missing cell.
      nu: exponent that `reg` belongs to (irspack's nu_star).
      new_nu: the other.
    """
    _checks.positive("alpha0", alpha0)
    rows = np.concatenate([x.user_counts + alpha0 * x.n_items, x.item_counts + alpha0 * x.n_users])
    return float(reg * np.sum(rows**nu) / np.sum(rows**new_nu))
