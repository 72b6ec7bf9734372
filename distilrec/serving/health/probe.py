"""Probes of a served model: one golden request at a time, sent as a client would.

The ready endpoint is no substitute: a server whose model process was killed stays ready while calls fail.
"""

import json
from collections import Counter
from collections.abc import Mapping
from enum import StrEnum
from http import HTTPStatus
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from clients.errors import ClientError
from clients.grpc_model import GrpcModel
from clients.steps import CallFailed
from distilrec.core import golden
from distilrec.core.errors import DistilRecError
from distilrec.core.golden import Golden, load_golden
from distilrec.core.runner import NOTHING_CHOSEN, Choices
from distilrec.core.specs import MODEL_NAME
from distilrec.evaluation.contract import BATCH_TOLERANCE
from distilrec.evaluation.parity import compare
from distilrec.serving.process.loopback import call
from export.repository.versions import served_version

TOLERANCE = max(BATCH_TOLERANCE.values())
"""How far scores may lie from the golden ones, whatever the precision."""


class Fault(StrEnum):
    """What is wrong with a served model."""

    PROCESS_DEAD = "process_dead"
    """A model process has ended; seen in the process table, before any request fails."""
    NOT_HEALTHY = "not_healthy"
    """The server says that a model process is dead."""
    DEADLINE = "deadline"
    """No answer in time: load, or a hang."""
    UNAVAILABLE = "unavailable"
    """No server, or the model is not loaded."""
    ERROR = "error"
    """The model raised."""
    REFUSED = "refused"
    """The model does not take requests of this size; so it is during a promotion to other sizes."""
    WRONG_ANSWER = "wrong_answer"
    """Other items than the golden ones, beyond ties."""
    HEAL_FAILED = "heal_failed"
    """Unload and load did not bring the model back."""


PATIENCE = {Fault.NOT_HEALTHY: 1, Fault.UNAVAILABLE: 3, Fault.ERROR: 3, Fault.DEADLINE: 5}
"""How often probes must fail by a fault, without a good one between, before the model counts as dead.

One deadline may be load. A model with a fault that is not here is never taken for dead."""


class FailureCount:
    """Counts failed probes, and says when the model counts as dead (``PATIENCE``)."""

    def __init__(self) -> None:
        self._counts: Counter[Fault] = Counter()

    def add(self, fault: Fault) -> bool:
        """Count a failed probe; returns whether the model counts as dead now."""
        self._counts[fault] += 1
        return fault in PATIENCE and self._counts[fault] >= PATIENCE[fault]

    def clear(self) -> None:
        """Begin again at zero: after a good probe, or when the model was loaded again."""
        self._counts.clear()


class ProbeResult(NamedTuple):
    """Result of one probe; ``fault`` is None when all is well."""

    fault: Fault | None
    detail: str = ""


class StudentAnswer(NamedTuple):
    """The student's answer to one request."""

    version: int
    """Version that answered."""
    items: NDArray[np.int32]
    """int32 [B, K]."""
    scores: NDArray[np.float32]
    """float32 [B, K]."""


class ProbeCallError(Exception):
    """A probe without an answer.

    Args:
        code: gRPC's status, for example "UNAVAILABLE".
        message: The server's message, or what happened to the call.

    Attributes:
        fault: What the failed call says about the model.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code} {message}".strip())
        self.fault = classify(code, message)


class Sender(Protocol):
    """Sends one request to the student: history int32 [B, L], exclude int32 [B, E], optional tensors. Raises ProbeCallError."""

    def __call__(  # noqa: D102
        self, history: NDArray[np.int32], exclude: NDArray[np.int32], choices: Choices = NOTHING_CHOSEN
    ) -> StudentAnswer: ...


_FAULTS = {
    "DEADLINE_EXCEEDED": Fault.DEADLINE,
    "UNAVAILABLE": Fault.UNAVAILABLE,
    "NOT_FOUND": Fault.UNAVAILABLE,
    "INVALID_ARGUMENT": Fault.REFUSED,
}
_CODES: dict[int, str] = {
    HTTPStatus.BAD_REQUEST: "INVALID_ARGUMENT",
    HTTPStatus.NOT_FOUND: "NOT_FOUND",
    HTTPStatus.SERVICE_UNAVAILABLE: "UNAVAILABLE",
}
"""Triton's HTTP statuses as gRPC has them; every other one is an error of the model (500, INTERNAL)."""
_DEAD_PROCESS = "not healthy"
"""Triton's words for a dead model process. The status is INTERNAL, as for a model that raises: only the words differ."""


def classify(code: str, message: str) -> Fault:
    """What a failed call says about the model: by gRPC's status, and for INTERNAL by the message."""
    if code in _FAULTS:
        return _FAULTS[code]
    return Fault.NOT_HEALTHY if _DEAD_PROCESS in message else Fault.ERROR


