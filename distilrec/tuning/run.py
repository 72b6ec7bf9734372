"""``distilrec tune``: write the soft targets, search for both students, and write the best settings as a preset."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna

from distilrec import __version__
from distilrec.config import Config, StudentConfig, choice_sizes
from distilrec.config.section import declarations_of
from distilrec.core.code import code_digest
from distilrec.core.errors import TuningError
from distilrec.core.files import lock
from distilrec.core.machine import processor
from distilrec.core.manifest import read_manifest, sha256_of_json
from distilrec.pipeline.folders import STUDENT_FOLDERS, run_dir
from distilrec.pipeline.stages import run_stage, stages
from distilrec.tuning.front import choose, front_table, pareto_front
from distilrec.tuning.preset import write_preset
from distilrec.tuning.space import Drawn, check_space, describe, draw_undistilled, with_drawn, with_drawn_undistilled
from distilrec.tuning.study import ended, failures, open_study, search
from distilrec.tuning.trial import evaluate

_STUDENT, _UNDISTILLED = STUDENT_FOLDERS["distilled"], STUDENT_FOLDERS["undistilled"]
DATABASE = "study.db"


def run_tuning(config: Config, say: Callable[[str], None], *, output: Path | None = None, latency_ms: float | None = None) -> Path:
    """Search as section ``tune`` says, continue an earlier search, and print the Pareto front; returns the path of the preset.

    Then as many trials search how the chosen student is best trained without a teacher, because the better of both is exported.
    Each search has half of the minutes.

    A study is named by what its outcomes depend on: search space, settings, data, soft targets, seed, processor, version. So other
    settings begin another study in the same file, and trials that cannot be compared are never mixed.

    Args:
        config: Settings of the run.
        say: Function that prints.
        output: Path of the preset; by default next to the study.
        latency_ms: Highest p50 of the chosen trial, in milliseconds.

    Raises:
        ConfigError: The search space holds settings that are not valid.
        TuningError: Another process tunes this run, or no trial is fast enough.
    """
    folder = run_dir(config) / "tune"
    output = output or folder / "tuned.toml"
    if output.parent != folder and not output.parent.is_dir():
        raise TuningError(f"--output: found no folder {output.parent}, expected one to write {output.name} into")
    check_space(config)
    with _locked(folder):
        study = _search(config, folder)
        front = pareto_front(study)
        trials = f"{len(ended(study))} trials ({len(failures(study))} failed)"
        measured = f"validation users; one request on one thread of {processor()}, ONNX FP32"
        say(f"{front_table(front)}\nPareto front of {trials}; {measured}.")
        best = choose(front, latency_ms)
        tuned = _with_tuned_undistilled(with_drawn(config, best.drawn), folder, say)
    within = "" if latency_ms is None else f" at or below {latency_ms} ms"
    comment = (
        f"Written by distilrec tune {__version__}: the best NDCG@10{within} of {trials}.\n"
        f"Trial {best.number} of {study.study_name} in {folder / DATABASE}: NDCG@10 {best.ndcg:.4f}, p50 {best.p50_ms:.3f} ms\n"
        f"({measured}). Test users had no part in it."
    )
    write_preset(output, tuned, comment)
    return output


def _search(config: Config, folder: Path) -> optuna.Study:
    digests = [run_stage(config, stage).digest for stage in _needed(config)]
    name = f"student-{_fingerprint(config, digests)[:12]}"
    study, inputs = open_study(folder / DATABASE, name), _inputs(config, _STUDENT)
    search(study, _half_time(config), lambda drawn, rule: evaluate(with_drawn(config, drawn), inputs, folder / name, rule))
    return study


def _with_tuned_undistilled(config: Config, folder: Path, say: Callable[[str], None]) -> Config:
    """The settings of the tuned student, with the best training that as many trials have found for it without a teacher."""
    inputs = _inputs(config, _UNDISTILLED)

    def alone(drawn: Drawn) -> Config:
        return config.model_copy(update={"student": with_drawn_undistilled(config, drawn).undistilled_student})

    digests = [read_manifest(path).digest for path in inputs.values()]
    name = f"undistilled-{_fingerprint(alone({}), digests)[:12]}"
    study = open_study(folder / DATABASE, name)
    search(study, _half_time(config), lambda drawn, rule: evaluate(alone(drawn), inputs, folder / name, rule), draw_undistilled)
    best = choose(pareto_front(study))
    say(f"The same student without a teacher, after {len(ended(study))} trials: NDCG@10 {best.ndcg:.4f} ({describe(best.drawn)}).")
    return with_drawn_undistilled(config, best.drawn)


def _half_time(config: Config) -> Config:
    """The settings with half of the minutes: one half for each search."""
    minutes = config.tune.minutes
    return config.model_copy(update={"tune": config.tune.model_copy(update={"minutes": minutes and minutes / 2})})


def _inputs(config: Config, stage: str) -> dict[str, Path]:
    return {role: run_dir(config) / name for role, name in stages(config)[stage].inputs.items()}


def _needed(config: Config) -> list[str]:
    """Stages that the student depends on, directly or not, in order."""
    graph = stages(config)
    needed, waiting = set[str](), [*graph[_STUDENT].inputs.values()]
    while waiting:
        stage = waiting.pop()
        needed.add(stage)
        waiting += graph[stage].inputs.values()
    return [stage for stage in graph if stage in needed]


def _fingerprint(config: Config, digests: list[str]) -> str:
    declarations = {*declarations_of(config), *(StudentConfig.kinds[kind] for kind in config.tune.kind)}
    depends_on = {
        "space": config.tune.model_dump(mode="json", exclude={"trials", "minutes"}),
        "temperatures": config.targets.temperatures,
        "student": config.student.model_dump(mode="json"),
        "sizes": [config.history_length, config.export.exclude_length, config.export.top_k],
        **choice_sizes(config),
        "seed": config.seed,
        "inputs": digests,
        "processor": processor(),
        "code": code_digest(["distilrec.tuning.trial", *(declaration.__module__ for declaration in declarations)]),
    }
    return sha256_of_json(depends_on)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """A lock on this folder, which the kernel releases however this process ends."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with lock(folder / "lock"):
            yield
    except BlockingIOError:
        raise TuningError(f"{folder}: another distilrec tune is running here; wait for it, or stop it") from None
