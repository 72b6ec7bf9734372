"""The study: chooses the next trial, stores all in SQLite, and ends the search."""

import logging
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import DatabaseError

from distilrec.config import Config
from distilrec.core.errors import TuningError
from distilrec.tuning.space import Drawn, describe, draw

logger = logging.getLogger(__name__)

_AS_GIVEN, _REASON, _REPEATS = "as_given", "reason", "repeats"
_MOST_REPEATS = 3
"""Repeats of a trial that never ended, such as one that the kernel kills each time for its memory."""


@dataclass(frozen=True)
class TrialResult:
    """Measurements of one trial."""

    ndcg: float
    """Validation NDCG@10 of the exported model."""
    p50_ms: float
    """Median time of one request, one after another, one thread."""
    parameters: int
    epochs: int
    curve: tuple[float, ...]
    """NDCG@10 after each epoch of the training."""


@dataclass(frozen=True)
class StopRule:
    """Says when to stop a training early. Optuna's pruners know one objective only; this rule never stops a trial of the front."""

    after: int
    """Epochs that always run."""
    floor: tuple[float, ...] = ()
    """Least NDCG@10 of the best epoch so far, after 1, 2, ... epochs."""

    def __call__(self, curve: Sequence[float]) -> bool:
        """Whether to stop after these epochs."""
        epoch = len(curve)
        return epoch >= self.after and bool(self.floor) and max(curve) < self.floor[min(epoch, len(self.floor)) - 1]


Draw = Callable[[optuna.Trial, Config], None]
Evaluate = Callable[[Drawn, StopRule], TrialResult]


def open_study(path: Path, name: str) -> optuna.Study:
    """Open or create a study in this SQLite file. The first trial of a new one is the student as the settings give it.

    Raises:
        TuningError: the file is not a database.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        storage = optuna.storages.RDBStorage(f"sqlite:///{path}")
    except DatabaseError as error:
        raise TuningError(f"{path}: found no SQLite study ({error.orig}); move the file away") from None
    what = name.partition("-")[0]
    others = [other for other in optuna.get_all_study_names(storage) if other != name and other.partition("-")[0] == what]
    study = optuna.create_study(study_name=name, storage=storage, directions=["maximize", "minimize"], load_if_exists=True)
    if not study.get_trials(deepcopy=False):
        study.enqueue_trial({}, user_attrs={_AS_GIVEN: True})
        if others:
            logger.info("tune: settings, data or processor have changed since; a new study begins, the former stay in %s", path)
    return study


def search(study: optuna.Study, config: Config, evaluate: Evaluate, draw_settings: Draw = draw) -> None:
    """Run trials until the study has as many as section ``tune`` says, or its minutes are over.

    A trial that fails is recorded with its reason, and counts. One that was interrupted is repeated at the next start. The sampler
    is seeded by the number of trials that have ended, so an interruption does not change what follows.

    Args:
        study: Study of ``open_study``; no other process may use it.
        config: Settings of the run with the search space.
        evaluate: Function that trains and measures a student.
        draw_settings: Function that lets a trial choose what ``evaluate`` gets.
    """
    tune = config.tune
    _repeat_interrupted(study)
    deadline = None if tune.minutes is None else time.monotonic() + 60 * tune.minutes
    while len(done := ended(study)) < tune.trials and _fits(done, deadline):
        study.sampler = optuna.samplers.TPESampler(seed=int(np.random.SeedSequence([config.seed, len(done)]).generate_state(1)[0]))
        trial = study.ask()
        if not trial.user_attrs.get(_AS_GIVEN):
            draw_settings(trial, config)
        _run(study, trial, evaluate, stop_rule(study, tune.hopeless_after, tune.hopeless_below))
        logger.info("tune: trial %d (%d of %d): %s", trial.number, len(done) + 1, tune.trials, _say(study.trials[trial.number]))


def ended(study: optuna.Study) -> list[FrozenTrial]:
    """Trials with an outcome, or with a reason why there is none."""
    return [t for t in study.get_trials(deepcopy=False) if t.state is TrialState.COMPLETE or _REASON in t.user_attrs]


def failures(study: optuna.Study) -> list[str]:
    """Reasons of the trials that failed."""
    return [str(trial.user_attrs[_REASON]) for trial in ended(study) if trial.state is TrialState.FAIL]


def stop_rule(study: optuna.Study, after: int, below: float) -> StopRule:
    """The rule whose floor is a share of what the worst trial on the front had after as many epochs."""
    curves = [np.maximum.accumulate(trial.user_attrs["curve"]) for trial in study.best_trials]
    if not curves or not below:
        return StopRule(after)
    length = max(map(len, curves))
    reached = [np.pad(curve, (0, length - len(curve)), mode="edge") for curve in curves]
    return StopRule(after, tuple((below * np.min(reached, axis=0)).tolist()))


def _run(study: optuna.Study, trial: optuna.Trial, evaluate: Evaluate, rule: StopRule) -> None:
    try:
        outcome = evaluate(trial.params, rule)
    except Exception as error:  # other settings may well work
        trial.set_user_attr(_REASON, f"{type(error).__name__}: {error}")
        study.tell(trial, state=TrialState.FAIL)
        return
    for name, value in asdict(outcome).items():
        trial.set_user_attr(name, value)
    study.tell(trial, [outcome.ndcg, outcome.p50_ms])


def _repeat_interrupted(study: optuna.Study) -> None:
    """Enqueue trials again that are marked as running: no other process uses the study, so they were interrupted."""
    for trial in study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
        repeats = trial.user_attrs.get(_REPEATS, 0) + 1
        if repeats <= _MOST_REPEATS:
            study.enqueue_trial(trial.params, user_attrs=trial.user_attrs | {_REPEATS: repeats})
        else:
            logger.warning("tune: interrupted %d times and left out: %s", repeats, describe(trial.params))
        study.tell(trial.number, state=TrialState.FAIL)


def _fits(done: Sequence[FrozenTrial], deadline: float | None) -> bool:
    if deadline is None or not done:
        return True
    usual_s = statistics.median(trial.duration.total_seconds() for trial in done if trial.duration is not None)
    return time.monotonic() + usual_s <= deadline


def _say(trial: FrozenTrial) -> str:
    settings = describe(trial.params)
    if trial.state is TrialState.FAIL:
        return f"failed: {trial.user_attrs[_REASON]} ({settings})"
    ndcg, p50_ms = trial.values
    epochs, parameters = trial.user_attrs["epochs"], trial.user_attrs["parameters"]
    return f"NDCG@10 {ndcg:.4f}, {p50_ms:.3f} ms, {parameters:,} parameters, {epochs} epochs ({settings})"
