"""Records a sample of live requests into files, for ``distilrec drift`` and ``distilrec compare``. An application opts in."""

import logging
import os
import random
import secrets
import threading
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from clients.codec import Query, Recommendations
from clients.errors import ClientError
from distilrec.core.recorded import SUFFIX, RecordedRequest

logger = logging.getLogger(__name__)

_PREFIX = "requests-"


class Recorder:
    """Writes a share of the requests, and what was shown, as lines of JSON; safe to share between threads and clients.

    Neither a key nor the exact time is written, and files are readable by their owner alone. A history can still give away a
    person to somebody who knows part of it, so keep the files as you keep your logs. A full disk fails no request.

    Args:
        folder: Folder of the files, which is made; several processes may share it.
        share: Share of the requests that is recorded.
        max_bytes: Size at which a file is closed and the next one begun.
        files: Files that are kept in the folder; the oldest are removed.
        seed: Random seed of the sample; None takes the system's randomness.

    Attributes:
        recorded: Number of requests that were written.
        failed: Number of requests that could not be written.

    Raises:
        ClientError: a share outside of 0 to 1, or fewer than one file.
    """

    def __init__(
        self, folder: Path | str, share: float = 0.01, *, max_bytes: int = 10_000_000, files: int = 8, seed: int | None = None
    ) -> None:
        if not 0 <= share <= 1 or files < 1 or max_bytes < 1:
            raise ClientError(f"Recorder: found share {share}, {files} files of {max_bytes} bytes, expected 0 to 1 and at least 1")
        self.recorded = self.failed = 0
        self._folder, self._share, self._max_bytes, self._files = Path(folder), share, max_bytes, files
        self._random = random.Random(seed)  # noqa: S311 - a sample, no secret
        self._lock = threading.Lock()
        self._path: Path | None = None
        self._size = 0

    def offer(self, query: Query, answer: Recommendations) -> None:
        """Record a request, if it is one of the sample."""
        with self._lock:
            if self._random.random() < self._share:
                self._write(_request(query, answer).to_line())

    def write(self, request: RecordedRequest) -> None:
        """Record a request in any case, for example one with propensities and rewards that the application knows."""
        with self._lock:
            self._write(request.to_line())

    def _write(self, line: str) -> None:
        content = (line + "\n").encode()
        try:
            if self._path is None or self._size + len(content) > self._max_bytes:
                self._begin_file()
            assert self._path is not None
            # Opened for each of the few sampled lines: no line is lost when the process is killed, and forks share no position.
            descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                os.write(descriptor, content)
            finally:
                os.close(descriptor)
        except OSError as error:
            if not self.failed:
                logger.warning("requests are not recorded in %s: %s", self._folder, error)
            self.failed += 1
            return
        self._size += len(content)
        self.recorded += 1

    def _begin_file(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path = self._folder / f"{_PREFIX}{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(4)}{SUFFIX}"
        self._size = 0
        for old in sorted(self._folder.glob(f"{_PREFIX}*{SUFFIX}"))[: -self._files + 1 or None]:
            old.unlink(missing_ok=True)


def _request(query: Query, answer: Recommendations) -> RecordedRequest:
    options = {"filter": _plain(query.filter), "allow": _listed(query.allow), "repeats": query.repeats}
    return RecordedRequest(
        history=_listed(query.history) or (),
        shown=answer.ids,
        exclude=_listed(query.exclude) or (),
        hour=f"{datetime.now(UTC):%Y-%m-%dT%H}",
        version=answer.model_version,
        variant=answer.variant,
        options={name: value for name, value in options.items() if value and value != "never"},
    )


def _listed(ids: Iterable[str] | None) -> tuple[str, ...] | None:
    return None if ids is None else tuple(ids)


def _plain(wanted: object) -> dict[str, list[str]]:
    if not isinstance(wanted, dict):
        return {}
    return {name: [values] if isinstance(values, str) else list(values) for name, values in wanted.items()}