def over_grpc(url: str, deadline_s: float) -> Sender:
    """Sends as clients do, over one connection."""
    model = GrpcModel(url, timeout_s=deadline_s)

    def send(history: NDArray[np.int32], exclude: NDArray[np.int32], choices: Choices = NOTHING_CHOSEN) -> StudentAnswer:
        try:
            items, scores, version = model.recommend_with_version(history, exclude, choices)
        except ClientError as error:
            failure = error.__cause__
            if isinstance(failure, CallFailed):
                raise ProbeCallError(failure.code, failure.details) from error
            raise ProbeCallError("", str(error)) from error
        return StudentAnswer(int(version), items, scores)

    return send


def over_http(url: str, deadline_s: float, headers: Mapping[str, str]) -> Sender:
    """Sends over loopback HTTP: under TLS, where gRPC may want a client certificate that we do not have.

    Args:
        url: http://host:port.
        deadline_s: Seconds to wait for an answer.
        headers: Headers with the secret.
    """

    def send(history: NDArray[np.int32], exclude: NDArray[np.int32], choices: Choices = NOTHING_CHOSEN) -> StudentAnswer:
        tensors = (("history", history), ("exclude", exclude), *choices.items())
        inputs = [{"name": name, "shape": v.shape, "datatype": "INT32", "data": v.ravel().tolist()} for name, v in tensors]
        body = json.dumps({"inputs": inputs}).encode()
        try:
            reply = call(url, "POST", f"/v2/models/{MODEL_NAME}/infer", timeout_s=deadline_s, body=body, headers=headers)
        except TimeoutError as error:
            raise ProbeCallError("DEADLINE_EXCEEDED", f"no answer within {deadline_s} s") from error
        except OSError as error:
            raise ProbeCallError("UNAVAILABLE", str(error)) from error
        if reply.status != HTTPStatus.OK:
            raise ProbeCallError(_CODES.get(reply.status, "INTERNAL"), reply.body.decode(errors="replace"))
        answer = json.loads(reply.body)
        outputs = {output["name"]: np.reshape(output["data"], output["shape"]) for output in answer["outputs"]}
        return StudentAnswer(int(answer["model_version"]), outputs["items"].astype(np.int32), outputs["scores"].astype(np.float32))

    return send


class GoldenProbe:
    """Sends the golden requests of the version that config.pbtxt pins, one at a time, and compares the answers.

    Args:
        repository: Model repository that is served.
        send: Sends a request to the student.

    Raises:
        DistilRecError: there are no golden requests to begin with.
    """

    def __init__(self, repository: Path, send: Sender) -> None:
        self._repository, self._send = repository, send
        self._version = served_version(repository)
        self._golden = self._load(self._version)
        self._sent = 0

    def __call__(self) -> ProbeResult:
        """Send one request."""
        self._follow_promotion()
        row = self._sent % len(self._golden.history)
        self._sent += 1
        request = self._golden.rows(slice(row, row + 1))
        try:
            answer = self._send(request.history, request.exclude, request.choices)
        except ProbeCallError as error:
            return ProbeResult(error.fault, str(error))
        # Until a promotion is done, the pin and what is live differ; the promotion checks its answers by itself.
        if answer.version != self._version:
            return ProbeResult(None)
        return judge(request, answer.items, answer.scores)

    def _follow_promotion(self) -> None:
        try:
            version = served_version(self._repository)
            if version != self._version:
                self._golden, self._version = self._load(version), version
        except DistilRecError:  # being written; the next probe reads it
            return

    def _load(self, version: int) -> Golden:
        return load_golden(self._repository / MODEL_NAME / str(version) / golden.FILE_NAME)


def judge(expected: Golden, items: NDArray[np.int32], scores: NDArray[np.float32]) -> ProbeResult:
    """Compare an answer with the golden one.

    Another CPU may round differently, so scores may differ, but the ranking must be the same up to ties.

    Args:
        expected: Golden request and answer.
        items: int32 [B, K] that were answered.
        scores: float32 [B, K] that were answered.
    """
    if items.shape != expected.items.shape or not np.isfinite(scores).all():
        return ProbeResult(Fault.WRONG_ANSWER, f"found items of shape {items.shape}, scores {scores.ravel()[:3].tolist()}...")
    difference = compare(expected.answer, (items, scores), TOLERANCE)
    if difference.misplaced:
        detail = f"{difference.misplaced} item(s) differ, scores by up to {difference.max_score_error:.2g}"
        return ProbeResult(Fault.WRONG_ANSWER, detail)
    return ProbeResult(None)
