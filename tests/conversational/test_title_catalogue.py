"""Catalogues of titles: numbering, refusals, and what a text is linked to."""

import time

import numpy as np
import polars as pl
import pytest

from jaxrec import Catalogue as Items
from jaxrec import InputError, Interactions
from jaxrec.conversational import mentions, nearest
from jaxrec.conversational.catalogue import Catalogue
from jaxrec.conversational.links import Limits
from jaxrec.conversational.titles import normalised, numbers, split_year, with_year

TITLES = [
    "Heat (1995)",
    "Heat (1986)",
    "The Godfather (1972)",
    "The Godfather: Part II (1974)",
    "Up (2009)",
    "Frozen (2013)",
    "Cars (2006)",
    "Inception (2010)",
    "The Lord of the Rings: The Fellowship of the Ring (2001)",
    "Amélie (2001)",
    "Shrek 2 (2004)",
    "Alien",
    "It (2017)",
    "The Forest (2016)",
    "Forrest Gump (1994)",
]


@pytest.fixture(scope="module")
def films():
    return Catalogue(TITLES)


def edits(a, b):
    """The Levenshtein distance by its recurrence."""
    d = np.zeros((len(a) + 1, len(b) + 1), int)
    d[:, 0], d[0] = np.arange(len(a) + 1), np.arange(len(b) + 1)
    for i in range(len(a)):
        for j in range(len(b)):
            d[i + 1, j + 1] = min(d[i, j + 1] + 1, d[i + 1, j] + 1, d[i, j] + (a[i] != b[j]))
    return d[-1, -1]


@pytest.mark.parametrize(
    ("title", "name", "year"),
    [
        ("Heat (1995)", "Heat", 1995),
        ("Heat [1995] ", "Heat", 1995),
        ("2012 (2009)", "2012", 2009),
        ("(500) Days of Summer", "(500) Days of Summer", None),
        ("(1941)", "(1941)", None),
        ("Heat (1066)", "Heat (1066)", None),
        ("", "", None),
    ],
)
def test_the_year_behind_a_title(title, name, year):
    assert split_year(title) == (name, year)


def test_a_year_is_put_behind_a_name_once():
    assert with_year("Heat", 1995) == with_year("Heat", "1995") == with_year("Heat", 1995.0) == "Heat (1995)"
    assert with_year("Heat (1995)", 1986) == "Heat (1995)"
    assert with_year("Heat", None) == with_year("Heat", "") == with_year("Heat", float("nan")) == "Heat"
    for year in (1066, "last", 1995.5):
        with pytest.raises(InputError, match="year of 'Heat'"):
            with_year("Heat", year)


@pytest.mark.parametrize(
    ("written", "spelled"),
    [
        ("The  MATRIX!", "the matrix"),
        ("Matrix, The", "the matrix"),
        ("Ocean's Eleven", "oceans eleven"),
        ("Ocean\u2019s Eleven", "oceans eleven"),
        ("Amélie", "amelie"),
        ("Tom & Jerry", "tom and jerry"),
        ("Alien: Covenant", "alien covenant"),
        ("Спутник", "спутник"),
        ("!!!", "!!!"),
        ("", ""),
    ],
)
def test_one_spelling(written, spelled):
    assert normalised(written) == spelled


def test_numbers_of_parts():
    assert numbers(normalised("Rocky III")) == numbers("rocky 3") != numbers("rocky 2")


def test_titles_are_numbered_in_the_order_given(films):
    assert len(films) == films.n_items == films.items.n_items == 15
    assert films.titles[0] == films.items.label(0) == "Heat (1995)"
    assert films.years[:2].tolist() == [1995, 1986] and films.years[11] == 0
    assert films.number(["Frozen (2013)", "  frozen  (2013)", "Alien (1979)", "Frozen"]).tolist() == [5, 5, 11, 5]


def test_a_title_of_several_items_or_none_has_no_number(films):
    with pytest.raises(InputError, match=r"^2 of 3 titles are not in the catalogue of 15, such as 'Heat'; give .*\.$"):
        films.number(["Heat", "Heat (1995)", "Nothing"])
    assert films.number(["Heat", "Heat (1995)", "Heat (2001)"], unknown="-1").tolist() == [-1, 0, -1]


