"""Measures all contenders in one process; runs in the peers' environment.

Usage: python -m benchmarks.peers.measure SETTING.json RESULT.json ROUNDS REQUESTS
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
from benchmarks.peers.contenders import Setting
from benchmarks.peers.timing import Answerer, Items, interleaved

REFERENCE = "student, ONNX Runtime"
_ANSWERS, _SCORES = "student through Triton, top K over the wire", "student through Triton, all scores over the wire"
_OURS = (REFERENCE, "student, PyTorch eager", _ANSWERS, _SCORES)
CONTENDERS: dict[str, Callable[[Setting], Answerer]] = {
    REFERENCE: contenders.onnx_student,
    "student, PyTorch eager": contenders.torch_student,
    "RecBole SASRec, full_sort_predict and top-k": contenders.recbole_sasrec,
    "implicit ALS, recommend for a user of the training": partial(contenders.implicit_als, from_history=False),
    "implicit ALS, recommend from the history": partial(contenders.implicit_als, from_history=True),
    _ANSWERS: partial(contenders.over_the_wire, all_scores=False),
    _SCORES: partial(contenders.over_the_wire, all_scores=True),
}
NOTES = (
    "Every request is of one user; every contender masks what the user has had and gives the K best items.",
    "RecBole's SASRec has its default sizes and random weights, which cost what trained ones cost. Its quality is not compared.",
    "implicit's ALS was fitted on the run's interactions before the test part. For a user of the training it looks factors up.",
    "Over the wire: loopback gRPC to a tritonserver on the same machine, Python backend, one instance, from arrays to arrays. Both"
    " models run the same FP32 graph; where all scores are sent they are masked already, and the client only takes the K best.",
)
_PACKAGES = ("numpy", "torch", "onnxruntime", "recbole", "implicit", "scipy", "grpcio", "tritonclient")
_CHECKED = 20
_SAME_TOP = 10


def measure(setting: Setting, rounds: int, requests: int) -> dict[str, Any]:
    """Seconds for each request and ratios to the reference; a contender that cannot run says why instead.

    Raises:
        Exception: the reference itself cannot run; then there is nothing to compare with.
    """
    answerers, faults = _make_all(setting)
    times = interleaved(answerers, len(setting.requests["users"]), rounds=rounds, requests=requests)
    rows: dict[str, Any] = {name: {"not_measured": reason} for name, reason in faults.items()}
    for name, found in times.items():
        ratio, low, high = found.ratio_to(times[REFERENCE])
        rows[name] = {"seconds_per_request": found.median_s, "ratio": ratio, "ratio_p10": low, "ratio_p90": high}
    result: dict[str, Any] = {"contenders": {name: rows[name] for name in CONTENDERS}, "reference": REFERENCE, "notes": NOTES}
    if {_ANSWERS, _SCORES} <= times.keys():
        result["all_scores_to_top_k_over_the_wire"] = times[_SCORES].ratio_to(times[_ANSWERS])[0]
    return result | {"rounds": rounds, "requests_per_round": requests, "threads": 1, "batch": 1, "versions": _versions()}


def _make_all(setting: Setting) -> tuple[dict[str, Answerer], dict[str, str]]:
    """Those that answer as they should, and why the others do not."""
    answerers, faults = {}, {}
    reference = None
    for name, make in CONTENDERS.items():
        try:
            answer = make(setting)
            reference = reference or answer
            _check(answer, setting, reference if name in _OURS else None)
        except Exception as error:  # whatever other people's packages raise
            if name == REFERENCE:
                raise
            faults[name] = f"{type(error).__name__}: {error}"[:500]
        else:
            answerers[name] = answer
    return answerers, faults


def _check(answer: Answerer, setting: Setting, reference: Answerer | None) -> None:
    """Hold a contender to what is asked: K different items, none that the user has had; our own models must agree.

    Raises:
        ValueError: it answers something else, so its time means nothing.
    """
    arrays = setting.requests
    for row in range(min(_CHECKED, len(arrays["users"]))):
        items = answer(row)
        had = {*arrays["history"][row].tolist(), *arrays["exclude"][row].tolist()}
        if len(items) != setting.top_k or len(set(items.tolist())) != len(items) or had & set(items.tolist()):
            raise ValueError(
                f"row {row}: expected {setting.top_k} different items that the user has not had, found {items[:10]}..."
            )
        if reference is not None:
            _check_same(items, reference(row), row)


def _check_same(items: Items, expected: Items, row: int) -> None:
    if items[:_SAME_TOP].tolist() != expected[:_SAME_TOP].tolist():
        raise ValueError(
            f"row {row}: expected the top {_SAME_TOP} of ONNX Runtime {expected[:_SAME_TOP]}, found {items[:_SAME_TOP]}"
        )


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


if __name__ == "__main__":
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
    setting_path, result_path, rounds_text, requests_text = sys.argv[1:]
    del sys.argv[1:]  # RecBole reads the command line, too
    measured = measure(Setting.read(Path(setting_path)), int(rounds_text), int(requests_text))
    Path(result_path).write_text(json.dumps(measured), encoding="utf-8")
