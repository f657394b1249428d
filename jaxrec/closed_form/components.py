"""Which weights are exactly 0: those between items that no chain of users links, with all users or without one.

A linear autoencoder falls apart into one for each connected component of the graph of users and items, since X'X does.
So the weights between items of two components are exactly 0, and so is a score where the history holds nothing of the
component of the item. A user whose removal splits a component is a cut vertex of the graph (Hopcroft & Tarjan, 1973):
with the order and the tree of a depth-first search, a child c of u is cut off by u where no item or user below c has a
neighbour that came before u; all that is cut off is one stretch of the order.
"""

from __future__ import annotations

import dataclasses
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse as sp
from scipy.sparse import csgraph

Rows = Any  # a SciPy CSR array, of whose shape and slices the type stubs know too little


@dataclasses.dataclass(frozen=True, eq=False)
class Components:
    """The components of the items, of all users' data and of the data without any one user.

    Attributes:
      x: [U, I] sparse interactions.
    """

    x: Rows

    @cached_property
    def _graph(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, sp.csr_array]:
        """(number and sizes of the components of items, labels of items [I], labels of users [U], the graph)."""
        graph = bipartite(self.x)
        labels = csgraph.connected_components(graph, directed=False)[1]
        n_users = self.x.shape[0]
        return np.bincount(labels[n_users:]), labels[n_users:], labels[:n_users], graph

    @property
    def labels(self) -> np.ndarray:
        """[I] the component of each item."""
        return self._graph[1]

    @cached_property
    def is_one(self) -> bool:
        """Whether all items with users are in one component, and no user's removal changes that."""
        of_users = self._graph[2]
        return len(np.unique(of_users[np.diff(self.x.indptr) > 0])) <= 1 and not len(self.cuts.user)

    @cached_property
    def cuts(self) -> Cuts:
        """What each user cuts off; one who shares all items with another user cuts nothing off."""
        _, labels, of_users, graph = self._graph
        n_users, size = self.x.shape[0], len(graph.indptr) - 1
        order, before = _search(graph, np.concatenate([of_users, labels]))
        place = np.empty(size, np.int64)
        place[order] = np.arange(size)
        lowest = np.full(size, size)
        known = np.flatnonzero(np.diff(graph.indptr))
        lowest[known] = np.minimum.reduceat(place[graph.indices], graph.indptr[known]) if len(known) else size
        low, ends = lowest[order].tolist(), list(range(1, size + 1))
        parents = np.where(before[order] >= 0, place[before[order]], -1).tolist()
        for k in range(size - 1, 0, -1):  # children come after their parents
            parent = parents[k]
            if parent >= 0:
                low[parent] = min(low[parent], low[k])
                ends[parent] = max(ends[parent], ends[k])
        parent, low = np.array(parents), np.array(low)
        # The first of a search is an item, so that every user has a parent.
        cut = np.flatnonzero((parent >= 0) & (low >= parent))
        cut = cut[order[parent[cut]] < n_users]
        user = order[parent[cut]]
        by_user = np.argsort(user, kind="stable")
        cut = cut[by_user]
        return Cuts(order - n_users, place[n_users:], user[by_user], cut, np.array(ends)[cut])

    def without(self, user: int) -> np.ndarray:
        """[I] the component of each item in the data without one user."""
        cuts, labels = self.cuts, self.labels.copy()
        for k in np.flatnonzero(cuts.user == user).tolist():
            labels[cuts.items(k)] = len(cuts.order) + k
        return labels


@dataclasses.dataclass(frozen=True, eq=False)
class Cuts:
    """What falls apart from the rest of its component where a user is taken out, as stretches of one order.

    Attributes:
      order: [N] the items, by number, in the order of a depth-first search; users are negative.
      place: [I] where each item stands in it.
      user: [S] whose stretch it is; ascending.
      begin: [S] where it begins in the order.
      end: [S] where it ends; two stretches of one user have nothing in common.
    """

    order: np.ndarray
    place: np.ndarray
    user: np.ndarray
    begin: np.ndarray
    end: np.ndarray

    def items(self, stretch: int) -> np.ndarray:
        """The items of one stretch."""
        some = self.order[self.begin[stretch] : self.end[stretch]]
        return some[some >= 0]


def bipartite(x: Rows) -> sp.csr_array:
    """[U + I, U + I] the graph of users and items, users first."""
    n_users, size = x.shape[0], sum(x.shape)
    ones: Any = sp.csr_array((np.ones(len(x.indices), np.int8), x.indices, x.indptr), shape=x.shape)
    users: Any = ones.T.tocsr()  # of each item; the blocks are joined by hand, since SciPy would sort them again
    indices = np.concatenate([x.indices + n_users, users.indices], dtype=np.int32)
    indptr = np.concatenate([x.indptr, x.indptr[-1] + users.indptr[1:]], dtype=np.int32)
    return sp.csr_array((np.ones(len(indices), np.int8), indices, indptr), shape=(size, size))


def item_components(x: Rows) -> np.ndarray:
    """[I] the number of the component of each item."""
    n_users, size = x.shape[0], sum(x.shape)
    indptr = np.concatenate([x.indptr, np.full(x.shape[1], x.indptr[-1])])
    one_way = sp.csr_array((np.ones(len(x.indices), np.int8), x.indices + n_users, indptr), shape=(size, size))
    return csgraph.connected_components(one_way, connection="weak")[1][n_users:]


def cut_apart(matrix: np.ndarray, labels: np.ndarray) -> None:
    """Sets the entries between items of different components to 0, in place.

    Args:
      matrix: [I, I].
      labels: [I] the component of each item.

    Cost: I numbers are written for each item that is not in the largest component.
    """
    largest = np.bincount(labels).argmax()
    others, rest = np.flatnonzero(labels != largest), np.flatnonzero(labels == largest)
    for begin in range(0, len(others), 256):
        some = others[begin : begin + 256]
        matrix[some] = np.where(labels[some][:, None] == labels, matrix[some], 0)
    if len(others):
        for begin in range(0, len(rest), 256):
            matrix[np.ix_(rest[begin : begin + 256], others)] = 0


def _search(graph: sp.csr_array, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """([N] the vertices in the order of a depth-first search, [N] parents or -1), from one item of each component.

    One call for all components: a further vertex is linked to the last vertex of each, which is an item wherever there
    is more than one vertex.
    """
    size = len(graph.indptr) - 1
    last = np.zeros(labels.max(initial=-1) + 1, np.int64)
    last[labels] = np.arange(size)  # of repeated indices the last one counts
    further = sp.csr_array((np.ones(len(last), np.int8), (np.zeros(len(last), np.int64), last)), shape=(1, size))
    whole = sp.csr_array(sp.block_array([[graph, None], [further, sp.csr_array((1, 1), dtype=np.int8)]]))
    order, before = csgraph.depth_first_order(whole, size, directed=True)
    before = before[:size].copy()
    before[(before == size) | (before < 0)] = -1
    return order[1:].astype(np.int64), before
