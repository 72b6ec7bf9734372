"""Which head an export serves: the approximate one is built, its search is set, and both are measured on this machine."""

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from distilrec.config import ExportConfig
from distilrec.core.errors import MissingExtraError
from distilrec.core.runner import Runner
from distilrec.core.specs import Head, Precision
from distilrec.data.dataset import Dataset, HeldOut
from distilrec.evaluation.contract import BATCH_TOLERANCE, Agreement, agreement, check_contract
from distilrec.evaluation.latency import p50_ms
from distilrec.evaluation.verdict import (
    MAX_NDCG_LOSS,
    MIN_HEAD_OVERLAP_AT_10,
    HeadMeasurement,
    Verdict,
    choose_head,
    forced_head,
)
from export.artefact import head_files, head_folder
from export.graph.calibration import sample_calibration
from export.graph.precisions import Reference, answers, edge_and_user_requests
from export.heads.made_of import HeadInput
from export.heads.runner import ApproximateRunner

logger = logging.getLogger(__name__)

FEWEST_ITEMS = 50_000
"""Items from which an approximate head is considered: with fewer, the exhaustive one takes a part of a millisecond."""

_SAMPLED_PREFIXES = 30_000
"""Training histories whose user vectors say where requests look for items."""

_SEARCH_USERS = 5000
"""Validation users by which the search is set."""

_CONTRACT_USERS = 64
"""Users whose requests the contract is checked with, in addition to the requests at its edges."""

_MARGIN = 0.002
"""How far above the smallest overlap the search is set: it is chosen by the users that the verdict is made by."""

_MOST_PROBED, _FEWEST_LISTS = 0.25, 16
"""Share of the lists up to which more are read: beyond it, an index saves little. Up to 16 lists may be read in any case."""

_FEWEST_CANDIDATES, _DEEPER = 50, 4
"""Least candidates that are ranked exactly, and how many times as many are tried where those are too few."""


@dataclass(frozen=True)
class HeadResult:
    """What is known of the approximate head of an export."""

    verdict: Verdict[Head]
    measured: HeadMeasurement | None = None
    """None where none could be made."""
    facts: dict[str, Any] | None = None
    """Lists, probes, depth, bytes and rows outside the index, ready for JSON."""


def considers_heads(config: ExportConfig, item_count: int) -> bool:
    """Whether an approximate head is built: the settings ask for it, or leave it open and there are many items."""
    if config.head == "auto":
        return item_count >= FEWEST_ITEMS and config.target == "python"
    return config.head == "approximate"


@dataclass(frozen=True)
class HeadJob:
    """What is needed to build and judge the approximate head of an export."""

    folder: Path
    """Folder of the export."""
    made_of: HeadInput
    reference: Reference
    """Answers of the exhaustive head in FP32."""
    dataset: Dataset
    """Sequences of all users, whose training part is read."""
    config: ExportConfig
    """Settings, with the head that is asked for."""
    seed: int
    """Random seed."""

    @property
    def place(self) -> Path:
        """Folder of the head."""
        return head_folder(self.folder)

    def runner(self) -> ApproximateRunner:
        """The head, once it is built."""
        return ApproximateRunner(self.place, self.reference.spec)


def make_head(job: HeadJob, exhaustive: Runner, former: Path | None = None) -> HeadResult:
    """Build the approximate head into an export, measure it, and say whether it is served. A head that is not served is removed.

    Args:
        job: What it is made of.
        exhaustive: The exhaustive head in the precision that would be served.
        former: Folder of a former head, whose index is taken over where few rows differ.

    Raises:
        MissingExtraError: The settings ask for the approximate head, and faiss is not installed.
        ParityError: The head breaks the serving contract.
    """
    try:
        fresh = _write_files(job, former)
    except ModuleNotFoundError as error:
        missing = MissingExtraError(f"The package {error.name!r}", "scale")
        if job.config.head != "auto":
            raise missing from error
        logger.warning("export: no approximate head: %s", missing)
        return HeadResult(Verdict(Head.EXHAUSTIVE, f"the exhaustive head ships; not the approximate head: {missing}"))
    runner = job.runner()
    _check(runner, job.reference)
    measured = _measure(runner, exhaustive, job.reference)
    verdict = (forced_head if job.config.head == "approximate" else choose_head)(measured)
    size = sum(path.stat().st_size for path in head_files(job.folder))
    searched = {"lists": runner.lists, "probes": runner.head.probes, "depth": runner.head.depth}
    if verdict.choice is Head.EXHAUSTIVE:
        shutil.rmtree(job.place)
    return HeadResult(verdict, measured, searched | {"rows_outside_index": fresh, "size_bytes": size})


