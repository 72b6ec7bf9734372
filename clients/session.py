"""What both clients say to a server: conversations, and what is known of the served model. No I/O; see ``steps``."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from tritonclient.grpc import service_pb2

from clients import retry, vocabularies
from clients.codec import Recommendations, Row, check_k, decode, encode, pack
from clients.errors import ClientError, InvalidRequest, VocabularyMismatch
from clients.model_info import ModelInfo, read_info
from clients.retry import RetryPolicy
from clients.steps import CallFailed, Deadline, Exclusive, Pause, Steps
from clients.wire import infer_request, read_answer
from distilrec.data.vocabulary import Vocabulary

_CHANGES = 5
_TRY_S = 2.0
_PAUSE_S = 0.1


@dataclass(frozen=True)
class Served:
    """What a client believes of the served model, and since which connection."""

    info: ModelInfo
    vocabulary: Vocabulary
    epoch: int


@dataclass(frozen=True)
class Health:
    """How a server is; true when the model answers."""

    live: bool
    """A server answers at the address."""
    ready: bool
    """It says that all its models are loaded; so it does of a model whose process has died."""
    answers: bool
    """The model answered a real request."""
    reason: str = ""
    """Why it does not."""

    def __bool__(self) -> bool:
        return self.answers


class Session:
    """Conversations of one client with one model.

    Args:
        url: for messages.
        model: name of the model.
        vocabulary: as the application said.
        policy: when to try again.
        epoch: number of the present connection.
    """

    def __init__(self, url: str, model: str, vocabulary: vocabularies.Given, policy: RetryPolicy, epoch: Callable[[], int]) -> None:
        vocabularies.check(vocabulary)
        self.url, self.model, self._given, self._policy, self._epoch = url, model, vocabulary, policy, epoch
        self.known: Served | None = None

    def served(self, deadline: Deadline) -> Steps[Served]:
        """The served model, as known; asked for when nothing is, or when the connection is another one since."""
        known = self.known
        if known is not None and known.epoch == self._epoch():
            return known
        return (yield from self.refresh(known, deadline))

    def refresh(self, seen: Served | None, deadline: Deadline) -> Steps[Served]:
        """Ask what is served now, unless somebody else has since ``seen`` was known.

        Raises:
            VocabularyMismatch: the server's vocabulary is not to be had.
            ClientError: as ``retry.call`` and ``read_info``.
        """
        try:
            found: Served = yield Exclusive(partial(self._refresh, seen, deadline), deadline.left_s)
        except CallFailed as failure:
            raise retry.client_error(failure, deadline.timeout_s).at(self.url, self.model) from failure
        return found

    def recommend(self, rows: Sequence[tuple[Iterable[str], Iterable[str]]], k: int, deadline: Deadline) -> Steps[list[Any]]:
        """Recommend ``k`` items after each history; each row is a history and what to exclude.

        Returns Recommendations, or the InvalidRequest of a row that cannot be asked.

        Raises:
            ClientError: nothing was answered.
        """
        try:
            return (yield from self._recommend(rows, k, deadline))
        except ClientError as error:
            if error.url:
                raise
            raise error.at(self.url, self.model, error.tried) from error.__cause__

    def health(self, timeout_s: float) -> Steps[Health]:
        """How the server is; never raises for a server that is not well."""
        deadline = Deadline(timeout_s)
        try:
            live = yield from self._flag("ServerLive", service_pb2.ServerLiveRequest(), deadline)
            ready = yield from self._flag("ServerReady", service_pb2.ServerReadyRequest(), deadline)
        except ClientError as error:
            return Health(live=False, ready=False, answers=False, reason=str(error))
        try:
            yield from self.recommend([((), ())], 1, deadline)
        except ClientError as error:
            return Health(live, ready, answers=False, reason=str(error))
        return Health(live, ready, answers=True)

    def wait_until_ready(self, timeout_s: float) -> Steps[None]:
        """Come back when the model answers.

        Raises:
            ClientError: why it does not, after ``timeout_s`` seconds; another vocabulary at once, for waiting does not help.
        """
        deadline = Deadline(timeout_s)
        while True:
            try:
                yield from self.recommend([((), ())], 1, Deadline(min(_TRY_S, deadline.left_s)))
            except (VocabularyMismatch, InvalidRequest):
                raise
            except ClientError as error:
                if deadline.left_s <= _PAUSE_S:
                    raise error.at(self.url, self.model, f"waited {timeout_s:g} s for it to be ready") from error
            else:
                return
            yield Pause(_PAUSE_S)

    def _recommend(self, rows: Sequence[tuple[Iterable[str], Iterable[str]]], k: int, deadline: Deadline) -> Steps[list[Any]]:
        begin = time.perf_counter()
        for _ in range(_CHANGES):
            served = yield from self.served(deadline)
            check_k(k, served.info.spec)
            if len(rows) > (most := served.info.max_batch_size):
                first = yield from self._recommend(rows[:most], k, deadline)
                return first + (yield from self._recommend(rows[most:], k, deadline))
            encoded = [_encode(history, exclude, served) for history, exclude in rows]
            good = [row for row in encoded if isinstance(row, Row)]
            answers: list[Recommendations] = []
            if good:
                found = yield from self._infer(served, good, deadline)
                if found is None:  # the model was exchanged: encode for the new one and ask again
                    continue
                items, scores, version = found
                took_ms = (time.perf_counter() - begin) * 1000
                vocabulary = served.vocabulary
                answers = decode(items, scores, good, k, vocabulary=vocabulary, model_version=version, latency_ms=took_ms)
            in_order = iter(answers)
            return [next(in_order) if isinstance(row, Row) else row for row in encoded]
        raise VocabularyMismatch(f"the served model changed {_CHANGES} times while it was asked; ask again when it has settled")

    def _infer(self, served: Served, rows: list[Row], deadline: Deadline) -> Steps[Any]:
        """Items, scores and version; None when they are not of the model that ``served`` describes."""
        request = infer_request(self.model, *pack(rows, served.info.spec))
        try:
            response = yield from retry.call("ModelInfer", request, deadline, self._policy, served_before=True)
        except InvalidRequest:
            # A new version may want other sizes.
            now = yield from self.refresh(served, deadline)
            if now.info == served.info:
                raise
            return None
        items, scores, version = read_answer(response, len(rows))
        if version == served.info.version and self._epoch() == served.epoch:
            return items, scores, version
        now = yield from self.refresh(served, deadline)
        same = now.info.version == version and now.info.spec == served.info.spec
        return (items, scores, version) if same and now.vocabulary.sha256 == served.vocabulary.sha256 else None

    def _refresh(self, seen: Served | None, deadline: Deadline) -> Steps[Served]:
        known = self.known
        if known is not None and known is not seen and known.epoch == self._epoch():
            return known
        while True:
            epoch = self._epoch()
            info = yield from self.info(deadline)
            try:
                if known is not None and known.vocabulary.sha256 == info.vocabulary_sha256:
                    vocabulary = known.vocabulary
                else:
                    vocabulary = yield from vocabularies.obtain(self._given, info, partial(self._ask, deadline))
            except VocabularyMismatch as error:
                # In a promotion the two models change one after the other.
                if self._given is not None or error.__cause__ is not None or deadline.left_s <= _PAUSE_S:
                    raise error.at(self.url, self.model, error.tried) from error.__cause__
                yield Pause(_PAUSE_S)
                continue
            self.known = Served(info, vocabulary, epoch)
            return self.known

    def info(self, deadline: Deadline) -> Steps[ModelInfo]:
        """Ask for the newest version that is ready, and for its configuration."""
        metadata = service_pb2.ModelMetadataRequest(name=self.model)
        found = yield from self._call("ModelMetadata", metadata, deadline, served_before=self.known is not None)
        version = max(found.versions, key=int, default="")
        request = service_pb2.ModelConfigRequest(name=self.model, version=version)
        reply = yield from self._call("ModelConfig", request, deadline, served_before=True)
        try:
            return read_info(reply.config, version)
        except ClientError as error:
            raise error.at(self.url, self.model) from None

    def _ask(self, deadline: Deadline, request: Any) -> Steps[Any]:
        return (yield from retry.call("ModelInfer", request, deadline, self._policy, served_before=self.known is not None))

    def _call(self, method: str, request: Any, deadline: Deadline, *, served_before: bool) -> Steps[Any]:
        try:
            return (yield from retry.call(method, request, deadline, self._policy, served_before=served_before))
        except ClientError as error:
            raise error.at(self.url, self.model, error.tried) from error

    def _flag(self, method: str, request: Any, deadline: Deadline) -> Steps[bool]:
        once = RetryPolicy(retries=0)
        try:
            reply = yield from retry.call(method, request, deadline, once)
        except ClientError as error:
            raise error.at(self.url, self.model) from error
        return bool(getattr(reply, "ready", False) or getattr(reply, "live", False))


def _encode(history: Iterable[str], exclude: Iterable[str], served: Served) -> Row | InvalidRequest:
    try:
        return encode(history, exclude, served.vocabulary, served.info.spec)
    except InvalidRequest as error:
        return error
