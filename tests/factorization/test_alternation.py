"""What the last sweep changed, and where sweeps are told to stop."""

from typing import Any, NamedTuple

import numpy as np
import pytest

from jaxrec.factorization import alternation


class State(NamedTuple):
    """One number."""

    value: Any


class Info(NamedTuple):
    """The objective after a step."""

    objective: float


def halves(state):
    return State(state.value / 2), Info(float(state.value / 2))


def run(sweeps, **options):
    same = lambda state: state  # noqa: E731
    start = State(np.array(8.0))
    return alternation.alternate("test", halves, start, Info, sweeps=sweeps, place=same, fetch=same, **options)


def test_the_state_before_the_last_sweep_is_known():
    made = run(3)
    assert (made.state.value, made.before.value) == (1, 2)
    np.testing.assert_array_equal(made.course, [[4], [2], [1]])


def test_a_run_that_is_over_when_it_is_taken_up_knows_no_state_before(tmp_path):
    run(3, checkpoint=tmp_path / "kept.npz", belongs_to={})
    made = run(3, checkpoint=tmp_path / "kept.npz", belongs_to={})
    assert made.state.value == 1 and made.before is None
    assert alternation.movement(made.before, made.state) == {}


def test_movement_is_of_the_predictions(rng, monkeypatch):
    """Not of the factors, which may turn and be scaled; in blocks of rows."""
    monkeypatch.setattr("jaxrec.factorization.ridge.errors.NUMBERS_AT_ONCE", 12)
    p, v, p0, v0 = (rng.normal(size=(n, 3)) for n in (11, 7, 11, 7))
    found = alternation.movement((p0, v0), (p, v))[alternation.CHANGE]
    assert found == pytest.approx(np.linalg.norm(p @ v.T - p0 @ v0.T) / np.linalg.norm(p @ v.T), rel=1e-12)
    turn = rng.normal(size=(3, 3))
    assert alternation.movement((p @ turn, v @ np.linalg.inv(turn).T), (p, v))[alternation.CHANGE] < 1e-6
    assert alternation.movement((0 * p, v), (0 * p, v)) == {alternation.CHANGE: 0}
