"""The files of an approximate head, opened and compared with each other.

A copy of this file is served next to model.py, where DistilRec is not installed: it must import nothing but the standard library,
numpy, faiss and ONNX Runtime.
"""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

# One thread for each instance. The libraries read these when they are loaded.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import faiss  # noqa: E402 - after the variables above
import onnxruntime  # noqa: E402

HEAD_FILE, ENCODER_FILE, INDEX_FILE = "head.json", "encoder.onnx", "index.faiss"
TABLE, SCALES, COMMON_FACTORS, INVERSE_NORMS = "table.npy", "scales.npy", "gram.npy", "inverse_norms.npy"
CENTRES, SPREAD, TO_INDEX = "centres.npy", "spread.npy", "to_index.npy"
RETIRED, FRESH, STALE = "retired.npy", "fresh.npy", "stale.npy"
COMBINATION, COMBINATION_CODES, COMBINATION_ITEMS, COMBINATION_STARTS = (
    f"combination{suffix}.npy" for suffix in ("", "_codes", "_items", "_starts")
)

_SAMPLED_LISTS = 64
"""Lists of the index of which one code is compared with the table."""
_CODE_ERROR = 0.1
"""Largest distance of a code from its row of the table, as a share of the row's length. Another table's rows are further away."""

Ints = NDArray[np.int32]
Floats = NDArray[np.float32]


class HeadError(Exception):
    """Files of a head that cannot be used; the message says what was found, what was expected and what to do."""


@dataclass(frozen=True)
class HeadSettings:
    """Content of ``HEAD_FILE``: what the head is for, and how it searches."""

    item_count: int
    """N."""
    top_k: int
    """K."""
    history_length: int
    exclude_length: int
    filter_length: int
    allow_length: int
    repeats: int
    similar: int
    """Sizes of the other tensors, as in distilrec/core/specs.py."""
    vocabulary_sha256: str
    probes: int
    """Lists of the index that are read for a request."""
    depth: int
    """Candidates that are ranked exactly, at least K."""
    exact_limit: int
    """Where at most so many items fit a request's filter, all of them are ranked exactly."""
    value_ranges: tuple[tuple[int, int], ...] = ()
    """For each attribute that requests filter by its first code, and the code after its last."""
    value_widths: tuple[int, ...] = ()
    """For each attribute its columns in ``COMBINATION_CODES``."""

    def to_json(self) -> str:
        """The settings as JSON; equal settings give equal text."""
        return json.dumps(asdict(self), indent=2) + "\n"


def read_settings(folder: Path) -> HeadSettings:
    """Read ``HEAD_FILE``.

    Raises:
        HeadError: There is none, or it is not one of this version.
    """
    path = folder / HEAD_FILE
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        ranges, widths = tuple(map(tuple, found.pop("value_ranges"))), tuple(found.pop("value_widths"))
        return HeadSettings(**found, value_ranges=ranges, value_widths=widths)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise HeadError(f"{path}: found no settings of an approximate head ({error}). Export again: distilrec export") from error


class Combinations(NamedTuple):
    """Items by their combination of attribute values."""

    of_item: Ints
    """int32 [N + 1]."""
    codes: Ints
    """Codes of each combination, int32 [U, C]; a code that nobody can ask for where an item has no value."""
    items: Ints
    """Items in the order of their combinations, int32 [N]."""
    starts: NDArray[np.int64]
    """Where the items of each combination begin in ``items``, int64 [U + 1]."""


@dataclass(frozen=True)
class HeadFiles:
    """What the files hold; large arrays are memory-mapped."""

    settings: HeadSettings
    session: Any
    """The encoder in ONNX Runtime: ``history`` int32 [B, L] and ``vectors`` float32 [B, L, r] -> float32 [B, r]."""
    table: NDArray[np.int8]
    """int8 [rows, r]: an item vector is a row times its scale."""
    scales: Floats
    """float32 [rows]."""
    retired: Ints
    """Items that are never returned."""
    index: Any
    """faiss's IndexIVF of the items."""
    centres: Floats
    """Mean of each list's items, float32 [lists, r]; like all rows in the index, they are in a space of their own."""
    spread: Floats
    """How far a list's best item is expected above its mean, for a user vector of length 1; float32 [lists]."""
    to_index: Floats
    """What user vectors are multiplied by for that space, float32 [r, r]."""
    fresh: Ints | None
    """Items that are not in the index; None where it holds all."""
    stale: Ints | None
    """Items whose code in the index counts no more; None likewise."""
    inverse_norms: Floats | None
    """1 / the length of each item vector, float32 [rows], where requests can ask for similar items."""
    gram: Floats | None
    """Products of a low-rank table's basis with itself, float32 [r, r], likewise."""
    combinations: Combinations | None
    """Attributes of the items, where requests can filter."""

    def rows(self, items: Ints) -> Floats:
        """Rows of the table, float32 [n, r]."""
        return self.table[items].astype(np.float32) * self.scales[items][:, None]


