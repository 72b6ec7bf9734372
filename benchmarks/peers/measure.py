"""Measures all contenders in one process, in the peers' environment.

Usage: python -m benchmarks.peers.measure SETUP.json RESULT.json ROUNDS REQUESTS
"""

import json
import os
import platform
import sys
from collections.abc import Callable
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.peers import contenders
from benchmarks.peers.contenders import ComparisonSetup
from benchmarks.peers.timing import Contender, Items, interleaved

REFERENCE = "student, ONNX Runtime"
_ANSWERS, _SCORES = "student through Triton, top K over the wire", "student through Triton, all scores over the wire"
_OURS = (REFERENCE, "student, PyTorch eager", _ANSWERS, _SCORES)
MAKERS: dict[str, Callable[[ComparisonSetup], Contender]] = {
    REFERENCE: contenders.onnx_student,
    "student, PyTorch eager": contenders.torch_student,
    "RecBole SASRec, full_sort_predict and top-k": contenders.recbole_sasrec,
    "implicit ALS, recommend for a user of the training": partial(contenders.implicit_als, from_history=False),
    "implicit ALS, recommend from the history": partial(contenders.implicit_als, from_history=True),
    _ANSWERS: partial(contenders.over_the_wire, all_scores=False),
    _SCORES: partial(contenders.over_the_wire, all_scores=True),
}
"""Function that makes each contender, by the contender's name; the reference comes first."""
NOTES = (
    "Every request is of one user. Every contender leaves out what the user has seen and returns the K best items.",
    "RecBole's SASRec has its default sizes and random weights, which do not change the time. Its quality is not compared.",
    "implicit's ALS was fitted on the run's interactions before the test part. For a user of the training it looks up factors.",
    "Over the wire: loopback gRPC to a tritonserver on the same machine, Python backend, one instance, from arrays to arrays. Both"
    " models run the same FP32 graph. Where all scores are sent, they are masked already, and the client only takes the K best.",
)
_PACKAGES = ("numpy", "torch", "onnxruntime", "recbole", "implicit", "scipy", "grpcio", "tritonclient")
_CHECKED_ROWS = 20
"""Requests whose answers are checked before the timing."""
_SAME_TOP = 10
"""First items that all forms of the student must have in common; further down, rounding can exchange items of equal score."""
_REASON_CHARACTERS = 500
"""Characters kept of the reason why a contender could not run."""


def measure(setup: ComparisonSetup, rounds: int, requests: int) -> dict[str, Any]:
    """Measure seconds of a request to each contender and ratios to the reference; without them, a contender has a reason.

    Args:
        setup: Requests, and what the contenders are made from.
        rounds: Number of rounds.
        requests: Number of timed requests to each contender in a round.

    Raises:
        Exception: The reference itself cannot run, so there is nothing to compare with.
    """
    runnable, faults = _make_all(setup)
    times = interleaved(runnable, len(setup.requests["users"]), rounds=rounds, requests=requests)
    rows: dict[str, Any] = {name: {"not_measured": reason} for name, reason in faults.items()}
    for name, own_times in times.items():
        ratio, low, high = own_times.ratio_to(times[REFERENCE])
        rows[name] = {"seconds_per_request": own_times.median_s, "ratio": ratio, "ratio_p10": low, "ratio_p90": high}
    result: dict[str, Any] = {"contenders": {name: rows[name] for name in MAKERS}, "reference": REFERENCE, "notes": NOTES}
    if {_ANSWERS, _SCORES} <= times.keys():
        result["all_scores_to_top_k_over_the_wire"] = times[_SCORES].ratio_to(times[_ANSWERS])[0]
    return result | {"rounds": rounds, "requests_per_round": requests, "threads": 1, "batch": 1, "versions": _versions()}


def _make_all(setup: ComparisonSetup) -> tuple[dict[str, Contender], dict[str, str]]:
    """Return the contenders whose answers are right, and the reasons why the others are left out."""
    runnable, faults = {}, {}
    reference = None
    for name, make in MAKERS.items():
        try:
            answer = make(setup)
            reference = reference or answer
            _check(answer, setup, reference if name in _OURS else None)
        except Exception as error:  # Other people's packages may raise anything.
            if name == REFERENCE:
                raise
            faults[name] = f"{type(error).__name__}: {error}"[:_REASON_CHARACTERS]
        else:
            runnable[name] = answer
    return runnable, faults


def _check(answer: Contender, setup: ComparisonSetup, reference: Contender | None) -> None:
    """Check that a contender returns K different unseen items, and that our own models agree with the reference.

    Raises:
        ValueError: The contender returns something else, so its time means nothing.
    """
    arrays = setup.requests
    for row in range(min(_CHECKED_ROWS, len(arrays["users"]))):
        items = answer(row)
        seen = {*arrays["history"][row].tolist(), *arrays["exclude"][row].tolist()}
        if len(items) != setup.top_k or len(set(items.tolist())) != len(items) or seen & set(items.tolist()):
            raise ValueError(f"row {row}: expected {setup.top_k} different items that the user has not seen, found {items[:10]}...")
        if reference is not None:
            _check_same(items, reference(row), row)


def _check_same(items: Items, expected: Items, row: int) -> None:
    if items[:_SAME_TOP].tolist() != expected[:_SAME_TOP].tolist():
        raise ValueError(
            f"row {row}: expected the top {_SAME_TOP} of ONNX Runtime {expected[:_SAME_TOP]}, found {items[:_SAME_TOP]}"
        )


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


if __name__ == "__main__":
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
    setup_path, result_path, rounds_text, requests_text = sys.argv[1:]
    del sys.argv[1:]  # RecBole reads the command line, too.
    result = measure(ComparisonSetup.read(Path(setup_path)), int(rounds_text), int(requests_text))
    Path(result_path).write_text(json.dumps(result), encoding="utf-8")
