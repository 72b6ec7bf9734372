"""Checks of a version that a server has loaded: its golden answers, and its errors and latency while it is watched."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from clients.connection import Tls
from clients.errors import ClientError
from clients.grpc_model import GrpcModel
from distilrec.core import golden
from distilrec.core.errors import ServerError
from distilrec.core.filters import FilterValues
from distilrec.core.golden import Golden, load_golden
from distilrec.core.runner import Answer, Choices, chosen_rows
from distilrec.core.specs import FRONT_DOOR_NAME, MASKED_SCORE, MODEL_NAME, PADDING, candidate_name
from distilrec.data import item_filters
from distilrec.data import vocabulary as vocabularies
from distilrec.data.item_filters import load_filters
from distilrec.data.vocabulary import Vocabulary, load_vocabulary
from distilrec.serving.rollout.checks import check_answers, version_tolerance

_PROBE_PAUSE_S = 0.02
_SINGLE_REQUESTS = 8
"""Golden requests that are also sent one by one: a batch of one takes another way through the model than a full one."""


@dataclass(frozen=True)
class Limits:
    """What a new version may do while it is watched."""

    watch_s: float = 10.0
    """How long, in seconds; 0 does not watch."""
    max_error_rate: float = 0.001
    """Largest share of failed requests, of all that reach the version."""
    max_p99_ms: float = 250.0
    """Largest 99th percentile of the time of single requests of our own."""


@dataclass(frozen=True)
class WatchResult:
    """What was seen of a version while it was watched."""

    requests: int
    """Requests of all clients, by the server's count."""
    failed: int
    """Those of ``requests`` that failed."""
    probes: int
    """Requests of our own."""
    p99_ms: float
    """99th percentile of the time of the probes."""


