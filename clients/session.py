"""The conversations of both clients with a server, and what is known of the served model. No I/O; see ``steps``."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from tritonclient.grpc import service_pb2

from clients import retry, vocabularies
from clients.codec import EncodedQuery, Query, Recommendations, Result, check_k, decode, encode, pack
from clients.errors import ClientError, InvalidRequest, VocabularyMismatch
from clients.methods import (
    MODEL_CONFIG,
    MODEL_INFER,
    MODEL_METADATA,
    SERVER_LIVE,
    SERVER_READY,
    InferResponse,
    Method,
    Request,
    ResponseT,
)
from clients.model_info import ModelInfo, read_info
from clients.retry import RetryPolicy
from clients.steps import CallFailed, Deadline, Exclusive, Pause, Steps
from clients.wire import ModelAnswer, infer_request, read_answer
from distilrec.data.vocabulary import Vocabulary

_MAX_CHANGES = 5  # of the served model during one call; more than one is already unusual
_READY_ATTEMPT_S = 2.0  # a server that is starting may accept a call and never answer it
_PAUSE_S = 0.1


@dataclass(frozen=True)
class ServedModel:
    """What a client knows of the served model."""

    info: ModelInfo
    vocabulary: Vocabulary
    epoch: int
    """Number of the connection over which the client learned it."""


@dataclass(frozen=True)
class Health:
    """State of a server; true when the model answers."""

    live: bool
    """A server answers at the address."""
    ready: bool
    """The server says that all its models are loaded. It says so even if a model's process has died."""
    answers: bool
    """The model answered a real request."""
    reason: str = ""
    """Why the model does not answer; empty if it does."""

    def __bool__(self) -> bool:
        return self.answers


