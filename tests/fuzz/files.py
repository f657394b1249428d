"""Classes of cases: files of every format, with an independent reading in plain Python where a text can be read so."""

from __future__ import annotations

import gzip
import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import scipy.sparse as sp
from fuzz.mutate import damaged, misprinted, odd_array, odd_text, pick
from fuzz.room import Case

from jaxrec.data import load

WORDS = ["a", "b", "film 1", "film 2", "é", "x,y", 'say "hi"', "Z", "10", "9", "007", "a b", "tt0111161", "日本"]


def table(rng: np.random.Generator, safe: bool) -> dict[str, list[str]]:
    """Columns of a few interactions, without repeated pairs; `safe`: ids without separators or quotes."""
    n = int(rng.integers(1, 40))
    words = [word for word in WORDS if not safe or word.isalnum()]
    ids = (lambda: str(rng.integers(0, 12))) if rng.random() < 0.5 or safe else (lambda: pick(rng, words))
    pairs = list(dict.fromkeys((ids(), ids()) for _ in range(n)))
    return {
        "user": [user for user, _ in pairs],
        "item": [item for _, item in pairs],
        "rating": [str(pick(rng, (1, 2, 3.5, 5))) for _ in pairs],
        "timestamp": [str(number) for number in rng.permutation(len(pairs)).tolist()],
    }


def ratings_of(data: Any) -> dict[tuple[str, str], float]:
    """{(user id, item id): value}."""
    users, items = data.user_ids[data.user_of_entry], data.items.ids[data.indices]
    return {(str(u), str(i)): v for u, i, v in zip(users, items, data.values.tolist(), strict=True)}


def expected(columns: dict[str, list[str]]) -> dict[tuple[str, str], float]:
    users, items, ratings = (columns[name] for name in ("user", "item", "rating"))
    return {(u, i): float(np.float32(r)) for u, i, r in zip(users, items, ratings, strict=True)}


def reading(path: Path, truth: dict[tuple[str, str], float] | None, said: str, values: str | None = "rating") -> Case:
    """A file read, and compared with what it holds where that is known."""

    def problem(data: Any) -> str | None:
        data.summary()
        if truth is None or data.user_ids is None or data.items.ids is None:
            return None
        found = ratings_of(data)
        return None if found == truth else f"{sorted(found.items() - truth.items())[:3]} are no truth"

    return Case(lambda: load(path, values=values), problem, said)


def delimited(separator: str, name: str, header: str | None, quoting: bool):
    """A class of text files with one interaction a line."""

    def make(rng: np.random.Generator, folder: Path) -> Case:
        columns = table(rng, safe=not quoting)
        quote = (lambda text: '"' + text.replace('"', '""') + '"') if quoting else (lambda text: text)
        mark = quoting and rng.random() < 0.5
        end = pick(rng, ("\n", "\r\n", "\r", None))  # None: another one for each line
        lines = [] if header is None else [header]
        for row in zip(*columns.values(), strict=True):
            needs = [mark or any(letter in text for letter in f'{separator}"\n\r') for text in row]
            lines.append(separator.join(quote(t) if odd and quoting else t for t, odd in zip(row, needs, strict=True)))
        text = "".join(line + (end or pick(rng, ("\n", "\r\n", "\r"))) for line in lines)
        text = text.rstrip("\r\n") if rng.random() < 0.2 else text
        raw = (b"\xef\xbb\xbf" if header and rng.random() < 0.1 else b"") + text.encode()
        how = pick(rng, ("whole", "bytes", "text", "text"))
        truth, said = (expected(columns), "whole") if how == "whole" else (None, "")
        if how != "whole":
            raw, said = damaged(rng, raw) if how == "bytes" else misprinted(rng, raw)
        where = folder / pick(rng, (".", "run[1]", "a*b"))
        where.mkdir(exist_ok=True)
        path = where / (name if not header or rng.random() < 0.8 else "x[1]" + Path(name).suffix)
        (folder / "run1").mkdir()
        for decoy in (folder / "run1" / path.name, where / path.name.replace("[1]", "1")):
            decoy.write_text(f"{header}\n" + separator.join("9999") + "\n")  # what a pattern of names would find
        path.write_bytes(raw)
        return reading(path, truth, f"{said}; ends {end!r}; {raw[:40]!r}")

    return make


