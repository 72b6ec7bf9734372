"""The report of ``make test-gpu``: this machine, what passed and what was measured, to be attached to an issue."""

import platform
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from distilrec.config import ExportConfig
from distilrec.serving.doctor import InstalledPart, examine, examine_target

_NO_SERVER = "127.0.0.1:9"


class Outcome(NamedTuple):
    """How a test ended."""

    test: str
    outcome: str
    seconds: float
    reason: str
    """Why it was skipped, or the end of its error."""
    measured: dict[str, object]
    """What the test noted with ``record_property``."""


class GpuReport:
    """A plugin of pytest that writes the report when the tests are over."""

    def __init__(self, path: Path) -> None:
        self.path, self.outcomes = path, list[Outcome]()

    def pytest_runtest_logreport(self, report):
        if report.when == "call" or report.outcome != "passed":
            # A skip has file, line and reason; a failure has a text.
            skipped = isinstance(report.longrepr, tuple)
            text = report.longrepr[2] if skipped else str(report.longreprtext)
            reason = "" if report.outcome == "passed" else text.strip().splitlines()[-1].removeprefix("Skipped: ")
            name = report.nodeid.rpartition("/")[2]
            self.outcomes.append(Outcome(name, report.outcome, report.duration, reason, dict(report.user_properties)))

    def pytest_sessionfinish(self):
        parts = [*examine(_NO_SERVER), *examine_target("tensorrt", ExportConfig().container, Path("triton_repo"))]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(render(parts, self.outcomes))

    def pytest_terminal_summary(self, terminalreporter):
        terminalreporter.write_line(f"report to attach: {self.path}")


def render(parts: Iterable[InstalledPart], outcomes: Iterable[Outcome]) -> str:
    """The report as Markdown."""
    listed = list(outcomes)
    counts = {name: sum(one.outcome == name for one in listed) for name in ("passed", "failed", "skipped")}
    lines = [
        "# make test-gpu",
        "",
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {platform.platform()}: " + ", ".join(f"{n} {name}" for name, n in counts.items()),
        "",
        *["| part | ok | found |", "|---|---|---|"],
        *(f"| {part.name} | {_MARKS[part.ok]} | {part.detail} |" for part in parts),
        "",
        *["| measured | value |", "|---|---|"],
        *(f"| {name} | {_shown(value)} |" for one in listed for name, value in one.measured.items()),
        "",
        *["| test | outcome | s | reason |", "|---|---|---:|---|"],
        *(f"| {one.test} | {one.outcome} | {one.seconds:.1f} | {one.reason.replace('|', '/')} |" for one in listed),
    ]
    return "\n".join(lines) + "\n"


_MARKS = {True: "yes", False: "**no**", None: ""}


def _shown(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