def open_head(folder: Path) -> HeadFiles:
    """Open the files of a folder.

    Raises:
        HeadError: A file is missing or damaged, or they are not of one and the same student.
    """
    settings = read_settings(folder)
    faiss.omp_set_num_threads(1)
    needed = {"table": TABLE, "scales": SCALES, "retired": RETIRED, "centres": CENTRES, "spread": SPREAD, "to_index": TO_INDEX}
    optional = {"fresh": FRESH, "stale": STALE, "inverse_norms": INVERSE_NORMS, "gram": COMMON_FACTORS}
    arrays = {field: _mapped(folder, name) for field, name in needed.items()}
    arrays |= {field: _mapped(folder, name, or_none=True) for field, name in optional.items()}
    _check_table(folder, settings, arrays["table"], arrays["scales"])
    session = _session(folder / ENCODER_FILE, settings.vocabulary_sha256)
    index = _index(folder / INDEX_FILE, arrays["table"].shape[1])
    names = (COMBINATION, COMBINATION_CODES, COMBINATION_ITEMS, COMBINATION_STARTS)
    combinations = Combinations(*(_mapped(folder, name) for name in names)) if settings.filter_length else None
    files = HeadFiles(settings, session, index=index, combinations=combinations, **arrays)
    _check_index(files, folder / INDEX_FILE)
    return files


def _check_table(folder: Path, settings: HeadSettings, table: NDArray[np.int8], scales: Floats) -> None:
    needed = settings.item_count + 1
    if table.ndim != 2 or len(table) < needed or scales.shape != (len(table),):
        raise HeadError(
            f"{folder / TABLE}: found {table.shape} with scales {scales.shape}, expected {needed:,} rows or more and a scale for"
            " each. Export again: distilrec export"
        )


def _check_index(files: HeadFiles, path: Path) -> None:
    """Compare codes of the index with the rows of the table."""
    index, stale = files.index, set(() if files.stale is None else files.stale.tolist())
    lists = np.linspace(0, index.nlist - 1, min(_SAMPLED_LISTS, index.nlist)).astype(int)
    for number in lists.tolist():
        item = int(index.invlists.get_single_id(number, 0)) if index.invlists.list_size(number) else None
        if item is None or item in stale:
            continue
        fault = not 0 < item <= files.settings.item_count
        if not fault:
            code, row = np.empty(index.d, np.float32), files.rows(np.array([item], np.int32))[0]
            index.reconstruct_from_offset(number, 0, faiss.swig_ptr(code))
            error = np.linalg.norm(np.einsum("d,de->e", code, files.to_index) - row)
            fault = bool(error > _CODE_ERROR * np.linalg.norm(row) + 1e-6)
        if fault:
            raise HeadError(
                f"{path}: found item {item:,} with another vector than in {TABLE}, expected the index of this table. It belongs to"
                " another student. Export again: distilrec export"
            )


def _mapped(folder: Path, name: str, *, or_none: bool = False) -> Any:
    """An array of a file, memory-mapped; None where there is no file and none is needed."""
    try:
        return np.asarray(np.load(folder / name, mmap_mode="r", allow_pickle=False))
    except FileNotFoundError as error:
        if or_none:
            return None
        raise HeadError(f"{folder}: found no {name}, expected one. Export again: distilrec export") from error
    except (OSError, ValueError, EOFError) as error:
        raise HeadError(f"{folder / name}: cannot be read: {error}. Export again: distilrec export") from error


def _session(path: Path, vocabulary_sha256: str) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime has a class of its own for every status
        raise HeadError(f"{path}: ONNX Runtime cannot load it: {error}. Export again: distilrec export") from error
    found = session.get_modelmeta().custom_metadata_map.get("vocabulary_sha256")
    if found != vocabulary_sha256:
        raise HeadError(
            f"{path} was made for vocabulary {found}, {HEAD_FILE} for {vocabulary_sha256}. Export again: distilrec export"
        )
    return session


def _index(path: Path, width: int) -> Any:
    """The index, with its lists memory-mapped."""
    try:
        index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP | faiss.IO_FLAG_READ_ONLY)
    except RuntimeError as error:
        raise HeadError(f"{path}: cannot be read: {str(error).splitlines()[0]:.200}. Export again: distilrec export") from error
    if not isinstance(index, faiss.IndexIVF) or index.d != width:
        raise HeadError(
            f"{path}: found {type(index).__name__} of {index.d} columns, expected an IndexIVF of {width} as {TABLE} has."
            " Export again: distilrec export"
        )
    lists = faiss.downcast_InvertedLists(index.invlists)
    if isinstance(lists, faiss.OnDiskInvertedLists):
        lists.prefetch_nthread = 0  # it would start 32 threads for each request
    return index
