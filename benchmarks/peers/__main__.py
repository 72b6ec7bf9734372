"""Compares the student with other people's recommenders; prints a table of ratios.

Example: python -m benchmarks.peers --preset ml-100k --output benchmarks/results/ml-100k/peers.json
"""

import argparse
import contextlib
import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.peers import served
from benchmarks.peers.contenders import Setting
from benchmarks.peers.environment import make_environment
from benchmarks.peers.table import markdown_table
from distill.models.encoders import Recommender
from distill.models.students.build import load_student
from distilrec.config import Config, load_config
from distilrec.core.errors import DistilRecError
from distilrec.core.files import write_text
from distilrec.core.machine import processor
from distilrec.core.manifest import read_manifest
from distilrec.core.specs import Precision, RecommenderSpec
from distilrec.data.dataset import Dataset, held_out
from distilrec.data.stage import load
from distilrec.pipeline.stages import run_dir
from distilrec.serving.process.server import TritonServer, free_ports
from export.artefact import model_path
from export.stage import recommender_spec

logger = logging.getLogger(__name__)

_ROOT = Path(__file__).parents[2]
_USERS = 256
_TIMEOUT_S = 1800
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def compare(config: Config, *, rounds: int, requests: int) -> dict[str, Any]:
    """Measure all contenders on a finished run.

    Args:
        config: of the run.
        rounds: of all contenders in turn.
        requests: of each in a round.

    Raises:
        ManifestError: the run is not finished.
        DistilRecError: what is measured against cannot be measured itself.
    """
    artefact = run_dir(config) / "export"
    manifest = read_manifest(artefact)
    environment = make_environment((run_dir(config) / "peers-venv").absolute())
    dataset, vocabulary = load(run_dir(config) / "data")
    spec = recommender_spec(config, len(vocabulary))
    with tempfile.TemporaryDirectory() as temporary, _server(artefact, config, Path(temporary)) as (url, fault):
        folder = Path(temporary)
        users = _write_inputs(config, dataset, spec, folder)
        setting = Setting(folder, url, spec.item_count, spec.top_k, config.student.embedding_size)
        measured = _measure(environment.python, setting, rounds, requests)
    return {
        "format_version": 1,
        "run": config.name,
        "seed": config.seed,
        "model": {"precision": Precision.FP32.value, "embedding_size": config.student.embedding_size, **vars(spec)},
        "artefact_digest": manifest.digest,
        "users": users,
        "machine": {"processor": processor(), "cores": os.cpu_count()},
        "not_installed": environment.failed,
        "server_fault": fault,
    } | measured


def _write_inputs(config: Config, dataset: Dataset, spec: RecommenderSpec, folder: Path) -> int:
    """The requests, all training interactions, and the student in two forms; returns how many users ask."""
    users = held_out(dataset, "test", spec, max_users=_USERS)
    seen = [dataset.sequence(user)[:end] for user, end in enumerate(dataset.test_start)]
    np.savez(
        folder / "requests.npz",
        history=users.history,
        exclude=users.exclude,
        users=users.users,
        items=np.concatenate(seen),
        offsets=np.cumsum([0, *(len(items) for items in seen)]),
    )
    (folder / "student.onnx").write_bytes(model_path(run_dir(config) / "export", Precision.FP32).read_bytes())
    student = load_student(config, run_dir(config) / "student", spec.item_count)
    torch.save(Recommender(student, spec).eval(), folder / "student.pt")
    return len(users.users)


@contextlib.contextmanager
def _server(artefact: Path, config: Config, folder: Path) -> Iterator[tuple[str | None, str | None]]:
    """A tritonserver with what crosses the wire; its address, or why there is none."""
    with contextlib.ExitStack() as stack:
        found: tuple[str | None, str | None]
        try:
            given = {"repository": folder / "repository", "target": "python", "instances": 1}
            served.fill(artefact, config.export.model_copy(update=given))
            found = stack.enter_context(TritonServer(folder / "repository", free_ports(), folder / "log")).url, None
        except DistilRecError as error:
            found = None, str(error)
        yield found


def _measure(python: Path, setting: Setting, rounds: int, requests: int) -> dict[str, Any]:
    """Run ``benchmarks.peers.measure`` in the peers' environment."""
    setting.write(setting.folder / "setting.json")
    result = setting.folder / "result.json"
    arguments = [str(setting.folder / "setting.json"), str(result), str(rounds), str(requests)]
    environment = os.environ | dict.fromkeys(_ONE_THREAD, "1") | {"PYTHONPATH": str(_ROOT), "PYTHONNOUSERSITE": "1"}
    command = [str(python), "-m", "benchmarks.peers.measure", *arguments]
    # A folder of its own: RecBole leaves logs where it runs.
    try:
        done = subprocess.run(
            command, cwd=setting.folder, env=environment, timeout=_TIMEOUT_S, capture_output=True, text=True, check=False
        )
    except subprocess.TimeoutExpired:
        raise DistilRecError(f"the peers took more than {_TIMEOUT_S} s; give fewer --rounds or --requests") from None
    if done.returncode:
        raise DistilRecError(f"the peers could not be measured (status {done.returncode}):\n{done.stderr.strip()[-2000:]}")
    content: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
    return content


def main() -> None:
    """Parse, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="ml-100k", help="preset or TOML file of a finished run (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=40, help="rounds in which all are asked in turn (default: %(default)s)")
    parser.add_argument("--requests", type=int, default=50, help="requests to each in a round (default: %(default)s)")
    parser.add_argument("--output", type=Path, help="JSON file to write; without, the table is only printed")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    if min(given.rounds, given.requests) < 1:
        parser.error(f"found {given.rounds} rounds of {given.requests} requests, expected at least 1 of each")
    try:
        result = compare(load_config(given.preset), rounds=given.rounds, requests=given.requests)
    except DistilRecError as error:
        sys.exit(f"benchmarks.peers: {error}")
    print(markdown_table(result))
    if given.output:
        given.output.parent.mkdir(parents=True, exist_ok=True)
        write_text(given.output, json.dumps(result, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
