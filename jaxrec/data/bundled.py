"""Data sets that ship with the library."""

from __future__ import annotations

import dataclasses
from importlib import resources

from jaxrec.data.interactions import Interactions
from jaxrec.data.load_options import Options
from jaxrec.data.npz import read_npz


@dataclasses.dataclass(frozen=True)
class BundledData:
    """What is to be said about a data set that ships with the library.

    Attributes:
      name: what `load` calls it.
      description: what one row and one column are, and how many there are.
      licence: the licence, and where it is stated.
      attribution: whom to name, and which paper to cite.
    """

    name: str
    description: str
    licence: str
    attribution: str


BUNDLED = {
    "msweb": BundledData(
        name="msweb",
        description=(
            "Areas of www.microsoft.com visited by anonymous users in one week of 1998: 37,711 users x 294 areas, "
            "113,845 visits, with titles and the source's own 5,000 test users."
        ),
        licence="CC BY 4.0, by the donation policy of the UCI Machine Learning Repository",
        attribution=(
            "Anonymous Microsoft Web Data; J. S. Breese, D. Heckerman, C. Kadie, donated to the UCI Machine Learning "
            "Repository, 1998. Paper: Empirical Analysis of Predictive Algorithms for Collaborative Filtering, UAI "
            "1998."
        ),
    ),
    "redial": BundledData(
        name="redial",
        description=(
            "Films that people talked about in pairs, one of them asking for a recommendation, a conversation a user: "
            "3,155 users x 6916 items, 16,734 mentions with titles. `rating` is 0 for a film that was not liked, 1 "
            "where nothing was said, 2 for one that was. The source's own 1,342 test conversations and 1,813 of its "
            "10,006 training conversations; `jaxrec.conversational.load` reads the words of the former."
        ),
        licence="CC BY 4.0, as stated on the web site of the data set",
        attribution=(
            "ReDial; R. Li, S. Kahou, H. Schulz, V. Michalski, L. Charlin, C. Pal. Paper: Towards Deep Conversational "
            "Recommendations, NeurIPS 2018."
        ),
    ),
}


def bundled_names() -> str:
    """The names of the bundled data sets, for messages."""
    return ", ".join(sorted(BUNDLED))


def load_bundled(name: str, options: Options, *, called: str | None = None) -> Interactions:
    """The bundled data set `name`, under that name or as it is to be `called`."""
    folder = resources.files("jaxrec.data") / "bundled"
    return read_npz(folder / f"{name}.npz", folder / f"{name}.items.txt.gz", options, called or name)
