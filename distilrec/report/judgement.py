"""evaluation.json, read back as far as the report needs it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distilrec.core.errors import DataError
from distilrec.evaluation.report import label


@dataclass(frozen=True)
class Interval:
    """A number and how far it can be trusted."""

    mean: float
    low: float | None
    high: float | None

    @property
    def clear(self) -> bool:
        """Whether the whole interval lies on one side of 0."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


@dataclass(frozen=True)
class HopRow:
    """A model on the way from teacher to server, judged by all held-out users."""

    name: str
    quality: Interval
    """In the primary metric, NDCG@10 as a rule."""
    hit_rate: float
    gain: Interval | None
    """Less the undistilled student; None for that one."""
    retention: Interval | None
    """Share of the teacher's quality; None for the teacher, or where that is 0."""
    parameters: int
    size_bytes: int


@dataclass(frozen=True)
class SliceRow:
    """The distilled student, as a group of users judges it."""

    name: str
    users: int
    retention: Interval | None
    gain: Interval
    """Less the undistilled student."""


@dataclass(frozen=True)
class Judgement:
    """An evaluation."""

    split: str
    seeds: tuple[int, ...]
    users: int
    metric: str
    """As it is written: NDCG@10."""
    teacher: str
    undistilled: str
    distilled: str
    hops: dict[str, HopRow]
    slices: tuple[SliceRow, ...]


def read_judgement(path: Path) -> Judgement:
    """Read what ``distilrec evaluate`` wrote, or what ``benchmarks.record`` kept of it.

    Raises:
        DataError: it is none.
    """
    try:
        return _judgement(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file, expected an evaluation. Make it with: distilrec evaluate") from None
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: not an evaluation: {error!r}. Make it anew with: distilrec evaluate") from error


def _judgement(content: dict[str, Any]) -> Judgement:
    roles, evaluation = content["roles"], content["evaluation"]
    main, everybody = evaluation["primary"], evaluation["everybody"]
    hit_rate = main.replace("ndcg", "hr")
    return Judgement(
        split=content["split"],
        seeds=tuple(content["seeds"]),
        users=everybody["users"],
        metric=label(main),
        teacher=roles["teacher"],
        undistilled=roles["undistilled"],
        distilled=roles["distilled"],
        hops={
            hop: HopRow(
                hop,
                _interval(estimates[main]),
                estimates[hit_rate]["mean"],
                _difference(everybody, roles["undistilled"], hop, main),
                _retention(everybody, roles["teacher"], hop, main),
                content["parameters"][hop],
                content["size_bytes"][hop],
            )
            for hop, estimates in everybody["estimates"].items()
        },
        slices=tuple(
            SliceRow(
                name,
                group["users"],
                _retention(group, roles["teacher"], roles["distilled"], main),
                _interval(group["differences"][roles["undistilled"]][roles["distilled"]][main]),
            )
            for name, group in evaluation["slices"].items()
        ),
    )


def _interval(found: dict[str, Any]) -> Interval:
    return Interval(found["mean"], found["low"], found["high"])


def _difference(group: dict[str, Any], reference: str, hop: str, metric: str) -> Interval | None:
    found = group["differences"][reference].get(hop)
    return None if found is None else _interval(found[metric])


def _retention(group: dict[str, Any], teacher: str, hop: str, metric: str) -> Interval | None:
    found = group["differences"][teacher].get(hop)
    if found is None or found[metric]["relative"] is None:
        return None
    shares = (found[metric][name] for name in ("relative", "relative_low", "relative_high"))
    mean, low, high = (None if share is None else 1 + share for share in shares)
    assert mean is not None
    return Interval(mean, low, high)
