"""Is a served model well? One golden request, asked as a client would.

Ready says nothing about that: a server whose model process was killed stays ready while calls fail.
"""

import json
from enum import StrEnum
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


class Finding(NamedTuple):
    """Outcome of one probe; ``fault`` is None when all is well."""

    fault: Fault | None
    detail: str = ""


class _Answer(NamedTuple):
    version: int
    items: NDArray[np.int32]
    scores: NDArray[np.float32]


class AskError(Exception):
    """A probe without an answer: gRPC's status, where there is one, and the message."""

    def __init__(self, status: str, message: str) -> None:
        super().__init__(f"{status} {message}".strip())
        self.fault = classify(status, message)


class Asker(Protocol):
    """Sends one request to the student. Raises AskError."""

    def __call__(self, history: NDArray[np.int32], exclude: NDArray[np.int32]) -> _Answer: ...  # noqa: D102


def classify(status: str, message: str) -> Fault:
    """What a failed call says about the model."""
    if "not healthy" in message:
        return Fault.NOT_HEALTHY
    if "DEADLINE_EXCEEDED" in status:
        return Fault.DEADLINE
    if "UNAVAILABLE" in status or "NOT_FOUND" in status or "unknown model" in message:
        return Fault.UNAVAILABLE
    return Fault.REFUSED if "INVALID_ARGUMENT" in status else Fault.ERROR


def over_grpc(url: str, deadline_s: float) -> Asker:
    """Asks as clients do, over one connection."""
    model = GrpcModel(url, timeout_s=deadline_s)

    def ask(history: NDArray[np.int32], exclude: NDArray[np.int32]) -> _Answer:
        try:
            items, scores, version = model.recommend_with_version(history, exclude)
        except ClientError as error:
            failure = error.__cause__
            if isinstance(failure, CallFailed):
                raise AskError(failure.code, failure.details) from error
            raise AskError("", str(error)) from error
        return _Answer(int(version), items, scores)

    return ask


def over_http(url: str, deadline_s: float) -> Asker:
    """Asks over loopback HTTP: under TLS, where gRPC may want a client certificate that we do not have."""

    def ask(history: NDArray[np.int32], exclude: NDArray[np.int32]) -> _Answer:
        tensors = (("history", history), ("exclude", exclude))
        inputs = [{"name": name, "shape": v.shape, "datatype": "INT32", "data": v.ravel().tolist()} for name, v in tensors]
        body = json.dumps({"inputs": inputs}).encode()
        try:
            reply = call(url, "POST", f"/v2/models/{MODEL_NAME}/infer", timeout_s=deadline_s, body=body)
        except TimeoutError as error:
            raise AskError("DEADLINE_EXCEEDED", f"no answer within {deadline_s} s") from error
        except OSError as error:
            raise AskError("UNAVAILABLE", str(error)) from error
        if reply.status != 200:
            raise AskError("INVALID_ARGUMENT" if reply.status == 400 else "", reply.body.decode(errors="replace"))
        answer = json.loads(reply.body)
        found = {output["name"]: np.reshape(output["data"], output["shape"]) for output in answer["outputs"]}
        return _Answer(int(answer["model_version"]), found["items"].astype(np.int32), found["scores"].astype(np.float32))

    return ask


class GoldenProbe:
    """Asks the golden requests of the version that config.pbtxt pins, one at a time, and compares.

    Raises:
        DistilRecError: there are no golden requests to begin with.
    """

    def __init__(self, repository: Path, ask: Asker) -> None:
        self._repository, self._ask = repository, ask
        self._version = served_version(repository)
        self._golden = self._load(self._version)
        self._asked = 0

    def __call__(self) -> Finding:
        """Ask one request."""
        self._follow_promotion()
        row = self._asked % len(self._golden.history)
        self._asked += 1
        part = Golden(**{name: array[row : row + 1] for name, array in vars(self._golden).items()})
        try:
            answer = self._ask(part.history, part.exclude)
        except AskError as error:
            return Finding(error.fault, str(error))
        # Until a promotion is done, the pin and what is live differ; it judges its answers by itself.
        if answer.version != self._version:
            return Finding(None)
        return judge(part, answer.items, answer.scores)

    def _follow_promotion(self) -> None:
        try:
            version = served_version(self._repository)
            if version != self._version:
                self._golden, self._version = self._load(version), version
        except DistilRecError:  # being written; the next probe reads it
            return

    def _load(self, version: int) -> Golden:
        return load_golden(self._repository / MODEL_NAME / str(version) / golden.FILE_NAME)


def judge(expected: Golden, items: NDArray[np.int32], scores: NDArray[np.float32]) -> Finding:
    """Compare an answer with the golden one; another CPU may round otherwise, but the ranking must be the same up to ties."""
    if items.shape != expected.items.shape or not np.isfinite(scores).all():
        return Finding(Fault.WRONG_ANSWER, f"found items of shape {items.shape}, scores {scores.ravel()[:3].tolist()}...")
    found = compare(expected.answer, (items, scores), TOLERANCE)
    if found.misplaced:
        return Finding(Fault.WRONG_ANSWER, f"{found.misplaced} item(s) differ, scores by up to {found.max_score_error:.2g}")
    return Finding(None)
