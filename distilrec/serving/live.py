"""A running server during a promotion: told what to load, asked the golden requests, and watched."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
from google.protobuf import json_format
from numpy.typing import NDArray
from tritonclient import grpc
from tritonclient.utils import InferenceServerException

from distilrec.errors import ServerError
from distilrec.golden import Golden
from distilrec.serving.journal import parse_config
from distilrec.serving.proving import check_answers
from distilrec.specs import MODEL_NAME, RecommenderSpec

_PROBE_PAUSE_S = 0.02
_ALONE = 8


class LoadTimeout(ServerError):
    """A load that did not end: the server's control of models may be stuck for ever, while it answers requests as before."""


class Control(Protocol):
    """The part of a server's model control that a promotion needs."""

    def load(self, model: str, config: str) -> None:
        """Load a model with this configuration (JSON); the former version answers until the new one is ready.

        Raises:
            ServerError: the server refuses; ``LoadTimeout`` when it does not answer.
        """
        ...

    def ready_versions(self, model: str) -> set[int]:
        """Versions of a model that answer."""
        ...


class GrpcControl:
    """Model control over gRPC.

    Args:
        url: host and port.
        headers: where control is restricted, ``{"triton-grpc-protocol-KEY": secret}``.
        load_timeout_s: seconds a load may take.
        timeout_s: seconds any other call may take.
    """

    def __init__(
        self, url: str, headers: Mapping[str, str] | None = None, *, load_timeout_s: float = 60.0, timeout_s: float = 5.0
    ) -> None:
        self.url, self.load_timeout_s, self.timeout_s = url, load_timeout_s, timeout_s
        self._headers = dict(headers or {})
        self._client = grpc.InferenceServerClient(url)

    def load(self, model: str, config: str) -> None:
        """As ``Control.load``."""
        try:
            self._client.load_model(model, headers=self._headers, config=config, client_timeout=self.load_timeout_s)
        except InferenceServerException as error:
            if "DEADLINE_EXCEEDED" in str(error.status()):
                raise LoadTimeout(f"{self.url}: loading {model!r} did not end within {self.load_timeout_s} s") from error
            raise ServerError(f"{self.url}: loading {model!r} was refused: {error.message()}") from error

    def ready_versions(self, model: str) -> set[int]:
        """As ``Control.ready_versions``."""
        try:
            index = self._client.get_model_repository_index(headers=self._headers, client_timeout=self.timeout_s)
        except InferenceServerException as error:
            raise ServerError(f"{self.url}: model control does not answer: {error}") from error
        return {int(entry.version) for entry in index.models if entry.name == model and entry.state == "READY"}

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


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
        url: host and port.
        max_batch_size: rows in a request, at most.
        timeout_s: seconds each call may take.
    """

    def __init__(self, url: str, max_batch_size: int, timeout_s: float = 5.0) -> None:
        self.url, self.max_batch_size, self.timeout_s = url, max_batch_size, timeout_s
        self._client = grpc.InferenceServerClient(url)

    def ask(self, history: NDArray[np.int32], exclude: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.float32], int]:
        """Items, scores and the version that answered; whoever names no version gets the same one.

        Raises:
            ServerError: no answer, or an error.
        """
        spec = RecommenderSpec(0, history.shape[1], exclude.shape[1], 0)
        inputs = []
        for tensor, values in zip(spec.inputs, (history, exclude), strict=True):
            inputs.append(grpc.InferInput(tensor.name, values.shape, "INT32"))
            inputs[-1].set_data_from_numpy(np.ascontiguousarray(values))
        try:
            result = self._client.infer(MODEL_NAME, inputs, client_timeout=self.timeout_s)
        except InferenceServerException as error:
            raise ServerError(f"{self.url}: a golden request failed: {error}") from error
        items, scores = (result.as_numpy(tensor.name) for tensor in spec.outputs)
        return items, scores, int(result.get_response().model_version)

    def check(self, golden: Golden, rows: slice, version: int, tolerance: float) -> None:
        """Ask golden requests as one batch and compare.

        Raises:
            ServerError: no answer, or another version answered.
            ParityError: the answers are not the recorded ones.
        """
        part = Golden(**{name: array[rows] for name, array in vars(golden).items()})
        items, scores, answered = self.ask(part.history, part.exclude)
        if answered != version:
            raise ServerError(f"{self.url}: version {answered} answered, expected version {version}")
        if items.shape != part.items.shape or scores.shape != part.scores.shape:
            raise ServerError(f"{self.url}: found answers of shape {items.shape}, expected {part.items.shape}")
        check_answers(part, (items, scores), tolerance, f"{self.url}, version {version}")

    def check_all(self, golden: Golden, version: int, tolerance: float) -> None:
        """Ask all golden requests in batches, and the first few alone. Raises as ``check``."""
        count, step = len(golden.history), self.max_batch_size
        for row in range(min(_ALONE, count)):
            self.check(golden, slice(row, row + 1), version, tolerance)
        for begin in range(0, count, step):
            self.check(golden, slice(begin, begin + step), version, tolerance)

    def counts(self, version: int) -> tuple[int, int]:
        """Requests of a version that were answered and that failed, since it was first loaded.

        Raises:
            ServerError: the server does not say.
        """
        try:
            reply: Any = self._client.get_inference_statistics(MODEL_NAME, str(version), client_timeout=self.timeout_s)
        except InferenceServerException as error:
            raise ServerError(f"{self.url}: no statistics of version {version}: {error}") from error
        stats = reply.model_stats[0].inference_stats
        return int(stats.success.count), int(stats.fail.count)

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
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def as_json(config_text: str) -> str:
    """A config.pbtxt in the form the load call takes."""
    return str(json_format.MessageToJson(parse_config(config_text), preserving_proto_field_name=True))


def switch(control: Control, configs: Mapping[str, str], version: int, prove: Callable[[], Watched | None]) -> Watched | None:
    """Load all models in their order, each with a configuration that pins ``version``, and prove what is live then.

    Raises:
        ServerError: a load is refused, does not end or leaves another version ready; also as ``prove``.
    """
    for model, text in configs.items():
        control.load(model, as_json(text))
        if version not in (ready := control.ready_versions(model)):
            raise ServerError(f"{model}: versions {sorted(ready)} are ready after the load, expected {version}")
    return prove()
