"""Builds the files of an approximate head from a trained student."""

import shutil
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from distill.models.encoders import Encoder
from distilrec.core.errors import ParityError
from distilrec.core.files import write_text
from distilrec.core.specs import PADDING, RecommenderSpec
from distilrec.data.item_filters import ItemFilters
from distilrec.evaluation.parity import SCORE_TOLERANCE
from export.heads import head_files as head
from export.heads.encoder import export_encoder
from export.heads.made_of import HeadInput

INDEX_FILES = (head.INDEX_FILE, head.CENTRES, head.SPREAD, head.TO_INDEX)
"""What ``write_index`` writes."""

CODE_LIMIT = 127
"""Largest magnitude of a number in the INT8 table. It is made float before it is multiplied, so no sum can saturate."""

_POPULARITY_POWER = 0.75
"""Items are drawn for k-means in proportion to this power of their count."""

_SMALLEST_MOMENT = 1e-3
"""Least second moment of user vectors in a direction, as a share of the largest."""

_POINTS_A_LIST, _ITERATIONS = 40, 8
"""Vectors for each list, and rounds of k-means."""

_EXACT_ITEMS = 20_000
"""Items that fit a filter, up to which all of them are ranked exactly: that takes less time than to search enough lists."""

_MOST_FRESH, _MOST_FRESH_SHARE = 20_000, 0.02
"""Rows outside the index up to which it is taken over, and their share in a large catalogue: each request ranks all of them."""

_CHUNK = 262_144
"""Rows that are made float at once."""


def write_student(made_of: HeadInput, folder: Path) -> None:
    """Write all but the index: encoder, table, and what requests can choose.

    Raises:
        ParityError: The encoder's graph gives other user vectors than PyTorch.
    """
    student, spec = made_of.student, made_of.spec
    metadata = {"vocabulary_sha256": made_of.vocabulary_sha256, "precision": "fp32"}
    export_encoder(student, spec.history_length, folder / head.ENCODER_FILE, metadata)
    codes, scales = quantize_rows(student.items.learned.detach().numpy())
    np.save(folder / head.TABLE, codes)
    np.save(folder / head.SCALES, scales)
    np.save(folder / head.RETIRED, np.array(made_of.retired, np.int32))
    if spec.similar:
        _write_norms(student, folder)
    sizes: dict[str, Any] = {name: int(size) for name, size in asdict(spec).items()}
    settings = head.HeadSettings(
        **sizes,
        vocabulary_sha256=made_of.vocabulary_sha256,
        probes=1,
        depth=spec.top_k,
        exact_limit=_EXACT_ITEMS,
    )
    if made_of.filters is not None:
        settings = _write_combinations(made_of.filters, settings, folder)
    write_text(folder / head.HEAD_FILE, settings.to_json())
    _check_encoder(student, spec, folder)


def set_search(folder: Path, probes: int, depth: int) -> None:
    """Write how many lists are read, and how many candidates are ranked exactly."""
    settings = replace(head.read_settings(folder), probes=probes, depth=depth)
    write_text(folder / head.HEAD_FILE, settings.to_json())


