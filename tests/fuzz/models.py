"""Classes of cases: saved models and checkpoints, damaged, or altered with a checksum that is right again."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np
from fuzz.mutate import damaged, odd_array, odd_json, other_json, pick
from fuzz.room import Case

from jaxrec import Interactions, load_model, recommend, save
from jaxrec.data import Catalogue
from jaxrec.methods import METHODS
from jaxrec.models import FitInfo, Fitted, PairWeights
from jaxrec.status import Certificate

SETTINGS: dict[str, dict[str, Any]] = {
    "ease": {"reg": 10.0},
    "item-knn": {},
    "mrf": {},
    "ials": {"rank": 3, "sweeps": 2},
    "pure-svd": {"rank": 3},
    "popularity": {},
}


@functools.cache
def data() -> Interactions:
    """60 users and 23 items."""
    rng = np.random.default_rng(0)
    x = rng.random((60, 23)) < rng.random(23) ** 2
    x[:, 0] |= ~x.any(1)
    ids = np.array([f"item {i}" for i in range(23)])
    return Interactions.from_triples(*np.nonzero(x), n_users=60, n_items=23, item_ids=ids, titles=ids)


@functools.cache
def saved(name: str) -> tuple[Path, bytes]:
    """A folder with a saved model, and what it recommends."""
    folder = Path(tempfile.mkdtemp(prefix="fuzz-model-")) / "model"
    rng = np.random.default_rng(1)
    if name == "pairs":
        pairs = np.array([[0, 1], [2, 22]], np.int32)
        model: Any = PairWeights(_normal(rng, 23, 23), pairs, _normal(rng, 2, 23))
        info = FitInfo(METHODS["higher-order"](), Certificate.exact(), data().items, data().summary(), {"solve": 1.0})
        fitted = Fitted(model, info)
    elif name == "network":
        from jaxrec.deep.network import Network, modules

        method = METHODS["mult-vae"](hidden=(8,), latent=4)
        architecture = method.architecture(23)
        model = Network(modules.init(architecture, jax.random.key(0)), architecture)
        fitted = Fitted(model, FitInfo(method, Certificate.exact(), Catalogue(23), data().summary(), {"epochs": 1.0}))
    else:
        fitted = METHODS[name](**SETTINGS[name]).fit(data())
    save(folder, fitted)
    return folder, scores_of(folder)[1]


def _normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def scores_of(folder: Path) -> tuple[int, bytes]:
    """The number of items of a loaded model, and all its scores; what it knows of itself is printed on the way."""
    fitted = load_model(folder)
    str(fitted.info.certificate), repr(fitted.info.method), fitted.info.items.label(0), fitted.info.data.get("name")
    top = recommend(fitted, data(), 23)
    top.titles(fitted.info.items)
    return fitted.model.n_items, top.scores.tobytes()


def altered(name: str):
    """A class of damaged or altered folders of one kind of model."""

    def make(rng: np.random.Generator, folder: Path) -> Case:
        source, scores = saved(name)
        target = folder / "model"
        shutil.copytree(source, target)
        config = json.loads((target / "config.json").read_text())
        file = target / config["arrays"]["file"]
        how = pick(rng, ("damaged", "config bytes", "config", "config", "arrays", "arrays", "arrays", "npz", "special"))
        said = how
        if how == "damaged":
            raw, said = damaged(rng, file.read_bytes())
            file.write_bytes(raw)
        elif how == "config bytes":
            raw, said = damaged(rng, (target / "config.json").read_bytes())
            (target / "config.json").write_bytes(raw)
        elif how == "config":
            config, said = other_json(rng, config)
            _write(target, config)
        elif how == "special":
            said = _special(rng, target, file)
        else:
            if how == "npz":
                raw, said = damaged(rng, file.read_bytes())
                file.write_bytes(raw)
            else:
                said = _other_arrays(rng, file, config)
            _sealed(target, file, config)

        def problem(value: tuple[int, bytes]) -> str | None:
            n_items, found = value
            if n_items != 23 or len(found) != len(scores):
                return f"{n_items} items"
            return "other scores" if how == "damaged" and found != scores else None

        return Case(lambda: scores_of(target), problem, f"{how}: {said}")

    return make


def _write(folder: Path, config: Any) -> None:
    try:
        text = json.dumps(config)
    except ValueError:  # an integer that has no text
        text = "9" * 10_000
    (folder / "config.json").write_text(text)


def _sealed(folder: Path, file: Path, config: dict[str, Any]) -> None:
    """Gives altered arrays a right checksum."""
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    file.rename(folder / f"arrays.{digest[:8]}.npz")
    config["arrays"] |= {"file": f"arrays.{digest[:8]}.npz", "sha256": digest}
    _write(folder, config)


def _other_arrays(rng: np.random.Generator, file: Path, config: dict[str, Any]) -> str:
    with np.load(file) as stored:
        arrays = dict(stored)
    content, said = config["arrays"]["content"], ""
    for _ in range(int(rng.integers(1, 3))):
        name = pick(rng, sorted(arrays))
        how = pick(rng, ("odd", "odd", "index", "swap", "drop", "add", "bomb"))
        said += f"{name} {how}; "
        if how == "index" and arrays[name].dtype.kind in "iu" and arrays[name].size:
            arrays[name] = arrays[name].copy()
            value = pick(rng, (-1, 22, 23, 24, 300, 2**15, 2**30, -(2**31), 2**31 - 1))
            arrays[name].reshape(-1)[int(rng.integers(arrays[name].size))] = np.array(value).astype(arrays[name].dtype)
        elif how == "swap":
            other = pick(rng, sorted(arrays))
            arrays[name], arrays[other] = arrays[other], arrays[name]
        elif how == "drop" and len(arrays) > 1:
            arrays.pop(name)
            content.pop(name, None)
        elif how == "add":
            arrays[f"model.{pick(rng, ('x', 'padding', 'weights', 'parameters.x', 'fold.rule.x'))}"] = arrays[name]
        elif how == "bomb":
            arrays[name] = np.zeros(30_000_000, np.float32)
        else:
            arrays[name], done = odd_array(rng, arrays[name])
            said += f"{done}; "
    compressed = rng.random() < 0.3
    (np.savez_compressed if compressed else np.savez)(file, **arrays)
    if rng.random() < 0.8:  # else what is announced no longer fits
        for name, array in arrays.items():
            kind = content.get(name, {}).get("kind", "numpy")
            kind = kind if kind != "text" or array.dtype == np.uint8 else "numpy"
            content[name] = {"kind": kind, "dtype": str(array.dtype), "shape": list(array.shape)}
    return said + "compressed" * compressed


def _special(rng: np.random.Generator, folder: Path, file: Path) -> str:
    """What is no regular file, nested too deeply, too large, or gone."""
    target = pick(rng, (folder / "config.json", file))
    how = pick(rng, ("fifo", "zero", "folder", "gone", "deep", "large", "empty", "link to itself", "value"))
    content = target.read_bytes()
    target.unlink()
    if how == "fifo":
        os.mkfifo(target)
    elif how == "zero":
        target.symlink_to("/dev/zero")
    elif how == "folder":
        target.mkdir()
    elif how == "deep":
        target.write_bytes(pick(rng, (b"[", b'{"a":')) * 200_000)
    elif how == "large":
        with open(target, "wb") as out:
            out.truncate(3 << 30)
    elif how == "empty":
        target.write_bytes(b"")
    elif how == "link to itself":
        target.symlink_to(target)
    elif how == "value":
        target.write_text(json.dumps(json.loads(content) | {"certificate": odd_json(rng)}, default=str)) if (
            target.suffix == ".json"
        ) else target.write_bytes(content)
    return f"{target.name} {how}"


def checkpoint(rng: np.random.Generator, folder: Path) -> Case:
    """What `checkpoint=` finds in its place."""
    method, path = METHODS["ials"](rank=3, sweeps=3), folder / "ck"
    key = jax.random.key(0)
    whole = _unbroken()
    method_before = METHODS["ials"](rank=3, sweeps=2)
    method_before.fit(data(), key=key, checkpoint=path)
    how = pick(rng, ("whole", "damaged", "arrays", "arrays", "header", "npy", "empty", "fifo", "folder", "zero"))
    said = how
    if how == "damaged":
        raw, said = damaged(rng, path.read_bytes())
        path.write_bytes(raw)
    elif how in ("arrays", "header"):
        with np.load(path) as stored:
            arrays = dict(stored)
        name = "header" if how == "header" else pick(rng, sorted(arrays))
        arrays[name], done = odd_array(rng, arrays[name])
        if name == "header":
            said = "header of JSON"
            try:
                arrays[name] = np.array(json.dumps(other_json(rng, json.loads(str(np.load(path)["header"])))[0]))
            except ValueError:
                arrays[name] = np.array("[1]")
        else:
            said = f"{name} {done}"
        with open(path, "wb") as file:
            np.savez(file, **arrays)
    elif how == "npy":
        with open(path, "wb") as file:
            np.save(file, np.arange(3))
    elif how != "whole":
        path.unlink()
        if how == "empty":
            path.touch()
        elif how == "fifo":
            os.mkfifo(path)
        elif how == "folder":
            path.mkdir()
        else:
            path.symlink_to("/dev/zero")

    def problem(fitted: Fitted) -> str | None:
        same = np.asarray(fitted.model.item_factors).tobytes() == whole
        return "another result" if how in ("whole", "damaged") and not same else None

    return Case(lambda: method.fit(data(), key=key, checkpoint=path), problem, f"{how}: {said}")


@functools.cache
def _unbroken() -> bytes:
    fitted = METHODS["ials"](rank=3, sweeps=3).fit(data(), key=jax.random.key(0))
    return np.asarray(fitted.model.item_factors).tobytes()


CLASSES = {f"model {name}": altered(name) for name in (*SETTINGS, "pairs", "network")} | {"checkpoint": checkpoint}
CLASSES = {name.replace(" ", "_"): make for name, make in CLASSES.items()}
