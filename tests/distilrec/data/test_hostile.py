"""200 hostile data files and presets: each a named error or a counted warning, and the former run stays as it was.

Each is a good file that one function below has spoiled. Its random choices depend on the seed only.
"""

import bz2
import datetime as dt
import gzip
import io
import random
import re
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import polars as pl
import pytest

from distilrec.config import Config, load_config
from distilrec.core.errors import DataWarning, DistilRecError
from distilrec.core.manifest import Manifest, verify_manifest
from distilrec.data import stage

USERS, ITEMS = 12, 8
LOGS = pl.DataFrame(
    {
        "user_id": [f"user {u}" for u in range(USERS) for _ in range(ITEMS)],
        "item_id": [f"item {(u + i) % ITEMS}" for u in range(USERS) for i in range(ITEMS)],
        "timestamp": [1_700_000_000 + 60 * u + i for u in range(USERS) for i in range(ITEMS)],
    }
)
CATALOGUE = pl.DataFrame({"item_id": [f"item {i}" for i in range(ITEMS)], "title": [f"Café no. {i}" for i in range(ITEMS)]})
PRESET = """
name = "shop"
seed = 3
history_length = 12
[data]
interactions = "logs.csv"
items = "items.csv"
split = "leave_one_out"
k_core = 2
[teachers.sequence]
kind = "sequence"
embedding_size = 16
heads = 2
[student]
embedding_size = 8
dropout = 0.1
"""

Bytes = Callable[[bytes, random.Random], bytes]
Frames = Callable[[pl.DataFrame, random.Random], pl.DataFrame]


def change_line(content: bytes, choice: random.Random, change: Callable[[bytes], bytes]) -> bytes:
    """Change one line, never the first."""
    lines = content.splitlines(keepends=True)
    number = choice.randrange(1, len(lines))
    lines[number] = change(lines[number].removesuffix(b"\n")) + b"\n"
    return b"".join(lines)


