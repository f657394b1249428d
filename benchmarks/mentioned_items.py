"""Recommending from what a conversation names: EASE and the nearest conversations beside popularity, on real data.

    python benchmarks/mentioned_items.py [--data FOLDER] [--json FILE] [--table FILE]

ReDial: learned from the 985 conversations of its validation part that have turns to predict, and again from these with
828 more of its training conversations; tested on the turns of its 1,342 test conversations. Settings are chosen on the
828, which the first learns nothing from, and kept for the second. OpenDialKG: learned from its training turns, tested
on the validation turns; settings are chosen on a tenth of the training dialogues, learned from the others. Chosen is
what has the best recall@10 by target of new targets. All rankings are by the rule of `jaxrec.conversational.mentioned`.
"""

import argparse
import dataclasses
import gzip
import itertools
import json
import pathlib
import platform
import time

import numpy as np

import jaxrec
from jaxrec.conversational import mentioned, protocols
from jaxrec.conversational.comparison import compare
from jaxrec.conversational.dialogue import Dialogue, Mention, Turn, samples
from jaxrec.conversational.neighbours import Neighbours
from jaxrec.conversational.readers import load_dialogues, load_samples

METRICS = "recall@1,recall@5,recall@10,recall@20,recall@50,ndcg@10,mrr@10"
CHOICE = ("recommendation", "recall@10")
REGS = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
UNTUNED = 10.0  # of a line that stands beside an earlier measurement of the same recipe, which was not tuned
NEIGHBOURS = [
    Neighbours(n, words, power)
    for n, words, power in itertools.product((50, 100, 200), (0.0, 0.3, 0.5, 0.7), (1.0, 2.0))
]
K = 50


@dataclasses.dataclass
class Task:
    """What to learn from, what to recommend for, and which titles may be recommended."""

    train: list
    asked: list
    titles: list
    items: set | None = None

    def __post_init__(self):
        self.data = mentioned.interactions(self.train, self.titles)
        self.named = mentioned.histories(self.asked, self.titles)
        self.targets = mentioned.targets(self.asked, self.titles, new=False)
        self.among = None
        if self.items is not None:
            self.among = np.array([place for place, title in enumerate(self.titles) if title in self.items])

    def scores(self, ranked, protocol=protocols.per_target):
        """The figures of rankings."""
        return protocol(ranked, self.targets, self.named, METRICS)

    def popularity(self):
        """Rankings by popularity alone."""
        return mentioned.rank(None, self.named, self.data, K, among=self.among)

    def ease(self, reg):
        """Rankings by EASE."""
        return mentioned.rank(jaxrec.Ease(reg).fit(self.data), self.named, self.data, K, among=self.among)

    def neighbours(self, method):
        """Rankings by the votes of the nearest conversations."""
        return method.fit(self.train, self.titles).rank(self.asked, K, among=self.among)


def titles_of(train, asked):
    """All that is named, in the order of text."""
    found = {each.item for talk in train for turn in talk.turns for each in turn.mentions}
    found |= {title for sample in asked for title in (*sample.targets, *sample.seen)}
    return sorted(found)


def chosen(task):
    """The settings with the best metric on a fold."""
    regs = {reg: task.scores(task.ease(reg))[CHOICE][0] for reg in REGS}
    methods = {method: task.scores(task.neighbours(method))[CHOICE][0] for method in NEIGHBOURS}
    return max(regs, key=regs.get), max(methods, key=methods.get), regs, methods


def measured(task, reg, method):
    """The figures of the three, by target and by sample, and how EASE and the neighbours differ."""
    begun = time.perf_counter()
    ranked = {
        "popularity": task.popularity(),
        f"EASE, reg {UNTUNED:g}, not tuned": task.ease(UNTUNED),
        "EASE": task.ease(reg),
        "NBCRS": task.neighbours(method),
    }
    scores = {name: task.scores(each) for name, each in ranked.items()}
    samples_ = {name: task.scores(each, protocols.per_sample) for name, each in ranked.items()}
    usable = np.array([bool(each) for each in task.named])
    rows = usable[scores["EASE"].sample]
    new = ~np.isnan(scores["EASE"].reports["recommendation"].per_user["recall@10"])
    with_query = {
        name: {
            metric: [
                float(values[rows & new].mean()),
                float(values[rows & new].std(ddof=1) / (rows & new).sum() ** 0.5),
            ]
            for metric, values in each.reports["recommendation"].per_user.items()
        }
        for name, each in scores.items()
    }
    return {
        "conversations": len(task.train),
        "items": len(task.titles),
        "may be recommended": len(task.titles) if task.among is None else len(task.among),
        "samples": samples_["EASE"].count("recommendation"),
        "targets": scores["EASE"].count("recommendation"),
        "targets with something named before": int((rows & new).sum()),
        "settings": {"EASE": {"reg": reg}, "NBCRS": dataclasses.asdict(method)},
        "per target": {name: _figures(each) for name, each in scores.items()},
        "per target, something named before": with_query,
        "per sample": {name: _figures(each) for name, each in samples_.items()},
        "differences": {
            f"{one} - {two}": str(compare(scores[one], scores[two], "recall@10"))
            for one, two in (("EASE", "popularity"), ("NBCRS", "EASE"))
        },
        "seconds": time.perf_counter() - begun,
    }