def _write_files(job: HeadJob, former: Path | None) -> int:
    """Write the head's files; returns the number of rows outside its index."""
    from export.heads import build  # here, because faiss is optional

    job.place.mkdir()
    build.write_student(job.made_of, job.place)
    fresh = None if former is None else build.grow_index(former, job.place)
    if fresh is None:
        _build_fastest(job, _user_vectors(job.made_of, job.dataset, job.seed))
    return fresh or 0


def _measure(runner: Runner, exhaustive: Runner, reference: Reference) -> HeadMeasurement:
    times = p50_ms({"approximate": runner, "exhaustive": exhaustive}, *_requests(reference.users))
    return HeadMeasurement(times["approximate"], times["exhaustive"], _agreement(runner, reference, reference.users))


def _build_fastest(job: HeadJob, user_vectors: NDArray[np.float32]) -> None:
    """Build an index of each number of lists, and keep the one that is fastest within the budget."""
    from export.heads import build  # as in ``_write_files``

    place, reference, counts = job.place, job.reference, job.dataset.training_counts()
    users = reference.users.rows(np.arange(min(_SEARCH_USERS, len(reference.users.users))))
    best: tuple[bool, float] | None = None
    kept = (0, 0)
    for lists in build.list_counts(reference.spec.item_count):
        build.write_index(place, user_vectors, counts, lists, seed=job.seed)
        within, probes, depth = _set_search(job, users, lists)
        build.set_search(place, probes, depth)
        time = p50_ms({"head": job.runner()}, *_requests(users))["head"]
        logger.info("export: %d lists, %d of them read, %d candidates: %.3f ms a request", lists, probes, depth, time)
        rank = (not within, time)
        if best is None or rank < best:
            best, kept = rank, (probes, depth)
            for name in build.INDEX_FILES:
                (place / name).replace(place / f"{name}.best")
    for name in build.INDEX_FILES:
        (place / f"{name}.best").replace(place / name)
    build.set_search(place, *kept)


def _set_search(job: HeadJob, users: HeldOut, lists: int) -> tuple[bool, int, int]:
    """The fewest lists and candidates that keep the ranking of the users: whether they do, lists that are read, candidates."""
    from export.heads import build  # as in ``_write_files``

    shallow = max(job.reference.spec.top_k, _FEWEST_CANDIDATES)
    probes = depth = 1
    for depth in (shallow, _DEEPER * shallow):
        for step in range(4, 2 * int(np.log2(max(lists * _MOST_PROBED, _FEWEST_LISTS))) + 1):
            probes = min(int(2 ** (step / 2)), lists)  # 4, 5, 8, 11, 16, ...
            build.set_search(job.place, probes, depth)
            found = _agreement(job.runner(), job.reference, users)
            if found.overlap_at_10 >= MIN_HEAD_OVERLAP_AT_10 + _MARGIN and found.ndcg_loss <= MAX_NDCG_LOSS:
                return True, probes, depth
    return False, probes, depth


def _agreement(runner: Runner, reference: Reference, users: HeldOut) -> Agreement:
    """Agreement with FP32 over the first users of the reference."""
    expected = (reference.expected[0][: len(users.users)], reference.expected[1][: len(users.users)])
    return agreement(expected, answers(runner, users, "approximate head"), users)


def _check(runner: Runner, reference: Reference) -> None:
    spec, users, _, filters = reference
    history, exclude, choices = edge_and_user_requests(spec, users, _CONTRACT_USERS, filters)
    check_contract(runner, spec, history, exclude, BATCH_TOLERANCE[Precision.FP32], choices=choices, filters=filters)


def _user_vectors(made_of: HeadInput, dataset: Dataset, seed: int) -> NDArray[np.float32]:
    """User vectors of training histories, float32 [U, r]."""
    sampled = sample_calibration(dataset, made_of.spec, made_of.vocabulary_sha256, _SAMPLED_PREFIXES, seed)
    history = torch.from_numpy(sampled.history[(sampled.history > 0).any(axis=1)]).long()
    with torch.no_grad():
        parts = [made_of.student.items.in_factor_space(made_of.student.encode_last(part)) for part in torch.split(history, 1024)]
    return np.asarray(torch.cat(parts).numpy())


def _requests(users: HeldOut) -> tuple[Any, Any, Any]:
    return users.history, users.exclude, users.choices
