"""Compares the student with other people's recommenders, and prints a table of ratios.

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

from benchmarks.peers.contenders import ComparisonSetup
from benchmarks.peers.environment import make_environment
from benchmarks.peers.repository import fill_peer_repository
from benchmarks.peers.table import peers_table
from distill.models.encoders import Recommender
from distill.models.students.build import load_student
from distilrec.config import Config, load_config, spec_of_run
from distilrec.core.errors import DistilRecError
from distilrec.core.files import write_text
from distilrec.core.machine import processor
from distilrec.core.manifest import read_manifest
from distilrec.core.specs import Precision, RecommenderSpec
from distilrec.data.dataset import Dataset, held_out
from distilrec.data.stage import load
from distilrec.pipeline.finished import shipped_student
from distilrec.pipeline.folders import run_dir
from distilrec.pipeline.stages import with_sizes_of_data
from distilrec.serving.process.server import TritonServer, free_ports
from export.artefact import model_path

logger = logging.getLogger(__name__)

_ROOT = Path(__file__).parents[2]
_USERS = 256
"""Number of users whose requests are sent."""
_TIMEOUT_S = 1800
"""Time for the whole measurement, which takes some minutes with the default rounds."""
_ERROR_CHARACTERS = 2000
"""Characters shown of the end of a failed measurement's output: a traceback and its reason."""
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def compare(config: Config, *, rounds: int, requests: int) -> dict[str, Any]:
    """Measure all contenders on a finished run.

    Args:
        config: Settings of the run.
        rounds: Number of rounds; all contenders take a turn in each.
        requests: Number of timed requests to each contender in a round.

    Returns:
        Content of peers.json.

    Raises:
        ManifestError: The run is not finished.
        DistilRecError: The reference, the student in ONNX Runtime, cannot be measured.
    """
    config = with_sizes_of_data(config)
    artefact = run_dir(config) / "export"
    manifest = read_manifest(artefact)
    environment = make_environment((run_dir(config) / "peers-venv").absolute())
    dataset, vocabulary = load(run_dir(config) / "data")
    spec = spec_of_run(config, len(vocabulary))
    _check_plain(config, spec)
    with tempfile.TemporaryDirectory() as temporary, _server(artefact, config, Path(temporary)) as (url, fault):
        folder = Path(temporary)
        users = _write_inputs(config, dataset, spec, folder)
        setup = ComparisonSetup(folder, url, spec.item_count, spec.top_k, config.student.embedding_size)
        measured = _measure(environment.python, setup, rounds, requests)
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


def _check_plain(config: Config, spec: RecommenderSpec) -> None:
    """Raise DistilRecError for a model with optional tensors, which the contenders do not send."""
    if spec.choices:
        names = ", ".join(tensor.name for tensor in spec.choices)
        raise DistilRecError(
            f"run {config.name}: found optional tensors ({names}), expected a model without them: the peers have none"
        )


def _write_inputs(config: Config, dataset: Dataset, spec: RecommenderSpec, folder: Path) -> int:
    """Write the requests, all interactions before the test part and the student in two forms; returns the number of requests."""
    users = held_out(dataset, "test", spec, max_users=_USERS)
    before_test = [dataset.sequence(user)[:end] for user, end in enumerate(dataset.test_start)]
    np.savez(
        folder / "requests.npz",
        history=users.history,
        exclude=users.exclude,
        users=users.users,
        items=np.concatenate(before_test),
        offsets=np.cumsum([0, *(len(items) for items in before_test)]),
    )
    (folder / "student.onnx").write_bytes(model_path(run_dir(config) / "export", Precision.FP32).read_bytes())
    student = load_student(config, shipped_student(config), spec.item_count)
    torch.save(Recommender(student, spec).eval(), folder / "student.pt")
    return len(users.users)


@contextlib.contextmanager
def _server(artefact: Path, config: Config, folder: Path) -> Iterator[tuple[str | None, str | None]]:
    """Start a tritonserver with the models that are measured over the wire; yields its address, or the reason why it failed."""
    with contextlib.ExitStack() as stack:
        address_or_fault: tuple[str | None, str | None]
        try:
            changes = {"repository": folder / "repository", "target": "python", "instances": 1}
            fill_peer_repository(artefact, config.export.model_copy(update=changes))
            server = stack.enter_context(TritonServer(folder / "repository", free_ports(), folder / "log"))
            address_or_fault = server.url, None
        except DistilRecError as error:
            address_or_fault = None, str(error)
        yield address_or_fault


def _measure(python: Path, setup: ComparisonSetup, rounds: int, requests: int) -> dict[str, Any]:
    """Run ``benchmarks.peers.measure`` in the peers' environment."""
    setup.write(setup.folder / "setup.json")
    result = setup.folder / "result.json"
    arguments = [str(setup.folder / "setup.json"), str(result), str(rounds), str(requests)]
    environment = os.environ | dict.fromkeys(_ONE_THREAD, "1") | {"PYTHONPATH": str(_ROOT), "PYTHONNOUSERSITE": "1"}
    command = [str(python), "-m", "benchmarks.peers.measure", *arguments]
    try:
        # RecBole leaves logs in its working directory, so it gets one of its own.
        done = subprocess.run(
            command, cwd=setup.folder, env=environment, timeout=_TIMEOUT_S, capture_output=True, text=True, check=False
        )
    except subprocess.TimeoutExpired:
        raise DistilRecError(f"the peers took more than {_TIMEOUT_S} s; give fewer --rounds or --requests") from None
    if done.returncode:
        raise DistilRecError(
            f"the peers could not be measured (status {done.returncode}):\n{done.stderr.strip()[-_ERROR_CHARACTERS:]}"
        )
    content: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
    return content


def main() -> None:
    """Parse the options, measure, and print and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="ml-100k", help="preset or TOML file of a finished run (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=40, help="rounds in which all contenders take a turn (default: %(default)s)")
    parser.add_argument("--requests", type=int, default=50, help="timed requests to each in a round (default: %(default)s)")
    parser.add_argument("--output", type=Path, help="JSON file to write (default: the table is only printed)")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    if min(options.rounds, options.requests) < 1:
        parser.error(f"found {options.rounds} rounds of {options.requests} requests, expected at least 1 of each")
    try:
        result = compare(load_config(options.preset), rounds=options.rounds, requests=options.requests)
    except DistilRecError as error:
        sys.exit(f"benchmarks.peers: {error}")
    print(peers_table(result))
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        write_text(options.output, json.dumps(result, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