def _figures(scores):
    return {metric: list(scores["recommendation", metric]) for metric in METRICS.split(",")}


def redial(folder):
    """Both sizes of training data, settings chosen once."""
    some = {sample.dialogue for sample in load_samples(folder / "conversational" / "redial_valid_turns.jsonl.gz")}
    talks = load_dialogues(folder / "redial_train_part.jsonl.gz")
    part, rest = ([talk for talk in talks if (talk.id in some) == mine] for mine in (True, False))
    fold, asked = list(samples(rest)), list(samples(load_dialogues(folder / "redial_test.jsonl.gz")))
    reg, method, *tried = chosen(Task(part, fold, titles_of(part, fold)))
    yield f"ReDial, {len(part)} conversations", measured(Task(part, asked, titles_of(part, asked)), reg, method), tried
    yield (
        f"ReDial, {len(talks)} conversations",
        measured(Task(talks, asked, titles_of(talks, asked)), reg, method),
        tried,
    )


def opendialkg(folder):
    """Names of people and genres count as named; only films may be recommended."""
    records = json.loads(gzip.open(folder / "conversational" / "opendialkg_items.json.gz", "rt").read()).values()
    items = {" ".join(record["name"].split()) for record in records}
    turns = load_samples(folder / "conversational" / "opendialkg_train.jsonl.gz")
    asked = load_samples(folder / "conversational" / "opendialkg_valid.jsonl.gz")
    ids = sorted({sample.dialogue for sample in turns})
    held = set(np.random.default_rng(0).choice(ids, len(ids) // 10, replace=False))
    part, fold = joined([each for each in turns if each.dialogue not in held]), [s for s in turns if s.dialogue in held]
    reg, method, *tried = chosen(Task(part, fold, titles_of(part, fold), items))
    talks = joined(turns)
    found = measured(Task(talks, asked, titles_of(talks, asked), items), reg, method)
    yield f"OpenDialKG, {len(talks)} conversations", found, tried


def joined(turns):
    """A dialogue of each one's turns: the words of the last with all that any of them names."""
    groups = {}
    for sample in turns:
        groups.setdefault(sample.dialogue, []).append(sample)
    made = []
    for name, group in groups.items():
        named = dict.fromkeys(title for sample in group for title in (*sample.seen, *sample.targets))
        last = group[-1]
        words = " ".join([*(turn.text for turn in last.context), last.reply])
        made.append(Dialogue(name, (Turn("seeker", words, tuple(Mention(title) for title in named)),)))
    return made


def table(found):
    """The figures in Markdown."""
    metrics = ("recall@1", "recall@5", "recall@10", "recall@50", "ndcg@10")
    lines = []
    for name, each in found.items():
        settings = each["settings"]
        lines += [
            f"**{name}**: {each['targets']:,} new targets of {each['samples']:,} turns, {each['may be recommended']:,} "
            f"titles to rank; EASE with reg {settings['EASE']['reg']:g}, NBCRS with {settings['NBCRS']['n']} "
            f"neighbours, words {settings['NBCRS']['words']:g}, power {settings['NBCRS']['power']:g}.",
            "",
            f"| by target | {' | '.join(metrics)} | by sample: recall@10 |",
            f"| --- {'| --- ' * (len(metrics) + 1)}|",
        ]
        for line, figures in each["per target"].items():
            cells = [*(figures[metric] for metric in metrics), each["per sample"][line]["recall@10"]]
            lines.append(f"| {line} | {' | '.join(f'{mean:.4f} ± {error:.4f}' for mean, error in cells)} |")
        lines += ["", *(f"{what} in recall@10: {says}." for what, says in each["differences"].items()), ""]
    return "\n".join(lines)


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, default=pathlib.Path("../shared/data"))
    parser.add_argument("--json", type=pathlib.Path)
    parser.add_argument("--table", type=pathlib.Path)
    options = parser.parse_args()
    found, tried = {}, {}
    for name, figures, settings in itertools.chain(redial(options.data), opendialkg(options.data)):
        found[name] = figures
        regs, methods = settings
        tried[name] = {
            "EASE": {str(reg): value for reg, value in regs.items()},
            "NBCRS": [[dataclasses.asdict(method), value] for method, value in methods.items()],
        }
        print(table({name: figures}), flush=True)
    record = {"machine": platform.processor() or platform.machine(), "metric of choice": CHOICE, "data": found}
    if options.json:
        options.json.write_text(json.dumps({**record, "tried on the fold": tried}, indent=1) + "\n")
    if options.table:
        options.table.write_text(table(found))


if __name__ == "__main__":
    main()
