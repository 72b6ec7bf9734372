"""The client for asyncio: the same methods as ``RecommenderClient``, awaited."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Self

from clients.async_transport import AsyncTransport
from clients.batches import ProgressOption, RequestBatch, in_order, progress_reporter, queries_of, split
from clients.codec import Filter, Query, Recommendations, Repeats, Result
from clients.connection import DEFAULT_URL, Connection, Tls
from clients.errors import ClientError
from clients.model_info import ModelInfo
from clients.recorder import Recorder
from clients.retry import RetryPolicy
from clients.session import Health, Session
from clients.shadows import ShadowTasks
from clients.split import OnShadow, Trial, VersionSplit, repeatable, share_of_candidate
from clients.steps import Deadline, drive_async
from clients.vocabularies import VocabularySource
from distilrec.core.specs import MODEL_NAME, candidate_name
from distilrec.data.vocabulary import Vocabulary


class AsyncRecommenderClient:
    """Asks a served recommender on asyncio. Arguments, results and errors are those of ``RecommenderClient``.

    >>> async with AsyncRecommenderClient("127.0.0.1:8001") as client:
    ...     answer = await client.recommend(["50", "181"], k=3)

    Many calls may wait at the same time; they share one connection. It belongs to the event loop of the first call.
    A task that is cancelled stops waiting; its call goes on in the background.
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
        self._transport = AsyncTransport(connection)
        self._session = Session(url, model, vocabulary, RetryPolicy(retries), lambda: self._transport.epoch)
        self._trial = Trial(share_of_candidate(split), shadow, record)
        other = Session(url, candidate_name(model), None, RetryPolicy(retries=0), lambda: self._transport.epoch)
        self._split = VersionSplit(self._session, other, self._trial.share)
        self._shadows = ShadowTasks()

    async def recommend(
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
        """As ``RecommenderClient.recommend``."""
        return await self._one(Query(history, exclude, filter, allow, repeats), k, timeout_s, key)

    async def similar(
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
        """As ``RecommenderClient.similar``."""
        return await self._one(Query([item_id], exclude, filter, allow, similar=True), k, timeout_s, key)

    async def recommend_many(
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
        """As ``RecommenderClient.recommend_many``."""
        served = await drive_async(self._session.served(self._deadline(timeout_s)), self._transport.carry_out)
        batches = split(queries_of(histories, exclude, filter, allow, repeats), served.info.max_batch_size)
        results: list[list[Result] | ClientError | None] = [None] * len(batches)
        waiting = iter(enumerate(batches))
        server_failed = False

        async def work() -> None:
            nonlocal server_failed
            for place, batch in waiting:
                if not server_failed:
                    results[place] = await self._send(batch, k, timeout_s)
                    server_failed = server_failed or isinstance(results[place], ClientError)
                report(batch)

        with progress_reporter(progress, batches) as report:
            async with asyncio.TaskGroup() as group:
                for _ in range(max(1, in_flight)):
                    group.create_task(work())
        return in_order(batches, results)

    async def info(self, *, timeout_s: float | None = None) -> ModelInfo:
        """As ``RecommenderClient.info``."""
        steps = self._session.refresh(self._session.known, self._deadline(timeout_s))
        return (await drive_async(steps, self._transport.carry_out)).info

    async def vocabulary(self, *, timeout_s: float | None = None) -> Vocabulary:
        """As ``RecommenderClient.vocabulary``."""
        return (await drive_async(self._session.served(self._deadline(timeout_s)), self._transport.carry_out)).vocabulary

    async def health(self, *, timeout_s: float | None = None) -> Health:
        """As ``RecommenderClient.health``."""
        return await drive_async(self._session.health(self._deadline(timeout_s).timeout_s), self._transport.carry_out)

    async def wait_until_ready(self, timeout_s: float = 60.0) -> None:
        """As ``RecommenderClient.wait_until_ready``."""
        await drive_async(self._session.wait_until_ready(timeout_s), self._transport.carry_out)

    async def close(self) -> None:
        """Close the connection. Calls without an answer are waited for, at most a second, and then cancelled."""
        await self._shadows.close()
        await self._transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _one(self, query: Query, k: int, timeout_s: float | None, key: str | None) -> Recommendations:
        if self._trial.is_plain:
            steps = self._session.recommend([query], k, self._deadline(timeout_s))
            (answer,) = await drive_async(steps, self._transport.carry_out)
        else:
            query = repeatable(query)
            answer = await drive_async(self._split.recommend(query, k, self._deadline(timeout_s), key), self._transport.carry_out)
        if isinstance(answer, ClientError):
            raise answer.at(self._session.url, self._session.model)
        if self._trial.recorder is not None and not query.similar:
            self._trial.recorder.offer(query, answer)
        if (shadow := self._trial.shadow) is not None:
            other = self._split.shadow(query, k, self._deadline(timeout_s), answer, shadow)
            self._shadows.start(lambda: drive_async(other, self._transport.carry_out))
        return answer

    async def _send(self, batch: RequestBatch, k: int, timeout_s: float | None) -> list[Result] | ClientError:
        try:
            return await drive_async(
                self._session.recommend(batch.queries, k, self._deadline(timeout_s)), self._transport.carry_out
            )
        except ClientError as error:
            return error

    def _deadline(self, timeout_s: float | None) -> Deadline:
        return Deadline(self.timeout_s if timeout_s is None else timeout_s)
