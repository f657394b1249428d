"""Saving and loading fitted models: a folder with `config.json` and one uncompressed npz file, and never a pickle.

The arrays are written to a file named after their own content, then `config.json`, which names that file, is replaced
in one step: that step is the save. Killed anywhere before it, the folder still holds the old model, whole.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import jax
import numpy as np

from jaxrec import _checks, models
from jaxrec._checks import InputError
from jaxrec._checks.doors import door
from jaxrec.data.catalogue import Catalogue
from jaxrec.deep.network import Network
from jaxrec.factorization import UserItemFactors
from jaxrec.methods import METHODS
from jaxrec.models import FitInfo, Fitted, with_items
from jaxrec.runtime import parallel, sharded, stored
from jaxrec.runtime.archive import DAMAGE
from jaxrec.runtime.files import check_parent, flush, naming, read_json, regular, temporary, write_json
from jaxrec.status import Certificate, Status
from jaxrec.validation import validate

if sys.platform != "win32":
    import fcntl

MODELS: dict[str, type] = {
    kind.__name__: kind
    for kind in (
        models.ItemWeights,
        models.ItemFactors,
        models.ItemScores,
        models.PairWeights,
        models.SparseItemWeights,
        UserItemFactors,
        Network,
    )
}
# Settings that methods had once, with the value under which a model of then is one of now.
REMOVED: dict[str, dict[str, Any]] = {
    "ials": {"regularizer": "l2"},
    "low-rank-edlae": {"method": "fixed_point", "omega": 500.0},
    **{name: {"first_layer": "auto"} for name in ("mult-vae", "mult-dae", "rec-vae", "autoencoder")},
}
# What arrays of models were called once, where the model has none of that name now; None for those that are gone.
ARRAYS_NOW = {"share": "one_targets", "total": "col_sum", "product": None}
FORMAT = "jaxrec model"
FORMAT_VERSION = 1
CONFIG = "config.json"
_OUR_FILES = re.compile(r"arrays\.[0-9a-f]{8}\.npz|\.tmp-[0-9a-f]{16}|parts\.[0-9a-f]{8}(\.orbax-checkpoint-tmp.*)?")


@door
def save(path: str | os.PathLike, fitted: Fitted) -> None:
    """Writes a fitted model to the folder `path`, replacing the model that is there, if any.

    The replacement is atomic: whatever interrupts it, the folder holds either the old model or the new one. No second
    copy of the arrays is made in memory.

    Args:
      path: a folder that holds a jaxrec model, is empty, or does not exist yet (its parent must).
      fitted: what a method's `fit` returned; its arrays may be NumPy's or JAX's. A model that is split over devices
        takes the extra package orbax-checkpoint; on several hosts each calls this with a folder that all can see.

    Raises:
      InputError: `path` is something else than a jaxrec model, or `fitted` is of a kind that cannot be saved.
      OSError: the disk refused.
    """
    folder = Path(path)
    check_model_target(folder)
    if parallel.mesh_of(fitted.model):
        _save_split(folder, fitted)
    else:
        _save_whole(folder, *_describe(fitted))


def _save_split(folder: Path, fitted: Fitted) -> None:
    """Each process writes its parts of the weights; then the first writes the rest, and that is the save."""
    model = fitted.model
    parts = {"folder": sharded.new_name(), "shape": model.weights.shape, "dtype": str(model.weights.dtype)}
    config, arrays = _describe(fitted._replace(model=dataclasses.replace(model, weights=None)))
    config["parts"] = {**parts, "padding": model.padding}
    if jax.process_index() == 0:
        folder.mkdir(exist_ok=True)
    sharded.write(folder / parts["folder"], model.weights)
    try:
        if jax.process_index() == 0:
            _save_whole(folder, config, arrays)
    finally:
        sharded.wait_for_all()  # else another process might look for the model before it is there


def _save_whole(folder: Path, config: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    folder.mkdir(exist_ok=True)
    with _locked(folder) as sync:
        try:
            with naming(folder), temporary(folder) as unfinished:
                with open(unfinished, "x+b") as file:
                    np.savez(file, **arrays)  # pyright: ignore[reportArgumentType]
                    flush(file)
                    digest = _sha256(file)
                config["arrays"] = {"file": f"arrays.{digest[:8]}.npz", "sha256": digest, **config["arrays"]}
                os.replace(unfinished, folder / config["arrays"]["file"])
            sync()
            write_json(folder / CONFIG, config)
            sync()
        finally:
            _sweep(folder)


@door
def load_model(path: str | os.PathLike, devices: Any = None) -> Fitted:
    """The fitted model that `save` wrote to the folder `path`.

    The checksum is verified before anything is read. Arrays come back as what they were, NumPy's or JAX's (the latter
    on the default device), with the same bits, so that the model recommends the same lists. A model that was split over
    devices is split over `devices`, default all there are.

    Args:
      path: the folder.
      devices: devices or a mesh, not necessarily the ones of the fit.

    Raises:
      InputError: one sentence on what is missing, damaged, foreign or too new.
    """
    folder = Path(path)
    config = _read_config(folder)
    while True:
        try:
            return _loaded(folder, config, devices)
        except _Swept:
            before, config = config, _read_config(folder)
            if config == before:  # else a save has replaced it since it was read
                lost = f"{folder} lacks its arrays, the file that {CONFIG} names; save the model again."
                raise InputError(lost) from None
        except InputError:
            raise
        except (*DAMAGE, ArithmeticError) as error:
            said = f"{folder / CONFIG} is damaged ({_checks.shown(error)}); save the model again."
            raise InputError(said) from error
        except MemoryError:
            raise InputError(f"{folder} needs more memory than is free; load it where there is more.") from None


def _loaded(folder: Path, config: dict[str, Any], devices: Any) -> Fitted:
    n_items = config["n_items"]
    _checks.count(f"{folder / CONFIG}: n_items", n_items, at_least=1)
    arrays = _read_arrays(folder, **config["arrays"])
    names = {field: arrays.pop(f"items.{field}", None) for field in ("ids", "titles")}
    certificate = {**config["certificate"], "status": Status(config["certificate"]["status"])}
    certificate |= {field: float(certificate[field]) for field in ("residual", "limit")}
    certificate["detail"] = {str(name): float(value) for name, value in certificate.get("detail", {}).items()}
    content = {name.removeprefix("model."): array for name, array in arrays.items()}
    method = _method_of(folder, **config["method"])
    kind = MODELS[config["model"]]
    if kind is Network:
        content = {"architecture": method.architecture(n_items), **content}
    if parts := config.get("parts"):
        content |= _read_parts(folder, n_items, devices, parts.pop("folder"), **parts)
    else:
        validate(_assembled(kind, content), n_items, str(folder))
    described = config["arrays"]["content"]
    for name in content:
        if described.get(f"model.{name}", {}).get("kind") == "jax":
            with jax.enable_x64(True):  # else a float64 array would come back as float32
                content[name] = jax.device_put(content[name])
    # Where ids are indices in a matrix without ids, its number of columns is all that is left of it.
    if (n_of_origin := config.get("n_items_of_origin")) is not None:
        _checks.count(f"{folder / CONFIG}: n_items_of_origin", n_of_origin, at_least=1)
    info = FitInfo(
        method=method,
        certificate=Certificate(**certificate),
        items=Catalogue(n_items, **names, origin=n_of_origin and Catalogue(n_of_origin)),
        data=dict(config["data"]),
        seconds={str(stage): float(taken) for stage, taken in config["seconds"].items()},
    )
    return Fitted(with_items(_assembled(kind, content), info.items), info)


def check_model_target(path: str | os.PathLike) -> None:
    """Refuses a folder into which `save` could not write a model, before time is spent on fitting one."""
    folder = Path(path)
    check_parent(folder)
    if not os.path.lexists(folder):
        return
    if not folder.exists():
        raise InputError(f"{folder} is a link to a folder that does not exist; create that or give another name.")
    if not folder.is_dir():
        raise InputError(f"{folder} is a file; a model is saved to a folder, so give another name.")
    if (folder / CONFIG).exists():
        _read_config(folder)
    elif any(not _OUR_FILES.fullmatch(name) for name in os.listdir(folder)):
        raise InputError(f"{folder} holds other files and no jaxrec model; give the name of a new or empty folder.")
    if not os.access(folder, os.W_OK):
        raise InputError(f"{folder} cannot be written to; give another folder or change its permissions.")


def describe_method(method: Any) -> dict[str, Any]:
    """The name of a method, as on the command line, and its hyper-parameters."""
    for name, known in METHODS.items():
        if known is type(method):
            return {"name": name, "hyper_parameters": dataclasses.asdict(method)}
    raise InputError(f"the method must be one of {', '.join(METHODS)}, got {type(method).__name__}.")


def versions() -> dict[str, str]:
    """The versions of what a result depends on, by name."""
    python = ".".join(map(str, sys.version_info[:3]))
    own = sys.modules["jaxrec"].__version__  # importing it from here would be a circle
    return {"jaxrec": own, "jax": jax.__version__, "numpy": np.__version__, "python": python}


# -- the content ------------------------------------------------------------------------------------------------------


def _describe(fitted: Fitted) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What goes to config.json (but for the arrays' checksum) and what goes to the npz file."""
    model, info = fitted
    if MODELS.get(type(model).__name__) is not type(model):
        raise InputError(f"only {', '.join(MODELS)} can be saved, got a {type(model).__name__}.")
    if getattr(model, "padding", 0) and model.weights is not None:
        model = model.to_host()
    content = _arrays_of(model, "model")
    content |= {f"items.{field}": getattr(info.items, field) for field in ("ids", "titles")}
    arrays, described = {}, {}
    for name, array in content.items():
        if array is not None:
            arrays[name], described[name] = stored.described(name, array)
    config = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "versions": versions(),
        "model": type(model).__name__,
        "method": describe_method(info.method),
        "certificate": info.certificate,
        "data": info.data,
        "seconds": info.seconds,
        "n_items": info.items.n_items,
        "n_items_of_origin": None if info.items.origin is None else info.items.origin.n_items,
        "arrays": {"content": described},
    }
    return config, arrays