def quantize_rows(rows: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """INT8 numbers within +-127 with a scale for each row, float32 [rows, r] -> int8 [rows, r] and float32 [rows]."""
    codes, scales = np.empty(rows.shape, np.int8), np.empty(len(rows), np.float32)
    for begin in range(0, len(rows), _CHUNK):
        part = rows[begin : begin + _CHUNK]
        scale = np.maximum(np.abs(part).max(axis=1) / CODE_LIMIT, np.float32(1e-12)).astype(np.float32)
        scales[begin : begin + _CHUNK] = scale
        codes[begin : begin + _CHUNK] = np.rint(part / scale[:, None])
    return codes, scales


def list_counts(item_count: int) -> list[int]:
    """Numbers of lists to try: about two and four times the square root of N, at most N / 39.

    Fewer than 39 vectors for each list are too few for k-means (faiss's documentation).
    """
    wanted = (2 ** round(np.log2(factor * np.sqrt(item_count))) for factor in (2, 4))
    return sorted({int(max(1, min(lists, item_count // 39))) for lists in wanted})


def write_index(folder: Path, user_vectors: NDArray[np.float32], counts: NDArray[np.int64], lists: int, *, seed: int) -> None:
    """Build the index of the table in ``folder``, without retired items.

    Lists are clusters of items as users see them: distances are those of scores, over the user vectors of training histories
    (vectors are multiplied by the square root of these vectors' second moments). Items that are bought more often count more, so
    that what is recommended lies in small lists.

    Args:
        folder: Folder that ``write_student`` has filled.
        user_vectors: User vectors of training histories, float32 [U, r].
        counts: Training interactions of each item, int64 [N + 1].
        lists: Number of lists.
        seed: Random seed of k-means and its sample.
    """
    codes, scales = np.load(folder / head.TABLE, mmap_mode="r"), np.load(folder / head.SCALES)
    items = _indexed(folder)
    to_index, to_users = _users_space(user_vectors)
    sample = _sample(items, counts, _POINTS_A_LIST * lists, seed)
    faiss.omp_set_num_threads(torch.get_num_threads())
    sampled = _rows(codes, scales, sample) @ to_index
    kmeans = faiss.Kmeans(sampled.shape[1], lists, niter=_ITERATIONS, seed=seed, max_points_per_centroid=_POINTS_A_LIST)
    kmeans.train(sampled)
    parts = [items[begin : begin + _CHUNK] for begin in range(0, len(items), _CHUNK)]
    lists_of = [kmeans.index.search(_rows(codes, scales, part) @ to_index, 1)[1][:, 0].copy() for part in parts]
    in_index = ((_rows(codes, scales, part) @ to_index, of_part) for part, of_part in zip(parts, lists_of, strict=True))
    centres, spread = _statistics(in_index, lists, sampled.shape[1])
    index = _empty_index(centres, sampled - centres[kmeans.index.search(sampled, 1)[1][:, 0]])
    for part, of_part in zip(parts, lists_of, strict=True):
        rows = np.ascontiguousarray(_rows(codes, scales, part) @ to_index)
        index.add_core(len(part), *map(faiss.swig_ptr, (rows, part, of_part)))
    faiss.write_index(index, str(folder / head.INDEX_FILE))
    for name, values in ((head.CENTRES, centres), (head.SPREAD, spread), (head.TO_INDEX, to_users)):
        np.save(folder / name, values)
    faiss.omp_set_num_threads(1)


def _indexed(folder: Path) -> NDArray[np.int64]:
    """Items that an index holds: all but the retired ones, int64 [n]."""
    live = np.ones(head.read_settings(folder).item_count + 1, np.bool_)
    live[PADDING] = live[np.load(folder / head.RETIRED)] = False
    return np.flatnonzero(live).astype(np.int64)


def _sample(items: NDArray[np.int64], counts: NDArray[np.int64], size: int, seed: int) -> NDArray[np.int64]:
    """Items for k-means, rising; popular ones are drawn more often, and none twice."""
    chances = (counts[items] + 1.0) ** _POPULARITY_POWER
    chosen = np.random.default_rng(seed).choice(items, min(len(items), size), replace=False, p=chances / chances.sum())
    return np.sort(chosen)


def _empty_index(centres: NDArray[np.float32], residuals: NDArray[np.float32]) -> Any:
    """An IVF of 8-bit codes without items; the codes' range is that of ``residuals``, rows less the centres of their lists."""
    quantizer = faiss.IndexFlatIP(centres.shape[1])
    quantizer.add(centres)
    index = faiss.IndexIVFScalarQuantizer(
        quantizer, *centres.shape[::-1], faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT, True
    )
    index.sq.train(np.ascontiguousarray(residuals))
    index.is_trained = True
    return index


def _users_space(user_vectors: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """What items and what users are multiplied by, float32 [r, r] each: products of both stay as they are."""
    moments = user_vectors.T.astype(np.float64) @ user_vectors / len(user_vectors)
    values, vectors = np.linalg.eigh(moments)
    roots = np.sqrt(np.maximum(values, _SMALLEST_MOMENT * values.max()))
    return ((vectors * roots) @ vectors.T).astype(np.float32), ((vectors / roots) @ vectors.T).astype(np.float32)


def _statistics(
    parts: Iterable[tuple[NDArray[np.float32], NDArray[np.int64]]], lists: int, width: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean of each list's items, float32 [lists, r], and how far its best item is expected above the mean, float32 [lists].

    The latter is for a user vector of length 1: the largest of n normal numbers lies about sqrt(2 ln n) deviations above the mean.
    """
    sizes, sums, squares = np.zeros(lists, np.int64), np.zeros((lists, width)), np.zeros(lists)
    for rows, list_of in parts:
        sizes += np.bincount(list_of, minlength=lists)
        squares += np.bincount(list_of, np.einsum("nd,nd->n", rows, rows), lists)
        for column in range(width):
            sums[:, column] += np.bincount(list_of, rows[:, column], lists)
    filled = np.maximum(sizes, 1)
    means = sums / filled[:, None]
    variance = np.maximum(squares / filled - (means**2).sum(axis=1), 0) / width
    return means.astype(np.float32), np.sqrt(variance * 2 * np.log(filled)).astype(np.float32)


def _rows(codes: NDArray[np.int8], scales: NDArray[np.float32], items: NDArray[np.int64]) -> NDArray[np.float32]:
    return np.ascontiguousarray(codes[items].astype(np.float32) * scales[items][:, None])


def _write_norms(student: Encoder, folder: Path) -> None:
    """What cosines need: 1 / the length of each item vector, and the products of a low-rank table's basis with itself."""
    items = student.items
    with torch.no_grad():
        np.save(folder / head.INVERSE_NORMS, (1 / items().norm(dim=1).clamp(min=1e-12)).numpy())
        if items.basis is not None:
            np.save(folder / head.COMMON_FACTORS, (items.basis @ items.basis.T).numpy())


def _write_combinations(filters: ItemFilters, settings: head.HeadSettings, folder: Path) -> head.HeadSettings:
    """Items by their combination of attribute values; returns the settings with the attributes."""
    codes, combination = np.unique(filters.codes, axis=0, return_inverse=True)  # [U, C], [N + 1]
    combination = combination.reshape(-1).astype(np.int32)
    nobody_asks = filters.values.count + 1
    np.save(folder / head.COMBINATION, combination)
    np.save(folder / head.COMBINATION_CODES, np.where(codes == PADDING, nobody_asks, codes).astype(np.int32))
    order = np.argsort(combination[1:], kind="stable").astype(np.int32) + 1
    np.save(folder / head.COMBINATION_ITEMS, order)
    np.save(folder / head.COMBINATION_STARTS, np.searchsorted(combination[order], np.arange(len(codes) + 1)))
    return replace(settings, value_ranges=tuple(filters.values.ranges()), value_widths=tuple(filters.widths))


def _check_encoder(student: Encoder, spec: RecommenderSpec, folder: Path) -> None:
    """Compare user vectors of the graph with PyTorch's, on the exact rows of random histories, some with gaps."""
    import onnxruntime  # here alone: what serves loads it in ``approximate``

    random = np.random.default_rng(0)
    history = random.integers(1, spec.item_count + 1, (16, spec.history_length), dtype=np.int32)
    history[random.random(history.shape) < random.random((16, 1))] = PADDING
    history[0] = PADDING
    with torch.no_grad():
        items: Tensor = torch.from_numpy(history).long()
        expected = student.items.in_factor_space(student.encode_last(items)).numpy()
        rows = student.items.learned[items].numpy()
    session = onnxruntime.InferenceSession(folder / head.ENCODER_FILE, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"history": history, "vectors": rows})
    error = float(np.abs(found - expected).max())
    if not error <= SCORE_TOLERANCE:
        raise ParityError(
            f"found user vectors up to {error:.2g} apart from PyTorch's, expected at most {SCORE_TOLERANCE}; the head is not made"
        )


def grow_index(former: Path, folder: Path) -> int | None:
    """Take over the index of a former head for a table in which some rows are new, changed or retired; nothing is trained.

    New and changed rows are ranked exactly with each request, next to the index's candidates, and changed and retired ones are
    masked in the index. The next build takes all of them into the index.

    Args:
        former: Folder of a head whose index holds all its items that were not retired.
        folder: Folder that ``write_student`` has filled.

    Returns:
        Number of rows that are ranked with each request; None where they are too many, or the table is another one.
    """
    before, now = head.read_settings(former), head.read_settings(folder)
    codes, scales = ([np.load(one / name, mmap_mode="r") for one in (former, folder)] for name in (head.TABLE, head.SCALES))
    if (former / head.FRESH).exists() or now.item_count < before.item_count or codes[0].shape[1] != codes[1].shape[1]:
        return None
    outside, retired = (np.zeros(now.item_count + 1, np.bool_) for _ in range(2))
    for begin in range(1, before.item_count + 1, _CHUNK):
        part = slice(begin, min(begin + _CHUNK, before.item_count + 1))
        outside[part] = (codes[0][part] != codes[1][part]).any(axis=1) | (scales[0][part] != scales[1][part])
    retired[np.load(folder / head.RETIRED)] = True
    stale = np.flatnonzero(outside | retired)
    outside[np.load(former / head.RETIRED)] = True
    outside[before.item_count + 1 :] = True
    fresh = np.flatnonzero(outside & ~retired)
    if len(fresh) > max(_MOST_FRESH, _MOST_FRESH_SHARE * now.item_count):
        return None
    np.save(folder / head.FRESH, fresh.astype(np.int32))
    np.save(folder / head.STALE, stale[stale <= before.item_count].astype(np.int32))
    for name in INDEX_FILES:
        shutil.copyfile(former / name, folder / name)
    set_search(folder, before.probes, before.depth)
    return len(fresh)
