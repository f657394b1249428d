"""The run-time type checker of the tests: beartype on whatever states a shape, whole numbers allowed for floats.

Functions without a shape in their signature are left alone: what the package's doors are given is theirs to refuse.
"""

import re

from beartype import BeartypeConf, beartype

SHAPED = re.compile(r"\[[\w. |]*(Array|ArrayLike|ndarray|Any)[\w. |]*, ['\"]|jaxtyping")
checked = beartype(conf=BeartypeConf(is_pep484_tower=True))


def check(function):
    """The function, checked if a shape is written on it."""
    stated = " ".join(map(str, getattr(function, "__annotations__", {}).values()))
    return checked(function) if SHAPED.search(stated) else function
