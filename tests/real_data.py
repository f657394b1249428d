"""Where data are that the library may not ship: tests that need them are skipped where they are not."""

import os
from pathlib import Path

import pytest

FOLDER = Path(os.environ.get("JAXREC_DATA") or Path(__file__).parents[2] / "shared" / "data")


def needs(*names):
    """A mark that skips a test unless all these files of the folder are there."""
    missing = [name for name in names if not (FOLDER / name).exists()]
    return pytest.mark.skipif(bool(missing), reason=f"{FOLDER} has no {', '.join(missing)}; JAXREC_DATA names another")
