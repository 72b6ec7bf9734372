"""Commands that are killed at seeded random moments, while a server runs on the repository that they change."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from clients import RecommenderClient
from clients.grpc_model import GrpcModel
from distilrec.evaluation.parity import compare
from distilrec.serving.process.security import state_folder
from distilrec.serving.process.server import TritonServer, free_ports
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
promote(Path(artefact), Path(repository), ExportConfig(instances=1, max_batch_size=8), server, limits=Limits(0.2, 0.001, 5000))
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


def killed(command: str, artefact: Path, repository: Path, server, after_s: float) -> tuple[bool, float]:
    """Run a command, and kill it ``after_s`` seconds after its imports; returns whether it was killed, and the seconds it took."""
    arguments = [sys.executable, "-c", command, str(artefact), str(repository), server.url]
    environment = os.environ | {"SECRET": server.secret.value}
    process = subprocess.Popen(arguments, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "begins\n", process.stderr.read()
    began = time.monotonic()
    try:
        _, errors = process.communicate(timeout=after_s)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.communicate()
        return True, after_s
    assert process.returncode == 0, errors
    return False, time.monotonic() - began


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


def leftovers(repository: Path) -> list[str]:
    """What lies in a repository that neither its journal nor a pin accounts for."""
    entries = versions(repository)
    kept = {entry.number for entry in entries if entry.state in {"serving", "good"}}
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
