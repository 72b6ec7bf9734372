"""Options and fixtures of the benchmarks, which run only with ``pytest --benchmark-only``.

They measure the run of ``--run-preset``, or the export folder of ``--artefact``. A run of the whole suite writes its result to
``runs/NAME/benchmark.json``, where ``distilrec report`` reads it; ``--benchmark-json`` names another file.
"""

from pathlib import Path
from typing import Any

import pytest

from benchmarks import provenance
from benchmarks.subject import CannotMeasureError, Subject, of_artefact, of_run
from distilrec.config import Config, load_config
from distilrec.core.errors import DistilRecError
from distilrec.pipeline.folders import run_dir
from distilrec.report.content import BENCHMARK_FILE

_not_run = pytest.StashKey[dict[str, str]]()
_FOLDER = Path(__file__).parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--run-preset", default="ml-100k", help="preset of the finished run to measure (default: %(default)s)")
    parser.addoption("--artefact", type=Path, help="export folder to measure instead; benchmarks that need the teacher are skipped")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    config.stash[_not_run] = {}
    # The result of a part of the suite must not replace the result of the whole suite.
    whole_suite = not config.option.keyword and all(Path(argument).is_dir() for argument in config.args)
    if (
        config.getoption("benchmark_only")
        and config.getoption("benchmark_json") is None
        and whole_suite
        and not config.option.artefact
    ):
        folder = run_dir(load_config(config.option.run_preset))
        if folder.is_dir():
            config.option.benchmark_json = folder / BENCHMARK_FILE


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("benchmark_only"):
        for item in items:
            if item.path.parent == _FOLDER:
                item.add_marker(pytest.mark.skip(reason="benchmarks run with: pytest --benchmark-only"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """Note each benchmark that could not run, with the reason; ``pytest_benchmark_update_json`` adds these notes to the result."""
    report = yield
    if item.path.parent == _FOLDER and not report.passed:
        reason = (
            report.longrepr[2].removeprefix("Skipped: ") if report.skipped else f"failed: {call.excinfo and call.excinfo.exconly()}"
        )
        item.config.stash[_not_run][item.name] = reason
    return report


def pytest_benchmark_update_machine_info(machine_info: dict[str, Any]) -> None:
    machine_info.pop("node", None)
    machine_info |= provenance.machine()


def pytest_benchmark_update_commit_info(commit_info: dict[str, Any]) -> None:
    commit_info.pop("project", None)


def pytest_benchmark_update_json(config: pytest.Config, output_json: dict[str, Any]) -> None:
    output_json["artefact"] = provenance.measured_subject(_find(config))
    output_json["not_run"] = config.stash[_not_run]


@pytest.fixture(scope="session")
def subject(request: pytest.FixtureRequest) -> Subject:
    try:
        return _find(request.config)
    except DistilRecError as error:
        pytest.skip(f"{error}; make it with: make demo PRESET={request.config.getoption('--run-preset')}")


@pytest.fixture(scope="session")
def finished(subject: Subject) -> Config:
    try:
        return subject.run()
    except CannotMeasureError as error:
        pytest.skip(str(error))


def _find(config: pytest.Config) -> Subject:
    folder = config.getoption("--artefact")
    return of_artefact(folder) if folder else of_run(load_config(config.getoption("--run-preset")))
