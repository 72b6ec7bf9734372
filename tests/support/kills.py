"""Commands that are killed at seeded random moments, while a server runs on the repository that they change."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from clients import RecommenderClient
from clients.grpc_model import GrpcModel
from distilrec.evaluation.parity import compare
from distilrec.serving.process.security import state_folder
from distilrec.serving.process.server import TritonServer, free_ports
from distilrec.serving.rollout.live import ready_versions
from distilrec.serving.rollout.promotion import versions
from export.repository.models import MODELS
from export.repository.versions import config_path, served_version

PROMOTE = """
import os, sys
from pathlib import Path
from distilrec.config import ExportConfig
from distilrec.serving.process.security import ControlSecret
from distilrec.serving.rollout.live import Server
from distilrec.serving.rollout.live_checks import Limits
from distilrec.serving.rollout.promotion import promote
artefact, repository, url = sys.argv[1:]
server = Server(url, ControlSecret(os.environ["SECRET"]))
print("begins", flush=True)
def report(step):
    print(step, flush=True)
config, limits = ExportConfig(instances=1, max_batch_size=8), Limits(0.2, 0.001, 5000)
promote(Path(artefact), Path(repository), config, server, limits=limits, report=report)
"""

EXPORT = """
import sys
from pathlib import Path
from distilrec.config import ExportConfig
from export.repository.fill import fill_repository
artefact, repository, _ = sys.argv[1:]
print("begins", flush=True)
fill_repository(Path(artefact), ExportConfig(instances=1, max_batch_size=8, repository=Path(repository)))
"""


def run(command: str, artefact: Path, repository: Path, server, kill_at: tuple[int, float] | None = None) -> list[float]:
    """Run a command, and kill it some seconds after it has printed some lines.

    Args:
        command: Program text; it prints a line before its work, and after each of its steps.
        artefact: Export that it takes.
        repository: Repository that it changes.
        server: Server that runs on the repository.
        kill_at: Number of lines, and seconds after the last of them; None lets it end.

    Returns:
        Seconds between its lines, up to its end.
    """
    arguments = [sys.executable, "-c", command, str(artefact), str(repository), server.url]
    environment = os.environ | {"SECRET": server.secret.value}
    process = subprocess.Popen(arguments, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    times = []
    while process.stdout.readline():
        times.append(time.monotonic())
        if kill_at and len(times) == kill_at[0]:
            time.sleep(kill_at[1])
            process.send_signal(signal.SIGKILL)
            process.communicate()
            return []
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    times.append(time.monotonic())
    return np.diff(times).tolist()


def moments(steps_s: list[float], count: int, seed: int) -> list[tuple[int, float]]:
    """Random moments, one in each part of a command's time, as numbers of lines and seconds after the last of them.

    So they fall into the same step however busy the machine is then.
    """
    ends = np.cumsum(steps_s)
    at = ends[-1] * (np.arange(count) + np.random.default_rng(seed).random(count)) / count
    return [
        (int(step) + 1, float(moment - (ends[step - 1] if step else 0)))
        for moment, step in zip(at, np.searchsorted(ends, at), strict=True)
    ]


def check_live(server, goldens: dict[str, object]) -> None:
    """The running server gives the golden answers of one of the artefacts, to new clients, too."""
    with GrpcModel(server.url) as model:
        requests = next(iter(goldens.values()))
        answer = model.recommend(requests.history[:8], requests.exclude[:8])
    assert any(not compare((golden.items[:8], golden.scores[:8]), answer).misplaced for golden in goldens.values())
    with RecommenderClient(server.url) as client:
        assert len(client.recommend(["item-1"])) > 0


def check_restart(repository: Path, log: Path, goldens: dict[str, object]) -> None:
    """A plain start on the repository as it was left is healthy."""
    with TritonServer(repository, free_ports(), log) as server:
        check_live(server, goldens)


def leftovers(repository: Path, server) -> list[str]:
    """What lies in a repository that is neither pinned, nor good in its journal, nor live."""
    entries = versions(repository)
    kept = {entry.number for entry in entries if entry.state in {"serving", "good"}} | ready_versions(server, "student")
    expected = {repository / name for name in ("versions.json", "versions.lock")}
    for model in MODELS:
        folder = repository / model.name
        serving = served_version(repository, model.name)
        expected |= {folder / "config.pbtxt", *(config_path(repository, model.name, n) for n in kept - {serving})}
        expected |= {folder / str(number) for number in kept}
        expected |= {path for path in (folder / "warmup").glob("*") if int(path.name.split(".")[0]) in kept}
    found = {*repository.glob("*.*"), *(path for model in MODELS for path in (repository / model.name).iterdir())}
    found |= set(repository.glob("*/warmup/*"))
    return sorted(str(path) for path in found - expected if path.name != "warmup")


def rehearsals() -> list[str]:
    """Folders of rehearsals, and the pids of their living servers."""
    folders = list(state_folder().glob("rehearsal-*"))
    files = [folder / "server.json" for folder in folders]
    pids = [json.loads(file.read_text())["server"]["pid"] for file in files if file.exists()]
    return [*map(str, folders), *(str(pid) for pid in pids if Path(f"/proc/{pid}").exists())]