def lists(rng: np.random.Generator, folder: Path) -> Case:
    """LightGCN's lists."""
    truth, lines = {}, []
    for user in range(int(rng.integers(1, 8))):
        items = np.unique(rng.integers(0, 12, rng.integers(0, 6))).tolist()
        truth |= {(str(user), str(item)): 1.0 for item in items}
        lines.append(" ".join(map(str, [user, *items])))
    end = pick(rng, ("\n", "\r\n", "\r", None))
    raw = "".join(line + (end or pick(rng, ("\n", "\r\n", "\r"))) for line in lines).encode()
    how, said = pick(rng, ("whole", "bytes", "text")), "whole"
    if how != "whole":
        raw, said = damaged(rng, raw) if how == "bytes" else misprinted(rng, raw)
    (folder / "train.txt").write_bytes(raw)
    if rng.random() < 0.3:
        (folder / "test.txt").write_bytes(damaged(rng, b"0 20 21\n")[0])
        return reading(folder, None, said, values=None)
    return reading(folder / "train.txt", truth if how == "whole" else None, f"{said}; ends {end!r}", values=None)


def parquet(rng: np.random.Generator, folder: Path) -> Case:
    """Parquet: other types, other encodings, damaged footers and pages."""
    columns = table(rng, safe=False)
    how = pick(rng, ("whole", "types", "damaged", "damaged", "footer", "lies"))
    frame = pl.DataFrame(columns).with_columns(pl.col("rating").cast(pl.Float64), pl.col("timestamp").cast(pl.Int64))
    said = how
    if how == "types":
        name, dtype = pick(rng, frame.columns), pick(rng, (pl.Categorical, pl.Binary, pl.Int8, pl.UInt64, pl.Float32))
        frame = frame.with_columns(pl.col(name).cast(pl.String).cast(dtype, strict=False))
        said = f"{name} as {dtype}"
        if rng.random() < 0.3:
            frame = frame.with_columns(pl.concat_list(pl.col(name).cast(pl.String)).alias(name))
        if rng.random() < 0.3:
            times = rng.integers(-(2**62), 2**62, len(frame))
            unit = pick(rng, ("ms", "us", "ns"))
            frame = frame.with_columns(pl.Series("timestamp", times).cast(pl.Datetime(unit)))
        if rng.random() < 0.2:
            frame = frame.with_columns(pl.lit("x" * pick(rng, (9999, 10_001, 200_000))).alias("item"))
    path = folder / pick(rng, ("x.parquet", "x[1].parquet"))
    compression = pick(rng, ("uncompressed", "snappy", "zstd", "gzip", "lz4"))
    many = rng.random() < 0.3
    frame.write_parquet(path, compression=compression, row_group_size=5 if many else None, statistics=bool(many))
    raw = path.read_bytes()
    end = len(raw) - 8
    start = end - int.from_bytes(raw[-8:-4], "little")
    if how == "damaged":
        raw, said = damaged(rng, raw)
    elif how == "footer":
        middle, said = damaged(rng, raw[start:end])
        raw = raw[:start] + middle + len(middle).to_bytes(4, "little") + b"PAR1"
    elif how == "lies":  # a huge number in place of a small one, in Thrift's encoding of it
        at = int(rng.integers(4, end))
        huge = pick(rng, (b"\xfe\xff\xff\xff\x0f", b"\x80\x80\x80\x80\x10", b"\xff" * 9 + b"\x01", b"\x01", b"\x7f"))
        grown = huge + raw[at + 1 : end]
        size = end - start + (len(huge) - 1 if at >= start else 0)
        raw = raw[:at] + grown + size.to_bytes(4, "little") + b"PAR1"
        said = f"{huge!r} at {at} of {end}, footer from {start}"
    path.write_bytes(raw)
    return reading(path, expected(columns) if how == "whole" else None, f"{said}; {compression}")


