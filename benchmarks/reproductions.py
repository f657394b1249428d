"""Takes what `python -m jaxrec reproduce` wrote; writes docs/reproductions.md and the table of them in README.md.

    python benchmarks/reproductions.py [FOLDER ...] [--cells]

FOLDER is what `reproduce` was given as --out. Of every experiment and data set in it the table, the record and the
plots are taken into benchmarks/results/reproductions; results of the smoke scale mean nothing and are passed over. With
--cells the cells are taken too, into benchmarks/results/cells: given as --out, a copy of that folder lets a run go on.
Without a folder page and table alone are written anew, from the registry. No number on the page is typed by hand: it
includes the tables.
"""

import argparse
import json
import pathlib
import shutil

from jaxrec.experiments import EXPERIMENTS
from jaxrec.experiments.harness.outcome import rows

ROOT = pathlib.Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "reproductions"
CELLS = ROOT / "benchmarks" / "results" / "cells"
PAGE = ROOT / "docs" / "reproductions.md"
README = ROOT / "README.md"
BEGIN, END = "<!-- reproductions:begin -->\n", "<!-- reproductions:end -->"
HEAD = """# Reproductions

Each experiment of a paper is one command, which is taken up again where it was killed:

```text
python -m jaxrec reproduce NAME --data FOLDER
python -m jaxrec reproduce --list
```

The tables below are what such runs wrote, by `benchmarks/reproductions.py`; records and plots lie beside them in
`benchmarks/results/reproductions`. Seconds are of the machine that is named and say little about another; where it did
other work at the same time, nothing. Where a figure was published for the same data and protocol, and could be read in
its source, the last table sets ours beside it.
"""


def take(folder: pathlib.Path) -> None:
    """Copies the results of all runs in a folder."""
    for record in sorted(folder.rglob("results.json")):
        name, scale, data = (*record.parent.relative_to(folder).parts, "simulated")[:3]
        if scale == "smoke" or name not in EXPERIMENTS:
            continue
        target = RESULTS / name / data
        target.mkdir(parents=True, exist_ok=True)
        for source in (record, record.parent / "table.md", *record.parent.glob("*.png")):
            shutil.copy(source, target / source.name)


def take_cells(folder: pathlib.Path) -> None:
    """Copies the cells of all runs in a folder, as they lie there."""
    for cells in sorted(folder.rglob("cells")):
        below = cells.relative_to(folder)
        if below.parts[1] != "smoke" and below.parts[0] in EXPERIMENTS:
            shutil.copytree(cells, CELLS / below, dirs_exist_ok=True)


def page() -> str:
    """The whole page, from the registry and the results that are there."""
    parts = [HEAD]
    for name, experiment in EXPERIMENTS.items():
        parts.append(
            f"## {name}\n\n{experiment.paper}: {experiment.shows}.\n\nThe paper says: {experiment.expected}.\n"
        )
        records = sorted((RESULTS / name).glob("*/results.json"))
        parts += [section(name, record) for record in records]
        if not records:
            parts.append(f"```text\npython -m jaxrec reproduce {name}\n```\n\nNot recorded here yet.\n")
    return "\n".join(parts)


def section(name: str, record: pathlib.Path) -> str:
    """One experiment on one data set: command, data, machine, table, plots."""
    found = json.loads(record.read_text("utf-8"))
    below = f"../{record.parent.relative_to(ROOT).as_posix()}"
    only = f" --only {record.parent.name}" if "data" in found else ""
    lines = [f"### {name} on {record.parent.name}", ""]
    lines += ["```text", f"python -m jaxrec reproduce {name}{only} --scale {found['scale']}", "```", ""]
    if "data" in found:
        data = found["data"]
        sizes = (
            data["said"] if "said" in data else f"{data['n_users']:,} users to learn from x {data['n_items']:,} items"
        )
        lines += [f"{sizes}; {found['prepared']}.", ""]
    # Records of before cells kept theirs know one machine: that of the last run.
    machines = found.get("machines", [found["machine"]] if "machine" in found else [])
    if machines:
        said = (f"{each['devices']} x {each['device']}, threads on the host: {each['threads']}" for each in machines)
        lines += [f"On {'; and on '.join(said)}.", ""]
    lines += [f"```{{include}} {below}/table.md", "```", ""]
    for plot in sorted(record.parent.glob("*.png")):
        lines += [f"![{plot.stem.replace('_', ' ')}, {record.parent.name}]({below}/{plot.name})", ""]
    return "\n".join(lines)


def overview() -> str:
    """The table of README.md: of each experiment what `reproduce --list` says in one line."""
    lines = [
        [f"[{name}](docs/reproductions.md#{name})", experiment.paper, experiment.shows, experiment.runs_on]
        for name, experiment in EXPERIMENTS.items()
    ]
    lines = [[cell.replace("|", r"\|") for cell in line] for line in lines]
    return "\n".join(rows(["experiment", "paper", "what it shows", "data"], lines)) + "\n"


def readme() -> str:
    """README.md with the table between its marks written anew."""
    before, rest = README.read_text("utf-8").split(BEGIN)
    return before + BEGIN + overview() + END + rest.split(END)[1]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=pathlib.Path)
    parser.add_argument("--cells", action="store_true")
    options = parser.parse_args()
    for folder in options.folders:
        take(folder)
        if options.cells:
            take_cells(folder)
    PAGE.write_text(page(), "utf-8")
    README.write_text(readme(), "utf-8")


if __name__ == "__main__":
    main()