class LiveChecks:
    """Sends golden requests to a server's models and reads the student's statistics.

    Args:
        url: Host and port of the server's gRPC endpoint.
        max_batch_size: Largest number of rows in a request.
        tls: How the endpoint is reached.
        timeout_s: Seconds that each call may take.
        candidate: Whether the candidate's models are asked.
    """

    def __init__(
        self, url: str, max_batch_size: int, tls: Tls | bool = False, timeout_s: float = 5.0, *, candidate: bool = False
    ) -> None:
        self.url, self.max_batch_size = url, max_batch_size
        model = candidate_name(MODEL_NAME) if candidate else MODEL_NAME
        self._model = GrpcModel(url, model, timeout_s=timeout_s, tls=tls)

    def check_batch(self, batch: Golden, version: int, tolerance: float) -> None:
        """Send golden requests as one batch to the student, and compare.

        Args:
            batch: Requests and recorded answers of at most ``max_batch_size`` rows.
            version: Version that must answer.
            tolerance: Largest difference of a score from its golden one.

        Raises:
            ServerError: no answer, or another version answered.
            ParityError: the answers are not the recorded ones.
        """
        try:
            items, scores, answered = self._model.recommend_with_version(batch.history, batch.exclude, batch.choices)
        except ClientError as error:
            raise ServerError(f"a golden request failed: {error}") from error
        self._compare(batch, (items, scores), answered, version, tolerance=tolerance, model=MODEL_NAME)

    def check_front_door(
        self, requests: Golden, vocabulary: Vocabulary, version: int, tolerance: float, filters: FilterValues | None = None
    ) -> None:
        """Send the front door, one by one, the golden requests that can be written as text, and compare.

        Arguments and errors as ``check_batch``; ``filters`` are the attributes that the model declares.
        """
        for row, sent in enumerate(zip(requests.history, requests.exclude, strict=True)):
            if any(((indices < 0) | (indices > len(vocabulary))).any() for indices in sent):
                continue
            history, exclude = (vocabulary.decode(indices[indices > 0].tolist()) for indices in sent)
            choices = _as_text(chosen_rows(requests.choices, slice(row, row + 1)), vocabulary, filters or FilterValues({}))
            if choices is None or (not history and "similar" in choices):
                continue
            try:
                ids, scores, answered = self._model.ask_front_door([history], [exclude], requests.items.shape[1], choices)
            except ClientError as error:
                raise ServerError(f"a golden request to the front door failed: {error}") from error
            items = np.array([vocabulary.encode(ids[0])], np.int32)
            masked = np.where(items == PADDING, np.float32(MASKED_SCORE), scores)
            single = requests.rows(slice(row, row + 1))
            self._compare(single, (items, masked), answered, version, tolerance=tolerance, model=FRONT_DOOR_NAME)

    def _compare(self, batch: Golden, answer: Answer, answered: str, version: int, *, tolerance: float, model: str) -> None:
        if answered != str(version):
            raise ServerError(f"{self.url}: version {answered} of {model!r} answered, expected version {version}")
        if answer[0].shape != batch.items.shape or answer[1].shape != batch.scores.shape:
            raise ServerError(f"{self.url}: found answers of shape {answer[0].shape}, expected {batch.items.shape}")
        check_answers(batch, answer, tolerance, f"{self.url}, model {model!r}, version {version}")

    def check_student(self, requests: Golden, version: int, tolerance: float) -> None:
        """Send all golden requests in batches, and the first few one by one. Arguments and errors as ``check_batch``."""
        count, step = len(requests.history), self.max_batch_size
        for row in range(min(_SINGLE_REQUESTS, count)):
            self.check_batch(requests.rows(slice(row, row + 1)), version, tolerance)
        for begin in range(0, count, step):
            self.check_batch(requests.rows(slice(begin, begin + step)), version, tolerance)

    def check_version(self, repository: Path, names: Sequence[str], version: int) -> Golden | None:
        """Check a version's golden answers, also through the front door if that is among ``names``.

        Errors as ``check_batch``.

        Returns:
            The golden requests; None if the version has none, because no promotion made it.
        """
        folder = repository / MODEL_NAME / str(version)
        if not (folder / golden.FILE_NAME).exists():
            return None
        requests, tolerance = load_golden(folder / golden.FILE_NAME), version_tolerance(folder)
        self.check_student(requests, version, tolerance)
        if FRONT_DOOR_NAME in names:
            table = load_filters(folder / item_filters.FILE_NAME)
            vocabulary = load_vocabulary(folder / vocabularies.FILE_NAME)
            self.check_front_door(requests, vocabulary, version, tolerance, table.values if table else None)
        return requests

    def watch(self, requests: Golden, version: int, tolerance: float, limits: Limits) -> WatchResult:
        """Send golden requests one by one, and count the failures of all clients, for ``limits.watch_s`` seconds.

        Raises:
            ServerError: too many requests failed, or the probes took too long; also as ``check_batch``.
            ParityError: as ``check_batch``.
        """
        took_ms: list[float] = []
        deadline = time.monotonic() + limits.watch_s
        while True:
            row = len(took_ms) % len(requests.history)
            begin = time.perf_counter()
            self.check_batch(requests.rows(slice(row, row + 1)), version, tolerance)
            took_ms.append((time.perf_counter() - begin) * 1000)
            answered, failed = self._counts(version)
            if failed > limits.max_error_rate * (answered + failed):
                raise ServerError(
                    f"{self.url}: {failed} of {answered + failed} requests failed in version {version},"
                    f" expected a share of at most {limits.max_error_rate}"
                )
            if time.monotonic() >= deadline:
                break
            time.sleep(_PROBE_PAUSE_S)
        p99_ms = float(np.percentile(took_ms, 99))
        if p99_ms > limits.max_p99_ms:
            raise ServerError(
                f"{self.url}: version {version} has a p99 of {p99_ms:.0f} ms, expected at most {limits.max_p99_ms:.0f}"
            )
        return WatchResult(answered + failed, failed, len(took_ms), p99_ms)

    def _counts(self, version: int) -> tuple[int, int]:
        """Requests of a version that were answered and that failed, since it was first loaded."""
        try:
            return self._model.counts(str(version))
        except ClientError as error:
            raise ServerError(f"no statistics of version {version}: {error}") from error

    def close(self) -> None:
        """Close the connection."""
        self._model.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _as_text(choices: Choices, vocabulary: Vocabulary, filters: FilterValues) -> dict[str, Any] | None:
    """One request's choices as the front door takes them (``wire.front_door_request``); None where text cannot say them."""
    pairs = [f"{name}={value}" for name, values in filters.values.items() for value in values]
    texts: dict[str, Any] = {}
    for name, (row,) in choices.items():
        chosen = row[row != 0]
        largest = {"filter": len(pairs), "allow": len(vocabulary)}.get(name, 1)
        if ((chosen < 1) | (chosen > largest)).any():
            return None
        if not len(chosen):
            continue
        if name == "filter":
            texts[name] = [[pairs[code - 1] for code in chosen.tolist()]]
        elif name == "allow":
            texts[name] = [vocabulary.decode(chosen.tolist())]
        else:
            texts[name] = [["allow"]] if name == "repeats" else np.ones((1, 1), np.int32)
    return texts