def _arrays(rng: np.random.Generator) -> dict[str, np.ndarray]:
    columns = table(rng, safe=False)
    made: dict[str, np.ndarray] = {}
    for name in ("user", "item"):
        ids, made[name] = np.unique(columns[name], return_inverse=True)
        made[f"n_{name}s"] = np.array(len(ids))
        if rng.random() < 0.6:
            made[f"{name}_ids"] = ids
    made["rating"] = np.array(columns["rating"], float)
    made["timestamp"] = np.array(columns["timestamp"], int)
    if rng.random() < 0.3:
        made["position"] = rng.integers(0, 9, len(made["user"]))
    if rng.random() < 0.3:
        made["split"] = rng.integers(0, 2, len(made["user"])).astype(np.uint8)
    return made


def _saved(path: Path, arrays: dict[str, np.ndarray], compressed: bool) -> None:
    (np.savez_compressed if compressed else np.savez)(path, **{name: a for name, a in arrays.items()})


def npz(rng: np.random.Generator, folder: Path) -> Case:
    """This library's arrays: other numbers, types and shapes, lying headers, odd archives, titles beside."""
    arrays, path = _arrays(rng), folder / "x.npz"
    truth = None
    how = pick(rng, ("whole", "array", "array", "array", "drop", "damaged", "header", "zip", "objects", "titles"))
    said = how
    if how == "whole" and {"user_ids", "item_ids"} <= arrays.keys():
        users, items = arrays["user_ids"][arrays["user"]], arrays["item_ids"][arrays["item"]]
        truth = {(str(u), str(i)): r for u, i, r in zip(users, items, arrays["rating"].tolist(), strict=True)}
    if how == "array":
        for _ in range(int(rng.integers(1, 3))):
            name = pick(rng, sorted(arrays))
            arrays[name], done = odd_array(rng, arrays[name])
            said += f"; {name} {done}"
    elif how == "drop":
        arrays.pop(pick(rng, sorted(arrays)))
    elif how == "objects":
        arrays[pick(rng, sorted(arrays))] = np.array([{}, None], object)
    _saved(path, arrays, compressed=bool(rng.random() < 0.5))
    if how == "damaged":
        raw, said = damaged(rng, path.read_bytes())
        path.write_bytes(raw)
    elif how == "header":
        said = _with_a_lying_header(rng, path)
    elif how == "zip":
        said = _odd_archive(rng, path)
    elif how == "titles":
        n = int(arrays["n_items"])
        text = "\n".join(odd_text(rng) for _ in range(n)) + pick(rng, ("", "\n", "\r\n"))
        raw = gzip.compress(text.encode("utf-8", "surrogatepass"))
        if rng.random() < 0.5:
            raw, _ = damaged(rng, raw)
        (folder / "x.items.txt.gz").write_bytes(raw)
    return reading(path, truth, said)


def scipy_npz(rng: np.random.Generator, folder: Path) -> Case:
    """Matrices of scipy.sparse.save_npz."""
    form = pick(rng, ("csr", "csc", "coo", "bsr", "dia"))
    dense = (rng.random((int(rng.integers(1, 9)), int(rng.integers(1, 9)))) < 0.4) * rng.integers(1, 5)
    dense, path = dense.astype(pick(rng, ("f4", "f8", "i8", "?"))), folder / "x.npz"
    sp.save_npz(path, sp.csr_array(dense).asformat(form))
    with np.load(path) as stored:
        arrays = dict(stored)
    how, said = pick(rng, ("whole", "array", "array", "array", "drop", "damaged", "header")), ""
    if how == "array":
        name = pick(rng, sorted(arrays))
        arrays[name], done = odd_array(rng, arrays[name])
        if name in ("shape", "format") and rng.random() < 0.5:
            arrays[name] = pick(
                rng, (np.array([2**31 + 5, 3]), np.array([3, 2**32]), np.array(b"lil"), np.array("csr"))
            )
        said = f"{name} {done}"
    elif how == "drop":
        arrays.pop(pick(rng, sorted(arrays)))
    _saved(path, arrays, compressed=bool(rng.random() < 0.5))
    if how == "damaged":
        raw, said = damaged(rng, path.read_bytes())
        path.write_bytes(raw)
    elif how == "header":
        said = _with_a_lying_header(rng, path)

    def problem(data: Any) -> str | None:
        if how != "whole":  # else it may be far too large to be made dense
            return None
        found = data.to_csr().toarray()
        return None if np.array_equal(found, dense.astype(found.dtype)) else f"{found} is not {dense}"

    return Case(lambda: load(path, values="data"), problem, f"{form}: {how} {said}")


