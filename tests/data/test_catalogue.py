"""Names of items: what is found, and what is refused with which proposals."""

import numpy as np
import pytest

from jaxrec import Catalogue, InputError

TITLES = ["Alien (1979)", "Aliens (1986)", "Heat (1995)", "heat (1995)", "", "Se7en (1995)", "11"]
FILMS = Catalogue(7, np.array([11, 12, 13, 14, 15, 16, 17]), np.array(TITLES))


@pytest.mark.parametrize(
    ("name", "item"),
    [
        (12, 1),
        ("12", 1),
        ("11", 0),  # an id wins over a title
        ("Heat (1995)", 2),
        ("heat (1995)", 3),
        ("alien (1979)", 0),
        ("se7", 5),
    ],
)
def test_find(name, item):
    assert FILMS.find(name) == item


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("alien", r"'alien' fits 2 titles \(Alien \(1979\); Aliens \(1986\)\); give more of the title"),
        ("Seven (1995)", r"no item is called 'Seven \(1995\)'; the closest titles are: Se7en \(1995\)"),
        ("zzzzzz", r"no item is called 'zzzzzz'\."),
        (99, r"no item has the id 99\."),
        ("HEAT (1995)", r"'HEAT \(1995\)' is the title of 2 items; give the id of one of them: 13, 14\."),
    ],
)
def test_not_found(name, said):
    with pytest.raises(InputError, match=said):
        FILMS.find(name)


def test_a_title_of_several_items_is_none_of_them():
    twice = Catalogue(8, None, np.array(["Crash", "Heat", "Crash", "Dune"] * 2))
    for name in ("Crash", "crash", "cras"):
        with pytest.raises(InputError, match=rf"'{name}' is the title of 4 items; .* of them: 0, 2, 4, 6\."):
            twice.find(name)
    assert twice.find("2") == 2
    with pytest.raises(InputError, match=r"10 items; give the id of one of them: 0, 1, 2, 3, 4, \.\.\."):
        Catalogue(10, None, np.array(["A"] * 10)).find("A")


def test_find_without_names():
    assert Catalogue(3).find(2) == 2 and Catalogue(3).find("0") == 0
    for wanted in (3, -1, "x", "3"):
        with pytest.raises(InputError, match=f"no item has the id {wanted!r}"):
            Catalogue(3).find(wanted)


def test_label():
    assert [FILMS.label(i) for i in (0, 4, -1)] == ["Alien (1979)", "15", "-"]
    assert Catalogue(3).label(1) == "1"
    assert Catalogue(2, np.array(["x", "y"])).label(1) == "y"


def test_take():
    part = FILMS.take(np.array([5, 0]))
    assert part.n_items == 2 and part.find("Alien (1979)") == 1 and part.ids.tolist() == [16, 11]
    assert Catalogue(4).take(np.array([3, 1])).ids.tolist() == [3, 1]  # without ids, an item was called by its index


@pytest.mark.parametrize("names", [{"ids": np.arange(2)}, {"titles": np.array(["a"])}])
def test_lengths_must_agree(names):
    with pytest.raises(InputError, match=f"{next(iter(names))} must have one entry per item \\(3\\)"):
        Catalogue(3, **names)