def flip(content: bytes, choice: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(choice.choice((1, 4, 16))):
        changed[choice.randrange(len(changed))] = choice.randrange(256)
    return bytes(changed)


def truncate(content: bytes, choice: random.Random) -> bytes:
    return content[: choice.randrange(len(content))]


def nul_tail(content: bytes, choice: random.Random) -> bytes:
    """As after a crash: the last blocks of the file were never written."""
    kept = choice.randrange(1, len(content))
    return content[:kept] + bytes(len(content) - kept)


def separator_of(content: bytes) -> bytes:
    return b"\t" if b"\t" in content else b","


TEXT: dict[str, Bytes] = {
    "empty": lambda *_: b"",
    "header-only": lambda c, _: c[: c.index(b"\n") + 1],
    "no-header": lambda c, _: c[c.index(b"\n") + 1 :],
    "truncated": truncate,
    "flipped": flip,
    "utf16": lambda c, _: c.decode().encode("utf-16"),
    "utf16-without-mark": lambda c, r: c.decode().encode(r.choice(("utf-16-le", "utf-16-be"))),
    "utf32": lambda c, _: c.decode().encode("utf-32"),
    "latin1": lambda c, r: change_line(c, r, lambda line: line + "é".encode("latin-1")),
    "cr-only": lambda c, _: c.replace(b"\n", b"\r"),
    "crlf": lambda c, _: c.replace(b"\n", b"\r\n"),
    "byte-order-mark": lambda c, _: b"\xef\xbb\xbf" + c,
    "nul": lambda c, r: change_line(c, r, lambda line: b"\0" + line),
    "nul-tail": nul_tail,
    "semicolons": lambda c, _: c.replace(separator_of(c), b";"),
    "one-more-field": lambda c, r: change_line(c, r, lambda line: line + separator_of(c) + b"more"),
    "one-field-less": lambda c, r: change_line(c, r, lambda line: line.rpartition(separator_of(c))[0]),
    "no-id": lambda c, r: change_line(c, r, lambda line: b" " + line[line.index(separator_of(c)) :]),
    "repeated-row": lambda c, r: change_line(c, r, lambda line: line + b"\n" + line),
    "repeated-column": lambda c, _: c.replace(b"item_id", b"item_id" + separator_of(c) + b"item_id", 1),
    "renamed-column": lambda c, _: c.replace(b"item_id", b"\x1b[31mitem", 1),
    "lone-quote": lambda c, r: change_line(c, r, lambda line: line.replace(separator_of(c), separator_of(c) + b'"', 1)),
    "control-characters": lambda c, r: change_line(c, r, lambda line: line.replace(b" ", b"\x1b]0;x\x07", 1)),
    "huge-field": lambda c, r: change_line(c, r, lambda line: line.replace(b" ", b"x" * 300_000, 1)),
    "huge-number": lambda c, r: change_line(c, r, lambda line: line + b"9" * r.choice((30, 400))),
    "bz2": lambda c, _: bz2.compress(c),
    "gzip": lambda c, _: gzip.compress(c),
    "gzip-truncated": lambda c, r: truncate(gzip.compress(c), r),
    "gzip-flipped": lambda c, r: flip(gzip.compress(c), r),
}

TIMES: dict[str, Bytes] = {
    name: lambda c, r, new=new: change_line(c, r, lambda line: line.rpartition(separator_of(c))[0] + separator_of(c) + new)
    for name, new in {"day-first": b"02/01/2024", "other-kind": b"2024-01-02", "infinite": b"inf", "words": b"yesterday"}.items()
}


def column(name: str, values: Callable[[int], list[object]], dtype: pl.DataType | None = None) -> Frames:
    return lambda frame, _: frame.with_columns(pl.Series(name, values(len(frame)), dtype))


def blank(name: str) -> Frames:
    return lambda frame, r: frame.with_columns(
        pl.when(pl.int_range(pl.len()) == r.randrange(len(frame))).then(None).otherwise(pl.col(name)).alias(name)
    )


ID_FRAMES: dict[str, Frames] = {
    "lists": column("item_id", lambda n: [["x"]] * n),
    "structs": column("item_id", lambda n: [{"x": 1}] * n),
    "durations": column("item_id", lambda n: [dt.timedelta(1)] * n),
    "dates": column("item_id", lambda n: [dt.date(2024, 1, 1)] * n),
    "invalid-utf8": column("item_id", lambda n: [b"\xff"] * n),
    "floats": column("item_id", lambda n: [1.5] * n),
    "booleans": column("item_id", lambda n: [True] * n),
    "nul": column("item_id", lambda n: ["a\0"] * n),
    "nulls": column("item_id", lambda n: [None] * n, pl.Null()),
    "blank": blank("item_id"),
    "no-column": lambda frame, _: frame.drop("item_id"),
    "no-rows": lambda frame, _: frame.clear(),
    "repeated-row": lambda frame, _: pl.concat([frame, frame.head(2)]),
}
TIME_FRAMES: dict[str, Frames] = {
    "time-blank": lambda frame, r: blank("timestamp")(frame.with_columns(pl.from_epoch("timestamp")), r),
    "time-lists": column("timestamp", lambda n: [[1]] * n),
    "time-durations": column("timestamp", lambda n: [dt.timedelta(1)] * n),
    "time-of-day": column("timestamp", lambda n: [dt.time(1)] * n),
    "time-booleans": column("timestamp", lambda n: [True] * n),
    "time-nan": column("timestamp", lambda n: [float("nan")] * n),
}
PARQUET: dict[str, Bytes] = {
    "truncated": truncate,
    "flipped": flip,
    "text": lambda *_: b"user_id,item_id,timestamp\n",
    "empty": lambda *_: b"",
    "no-footer": lambda c, _: c[:-8],
}
PRESETS: dict[str, Bytes] = {
    "truncated": truncate,
    "flipped": flip,
    "latin1": lambda c, r: change_line(c, r, lambda line: line + b" # \xe9"),
    "utf16": lambda c, _: c.decode().encode("utf-16"),
    "nul-tail": nul_tail,
    "nested": lambda c, _: c.replace(b"0.1", b"[" * 9_000),
    "huge-number": lambda c, r: c.replace(r.choice((b"12", b"16", b"0.1", b"3")), b"9" * r.choice((30, 9_000))),
    "repeated-line": lambda c, r: change_line(c, r, lambda line: line + b"\n" + line),
    "lost-line": lambda c, r: change_line(c, r, lambda _: b""),
    "other-type": lambda c, r: change_line(c, r, lambda line: line.partition(b"=")[0] + b'= ["\x1b[31m", 1979-05-27]'),
    "unknown-setting": lambda c, r: change_line(c, r, lambda line: line + b"\nunknown = 1"),
}

PLAUSIBLE = {"truncated", "flipped", "nul-tail", "control-characters", "huge-field", "huge-number", "lost-line", "header-only"}
"""These may give another file or preset that is valid; then its content counts."""


class Hostile(NamedTuple):
    """A case: a good file, and what spoils it."""

    file: str
    fault: str
    seed: int
    spoil: Bytes


def on_frames(good: pl.DataFrame, change: Frames) -> Bytes:
    return lambda _, choice: parquet(change(good, choice))


def parquet(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    return buffer.getvalue()


def hostile() -> list[Hostile]:
    """At least 200 cases; those that depend on chance come with several seeds."""
    cases: list[tuple[str, dict[str, Bytes]]] = [
        *((name, TEXT | TIMES) for name in ("logs.csv", "logs.tsv")),
        *((name, TEXT) for name in ("items.csv", "items.tsv.gz")),
        ("logs.parquet", PARQUET | {name: on_frames(LOGS, change) for name, change in (ID_FRAMES | TIME_FRAMES).items()}),
        ("items.parquet", PARQUET | {name: on_frames(CATALOGUE, change) for name, change in ID_FRAMES.items()}),
    ]
    found = [Hostile(file, fault, 0, spoil) for file, faults in cases for fault, spoil in faults.items()]
    found += [
        Hostile(file, fault, seed, faults[fault]) for seed in (1, 2) for file, faults in cases for fault in ("truncated", "flipped")
    ]
    found += [Hostile("shop.toml", fault, seed, spoil) for seed in range(3) for fault, spoil in PRESETS.items()]
    return found


CASES = hostile()


def contents() -> dict[str, bytes]:
    """Good files by name."""
    files = {"shop.toml": PRESET.encode()}
    for name, frame in (("logs", LOGS), ("items", CATALOGUE)):
        files[f"{name}.csv"] = frame.write_csv().encode()
        files[f"{name}.tsv"] = frame.write_csv(separator="\t").encode()
        files[f"{name}.parquet"] = parquet(frame)
    return files | {"items.tsv.gz": files["items.tsv"]}


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def former(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the good files, with a finished data stage."""
    folder = tmp_path_factory.mktemp("former")
    for name, content in contents().items():
        (folder / name).write_bytes(content)
    stage.run(load_config(str(folder / "shop.toml")), {}, folder / "data")
    return folder


def config_for(folder: Path, file: str) -> Config:
    """Settings that read the file in its place."""
    if file == "shop.toml":
        return load_config(str(folder / file))
    key = "interactions" if file.startswith("logs") else "items"
    data = {"interactions": folder / "logs.csv", "items": folder / "items.csv", "split": "leave_one_out", "k_core": 2}
    return Config.model_validate({"name": "shop", "seed": 4, "data": data | {key: folder / file}})


def test_there_are_200_cases():
    assert len(CASES) >= 200


@pytest.mark.pipeline
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.file}-{case.fault}-{case.seed}")
def test_hostile_file_is_a_named_error_or_a_counted_warning_and_the_former_run_stays(former, tmp_path, case):
    folder = tmp_path / "run"
    shutil.copytree(former, folder)
    good = verify_manifest(folder / "data")
    choice = random.Random(f"{case.file} {case.fault} {case.seed}")
    (folder / case.file).write_bytes(case.spoil(contents()[case.file], choice))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", DataWarning)
        try:
            manifest = stage.run(config_for(folder, case.file), {}, folder / "data")
        except DistilRecError as error:
            check_error(str(error), case)
            assert tree(folder / "data") == tree(former / "data")
        else:
            check_success(manifest, good, [str(warning.message) for warning in caught], case)
            assert verify_manifest(folder / "data") == manifest
    assert not (folder / "data.old").exists()


def check_error(message: str, case: Hostile) -> None:
    # A preset that is valid, but names another data file or filters too much, is an error of that data file.
    assert re.search(re.escape(case.file) if case.file != "shop.toml" else r"shop\.toml|/(logs|items)", message)
    assert re.search("found|fault|no such|not valid TOML|cannot be read", message)
    assert all(character.isprintable() or character == "\n" for character in message)
    assert len(message) < 2_000


def check_success(manifest: Manifest, good: Manifest, messages: list[str], case: Hostile) -> None:
    assert manifest.metrics["warnings"] == messages
    assert all(re.search(rf"{re.escape(case.file)}: column .*: \d+ .*\(first: ", message) for message in messages)
    assert messages or manifest.files == good.files or case.fault in PLAUSIBLE