def _with_a_lying_header(rng: np.random.Generator, path: Path) -> str:
    """Rewrites one member with another shape or type in its header; the sizes in the archive follow, or do not."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = pick(rng, sorted(members))
    array = np.lib.format.read_array(io.BytesIO(members[name]), allow_pickle=False)
    shape = pick(
        rng, ("(10000000000,)", "(-1,)", "(3, 10**9)", "(1.5,)", "'x'", f"({2**62}, 4)", "(" * 200 + ")" * 200)
    )
    descr = pick(rng, (repr(array.dtype.str), "'|O'", "'<U1000000000'", "'<f8'", "[('a', '<i4')]", "'V8'", "'<U0'"))
    which = pick(rng, ("shape", "descr"))
    shape = shape if which == "shape" else str(array.shape)
    descr = descr if which == "descr" else repr(array.dtype.str)
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    version = pick(rng, (b"\x01\x00", b"\x01\x00", b"\x02\x00", b"\x03\x00", b"\x09\x00"))
    length = (len(text) + 1).to_bytes(2 if version == b"\x01\x00" else 4, "little")
    if rng.random() < 0.1:
        length = b"\xff" * len(length)
    members[name] = b"\x93NUMPY" + version + length + text + b"\n" + array.tobytes()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if rng.random() < 0.5 else zipfile.ZIP_STORED) as archive:
        for member, content in members.items():
            archive.writestr(member, content)
    return f"{name}: {text[:80]!r} in version {version!r}"


def _odd_archive(rng: np.random.Generator, path: Path) -> str:
    """Rewrites the archive with members twice, others besides, other compressions, or bombs that nobody asked for."""
    how = pick(rng, ("twice", "text", "names", "bzip2", "bomb", "bomb of ids", "nested"))
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2 if how == "bzip2" else zipfile.ZIP_DEFLATED) as archive:
        for member, content in members.items():
            archive.writestr(member, content)
        if how == "twice":
            archive.writestr("user.npy", members["user.npy"])
        elif how == "text":
            archive.writestr("readme.txt", b"hello")
        elif how == "names":
            archive.writestr("../../user_split.npy", members["user.npy"])
        elif how == "nested":
            archive.writestr("inner.npy", path.name.encode() * 10)
        elif how.startswith("bomb"):
            name = "unused" if how == "bomb" else "user_split"
            file = io.BytesIO()
            np.save(file, np.zeros(60_000_000))
            archive.writestr(f"{name}.npy", file.getvalue())
    return how


CLASSES = {
    "csv": delimited(",", "x.csv", "user,item,rating,timestamp", quoting=True),
    "tsv": delimited("\t", "x.tsv", "user\titem\trating\ttimestamp", quoting=True),
    "inter": delimited("\t", "x.inter", "user_id:token\titem_id:token\trating:float\ttimestamp:float", quoting=False),
    "ratings.dat": delimited("::", "ratings.dat", None, quoting=False),
    "u.data": delimited("\t", "u.data", None, quoting=False),
    "lists": lists,
    "parquet": parquet,
    "npz": npz,
    "scipy npz": scipy_npz,
}
