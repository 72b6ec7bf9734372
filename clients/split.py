"""Two versions at once: which of them answers a request, and what the other one would have answered. No I/O; see ``steps``."""

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from clients.codec import Query, Recommendations, Result, Variant
from clients.errors import ClientError, InvalidRequest
from clients.recorder import Recorder
from clients.session import Session
from clients.steps import Deadline, Steps

CANDIDATE: Variant = "candidate"
SERVED: Variant = "served"

_ABSENT_S = 5.0
"""Seconds for which a candidate that did not answer is not asked again."""

OnShadow = Callable[[Recommendations, Result], object]
"""Is called with what an application got, and with the other version's answer to the same request, or its error."""


def share_of_candidate(split: Mapping[str, float] | None) -> float:
    """Share of the keys that get the candidate.

    Raises:
        InvalidRequest: another version is named, or the share is none.
    """
    if split is None:
        return 0.0
    share = split.get(CANDIDATE, 0.0) if isinstance(split, Mapping) else None
    if not isinstance(share, int | float) or not 0 <= share <= 1 or set(split) - {CANDIDATE}:
        raise InvalidRequest(f'split: found {split!r:.100}, expected a share of 0 to 1 by name, as in {{"candidate": 0.1}}')
    return float(share)


def variant_of(key: str | None, share: float) -> Variant:
    """The version that answers a key: always the same one, and with a larger share no key goes back to the served version.

    Args:
        key: For example a user's id, of which only a hash is used; None gets the served version.
        share: Share of the keys that get the candidate.
    """
    if key is None or not share:
        return SERVED
    if not isinstance(key, str):
        raise InvalidRequest(f"key: found {key!r:.100}, expected a string")
    place = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64
    return CANDIDATE if place < share else SERVED


@dataclass(frozen=True)
class Trial:
    """What a client does with a candidate, and which requests it records."""

    share: float
    """Share of the keys that get the candidate."""
    shadow: OnShadow | None
    recorder: Recorder | None

    @property
    def is_plain(self) -> bool:
        """Whether nothing is split, asked twice or recorded."""
        return not self.share and self.shadow is None and self.recorder is None


class VersionSplit:
    """Conversations with the served version and its candidate.

    Args:
        served: Conversations with the served version.
        candidate: Conversations with the candidate.
        share: Share of the keys that get the candidate.
    """

    def __init__(self, served: Session, candidate: Session, share: float) -> None:
        self._served, self._candidate, self.share = served, candidate, share
        self._absent_until = 0.0

    def recommend(self, query: Query, k: int, deadline: Deadline, key: str | None) -> Steps[Result]:
        """Ask the version that answers this key. Where the candidate does not answer, the served version does.

        Raises:
            ClientError: as ``Session.recommend``.
        """
        if variant_of(key, self.share) == CANDIDATE:
            answer = yield from self._ask_candidate(query, k, deadline)
            if isinstance(answer, Recommendations):
                return replace(answer, variant=CANDIDATE, propensity=self.share)
        (answer,) = yield from self._served.recommend([query], k, deadline)
        if key is not None and self.share < 1 and isinstance(answer, Recommendations):
            return replace(answer, propensity=1 - self.share)
        return answer

    def shadow(self, query: Query, k: int, deadline: Deadline, served: Recommendations, report: OnShadow) -> Steps[None]:
        """Ask the version that did not answer, and report both answers; raises nothing if it fails."""
        other: Result
        try:
            if served.variant == CANDIDATE:
                (other,) = yield from self._served.recommend([query], k, deadline)
            else:
                other = yield from self._ask_candidate(query, k, deadline)
                other = replace(other, variant=CANDIDATE) if isinstance(other, Recommendations) else other
        except ClientError as error:
            other = error
        report(served, other)

    def _ask_candidate(self, query: Query, k: int, deadline: Deadline) -> Steps[Result]:
        """The candidate's answer or its error; a candidate costs nobody an answer."""
        if time.monotonic() < self._absent_until:
            return ClientError("the candidate did not answer a moment ago; it is asked again soon")
        try:
            # Half of the time, so that the served version can still answer.
            (answer,) = yield from self._candidate.recommend([query], k, Deadline(deadline.left_s / 2))
        except InvalidRequest as error:
            return error
        except ClientError as error:
            self._absent_until = time.monotonic() + _ABSENT_S
            return error
        return answer


def repeatable(query: Query) -> Query:
    """The query with sequences in the place of iterators, which could be read once only."""
    allow = query.allow
    return query._replace(
        history=_fixed(query.history), exclude=_fixed(query.exclude), allow=None if allow is None else _fixed(allow)
    )


def _fixed(ids: Iterable[str]) -> Iterable[str]:
    return tuple(ids) if isinstance(ids, Iterator) else ids
