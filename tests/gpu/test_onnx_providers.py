"""ONNX Runtime's providers on the GPU, behind the serving contract. Needs no TensorRT of ours. Not run on a GPU yet."""

import onnxruntime
import pytest

from distill.models.runner import TorchRunner
from distilrec.core.specs import Precision
from distilrec.evaluation.contract import BATCH_TOLERANCE, check_contract
from distilrec.evaluation.latency import p50_ms
from distilrec.evaluation.metrics import overlap
from distilrec.evaluation.parity import check_parity
from export.graph.onnx_runner import OnnxRunner
from export.graph.providers import NAMES

pytestmark = pytest.mark.gpu

CASES = [
    ("cuda", Precision.FP32),
    ("cuda", Precision.FP16),
    ("tensorrt", Precision.FP32),
    ("tensorrt", Precision.FP16),
    ("tensorrt", Precision.INT8),
]
LEAST_OVERLAP = {Precision.FP32: 0.999, Precision.FP16: 0.98, Precision.INT8: 0.9}


@pytest.fixture(params=CASES, ids=lambda case: f"{case[0]}-{case[1].value}", scope="module")
def served(request, models, spec):
    provider, precision = request.param
    if NAMES[provider] not in onnxruntime.get_available_providers():
        pytest.skip(f"ONNX Runtime has no {NAMES[provider]}: pip uninstall onnxruntime && pip install onnxruntime-gpu")
    return provider, precision, OnnxRunner(models[precision], spec, provider=provider)


def test_provider_keeps_every_promise_of_the_contract(served, spec, requests):
    _, precision, runner = served
    check_contract(runner, spec, *requests, BATCH_TOLERANCE[precision])


def test_provider_ranks_as_pytorch(served, spec, student, requests):
    _, precision, runner = served
    if precision is Precision.FP32:
        check_parity(TorchRunner(student, spec), runner, *requests)
    expected, _ = TorchRunner(student, spec).recommend(*requests)
    assert overlap(expected, runner.recommend(*requests)[0], spec.top_k).mean() >= LEAST_OVERLAP[precision]


def test_time_of_a_request_is_noted(served, requests, record_property):
    provider, precision, runner = served
    times = p50_ms({"here": runner}, *requests, requests=100)
    record_property(f"p50 ms of one request, ONNX Runtime {provider} {precision.value}", times["here"])
