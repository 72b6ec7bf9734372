"""A running server during a promotion: told what to load, asked the golden requests, and watched."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from google.protobuf import json_format

from clients.connection import Tls
from clients.errors import ClientError
from clients.grpc_model import GrpcModel
from distilrec.core import golden
from distilrec.core.errors import ServerError
from distilrec.core.golden import Golden, load_golden
from distilrec.core.runner import Answer
from distilrec.core.specs import FRONT_DOOR_NAME, MASKED_SCORE, MODEL_NAME, PADDING
from distilrec.data import vocabulary as vocabularies
from distilrec.data.vocabulary import Vocabulary, load_vocabulary
from distilrec.serving.process.control import ModelControl
from distilrec.serving.process.security import ControlSecret
from distilrec.serving.rollout.journal import parse_config
from distilrec.serving.rollout.proving import check_answers, version_tolerance

_PROBE_PAUSE_S = 0.02
_ALONE = 8


@dataclass(frozen=True)
class Server:
    """A running server, with explicit model control."""

    url: str
    """Host and port of its gRPC endpoint."""
    secret: ControlSecret
    """What it was started with."""
    tls: Tls | bool = False
    """How its gRPC endpoint is reached."""
    load_timeout_s: float = 60.0
    """Seconds a load may take, all instances and the warm-up included."""

    @property
    def control(self) -> ModelControl:
        """What loads its models."""
        return ModelControl(self.url, self.secret, self.tls)


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
class Watched:
    """What was seen of a version while it was watched."""

    requests: int
    """Of everyone, by the server's count."""
    failed: int
    probes: int
    """Requests of our own."""
    p99_ms: float
    """Of the probes."""


class Observer:
    """Asks the student by tensors and reads its statistics.

    Args:
        server: to be asked.
        max_batch_size: rows in a request, at most.
        timeout_s: seconds each call may take.
    """

    def __init__(self, server: Server, max_batch_size: int, timeout_s: float = 5.0) -> None:
        self.url, self.max_batch_size = server.url, max_batch_size
        self._model = GrpcModel(server.url, timeout_s=timeout_s, tls=server.tls)

    def check(self, golden: Golden, rows: slice, version: int, tolerance: float) -> None:
        """Ask golden requests as one batch and compare.

        Raises:
            ServerError: no answer, or another version answered.
            ParityError: the answers are not the recorded ones.
        """
        part = Golden(**{name: array[rows] for name, array in vars(golden).items()})
        try:
            items, scores, answered = self._model.recommend_with_version(part.history, part.exclude)
        except ClientError as error:
            raise ServerError(f"a golden request failed: {error}") from error
        self._compare(part, (items, scores), answered, version, tolerance=tolerance, model=MODEL_NAME)

    def check_front_door(self, golden: Golden, vocabulary: Vocabulary, version: int, tolerance: float) -> None:
        """Ask the front door the golden requests that ids can say, one by one, and compare. Raises as ``check``."""
        for row, sent in enumerate(zip(golden.history, golden.exclude, strict=True)):
            if any(((indices < 0) | (indices > len(vocabulary))).any() for indices in sent):
                continue
            part = Golden(**{name: array[row, None] for name, array in vars(golden).items()})
            history, exclude = (vocabulary.decode(indices[indices > 0].tolist()) for indices in sent)
            try:
                ids, scores, answered = self._model.ask_front_door([history], [exclude], golden.items.shape[1])
            except ClientError as error:
                raise ServerError(f"a golden request to the front door failed: {error}") from error
            items = np.array([vocabulary.encode(ids[0])], np.int32)
            empty = np.where(items == PADDING, np.float32(MASKED_SCORE), scores)
            self._compare(part, (items, empty), answered, version, tolerance=tolerance, model=FRONT_DOOR_NAME)

    def _compare(self, part: Golden, found: Answer, answered: str, version: int, *, tolerance: float, model: str) -> None:
        if answered != str(version):
            raise ServerError(f"{self.url}: version {answered} of {model!r} answered, expected version {version}")
        if found[0].shape != part.items.shape or found[1].shape != part.scores.shape:
            raise ServerError(f"{self.url}: found answers of shape {found[0].shape}, expected {part.items.shape}")
        check_answers(part, found, tolerance, f"{self.url}, model {model!r}, version {version}")

    def check_all(self, golden: Golden, version: int, tolerance: float) -> None:
        """Ask all golden requests in batches, and the first few alone. Raises as ``check``."""
        count, step = len(golden.history), self.max_batch_size
        for row in range(min(_ALONE, count)):
            self.check(golden, slice(row, row + 1), version, tolerance)
        for begin in range(0, count, step):
            self.check(golden, slice(begin, begin + step), version, tolerance)

    def check_version(self, repository: Path, names: Sequence[str], version: int) -> Golden | None:
        """Ask a version its golden requests, through the front door, too, if that is among ``names``. Raises as ``check``.

        Returns:
            The requests; None if the version has none, for it was not made by a promotion.
        """
        folder = repository / MODEL_NAME / str(version)
        if not (folder / golden.FILE_NAME).exists():
            return None
        requests, tolerance = load_golden(folder / golden.FILE_NAME), version_tolerance(folder)
        self.check_all(requests, version, tolerance)
        if FRONT_DOOR_NAME in names:
            self.check_front_door(requests, load_vocabulary(folder / vocabularies.FILE_NAME), version, tolerance)
        return requests

    def counts(self, version: int) -> tuple[int, int]:
        """Requests of a version that were answered and that failed, since it was first loaded.

        Raises:
            ServerError: the server does not say.
        """
        try:
            return self._model.counts(str(version))
        except ClientError as error:
            raise ServerError(f"no statistics of version {version}: {error}") from error

    def watch(self, golden: Golden, version: int, tolerance: float, limits: Limits) -> Watched:
        """Probe a version with golden requests one by one, and count everyone's failures, for ``limits.watch_s``.

        Raises:
            ServerError: too many requests failed, or the probes took too long; also as ``check``.
            ParityError: as ``check``.
        """
        took_ms: list[float] = []
        deadline = time.monotonic() + limits.watch_s
        while True:
            row = len(took_ms) % len(golden.history)
            begin = time.perf_counter()
            self.check(golden, slice(row, row + 1), version, tolerance)
            took_ms.append((time.perf_counter() - begin) * 1000)
            answered, failed = self.counts(version)
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
        return Watched(answered + failed, failed, len(took_ms), p99_ms)

    def close(self) -> None:
        """Close the connection."""
        self._model.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def as_json(config_text: str) -> str:
    """A config.pbtxt in the form the load call takes."""
    return str(json_format.MessageToJson(parse_config(config_text), preserving_proto_field_name=True))


def switch(server: Server, configs: Mapping[str, str], version: int, prove: Callable[[], Watched | None]) -> Watched | None:
    """Load all models in their order, each with a configuration that pins ``version``, and prove what is live then.

    Raises:
        ServerError: a load is refused, does not end (ControlTimeout) or leaves another version ready; also as ``prove``.
    """
    for model, text in configs.items():
        server.control.load(model, server.load_timeout_s, as_json(text))
        if version not in (ready := ready_versions(server, model)):
            raise ServerError(f"{model}: versions {sorted(ready)} are ready after the load, expected {version}")
    return prove()


def ready_versions(server: Server, model: str) -> set[int]:
    """Versions of a model that answer. Raises ServerError."""
    return {int(entry.version) for entry in server.control.index() if entry.name == model and entry.state == "READY"}
