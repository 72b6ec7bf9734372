"""The file evaluation.json, read back as far as the report needs it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distilrec.core.errors import DataError
from distilrec.evaluation.report import label


@dataclass(frozen=True)
class MeanWithInterval:
    """A mean over users with its 95 % interval; the ends are None where the interval is unknown."""

    mean: float
    low: float | None
    high: float | None

    @property
    def excludes_zero(self) -> bool:
        """Whether the whole interval lies on one side of 0."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


@dataclass(frozen=True)
class EvaluatedModel:
    """One model of the run, evaluated on all held-out users."""

    name: str
    quality: MeanWithInterval
    """Value of the primary metric, which is NDCG@10 by default."""
    hit_rate: float
    gain: MeanWithInterval | None
    """Difference to the undistilled student in the primary metric; None for the undistilled student itself."""
    retention: MeanWithInterval | None
    """Share of the teacher's primary metric; None for the teacher, and where the teacher's value is 0 or unknown."""
    parameters: int
    size_bytes: int


@dataclass(frozen=True)
class EvaluatedSlice:
    """The distilled student, evaluated on one group of users."""

    name: str
    users: int
    retention: MeanWithInterval | None
    gain: MeanWithInterval
    """Difference to the undistilled student in the primary metric."""

    @property
    def clear_gain(self) -> bool:
        """Whether the distilled student ranks better and the whole interval lies above 0."""
        return self.gain.excludes_zero and self.gain.mean > 0

    @property
    def clear_regression(self) -> bool:
        """Whether the distilled student ranks worse and the whole interval lies below 0."""
        return self.gain.excludes_zero and self.gain.mean < 0


@dataclass(frozen=True)
class EvaluatedCold:
    """One model or answer without training, evaluated by requests whose right answer is an item that was held out."""

    name: str
    hit_rate: MeanWithInterval
    """Over the whole catalogue."""
    gains: dict[str, MeanWithInterval]
    """Differences in the hit rate to the answers without training, by their names."""
    quality: float
    """Value of the primary metric over the whole catalogue."""
    hit_rate_among: float
    """Among the held-out items alone."""


@dataclass(frozen=True)
class ColdItems:
    """How well items are recommended that nobody has touched."""

    items: int
    """Number of items that were held out."""
    users: int
    models: tuple[EvaluatedCold, ...]


@dataclass(frozen=True)
class EvaluationFile:
    """An evaluation of a run."""

    split: str
    seeds: tuple[int, ...]
    users: int
    metric: str
    """Primary metric as it is written for readers: NDCG@10."""
    teacher: str
    """Name of the teacher among ``models``, where it could be evaluated."""
    undistilled: str
    distilled: str
    models: dict[str, EvaluatedModel]
    slices: tuple[EvaluatedSlice, ...]
    teacher_note: str = ""
    """Why the teacher is not among ``models``, a sentence; empty where it is."""
    cold: ColdItems | None = None
    """By items that were held out from training; None where the data holds none out."""


_EXPORTED = "student, ONNX "


def exported_model_name(precision: str) -> str:
    """Name under which the evaluation lists the exported student in a precision (``fp32``, ``fp16`` or ``int8``)."""
    return f"{_EXPORTED}{precision.upper()}"


def _present_name(model: str) -> str:
    """Name of a model; evaluations of earlier versions, which exported no other student, call the exported one "distilled"."""
    return _EXPORTED + model.removeprefix("distilled, ONNX ") if model.startswith("distilled, ONNX ") else model


def read_evaluation_file(path: Path) -> EvaluationFile:
    """Read what ``distilrec evaluate`` wrote, or what ``benchmarks.record`` kept of it.

    Raises:
        DataError: The file does not exist, or it is not an evaluation.
    """
    try:
        return _evaluation(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file, expected an evaluation. Make it with: distilrec evaluate") from None
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: not an evaluation: {error!r}. Make it again with: distilrec evaluate") from error


def _evaluation(content: dict[str, Any]) -> EvaluationFile:
    roles, evaluation = content["roles"], content["evaluation"]
    metric, all_users = evaluation["primary"], evaluation["everybody"]
    hit_rate = metric.replace("ndcg", "hr")
    return EvaluationFile(
        split=content["split"],
        seeds=tuple(content["seeds"]),
        users=all_users["users"],
        metric=label(metric),
        teacher=roles["teacher"],
        undistilled=roles["undistilled"],
        distilled=roles["distilled"],
        models={
            _present_name(name): EvaluatedModel(
                _present_name(name),
                _mean_with_interval(estimates[metric]),
                estimates[hit_rate]["mean"],
                _difference(all_users, roles["undistilled"], name, metric),
                _retention(all_users, roles["teacher"], name, metric),
                content["parameters"][name],
                content["size_bytes"][name],
            )
            for name, estimates in all_users["estimates"].items()
        },
        teacher_note=content.get("teacher_note", ""),
        slices=tuple(
            EvaluatedSlice(
                name,
                group["users"],
                _retention(group, roles["teacher"], roles["distilled"], metric),
                _mean_with_interval(group["differences"][roles["undistilled"]][roles["distilled"]][metric]),
            )
            for name, group in evaluation["slices"].items()
        ),
        cold=_cold(content["cold"]) if content.get("cold") else None,
    )


def _cold(content: dict[str, Any]) -> ColdItems:
    metric, whole, among = content["whole"]["primary"], content["whole"]["everybody"], content["among"]["everybody"]
    hits = metric.replace("ndcg", "hr")
    models = tuple(
        EvaluatedCold(
            _present_name(name),
            _mean_with_interval(estimates[hits]),
            {other: _mean_with_interval(of[name][hits]) for other, of in whole["differences"].items() if name in of},
            estimates[metric]["mean"],
            among["estimates"][name][hits]["mean"],
        )
        for name, estimates in whole["estimates"].items()
    )
    return ColdItems(content["items"], whole["users"], models)


def _mean_with_interval(estimate: dict[str, Any]) -> MeanWithInterval:
    return MeanWithInterval(estimate["mean"], estimate["low"], estimate["high"])


def _difference(group: dict[str, Any], reference: str, model: str, metric: str) -> MeanWithInterval | None:
    differences = group["differences"][reference].get(model)
    return None if differences is None else _mean_with_interval(differences[metric])


def _retention(group: dict[str, Any], teacher: str, model: str, metric: str) -> MeanWithInterval | None:
    """The model's metric as a share of the teacher's: 1 plus the relative difference to the teacher."""
    differences = group["differences"].get(teacher, {}).get(model)
    if differences is None or differences[metric]["relative"] is None:
        return None
    relative = (differences[metric][name] for name in ("relative", "relative_low", "relative_high"))
    mean, low, high = (None if difference is None else 1 + difference for difference in relative)
    assert mean is not None
    return MeanWithInterval(mean, low, high)
