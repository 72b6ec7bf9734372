"""The approximate head: user vector -> top K of a catalogue of any size, without looking at every item.

An encoder graph that does not depend on the number of items turns a history into a user vector. An inverted file (IVF, Jegou et al.
2011) of 8-bit codes finds candidates, and these are ranked by the exact products of their rows in the item table. Where a request
leaves few items, exactly these are ranked.

A copy of this file is served next to model.py, where DistilRec is not installed: it must import nothing but the standard library,
numpy and faiss.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import faiss
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Mapping

    from export.heads.head_files import Floats, HeadFiles, Ints

PADDING, MASKED_SCORE = 0, -3e38
"""As in distilrec/core/specs.py."""

_CHUNK = 16_384
"""Rows of the table that an exact scan makes float at once: they stay in the processor's cache."""
_KEPT_FILTERS = 64
"""Filters whose bitmaps of fitting items are kept."""


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
        files: The opened files.
        probes: Lists that are read for a request, in place of those in the settings.
    """

    def __init__(self, files: HeadFiles, probes: int | None = None) -> None:
        self.files, self.settings, self.index = files, files.settings, files.index
        self.probes, self.depth = probes or self.settings.probes, max(self.settings.depth, self.settings.top_k)
        self._live = np.ones(self.settings.item_count + 1, np.bool_)
        self._live[PADDING] = False
        self._live[files.retired] = False
        self._fresh = np.zeros(0, np.int32) if files.fresh is None else files.fresh[self._live[files.fresh]]
        self._fresh_rows = files.rows(self._fresh)
        self._in_index: NDArray[np.bool_] | None = None
        self._not_stale: Any = None
        if files.stale is not None:
            self._in_index = self._live.copy()
            self._in_index[files.stale] = False
            self._not_stale = _selector(self._in_index)
        self._filters: OrderedDict[bytes, _Fitting | None] = OrderedDict()
        self._banned = np.zeros(self.settings.item_count + 1, np.bool_)

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
        rows = self.files.rows(history.ravel()).reshape(*history.shape, -1)
        (vectors,) = self.files.session.run(None, {"history": history, "vectors": rows})
        return vectors  # type: ignore[no-any-return]

    def _answer(self, user: Floats, newest: np.int32, banned: Ints, choices: Mapping[str, Ints]) -> tuple[Ints, Floats]:
        """The best items of one request, at most K, and their scores."""
        weights = None
        if "similar" in choices and choices["similar"][0] == 1 and newest != PADDING and self.files.inverse_norms is not None:
            user = self.files.rows(np.array([newest]))[0] * self.files.inverse_norms[newest]
            user = user if self.files.gram is None else np.einsum("d,de->e", user, self.files.gram)
            weights = self.files.inverse_norms
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
        vector = np.einsum("d,de->e", user, self.files.to_index)
        of_centres = np.einsum("ld,d->l", self.files.centres, vector)
        promise = of_centres + self.files.spread * np.sqrt(np.einsum("d,d->", vector, vector))
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

    def _products(self, items: Ints, user: Floats) -> Floats:
        """Scores of items. Sums of ``einsum`` are in the same order for each number of rows, and on this thread alone."""
        return np.einsum("nd,d->n", self.files.table[items].astype(np.float32), user) * self.files.scales[items]  # type: ignore[no-any-return]

    def _scan(self, user: Floats) -> Floats:
        """Scores of padding and items 1..N, float32 [N + 1]."""
        count = self.settings.item_count + 1
        scores = np.empty(count, np.float32)
        for begin in range(0, count, _CHUNK):
            chunk = slice(begin, min(begin + _CHUNK, count))
            np.einsum("nd,d->n", self.files.table[chunk].astype(np.float32), user, out=scores[chunk])
        scores *= self.files.scales[:count]
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
        combinations = self.files.combinations
        if combinations is None:
            return None
        last = self.settings.value_ranges[-1][1]  # the code after the largest
        asked = np.zeros(last + 1, np.bool_)
        exists = (wanted >= 0) & (wanted < last)
        asked[np.where(exists, wanted, PADDING)] = True
        asked[[PADDING, last]] = False
        fits = np.full(len(combinations.codes), bool(exists.all()))
        begin = 0
        for (first, end), width in zip(self.settings.value_ranges, self.settings.value_widths, strict=True):
            if asked[first:end].any():
                fits &= asked[combinations.codes[:, begin : begin + width]].any(axis=1)
            begin += width
        chosen = np.flatnonzero(fits)
        lengths = combinations.starts[chosen + 1] - combinations.starts[chosen]
        if lengths.sum() <= self.settings.exact_limit:
            parts = [combinations.items[combinations.starts[one] : combinations.starts[one + 1]] for one in chosen]
            items = np.sort(np.concatenate(parts)) if parts else np.zeros(0, np.int32)
            items = items[self._live[items]]
            return _Fitting(len(items), items, None, None)
        mask = fits[combinations.of_item] & self._live
        return _Fitting(int(mask.sum()), None, mask, _selector(mask if self._in_index is None else mask & self._in_index))


def _selector(mask: NDArray[np.bool_]) -> Any:
    """Faiss's selector of the items that a mask marks, bool [N + 1]."""
    return faiss.IDSelectorBitmap(np.packbits(mask, bitorder="little"))
