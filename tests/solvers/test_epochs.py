"""The loop of a training, with steps that only note who was there."""

import jax
import pytest

from jaxrec.solvers.epochs import Shuffled, out_of_patience, run_epochs


def noted(epochs, course=(), **hooks):
    """The steps made, as (number of the pass, users), and the reports: in an epoch two passes over seven users."""
    made = []

    def step(state, users, number):
        made.append((number, users.tolist()))
        return state + len(users), (len(users), number)

    users = Shuffled(7, 3, jax.random.key(0))
    report = lambda state, steps, _: (state, steps.sizes.tolist(), steps.figures.sum(0).tolist())  # noqa: E731
    start = course[-1][0] if course else 0
    state, reports = run_epochs("", step, start, users, report, epochs=epochs, passes=2, course=course, **hooks)
    return state, made, reports


def test_everyone_comes_once_in_each_pass_in_another_order():
    state, made, reports = noted(2)
    passes = [[user for _, users in made[start : start + 3] for user in users] for start in range(0, 12, 3)]
    assert [sorted(each) for each in passes] == [list(range(7))] * 4
    assert len(set(map(tuple, passes))) == 4 and [number for number, _ in made] == [0, 0, 0, 1, 1, 1] * 2
    assert state == 28 and reports == [(14, [3, 3, 1] * 2, [14, 3]), (28, [3, 3, 1] * 2, [14, 3])]


def test_a_training_that_is_taken_up_again_goes_on_as_if_unbroken():
    _, made, reports = noted(3)
    state, rest, found = noted(3, reports[:1])
    assert (state, rest, found) == (42, made[6:], reports)


@pytest.mark.parametrize(
    "hooks", ({"is_done": lambda course: len(course) == 2}, {"after_epoch": lambda state, course: state == 28})
)
def test_it_ends_where_it_is_told_to(hooks):
    assert len(noted(9, **hooks)[2]) == 2


def test_a_state_goes_through_the_hook_of_each_pass():
    assert noted(1, after_pass=lambda state, number: state * 10 + number)[0] == 770 + 1


@pytest.mark.parametrize(
    ("values", "patience", "over"),
    (([], 1, False), ([3.0, 2.0], 0, False), ([3.0, 2.0], 1, True), ([3.0, 2.0], 2, False), ([1.0, 2.0], 1, False)),
)
def test_patience(values, patience, over):
    assert out_of_patience(values, patience) == over
