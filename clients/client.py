"""The client an application uses: string ids in, string ids, titles and scores out."""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Self

from clients.batches import ProgressOption, RequestBatch, in_order, progress_reporter, queries_of, split
from clients.codec import Filter, Query, Recommendations, Repeats, Result
from clients.connection import DEFAULT_URL, Connection, Tls
from clients.errors import ClientError
from clients.model_info import ModelInfo
from clients.recorder import Recorder
from clients.retry import RetryPolicy
from clients.session import Health, Session
from clients.shadows import ShadowThread
from clients.split import OnShadow, Trial, VersionSplit, repeatable, share_of_candidate
from clients.steps import Deadline, drive
from clients.transport import Transport
from clients.vocabularies import VocabularySource
from distilrec.core.specs import MODEL_NAME, candidate_name
from distilrec.data.vocabulary import Vocabulary


class RecommenderClient:
    """Asks a served recommender; safe to share between threads. Connects with the first call.

    >>> with RecommenderClient("127.0.0.1:8001") as client:
    ...     for item_id, score in client.recommend(["50", "181"], k=3):
    ...         print(item_id, score)

    The client follows a server that restarts or gets a new model: it compares the vocabulary again and never mixes two of them up.

    Args:
        url: host and port of Triton's gRPC endpoint.
        model: name of the model.
        vocabulary: meaning of the model's item indices: a vocabulary, or the path of its vocabulary.json, of an export or of the
            model repository. None: the server hands it over.
        timeout_s: seconds each call may take, retries included. The server does not learn of it: a call that is given up goes on in
            the background, because some servers die of deadlines and cancellations (``clients/draining.py``). While too many do,
            further calls fail with Overloaded.
        retries: further attempts after a failure that may pass: no server, overload, a restart. Requests change nothing on the
            server, so repeating them is safe.
        tls: True, or the files of a ``Tls``.
        metadata: sent with each call, for example {"authorization": "Bearer ..."}.
        keepalive_s: seconds between pings on a connection where a call waits.
        max_message_bytes: largest message in either direction.
        split: share of the keys that get the candidate, which is served next to the served version: ``{"candidate": 0.1}``. Where
            it does not answer, the served version does. The answer's ``variant`` and ``model_version`` say which one it was.
            ``recommend_many`` always asks the served version.
        shadow: also asks the version that did not answer, in the background, and is called with both answers. Of requests that come
            faster than this, some are left out.
        record: writes a sample of the requests into files (``Recorder``).

    Raises:
        ClientError: settings that cannot be used.
        DataError: ``vocabulary`` is a path that does not exist.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        model: str = MODEL_NAME,
        vocabulary: VocabularySource = None,
        timeout_s: float = 5.0,
        retries: int = RetryPolicy.retries,
        tls: Tls | bool = False,
        metadata: Mapping[str, str] | None = None,
        keepalive_s: float = Connection.keepalive_s,
        max_message_bytes: int = Connection.max_message_bytes,
        split: Mapping[str, float] | None = None,
        shadow: OnShadow | None = None,
        record: Recorder | None = None,
    ) -> None:
        connection = Connection(url, tls, metadata or {}, keepalive_s=keepalive_s, max_message_bytes=max_message_bytes)
        self.timeout_s = timeout_s
        self._transport = Transport(connection)
        self._session = Session(url, model, vocabulary, RetryPolicy(retries), lambda: self._transport.epoch)
        self._trial = Trial(share_of_candidate(split), shadow, record)
        other = Session(url, candidate_name(model), None, RetryPolicy(retries=0), lambda: self._transport.epoch)
        self._split = VersionSplit(self._session, other, self._trial.share)
        self._shadows = ShadowThread()

    def recommend(
        self,
        history: Iterable[str],
        k: int = 10,
        exclude: Iterable[str] = (),
        *,
        filter: Filter | None = None,  # noqa: A002 - what it is
        allow: Iterable[str] | None = None,
        repeats: Repeats = "never",
        key: str | None = None,
        timeout_s: float | None = None,
    ) -> Recommendations:
        """Recommend ``k`` items after ``history``.

        Args:
            history: item ids, oldest first. Unknown ids are left out and reported. An empty history gets the most popular items.
                The model reads the newest L items; older ones are not recommended either.
            k: number of items, at most what the model was exported for.
            exclude: ids that must not be recommended, in addition to those of the history.
            filter: values of attributes that recommended items must have, such as ``{"category": ["Nails", "Lips"]}``: of
                each attribute one of the values. All are in ``info().filters.values``. Where fewer than ``k`` items are left,
                the answer is shorter, and its ``missing`` says by how many.
            allow: the only ids that may be recommended. Unknown ones are reported; if none is known, the answer is empty.
            repeats: "allow" lets items of the history be recommended again.
            key: for example the user's id, by which a client with ``split`` chooses the version, always the same one for a key. It
                is neither sent nor recorded. None gets the served version.
            timeout_s: seconds, instead of the client's.

        Raises:
            InvalidRequest: ids that are not strings, k out of range, too many ids, an attribute or a value that the model does not
                know, or a choice that it was exported without.
            VocabularyMismatch: the served model means other items than the given vocabulary.
            ServerUnavailable, DeadlineExceeded, Overloaded, ModelNotFound: as their names say.
        """
        return self._one(Query(history, exclude, filter, allow, repeats), k, timeout_s, key)

    def similar(
        self,
        item_id: str,
        k: int = 10,
        exclude: Iterable[str] = (),
        *,
        filter: Filter | None = None,  # noqa: A002 - what it is
        allow: Iterable[str] | None = None,
        key: str | None = None,
        timeout_s: float | None = None,
    ) -> Recommendations:
        """Find the ``k`` items that are most like an item: by the cosine of their vectors, which is the score.

        The vectors are those that the served model recommends with, in its precision. The item itself is not among the answers.

        Args:
            item_id: id of a known item.
            k: as in ``recommend``.
            exclude: as in ``recommend``.
            filter: as in ``recommend``.
            allow: as in ``recommend``.
            key: as in ``recommend``.
            timeout_s: as in ``recommend``.

        Raises:
            InvalidRequest: the item is not known, the model was exported without ``export.similar``, or as ``recommend``.
            ClientError: as ``recommend``.
        """
        return self._one(Query([item_id], exclude, filter, allow, similar=True), k, timeout_s, key)

    def recommend_many(
        self,
        histories: Iterable[Iterable[str]],
        k: int = 10,
        exclude: Sequence[Iterable[str]] | None = None,
        *,
        filter: Filter | Sequence[Filter | None] | None = None,  # noqa: A002 - what it is
        allow: Sequence[Iterable[str] | None] | None = None,
        repeats: Repeats = "never",
        in_flight: int = 4,
        timeout_s: float | None = None,
        progress: ProgressOption = False,
    ) -> list[Result]:
        """Recommend ``k`` items after each history, many histories to a request; options as in ``recommend``.

        Args:
            histories: histories of item ids, each oldest first.
            k: number of items after each history.
            exclude: for each history the ids that must not be recommended.
            filter: one for all histories, or one for each.
            allow: for each history the only ids that may be recommended.
            repeats: for all histories.
            in_flight: requests that wait for their answers at the same time.
            timeout_s: seconds each request may take, instead of the client's.
            progress: True shows a progress bar; a function is called with the number of histories finished since its last call.

        Returns:
            One result for each history, in order: an InvalidRequest for an invalid one. When the server fails for good, the answers
            so far are kept, and all other histories have that error.

        Raises:
            InvalidRequest: ``exclude``, ``allow`` or a list of filters is not as long as ``histories``.
            ClientError: no history was answered.
        """
        served = drive(self._session.served(self._deadline(timeout_s)), self._transport.carry_out)
        batches = split(queries_of(histories, exclude, filter, allow, repeats), served.info.max_batch_size)
        send = partial(self._send, k=k, timeout_s=timeout_s, server_failed=threading.Event())
        return in_order(batches, _send_all(batches, send, in_flight, progress))

    def info(self, *, timeout_s: float | None = None) -> ModelInfo:
        """Describe the served model: version, precision, k, history length, catalogue size, vocabulary. Raises as ``recommend``."""
        steps = self._session.refresh(self._session.known, self._deadline(timeout_s))
        return drive(steps, self._transport.carry_out).info

    def vocabulary(self, *, timeout_s: float | None = None) -> Vocabulary:
        """Return the ids and titles of the served model's items. Raises as ``recommend``."""
        return drive(self._session.served(self._deadline(timeout_s)), self._transport.carry_out).vocabulary

    def health(self, *, timeout_s: float | None = None) -> Health:
        """Return the state of the server, found with a real request; raises nothing if the server fails."""
        return drive(self._session.health(self._deadline(timeout_s).timeout_s), self._transport.carry_out)

    def wait_until_ready(self, timeout_s: float = 60.0) -> None:
        """Return when the model answers.

        Raises:
            ClientError: the last failure, after ``timeout_s`` seconds.
        """
        drive(self._session.wait_until_ready(timeout_s), self._transport.carry_out)

    def close(self) -> None:
        """Close the connection. Calls without an answer are waited for, at most a second, and then cancelled."""
        self._shadows.close()
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _one(self, query: Query, k: int, timeout_s: float | None, key: str | None) -> Recommendations:
        if self._trial.is_plain:
            (answer,) = drive(self._session.recommend([query], k, self._deadline(timeout_s)), self._transport.carry_out)
        else:
            query = repeatable(query)
            answer = drive(self._split.recommend(query, k, self._deadline(timeout_s), key), self._transport.carry_out)
        if isinstance(answer, ClientError):
            raise answer.at(self._session.url, self._session.model)
        if self._trial.recorder is not None and not query.similar:
            self._trial.recorder.offer(query, answer)
        if (shadow := self._trial.shadow) is not None:
            steps = self._split.shadow(query, k, self._deadline(timeout_s), answer, shadow)
            self._shadows.start(lambda: drive(steps, self._transport.carry_out))
        return answer

    def _send(
        self, batch: RequestBatch, k: int, timeout_s: float | None, server_failed: threading.Event
    ) -> list[Result] | ClientError | None:
        """Send a batch unless another has shown that the server fails; returns its results, its error, or None if not sent."""
        if server_failed.is_set():
            return None
        try:
            return drive(self._session.recommend(batch.queries, k, self._deadline(timeout_s)), self._transport.carry_out)
        except ClientError as error:
            server_failed.set()
            return error

    def _deadline(self, timeout_s: float | None) -> Deadline:
        return Deadline(self.timeout_s if timeout_s is None else timeout_s)


def _send_all(
    batches: Sequence[RequestBatch],
    send: Callable[[RequestBatch], list[Result] | ClientError | None],
    in_flight: int,
    progress: ProgressOption,
) -> list[list[Result] | ClientError | None]:
    """What ``send`` returns for each batch, in order, with several calls at a time."""
    results = []
    with progress_reporter(progress, batches) as report, ThreadPoolExecutor(max(1, in_flight)) as pool:
        for batch, result in zip(batches, pool.map(send, batches), strict=True):
            results.append(result)
            report(batch)
    return results