def _arrays_of(model: Any, name: str) -> dict[str, Any]:
    """The arrays of a model and of its parts, under dotted names."""
    if isinstance(model, dict):
        return {f"{name}.{key}": array for key, array in model.items()}
    found = {}
    for field in dataclasses.fields(model):
        value, dotted = getattr(model, field.name), f"{name}.{field.name}"
        if not field.metadata.get("static"):
            inside = isinstance(value, dict) or dataclasses.is_dataclass(value)
            found |= _arrays_of(value, dotted) if inside else {dotted: value}
    return found


def _assembled(kind: type, content: dict[str, Any]) -> Any:
    """A model of this kind from its arrays under dotted names."""
    if kind is dict:
        return content
    parts = {field.name: field.metadata["part"] for field in dataclasses.fields(kind) if "part" in field.metadata}
    known = {field.name for field in dataclasses.fields(kind)}
    if strange := [name for name in content if "." in name and name.partition(".")[0] not in parts]:
        raise ValueError(f"an array {strange[0][:40]!r}, which is of no part")
    settings = (field.name for field in dataclasses.fields(kind) if field.metadata.get("static"))
    if any(isinstance(content.get(name), np.ndarray | jax.Array) for name in settings):
        raise ValueError("an array in place of a setting")
    own = {
        name if name in known else ARRAYS_NOW.get(name, name): array
        for name, array in content.items()
        if "." not in name and (name in known or ARRAYS_NOW.get(name, name) is not None)
    }
    for name, part in parts.items():
        inside = {key.removeprefix(f"{name}."): array for key, array in content.items() if key.startswith(f"{name}.")}
        own |= {name: _assembled(part, inside)} if inside else {}
    return kind(**own)


