"""Tries cases for so many seconds: `python tests/fuzz/run.py --seconds 600 --seed 0 [--classes csv npz] [--json FILE]`.

Prints what did not hold, as it is found, and the counts by class and verdict at the end. The exit code is 1 if anything
did not hold. One case again: --one csv 17.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from fuzz import room
from fuzz.classes import CLASSES


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0, help="of the first case of each class; the next have the next")
    parser.add_argument("--classes", nargs="*", default=list(CLASSES))
    parser.add_argument("--children", type=int, default=1, help="processes that try cases side by side")
    parser.add_argument("--limit", type=float, default=room.SECONDS, help="seconds for one case")
    parser.add_argument("--json", help="write all outcomes that did not hold, and the counts, to this file")
    parser.add_argument("--one", nargs=2, metavar=("CLASS", "SEED"))
    asked = parser.parse_args()
    if asked.one:
        for outcome in room.outcomes([(asked.one[0], int(asked.one[1]))], asked.limit):
            print(outcome)
        return 0
    until, found, lock = time.monotonic() + asked.seconds, [], threading.Lock()
    cases = ((kind, seed) for seed in itertools.count(asked.seed) for kind in asked.classes)

    def drawn():
        while time.monotonic() < until:
            with lock:
                case = next(cases)
            yield case

    def work():
        for outcome in room.outcomes(drawn(), asked.limit):
            found.append(outcome)
            if outcome.verdict not in room.GOOD:
                print(f"{outcome.kind} {outcome.seed}: {outcome.verdict}: {outcome.seen}", flush=True)

    threads = [threading.Thread(target=work) for _ in range(asked.children)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    table = room.counts(found)
    print(f"{'class':24}{'tried':>8}" + "".join(f"{verdict:>14}" for verdict in room.VERDICTS))
    for kind, row in table.items():
        print(f"{kind:24}{sum(row.values()):8}" + "".join(f"{row.get(verdict, 0):14}" for verdict in room.VERDICTS))
    broke = [outcome for outcome in found if outcome.verdict not in room.GOOD]
    if asked.json:
        record = {"seed": asked.seed, "counts": table, "broke": [dataclasses.asdict(outcome) for outcome in broke]}
        Path(asked.json).write_text(json.dumps(record, indent=1))
    return bool(broke)


if __name__ == "__main__":
    sys.exit(main())
