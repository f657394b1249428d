"""Classes of cases: command lines, with flags left out or added, and values and files of another kind."""

from __future__ import annotations

import contextlib
import functools
import io
from pathlib import Path

import numpy as np
from fuzz.models import data, saved
from fuzz.mutate import damaged, pick
from fuzz.room import Case

from jaxrec import cli
from jaxrec.methods import METHODS

ODD = [
    *("", " ", "0", "-1", "1", "3", "0.5", "1e5", "1e400", "-1e400", "nan", "inf", "1" + "0" * 400, "1_000", "0x10"),
    *("²", "½", "\ud800", "a", "ease", "msweb", "item 1", "item 1,item 2", "ndcg@5", "NDCG@5", "recall", "recall@0"),
    *(
        "recall@" + "9" * 400,
        "1,2,3",
        "1,,2",
        ",",
        "[]",
        "[1]",
        "{}",
        "None",
        "True",
        "all",
        "auto",
        "strong",
        "random",
    ),
    *("8xH100", "0xh100", "999999999999xh100", "leave-one-out", "leave-user-out", "best", ".", "..", "/", "/dev/null"),
    *("/proc/self/mem", "/nowhere/x", "x" * 300, "--", "-", "-k", "--help", "é" * 300, "a\nb", "%s", "{0}", "[bold]x"),
]
FLAGS = [
    *("--data", "--user-column", "--item-column", "--rating-column", "--timestamp-column", "--values", "--min-rating"),
    *("--repeats", "--split", "--seed", "--metrics", "--json", "--save", "--samples", "--devices", "--checkpoint"),
    *(
        "--out",
        "--model",
        "--allow-training-data",
        "--items",
        "--user",
        "-k",
        "--k",
        "--users",
        "--nnz",
        "--reg",
        "--rank",
    ),
    *(
        "--solver",
        "--dtype",
        "--dropout",
        "--protocol",
        "--metric",
        "--rule",
        "--grid",
        "--sweeps",
        "--bogus",
        "--hidden",
    ),
]


@functools.cache
def table() -> str:
    """The interactions of `fuzz.models.data` as CSV."""
    rows = data()
    pairs = zip(rows.user_of_entry.tolist(), rows.items.ids[rows.indices].tolist(), strict=True)
    return "user,item,rating,timestamp\n" + "".join(f"{u},{i},{1 + n % 5},{n}\n" for n, (u, i) in enumerate(pairs))


def command(rng: np.random.Generator, folder: Path) -> list[str]:
    """The words of a command that works."""
    source = ["--data", str(folder / "x.csv")]
    model = ["--model", str(saved(pick(rng, ("ease", "popularity", "pure-svd", "item-knn")))[0])]
    method = pick(rng, (["ease"], ["popularity"], ["pure-svd", "--rank", "3"], ["edlae"], ["item-knn"]))
    kind = pick(rng, ("run", "fit", "evaluate", "recommend", "recommend user", "plan", "plan", "tune", "info"))
    return {
        "run": ["run", *method, *source, "--split", "random", "--metrics", "ndcg@5"],
        "fit": ["fit", *method, *source, "--out", str(folder / "model")],
        "evaluate": ["evaluate", *model, *source, "--split", "random", "--metrics", "ndcg@5"],
        "recommend": ["recommend", *model, "--items", "item 1", "-k", "3"],
        "recommend user": ["recommend", *model, *source, "--user", "3"],
        "plan": ["plan", pick(rng, sorted(METHODS)), "--users", "60", "--items", "23", "--nnz", "300"],
        "tune": ["tune", "ease", *source, "--reg", "10,100", "--metric", "ndcg@5"],
        "info": ["info"],
    }[kind]


def cli_case(rng: np.random.Generator, folder: Path) -> Case:
    """A command line, changed in one to three places."""
    raw = table().encode()
    if rng.random() < 0.2:
        raw, _ = damaged(rng, raw)
    (folder / "x.csv").write_bytes(raw)
    words = command(rng, folder)
    for _ in range(pick(rng, (0, 1, 1, 1, 2, 3))):
        how, at = (
            pick(rng, ("value", "value", "value", "flag", "drop", "drop pair", "repeat")),
            int(rng.integers(1, 99)),
        )
        at = min(len(words) - 1, at % len(words) or 1)
        if how == "value":
            words[at] = pick(rng, ODD)
        elif how == "flag":
            words += [pick(rng, FLAGS), pick(rng, ODD)][: pick(rng, (1, 2, 2, 2))]
        elif how == "repeat":
            words += words[at : at + 2]
        elif len(words) > 1:
            del words[at : at + (1 if how == "drop" else 2)]
    words = [str(folder / word) if word in ("x" * 300, "é" * 300) else word for word in words]
    written = io.StringIO()

    def run() -> int:
        with contextlib.redirect_stderr(written), contextlib.redirect_stdout(io.StringIO()), contextlib.chdir(folder):
            return cli.main(words)

    def problem(code: int) -> str | None:
        said = [line for line in written.getvalue().splitlines() if not line.startswith("note: ")]
        if "Traceback" in written.getvalue() or code not in (0, 1, 2):
            return f"exit code {code}: {written.getvalue()[-300:]}"
        if code == 1 and not (len(said) == 1 and said[0].startswith("jaxrec: ") and len(said[0]) < 1500):
            return f"exit code 1 with {len(said)} lines: {said[:3]}"
        return "exit code 2 without a word" if code == 2 and not said else None

    return Case(run, problem, " ".join(map(repr, words)))


CLASSES = {"cli": cli_case}