def _method_of(folder: Path, name: str, hyper_parameters: dict[str, Any]) -> Any:
    """The method of a saved model; of an older version, it is refused for a setting that there is no more."""
    known, gone = {field.name for field in dataclasses.fields(METHODS[name])}, REMOVED.get(name, {})
    settings = {field: tuple(v) if isinstance(v, list) else v for field, v in hyper_parameters.items()}
    older = {field: settings.pop(field) for field in gone.keys() & settings.keys() - known}
    said = next((f"{field}={value!r} is gone" for field, value in older.items() if value != gone[field]), "")
    try:
        if not said:
            return METHODS[name](**settings)
    except InputError as error:
        said = str(error).rstrip(".")
    raise InputError(f"{folder} holds a model of {name} of an older version of jaxrec ({said}); fit it again.")


def _read_config(folder: Path) -> dict[str, Any]:
    try:
        config = read_json(folder / CONFIG)
    except (FileNotFoundError, NotADirectoryError):
        what = "there is no such folder" if not folder.exists() else f"it holds no {CONFIG}"
        raise InputError(f"{folder} is not a saved jaxrec model: {what}.") from None
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{folder / CONFIG} cannot be read: {error.strerror}.") from error
    except ValueError as error:  # bad UTF-8 or bad JSON
        raise InputError(
            f"{folder / CONFIG} cannot be read as JSON ({error}); delete the folder and save the model again."
        ) from error
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise InputError(f"{folder} is not a saved jaxrec model: its {CONFIG} belongs to something else.")
    version = config.get("format_version")
    if isinstance(version, int) and version > FORMAT_VERSION:
        by = config["versions"].get("jaxrec") if isinstance(config.get("versions"), dict) else None
        by = str(by)[:40] if isinstance(by, str) else "of a newer version"
        raise InputError(
            f"{folder} is in format {_checks.shown(version)} (saved by jaxrec {by}), and this jaxrec reads up to "
            f"{FORMAT_VERSION}; upgrade jaxrec."
        )
    if version != FORMAT_VERSION:
        raise InputError(
            f"{folder / CONFIG} is damaged (format_version {_checks.shown(version)}); delete the folder and save the "
            "model again."
        )
    return config


