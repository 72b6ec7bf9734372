"""The approximate head: user vector -> top K of a catalogue of any size, without looking at every item.

An encoder graph that does not depend on the number of items turns a history into a user vector. An inverted file (IVF, Jegou et al.
2011) of 8-bit codes finds candidates, and these are ranked by the exact products of their rows in the item table. That table is
memory-mapped, so all instances share it. Where a request leaves few items, exactly these are ranked.

A copy of this file is served next to model.py, where DistilRec is not installed: it must import nothing but the standard library,
numpy, faiss and ONNX Runtime.
"""

import json
import os
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

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
PADDING, MASKED_SCORE = 0, -3e38
"""As in distilrec/core/specs.py."""

_CHUNK = 16_384
"""Rows of the table that an exact scan makes float at once: they stay in the processor's cache."""
_KEPT_FILTERS = 64
"""Filters whose bitmaps of fitting items are kept."""
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


@dataclass(frozen=True)
class _Fitting:
    """Items that fit a filter."""

    count: int
    items: NDArray[np.int32] | None
    """int32 [count], rising; None where they are many."""
    mask: NDArray[np.bool_] | None
    """bool [N + 1]; None where they are few."""
    selector: Any
    """faiss's selector of the fitting ones in the index, where they are many."""


class ApproximateHead:
    """Encoder, table and index of one student, with the tensors of the serving contract.

    The answer to a row depends on that row alone: rows are searched one by one.

    Args:
        folder: Folder with the files.
        probes: Lists that are read for a request, in place of those in ``HEAD_FILE``; likewise ``depth``.

    Raises:
        HeadError: A file is missing or damaged, or they are not of one and the same student.
    """

    def __init__(self, folder: Path, *, probes: int | None = None, depth: int | None = None) -> None:
        self.settings = settings = read_settings(folder)
        self.probes, self.depth = probes or settings.probes, max(depth or settings.depth, settings.top_k)
        faiss.omp_set_num_threads(1)
        self._table = _mapped(folder, TABLE)
        self._scales = _mapped(folder, SCALES)
        self._check_table(folder)
        self._gram, self._inverse_norms = (
            _mapped(folder, COMMON_FACTORS, or_none=True),
            _mapped(folder, INVERSE_NORMS, or_none=True),
        )
        self._session = _session(folder / ENCODER_FILE, settings.vocabulary_sha256)
        self._live = np.ones(settings.item_count + 1, np.bool_)
        self._live[PADDING] = False
        self._live[_mapped(folder, RETIRED)] = False
        fresh, stale = _mapped(folder, FRESH, or_none=True), _mapped(folder, STALE, or_none=True)
        self._fresh = np.zeros(0, np.int32) if fresh is None else fresh[self._live[fresh]]
        self._fresh_rows = self._rows(self._fresh)
        self._centres, self._spread, self._to_index = (_mapped(folder, name) for name in (CENTRES, SPREAD, TO_INDEX))
        self.index = _index(folder / INDEX_FILE, self._table.shape[1])
        self._in_index: NDArray[np.bool_] | None = None
        self._not_stale: Any = None
        if stale is not None:
            self._in_index = self._live.copy()
            self._in_index[stale] = False
            self._not_stale = _selector(self._in_index)
        _check_index(self.index, folder / INDEX_FILE, self)
        self._combination = _mapped(folder, COMBINATION, or_none=True)
        if self._combination is not None:
            names = (COMBINATION_CODES, COMBINATION_ITEMS, COMBINATION_STARTS)
            self._codes, self._items_of, self._starts = (_mapped(folder, name) for name in names)
        self._filters: OrderedDict[bytes, _Fitting | None] = OrderedDict()
        self._banned = np.zeros(settings.item_count + 1, np.bool_)

    def recommend(self, tensors: Mapping[str, Ints]) -> tuple[Ints, Floats]:
        """Answer B requests.

        Args:
            tensors: ``history`` int32 [B, L], ``exclude`` int32 [B, E], and those of the optional tensors that requests use
                (distilrec/core/specs.py). Indices outside 1..N count as padding.

        Returns:
            items int32 [B, K], best first, 0 where none is left, and scores float32 [B, K].
        """
        history, exclude = (self._known(tensors[name]) for name in ("history", "exclude"))
        users = self.user_vectors(history)
        items = np.full((len(history), self.settings.top_k), PADDING, np.int32)
        scores = np.full(items.shape, MASKED_SCORE, np.float32)
        for row, user in enumerate(users):
            repeats = "repeats" in tensors and tensors["repeats"][row, 0] == 1
            banned = exclude[row] if repeats else np.concatenate([history[row], exclude[row]])
            choices = {
                name: tensors[name][row] for name in ("filter", "allow", "similar") if name in tensors and tensors[name][row].any()
            }
            best, of_best = self._answer(user, history[row, -1], banned[banned != PADDING], choices)
            items[row, : len(best)], scores[row, : len(best)] = best, of_best
        return items, scores

    def scores(self, history: Ints, exclude: Ints) -> Floats:
        """Exact scores of padding and items 1..N, ``MASKED_SCORE`` for what must not be returned, float32 [B, N + 1]."""
        history, exclude = self._known(history), self._known(exclude)
        scores = np.stack([self._scan(user) for user in self.user_vectors(history)])
        np.put_along_axis(scores, np.concatenate([history, exclude], axis=1), np.float32(MASKED_SCORE), axis=1)
        scores[:, ~self._live] = MASKED_SCORE
        return scores

    def user_vectors(self, history: Ints) -> Floats:
        """Vectors whose products with rows of the table are scores. int32 [B, L] of known items -> float32 [B, r]."""
        rows = self._rows(history.ravel()).reshape(*history.shape, -1)
        (vectors,) = self._session.run(None, {"history": history, "vectors": rows})
        return vectors  # type: ignore[no-any-return]

    def _answer(self, user: Floats, newest: np.int32, banned: Ints, choices: Mapping[str, Ints]) -> tuple[Ints, Floats]:
        """The best items of one request, at most K, and their scores."""
        weights = None
        if "similar" in choices and choices["similar"][0] == 1 and newest != PADDING and self._inverse_norms is not None:
            user = self._rows(np.array([newest]))[0] * self._inverse_norms[newest]
            user = user if self._gram is None else np.einsum("d,de->e", user, self._gram)
            weights = self._inverse_norms
        fitting = self._fitting(choices["filter"]) if "filter" in choices else None
        if fitting is not None and not fitting.count:
            return np.zeros(0, np.int32), np.zeros(0, np.float32)
        self._banned[banned] = True
        try:
            if "allow" in choices:
                allowed = np.unique(self._known(choices["allow"]))
                few = allowed[self._live[allowed]]
                few = few if fitting is None else few[self._fits(few, fitting)]
                return self._ranked(few, user, weights)
            if fitting is not None and fitting.items is not None:
                return self._ranked(fitting.items, user, weights)
            if weights is None:
                best = self._searched(user, len(banned), fitting)
                if len(best[0]) == self.settings.top_k:
                    return best
            return self._scanned(user, weights, fitting)
        finally:
            self._banned[banned] = False

    def _searched(self, user: Floats, banned: int, fitting: _Fitting | None) -> tuple[Ints, Floats]:
        """The best items among the index's candidates and all fresh items."""
        selector, probes = self._not_stale, self.probes
        if fitting is not None:
            selector = fitting.selector
            probes = -(-probes * self.settings.item_count // fitting.count)
        vector = np.einsum("d,de->e", user, self._to_index)
        of_centres = np.einsum("ld,d->l", self._centres, vector)
        promise = of_centres + self._spread * np.sqrt(np.einsum("d,d->", vector, vector))
        probes = min(probes, len(promise))
        lists = np.argpartition(promise, -probes)[-probes:] if probes < len(promise) else np.arange(probes)
        lists = lists[np.argsort(-promise[lists])]  # best first: later codes then rarely enter the heap
        candidates = self._candidates(vector, lists, of_centres[lists], self.depth + banned, selector)
        candidates = candidates[~self._banned[candidates]][: self.depth]
        scores = self._products(candidates, user)
        if len(self._fresh):
            fresh = ~self._banned[self._fresh]
            if fitting is not None:
                fresh &= self._fits(self._fresh, fitting)
            candidates = np.concatenate([candidates, self._fresh[fresh]])
            scores = np.concatenate([scores, np.einsum("nd,d->n", self._fresh_rows, user)[fresh]])
        return self._best(candidates, scores)

    def _candidates(self, vector: Floats, lists: NDArray[np.int64], of_centres: Floats, count: int, selector: Any) -> Ints:
        """The items of these lists with the highest products of their codes, at most ``count``."""
        products, found = np.empty(count, np.float32), np.empty(count, np.int64)
        parameters = faiss.SearchParametersIVF(nprobe=len(lists), sel=selector)
        # The function below ``search_preassigned``, which takes no parameters in Python.
        pointers = map(faiss.swig_ptr, (lists, of_centres, products, found))
        self.index.search_preassigned_c(1, faiss.swig_ptr(vector), count, *pointers, False, parameters)
        return found[found >= 0].astype(np.int32)

    def _ranked(self, items: Ints, user: Floats, weights: Floats | None) -> tuple[Ints, Floats]:
        """The best of some items, all of them ranked exactly."""
        items = items[~self._banned[items]]
        scores = self._products(items, user)
        return self._best(items, scores if weights is None else scores * weights[items])

    def _scanned(self, user: Floats, weights: Floats | None, fitting: _Fitting | None) -> tuple[Ints, Floats]:
        """The best of all items, all of them ranked exactly."""
        scores = self._scan(user)
        if weights is not None:
            scores *= weights[: len(scores)]
        left = self._live & ~self._banned
        if fitting is not None and fitting.mask is not None:
            left &= fitting.mask
        items = np.flatnonzero(left).astype(np.int32)
        return self._best(items, scores[items])

    def _best(self, items: Ints, scores: Floats) -> tuple[Ints, Floats]:
        """The first K by score."""
        if len(items) > 4 * self.settings.top_k:
            places = np.argpartition(scores, -self.settings.top_k)[-self.settings.top_k :]
            items, scores = items[places], scores[places]
        order = np.argsort(-scores, kind="stable")[: self.settings.top_k]
        return items[order], scores[order]

    def _rows(self, items: Ints) -> Floats:
        """Rows of the table, float32 [n, r]."""
        return self._table[items].astype(np.float32) * self._scales[items][:, None]  # type: ignore[no-any-return]

    def _products(self, items: Ints, user: Floats) -> Floats:
        """Scores of items. Sums of ``einsum`` are in the same order for each number of rows, and on this thread alone."""
        return np.einsum("nd,d->n", self._table[items].astype(np.float32), user) * self._scales[items]  # type: ignore[no-any-return]

    def _scan(self, user: Floats) -> Floats:
        """Scores of padding and items 1..N, float32 [N + 1]."""
        count = self.settings.item_count + 1
        scores = np.empty(count, np.float32)
        for begin in range(0, count, _CHUNK):
            chunk = slice(begin, min(begin + _CHUNK, count))
            np.einsum("nd,d->n", self._table[chunk].astype(np.float32), user, out=scores[chunk])
        scores *= self._scales[:count]
        return scores

    def _known(self, items: Ints) -> Ints:
        """The indices, with what is outside 1..N as padding."""
        return np.where((items > PADDING) & (items <= self.settings.item_count), items, np.int32(PADDING))

    def _fits(self, items: Ints, fitting: _Fitting) -> NDArray[np.bool_]:
        """Which items fit a filter."""
        if fitting.mask is not None:
            return fitting.mask[items]
        assert fitting.items is not None
        return np.isin(items, fitting.items, assume_unique=True)

    def _fitting(self, wanted: Ints) -> _Fitting | None:
        """The items that fit the codes of a filter; None for a filter that asks for nothing."""
        key = np.unique(wanted).tobytes()
        if key not in self._filters:
            self._filters[key] = self._find_fitting(wanted)
            if len(self._filters) > _KEPT_FILTERS:
                self._filters.popitem(last=False)
        self._filters.move_to_end(key)
        return self._filters[key]

    def _find_fitting(self, wanted: Ints) -> _Fitting | None:
        """As ``distill.models.choices.FilterMask``: alternatives within an attribute, and all attributes must fit."""
        if self._combination is None:
            return None
        last = self.settings.value_ranges[-1][1]  # the code after the largest
        asked = np.zeros(last + 1, np.bool_)
        exists = (wanted >= 0) & (wanted < last)
        asked[np.where(exists, wanted, PADDING)] = True
        asked[[PADDING, last]] = False
        fits = np.full(len(self._codes), bool(exists.all()))
        begin = 0
        for (first, end), width in zip(self.settings.value_ranges, self.settings.value_widths, strict=True):
            if asked[first:end].any():
                fits &= asked[self._codes[:, begin : begin + width]].any(axis=1)
            begin += width
        chosen = np.flatnonzero(fits)
        lengths = self._starts[chosen + 1] - self._starts[chosen]
        if lengths.sum() <= self.settings.exact_limit:
            parts = [self._items_of[self._starts[one] : self._starts[one + 1]] for one in chosen]
            items = np.sort(np.concatenate(parts)) if parts else np.zeros(0, np.int32)
            items = items[self._live[items]]
            return _Fitting(len(items), items, None, None)
        mask = fits[self._combination] & self._live
        return _Fitting(int(mask.sum()), None, mask, _selector(mask if self._in_index is None else mask & self._in_index))

    def _check_table(self, folder: Path) -> None:
        rows, needed = len(self._table), self.settings.item_count + 1
        if self._table.ndim != 2 or rows < needed or self._scales.shape != (rows,):
            found = f"{self._table.shape} with scales {self._scales.shape}"
            raise HeadError(
                f"{folder / TABLE}: found {found}, expected {needed:,} rows or more and a scale for each. Export again: distilrec export"
            )


def _check_index(index: Any, path: Path, head: ApproximateHead) -> None:
    """Compare codes of the index with the rows of the table."""
    lists = np.linspace(0, index.nlist - 1, min(_SAMPLED_LISTS, index.nlist)).astype(int)
    for number in lists.tolist():
        if not index.invlists.list_size(number):
            continue
        item = int(index.invlists.get_single_id(number, 0))
        if not 0 < item <= head.settings.item_count or (head._in_index is not None and not head._in_index[item]):
            fault = not 0 < item <= head.settings.item_count
        else:
            code, row = np.empty(index.d, np.float32), head._rows(np.array([item]))[0]
            index.reconstruct_from_offset(number, 0, faiss.swig_ptr(code))
            code = np.einsum("d,de->e", code, head._to_index)
            fault = bool(np.linalg.norm(code - row) > _CODE_ERROR * np.linalg.norm(row) + 1e-6)
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


def _selector(mask: NDArray[np.bool_]) -> Any:
    """Faiss's selector of the items that a mask marks, bool [N + 1]."""
    return faiss.IDSelectorBitmap(np.packbits(mask, bitorder="little"))