def test_a_title_twice_is_refused_unless_years_tell_them_apart():
    with pytest.raises(InputError, match=r"^'Heat' is the title of two items, 0 and 2; tell them apart by .*\.$"):
        Catalogue(["Heat", "Up", " Heat "])
    assert Catalogue(["Heat", "Up", "Heat"], [1995, 2009, 1986]).titles[2] == "Heat (1986)"
    films = Catalogue(["Heat", "Up", "Heat"], repeats="first")
    assert len(films) == 3 and films.link("Heat")[0].item == 0 and films.link("Heat")[0].alternatives == ()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (([],), "at least one"),
        ((["Heat", ""],), "number 1 is"),
        ((["Heat", 3],), "number 1 is 3"),
        (("Heat",), "list of texts, got 'Heat'"),
        ((None,), "list of texts"),
        ((["Heat"], [1, 2]), "got 1 and 2 years"),
        ((["Heat"], ["soon"]), "year of 'Heat'"),
        ((["Heat"], ["9" * 5000]), "year of 'Heat'"),
        ((["Heat"], [10**5000]), "year of 'Heat'"),
        ((["H" * 20_000],), "at most"),
        ((["\ud800"],), "half a letter"),
        ((["Heat"], None, ["a", "b"]), "one entry per item"),
    ],
)
def test_what_is_no_catalogue_is_refused_in_one_sentence(given, said):
    with pytest.raises(InputError) as caught:
        Catalogue(*given)
    assert said in str(caught.value) and str(caught.value).endswith(".") and "\n" not in str(caught.value)


def test_catalogues_of_other_things(films):
    table = {"title": ["Heat", "Alien"], "year": [1995, None], "id": ["tt1", "tt2"]}
    for frame in (table, pl.DataFrame(table), pl.DataFrame(table).to_pandas()):
        made = Catalogue.of(frame)
        assert made.titles == ("Heat (1995)", "Alien") and list(made.items.ids) == ["tt1", "tt2"]
    assert Catalogue.of({"name": ["Heat"]}, title="name").titles == ("Heat",)
    whole = pl.DataFrame(table).to_pandas().astype({"year": "Int64"})  # whole numbers with pandas' own gap
    assert Catalogue.of(whole).titles == ("Heat (1995)", "Alien")
    with pytest.raises(InputError, match="the column 'title' must be a list"):
        Catalogue.of({"title": 5})
    assert Catalogue.of(films) is films and Catalogue.of(list(films.titles)).titles == films.titles
    items = Items(3, ids=np.array([7, 8, 9]), titles=np.array(["Heat (1995)", "", "Up"]))
    data = Interactions.from_triples([0, 0], [1, 2], n_items=3, titles=["Heat (1995)", "Alien", "Up"])
    assert Catalogue.of(items).titles == ("Heat (1995)", "item 8", "Up")
    assert Catalogue.of(data).titles == ("Heat (1995)", "Alien", "Up")
    with pytest.raises(InputError, match=r"has no column 'title', only name"):
        Catalogue.of({"name": ["Heat"]})
    with pytest.raises(InputError, match="no titles"):
        Catalogue.of(Items(3))
    for table in (pl.DataFrame({"title": ["Heat"]}), {"title": ["Heat"]}):
        with pytest.raises(InputError, match="got a table; give its column, or"):
            Catalogue(table)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Heat (1986)", ["Heat (1986): exact 0"]),
        ("heat 1995", ["Heat (1995): exact 0"]),
        ("Godfather", ["The Godfather (1972): exact 0"]),
        ("godfather, the", ["The Godfather (1972): exact 0"]),
        ("Amelie (2002)", ["Amélie (2001): exact 0"]),
        ("Inceptoin", ["Inception (2010): edit 2"]),
        ("Lord of the Rings", ["The Lord of the Rings: The Fellowship of the Ring (2001): words 31"]),
        ("Icarus", [": none 2"]),
        ("The Godfather Part III", [": none 1"]),
        ("Inception (1920)", [": none 7"]),
        ("I loved the godfather and inceptoin", ["The Godfather (1972): exact 0", "Inception (2010): edit 2"]),
        ("i like forest gump and the forest", ["Forrest Gump (1994): edit 1", "The Forest (2016): exact 0"]),
        ("i have not accessed the carz yet, and no inceptions", ["Inception (2010): edit 1"]),
        ('I saw It and "up" in a car', ["It (2017): exact 0", "Up (2009): exact 0"]),
        ("1. Heat (1995)\n2. Alien\n3. shrek 2", ["Heat (1995): exact 0", "Alien: exact 0", "Shrek 2 (2004): exact 0"]),
        ("My friend says that 'Nothing At All' is a good one for kids", [": none 11"]),
        ("have you seen it? what's up?", [": none 19"]),
        ("We went to Alien: Covenant, and then we went home once again", []),
        ("", []),
        (" \n ", []),
        ("?!", []),
    ],
)
def test_what_a_text_names(films, text, found):
    links = films.link(text)
    assert [f"{link.title}: {link.how} {link.distance}" for link in links] == found
    for link in links:
        assert link.item == (TITLES.index(link.title) if link.title else -1)
        assert text[link.start : link.stop].startswith(split_year(link.text)[0])
        key = normalised(split_year(link.text)[0])
        if link.how != "exact":
            title = link.title or TITLES[link.by_edit]
            assert link.distance == edits(key, normalised(split_year(title)[0]))