class _Swept(Exception):
    """The arrays that a config names are gone."""


def _read_arrays(folder: Path, file: str, sha256: str, content: dict[str, dict[str, Any]]) -> dict[str, Any]:
    if file != f"arrays.{sha256[:8]}.npz":  # nothing outside the folder is ever opened
        raise ValueError(f"arrays file {_checks.shown(file)}")
    path = folder / file
    try:
        # Opened once: a save that replaces the model meanwhile removes the name, not what is being read.
        with regular(path) as kept:
            if os.fstat(kept.fileno()).st_size > stored.most_bytes(content) or _sha256(kept) != sha256:
                raise InputError(f"{path} is cut short or altered (its checksum is wrong); save it again.")
            return stored.read(kept, str(path), content)
    except FileNotFoundError:
        raise _Swept from None


def _read_parts(
    folder: Path, n_items: int, devices: Any, parts_folder: str, shape: list[int], dtype: str, padding: int
) -> dict[str, Any]:
    _checks.count("padding", padding)
    if not re.fullmatch(r"parts\.[0-9a-f]{8}", parts_folder):  # nothing outside the folder is ever opened
        raise ValueError(f"parts {_checks.shown(parts_folder)}")
    if shape != [n_items + padding] * 2 or not np.issubdtype(np.dtype(dtype), np.floating):
        raise ValueError(f"parts of {_checks.shown(dtype)} and shape {_checks.shown(shape)} for {n_items} items")
    weights = sharded.read(folder / parts_folder, (shape[0], shape[1]), np.dtype(dtype), devices)
    return {"weights": weights, "padding": padding}


# -- the folder -------------------------------------------------------------------------------------------------------


def _sha256(file: BinaryIO) -> str:
    file.seek(0)
    return hashlib.file_digest(file, "sha256").hexdigest()  # pyright: ignore[reportArgumentType]


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[Callable[[], None]]:
    """Holds off other saves to `folder` (which would sweep away our files); yields a sync of its list of names."""
    if sys.platform == "win32":
        yield lambda: None
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield lambda: os.fsync(handle)
    finally:
        os.close(handle)


def _sweep(folder: Path) -> None:
    """Removes the files of saves that were replaced or never finished, and the folder if nothing else is in it."""
    config = _read_config(folder) if (folder / CONFIG).exists() else {}
    keep = {config.get("arrays", {}).get("file"), config.get("parts", {}).get("folder")}
    for name in os.listdir(folder):
        if name not in keep and _OUR_FILES.fullmatch(name):
            shutil.rmtree(folder / name) if (folder / name).is_dir() else (folder / name).unlink()
    if not config and not os.listdir(folder):
        folder.rmdir()
