"""Nearest titles: strings with slips against a catalogue of names, beside the plain double loop.

    python benchmarks/nearest_titles.py [--strings 3818] [--names 17225] [--plain 3] [--data ../shared/data]

Names and strings are the titles of the catalogues in the folder, where it is there (INSPIRED's entities, the strings of
the recorded replies), else drawn ones of like lengths. The plain loop is the recurrence of the Levenshtein distance in
Python, a string against each name; it takes hours for all, so that it is timed on a few strings and multiplied. What it
finds for these, the matrix must find.
"""

import argparse
import gzip
import json
import pathlib
import time

import numpy as np

from jaxrec.conversational.catalogue import Catalogue

ENTITIES = "conversational/llmcrs_inspired_entities.json.gz"
REPLIES = "conversational/replies"


def plain(a: str, b: str) -> int:
    """The Levenshtein distance, a row of its table at a time."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        corner, row[0] = row[0], i
        for j, y in enumerate(b, start=1):
            corner, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, corner + (x != y))
    return row[-1]


def real(folder: pathlib.Path) -> tuple[list[str], list[str]]:
    """The distinct names of entities, and the distinct strings that models wrote."""
    from jaxrec.conversational.replies import entity_name, paper

    names = {entity_name(name) for name in json.loads(gzip.decompress((folder / ENTITIES).read_bytes()))}
    strings: dict[str, None] = {}
    for path in sorted((folder / REPLIES).glob("*.jsonl.gz")):
        for line in gzip.decompress(path.read_bytes()).splitlines():
            text = json.loads(line)["resp"]["choices"][0]["message"]["content"]
            strings.update(dict.fromkeys(paper(text).titles))
    return sorted(names), list(strings)


def drawn(n_strings: int, n_names: int) -> tuple[list[str], list[str]]:
    """Names of one to four words, and strings that are names with up to three slips."""
    rng = np.random.default_rng(0)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    words = np.array(["".join(rng.choice(letters, rng.integers(3, 9))) for _ in range(2 * n_names)])
    names = {" ".join(rng.choice(words, rng.integers(1, 5))) for _ in range(2 * n_names)}
    names = sorted(names)[:n_names]
    strings = set()
    while len(strings) < n_strings:
        word = list(names[rng.integers(n_names)])
        for _ in range(rng.integers(0, 4)):
            word[rng.integers(len(word))] = str(rng.choice(letters))
        strings.add("".join(word))
    return names, sorted(strings)


def main() -> None:
    """Times both, and checks that they agree."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--strings", type=int, default=3818, help="how many, where they are drawn")
    parser.add_argument("--names", type=int, default=17225, help="likewise")
    parser.add_argument("--plain", type=int, default=3, help="strings that the plain loop is timed on")
    parser.add_argument("--data", type=pathlib.Path, default=pathlib.Path(__file__).parents[2] / "shared" / "data")
    options = parser.parse_args()
    sets = {"drawn": drawn(options.strings, options.names)}
    if (options.data / ENTITIES).is_file():
        sets["INSPIRED"] = real(options.data)
    for called, (names, strings) in sets.items():
        catalogue = Catalogue(names)
        begun, cpu = time.perf_counter(), time.process_time()
        found = catalogue.nearest(strings, "lower")
        seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
        some = np.random.default_rng(1).permutation(len(strings))[: options.plain]
        begun = time.process_time()
        for row in some:
            distances = np.array([plain(strings[row].lower(), name.lower()) for name in catalogue.titles])
            assert found.distance[row] == distances.min()
            assert found.tied[row].tolist() == np.flatnonzero(distances == distances.min()).tolist()
        loop = (time.process_time() - begun) * len(strings) / len(some)
        begun = time.process_time()
        catalogue.match(strings)
        both = time.process_time() - begun
        print(f"{called}: {len(strings):,} strings of up to {max(map(len, strings))} letters x {len(names):,} names")
        print(
            f"  by letters {seconds:.1f} s, {cpu:.1f} s of a core; plain loop {loop:,.0f} s, from {len(some)} strings"
        )
        print(f"  by letters and by words, with the evidence of each link: {both:.1f} s of a core")


if __name__ == "__main__":
    main()
