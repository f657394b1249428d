"""C = (X'X + Lambda)^-1 by way of the users: where they are fewer than the items, theirs is the smaller inverse.

Let mu be the least penalty, w = mu / Lambda, Z = X D(w)^(1/2), which is X where all penalties are equal, and
K = mu I + ZZ', a U x U matrix. By Woodbury's identity

    C = Lambda^(-1/2) N Lambda^(-1/2),    N = (I + Z'Z / mu)^-1 = I - H,    H = Z' K^-1 Z,

where both products are sparse. Two things keep the digits that a subtraction and two products with Z could cost:

- N_jj is not computed as 1 - H_jj, of which little is left where an item has a small penalty. As Z N = mu K^-1 Z,
  N = N (I + Z'Z / mu) N = N^2 + mu (K^-1 Z)'(K^-1 Z): so N_jj = ||e_j - H_j||^2 + mu ||K^-1 z_j||^2, a sum of squares,
  in which an error of K^-1 counts only squared.
- K^-1 and K^-1 Z are float64 whatever the result is. Between the factors Z an error of K^-1 grows by the largest
  eigenvalue of Z'Z / mu, and once more in the gradient: in float32 such fits would often not be certified.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxrec.closed_form.gram import lower_gram
from jaxrec.data.catalogue import Catalogue
from jaxrec.data.interactions import Interactions
from jaxrec.runtime.progress import progress_bar
from jaxrec.runtime.threads import map_in_order, n_threads
from jaxrec.solvers.spd_host import mirror_lower, spd_invert_in_place
from jaxrec.status import Status

BLOCK = 256  # items at a time
# A multiplication of a sparse product takes as long as so many flops of a dense one in float32 (60 to 100, measured);
# the ratios of time to the other way that this predicts, 0.13 to 1.6, came out within 0.15.
SPARSE = 100.0
# The share of the other way's cost below which this one is taken: it may have to be done again the other way.
WORTHWHILE = 0.75


def cost(n_users: int, n_items: int, nnz: int) -> float:
    """Flops of dense float32 products that take as long as `inverse`: a float64 inverse and the sparse products."""
    return 2.0 * float(n_users) ** 3 + SPARSE * nnz * (n_users + n_items / 2)


def pays(n_users: int, n_items: int, nnz: int, itemsize: int) -> bool:
    """Whether `inverse` is worth its memory and its risk beside the I^3 flops of the items' inverse.

    Args:
      n_users: U, of those with interactions.
      n_items: I.
      nnz: number of interactions.
      itemsize: bytes of a number of the result; flops of 8 take twice as long as flops of 4.
    """
    return cost(n_users, n_items, nnz) < WORTHWHILE * itemsize / 4 * float(n_items) ** 3


def memory(n_users: int, n_items: int, nnz: int, itemsize: int) -> dict[str, int]:
    """Bytes of the large arrays of `inverse` at its peak, by what they are; arguments as of `pays`."""
    product = BLOCK * (8 * n_users + itemsize * (n_users + n_items)) + (4 + itemsize) * nnz
    return {
        "inverse and weights of the items, in one place": itemsize * n_items**2,
        "inverse of the users": 8 * n_users**2,
        "blocks of the products": n_threads() * product,
        "sparse data, four times": 48 * nnz + 16 * (n_users + n_items),
    }


def inverse(x: Interactions, penalty: np.ndarray, dtype: np.dtype | type = np.float32) -> tuple[np.ndarray, Status]:
    """([I, I] C = (X'X + D(penalty))^-1, whether that succeeded), computed on the host from a U x U inverse.

    Args:
      x: U x I interactions X; users without any cost nothing.
      penalty: [I] diagonal of Lambda, above 0.
      dtype: of the result, float32 or float64.

    Cost: U^3 flops in float64, nnz (U + I/2) multiplications of sparse products, and the sum over items of
      (users of it)^2; the result, U x U float64 numbers and a few blocks of 256 x (U + I) a thread.
    Fails: the status says so, and the result holds nothing of use.
    """
    z: Any = x.rows(x.user_counts > 0).to_csr(np.float64).T.tocsr()
    z.sort_indices()
    # Values in float64, as those of weighted users are.
    by_item = Interactions(z.indptr.astype(np.int64), z.indices, z.data, Catalogue(z.shape[1]))
    least = float(penalty.min())
    share = least / penalty
    k = lower_gram(by_item, np.float64, share)
    np.fill_diagonal(k, k.diagonal() + least)
    status = spd_invert_in_place(k)
    if status is Status.OK:
        mirror_lower(k)
        z.data = z.data * np.repeat(np.sqrt(share), np.diff(z.indptr))
        h, squares = _between(z, k, np.dtype(dtype))
        del k
        return _from_h(h, least * squares, penalty), status
    return np.full((x.n_items, x.n_items), np.nan, dtype), status


def _between(z: Any, k_inverse: np.ndarray, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """([I, I] H = Z' K^-1 Z, both triangles, [I] the squared norms of the columns of K^-1 Z), from Z' [I, U]."""
    n = z.shape[0]
    rounded = z.astype(dtype)
    h, squares = np.empty((n, n), dtype), np.empty(n)

    def fill(s: int) -> int:
        t = min(s + BLOCK, n)
        with np.errstate(all="ignore"):  # what overflows is not certified
            half = z[s:t] @ k_inverse
            squares[s:t] = np.einsum("ij,ij->i", half, half)
            h[s:, s:t] = rounded[s:] @ half.T.astype(dtype, order="C")
        return t - s

    with progress_bar("weights", n) as advance:
        for done in map_in_order(fill, range(0, n, BLOCK)):
            advance(done)
    mirror_lower(h)
    return h, squares


def _from_h(h: np.ndarray, squares: np.ndarray, penalty: np.ndarray) -> np.ndarray:
    """[I, I] C in the memory of H, given mu ||K^-1 z_j||^2."""
    roots = 1 / np.sqrt(penalty)
    diagonal = np.einsum("ii->i", h)
    diagonal -= 1  # now it is -N
    n_diagonal = squares.copy()
    with np.errstate(all="ignore"):
        for s in range(0, len(h), BLOCK):
            rows = h[s : s + BLOCK]
            n_diagonal[s : s + BLOCK] += np.einsum("ij,ij->i", rows, rows, dtype=np.float64)
            rows *= -roots[s : s + BLOCK, None].astype(h.dtype)
            rows *= roots.astype(h.dtype)
        diagonal[...] = n_diagonal / penalty
    return h