class Session:
    """Conversations of one client with one model.

    Args:
        url: Address, for error messages.
        model: Name of the model.
        vocabulary: Source that the application chose.
        policy: Number of attempts and pauses between them.
        epoch: Function that returns the number of the present connection.

    Raises:
        DataError: ``vocabulary`` is a path that does not exist.
    """

    def __init__(
        self,
        url: str,
        model: str,
        vocabulary: vocabularies.VocabularySource,
        policy: RetryPolicy,
        epoch: Callable[[], int],
    ) -> None:
        vocabularies.check(vocabulary)
        self.url, self.model, self._source, self._policy, self._epoch = url, model, vocabulary, policy, epoch
        self.known: ServedModel | None = None

    def served(self, deadline: Deadline) -> Steps[ServedModel]:
        """Return what is known of the served model; ask the server first if nothing is, or if the connection has changed since."""
        known = self.known
        if known is not None and known.epoch == self._epoch():
            return known
        return (yield from self.refresh(known, deadline))

    def refresh(self, seen: ServedModel | None, deadline: Deadline) -> Steps[ServedModel]:
        """Ask what is served now, unless another caller has asked since ``seen`` was known.

        Raises:
            VocabularyMismatch: the server's vocabulary is not available.
            ClientError: as ``retry.call`` and ``read_info``.
        """
        try:
            served: ServedModel = yield Exclusive(partial(self._refresh, seen, deadline), deadline.left_s)
        except CallFailed as failure:
            raise retry.client_error(failure, deadline.timeout_s).at(self.url, self.model) from failure
        return served

    def recommend(self, queries: Sequence[Query], k: int, deadline: Deadline) -> Steps[list[Result]]:
        """Recommend ``k`` items for each query.

        Returns:
            One result for each query: Recommendations, or the InvalidRequest of a query that cannot be sent.

        Raises:
            ClientError: nothing was answered.
        """
        try:
            return (yield from self._recommend(queries, k, deadline))
        except ClientError as error:
            if error.url:
                raise
            raise error.at(self.url, self.model, error.tried) from error.__cause__

    def health(self, timeout_s: float) -> Steps[Health]:
        """Return the state of the server; raises nothing if the server fails."""
        deadline = Deadline(timeout_s)
        try:
            live = (yield from self._call_once(SERVER_LIVE, service_pb2.ServerLiveRequest(), deadline)).live
            ready = (yield from self._call_once(SERVER_READY, service_pb2.ServerReadyRequest(), deadline)).ready
        except ClientError as error:
            return Health(live=False, ready=False, answers=False, reason=str(error))
        try:
            yield from self.recommend([Query()], 1, deadline)
        except ClientError as error:
            return Health(live, ready, answers=False, reason=str(error))
        return Health(live, ready, answers=True)

    def wait_until_ready(self, timeout_s: float) -> Steps[None]:
        """Return when the model answers.

        Raises:
            ClientError: the last failure, after ``timeout_s`` seconds.
            VocabularyMismatch, InvalidRequest: at once, because waiting does not help.
        """
        deadline = Deadline(timeout_s)
        while True:
            try:
                yield from self.recommend([Query()], 1, Deadline(min(_READY_ATTEMPT_S, deadline.left_s)))
            except (VocabularyMismatch, InvalidRequest):
                raise
            except ClientError as error:
                if deadline.left_s <= _PAUSE_S:
                    raise error.at(self.url, self.model, f"waited {timeout_s:g} s for it to be ready") from error
            else:
                return
            yield Pause(_PAUSE_S)

    def _recommend(self, queries: Sequence[Query], k: int, deadline: Deadline) -> Steps[list[Result]]:
        begin = time.perf_counter()
        for _ in range(_MAX_CHANGES):
            served = yield from self.served(deadline)
            check_k(k, served.info.spec)
            if len(queries) > (most := served.info.max_batch_size):
                first = yield from self._recommend(queries[:most], k, deadline)
                return first + (yield from self._recommend(queries[most:], k, deadline))
            encoded = [_encode(query, served) for query in queries]
            valid = [query for query in encoded if isinstance(query, EncodedQuery)]
            decoded: Iterator[Recommendations] = iter(())
            if valid:
                answer = yield from self._infer(served, valid, deadline)
                if answer is None:  # the model was exchanged: encode for the new one and ask again
                    continue
                took_ms = (time.perf_counter() - begin) * 1000
                items, scores, version = answer
                vocabulary = served.vocabulary
                decoded = iter(decode(items, scores, valid, k, vocabulary=vocabulary, model_version=version, latency_ms=took_ms))
            return [next(decoded) if isinstance(query, EncodedQuery) else query for query in encoded]
        raise VocabularyMismatch(f"the served model changed {_MAX_CHANGES} times while it was asked; ask again when it has settled")

    def _infer(self, served: ServedModel, queries: list[EncodedQuery], deadline: Deadline) -> Steps[ModelAnswer | None]:
        """Return the answer; None if it does not come from the model that ``served`` describes."""
        request = infer_request(self.model, *pack(queries, served.info.spec))
        try:
            response = yield from retry.call(MODEL_INFER, request, deadline, self._policy, served_before=True)
        except InvalidRequest:
            # A new version may expect other sizes.
            now = yield from self.refresh(served, deadline)
            if now.info == served.info:
                raise
            return None
        answer = read_answer(response, len(queries))
        if answer.model_version == served.info.version and self._epoch() == served.epoch:
            return answer
        now = yield from self.refresh(served, deadline)
        info = now.info
        same = (info.version, info.spec, info.filters) == (answer.model_version, served.info.spec, served.info.filters)
        return answer if same and now.vocabulary.sha256 == served.vocabulary.sha256 else None

    def _refresh(self, seen: ServedModel | None, deadline: Deadline) -> Steps[ServedModel]:
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
                    vocabulary = yield from vocabularies.obtain(self._source, info, partial(self._infer_request, deadline))
            except VocabularyMismatch as error:
                # A promotion exchanges the student and the vocabulary model one after the other: wait for the second.
                if self._source is not None or error.__cause__ is not None or deadline.left_s <= _PAUSE_S:
                    raise error.at(self.url, self.model, error.tried) from error.__cause__
                yield Pause(_PAUSE_S)
                continue
            self.known = ServedModel(info, vocabulary, epoch)
            return self.known

    def info(self, deadline: Deadline) -> Steps[ModelInfo]:
        """Ask for the newest version that is ready, and for its configuration."""
        metadata = service_pb2.ModelMetadataRequest(name=self.model)
        ready = yield from self._call(MODEL_METADATA, metadata, deadline, served_before=self.known is not None)
        version = max(ready.versions, key=int, default="")
        request = service_pb2.ModelConfigRequest(name=self.model, version=version)
        reply = yield from self._call(MODEL_CONFIG, request, deadline, served_before=True)
        try:
            return read_info(reply.config, version)
        except ClientError as error:
            raise error.at(self.url, self.model) from None

    def _infer_request(self, deadline: Deadline, request: Request) -> Steps[InferResponse]:
        return (yield from retry.call(MODEL_INFER, request, deadline, self._policy, served_before=self.known is not None))

    def _call(self, method: Method[ResponseT], request: Request, deadline: Deadline, *, served_before: bool) -> Steps[ResponseT]:
        try:
            return (yield from retry.call(method, request, deadline, self._policy, served_before=served_before))
        except ClientError as error:
            raise error.at(self.url, self.model, error.tried) from error

    def _call_once(self, method: Method[ResponseT], request: Request, deadline: Deadline) -> Steps[ResponseT]:
        try:
            return (yield from retry.call(method, request, deadline, RetryPolicy(retries=0)))
        except ClientError as error:
            raise error.at(self.url, self.model) from error


def _encode(query: Query, served: ServedModel) -> EncodedQuery | InvalidRequest:
    try:
        return encode(query, served.vocabulary, served.info.spec, served.info.filters)
    except InvalidRequest as error:
        return error
