"""Writes docs/notebooks: each script of examples/ as a notebook, with a badge that opens it on Colab.

    python docs/make_notebooks.py

The cells of installation are those of docs/quickstart.ipynb; the others are the script's, unchanged. Outputs are left
empty: the documentation runs every notebook anew. Needs jupytext, which `pip install '.[test]'` brings.
"""

import copy
import pathlib

import jupytext
import nbformat

ROOT = pathlib.Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
QUICKSTART = ROOT / "docs" / "quickstart.ipynb"
NOTEBOOKS = ROOT / "docs" / "notebooks"
SITE = "https://colab.research.google.com"
BADGE = "[![Open in Colab]({site}/assets/colab-badge.svg)]({site}/github/jaxrec/jaxrec/blob/main/docs/notebooks/{name})"


def notebook(script: pathlib.Path) -> str:
    """The text of the notebook of a script."""
    quickstart = nbformat.read(QUICKSTART, as_version=4)
    at = next(number for number, cell in enumerate(quickstart.cells) if "%pip install" in cell.source)
    title, *cells = jupytext.reads(script.read_text("utf-8"), fmt="py:percent").cells
    heading, _, prose = title.source.partition("\n")
    badge = BADGE.format(site=SITE, name=target(script).name)
    title.source = f"{heading}\n\n{badge}\n\n{prose}"
    made = nbformat.v4.new_notebook(metadata=copy.deepcopy(quickstart.metadata))
    made.nbformat_minor = quickstart.nbformat_minor
    made.cells = [title, *quickstart.cells[at - 1 : at + 1], *cells]
    for number, cell in enumerate(made.cells):
        cell.id, cell.metadata = f"cell-{number:02}", {}  # jupytext's ids are random
    nbformat.validate(made)
    return nbformat.writes(made) + "\n"


def target(script: pathlib.Path) -> pathlib.Path:
    """Where the notebook of a script belongs."""
    return NOTEBOOKS / f"{script.stem}.ipynb"


def main() -> None:
    """Writes all, and removes those whose script is gone."""
    NOTEBOOKS.mkdir(exist_ok=True)
    for old in set(NOTEBOOKS.glob("*.ipynb")) - set(map(target, EXAMPLES)):
        old.unlink()
    for script in EXAMPLES:
        target(script).write_text(notebook(script), "utf-8")


if __name__ == "__main__":
    main()