def test_a_link_holds_what_both_matchers_say(films):
    (link,) = films.match(["Rings, Lord"])
    assert link.how == "none" and link.by_words == 8 and link.share == 1.0 and link.by_edit != 8 and not link.agreed
    (link,) = films.match(["Lord of the Rings Fellowship"])
    assert link.how == "words" and link.distance == edits(normalised(link.text), normalised(split_year(link.title)[0]))
    (link,) = films.match(["Heat"])
    assert link.alternatives == (1,) and link.agreed and link.by_edit == 0


def test_limits(films):
    assert films.match(["Icarus"], Limits(edits=3, letters_per_edit=None))[0].title == "Cars (2006)"
    assert films.match(["Inceptoin"], Limits(edits=1))[0].how == "none"
    assert films.match(["Lord of the Rings"], Limits(covered=0.3))[0].how == "words"
    assert films.match(["Inception (2020)"], Limits(years=10))[0].how == "exact"
    for wrong in ({"edits": -1}, {"letters_per_edit": 0}, {"covered": 2.0}, {"edits": None, "letters_per_edit": None}):
        with pytest.raises(InputError):
            Limits(**wrong)
    with pytest.raises(InputError, match="limits must be Limits"):
        films.link("Heat", 2)
    with pytest.raises(InputError, match="text must be a text"):
        films.link(None)


@pytest.mark.parametrize(
    "text",
    [
        "Heat" + " " * 100_000 + "(x",
        '"Heat", ' * 12_000,
        "Heat " * 5_000,
        "Heta Godfathre\n" * 7_000,
        "\u201cHeta " * 15_000,
        '"' * 100_000 + "Heat",
    ],
    ids=["spaces", "quotes", "words", "slips", "opened", "marks"],
)
def test_a_long_text_takes_time_by_its_length(films, text):
    begun = time.perf_counter()
    films.link(text)
    films.match([text])
    films.number([text], unknown="-1")
    assert time.perf_counter() - begun < 30  # with time by its square, minutes


def test_no_more_than_so_many_words_are_looked_at_for_slips(films):
    filler = "zzyzx\n" * (mentions.MOST_WORDS - 1)
    assert [link.title for link in films.link(f"{filler}Inceptoin\nInceptoin")] == ["Inception (2010)"]


def test_what_are_no_limits_is_refused(films):
    for ask in (films.link, lambda text, limits: films.match([text], limits)):
        with pytest.raises(InputError, match="limits must be Limits"):
            ask("Heat", 5)


def test_nearest_equals_the_recurrence_on_drawn_strings(rng, monkeypatch):
    monkeypatch.setattr(nearest, "BLOCK_BYTES", 400)  # several blocks
    letters = np.array(list("abcAB "))

    def drawn(n, most):
        return ["".join(letters[rng.integers(0, 6, rng.integers(0, most))]) for _ in range(n)]

    names = sorted({name.strip() for name in drawn(60, 7)} - {""})
    names = sorted({" ".join(name.split()) for name in names}, key=lambda name: rng.random())
    texts = drawn(40, 9)
    found = Catalogue(names).nearest(texts, "lower")
    for text, distance, item, tied in zip(texts, *found, strict=True):
        all_edits = np.array([edits(text.lower(), name.lower()) for name in names])
        assert distance == all_edits.min()
        assert tied.tolist() == np.flatnonzero(all_edits == all_edits.min()).tolist()
        assert names[item] == (text if text in names else min(names[place] for place in tied))


def test_nearest_is_bounded(films):
    found = films.nearest(["x" * 1_000_000, "", "\ud800", "heat (1995)"], "lower")
    assert found.distance[0] == 1_000_000 and found.item[3] == 0
    assert films.match(["Heat" * 1000])[0].how == "none"
    assert films.link("word " * 50_000) == []


def test_no_name_is_near_if_the_year_of_all_is_another():
    found = Catalogue(["Heat (1995)"]).nearest(["Heat (1920)"])
    assert found.item.tolist() == [-1] and found.tied[0].size == 0
    assert Catalogue(["Heat (1995)"]).match(["Heat (1920)"])[0].how == "none"


def test_words_take_the_name_that_holds_most_of_them(rng):
    vocabulary = np.array([f"w{n}" for n in range(12)])
    names = [list(vocabulary[rng.permutation(12)[: rng.integers(0, 6)]]) for _ in range(50)]
    index = nearest.WordIndex(names)
    texts = [list(vocabulary[rng.permutation(12)[: rng.integers(0, 4)]]) for _ in range(30)] + [["unknown"]]
    for text, (item, share) in zip(texts, index.best(texts), strict=True):
        most = max(len(set(text) & set(name)) for name in names)
        assert (item == -1) == (most == 0)
        assert most == 0 or (len(set(text) & set(names[item])) == most and share == most / len(text))
    assert nearest.WordIndex([[], []]).best([["a"]]) == [(-1, 0.0)]
