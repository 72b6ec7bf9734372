"""Engines on a real GPU against PyTorch and ONNX Runtime. Skipped, with the reason, where there is no GPU or no TensorRT."""

from dataclasses import replace

import numpy as np
import pytest

from distill.models.runner import TorchRunner
from distilrec.core.errors import EngineError
from distilrec.core.specs import PADDING, Precision
from distilrec.evaluation.contract import BATCH_TOLERANCE, check_contract
from distilrec.evaluation.metrics import overlap
from distilrec.evaluation.parity import check_parity, edge_requests
from export.engines.backends import find_backend
from export.engines.plan import check_plan, read_plan_manifest, this_device, write_plan_manifest
from export.engines.runner import EngineRunner
from export.graph.onnx_runner import OnnxRunner

pytestmark = pytest.mark.gpu

VOCABULARY = "a" * 64
LEAST_OVERLAP = {Precision.FP32: 0.999, Precision.FP16: 0.98, Precision.INT8: 0.9}


@pytest.fixture(params=list(Precision), scope="module")
def precision(request):
    return request.param


@pytest.fixture(scope="module")
def runner(plans, spec, precision):
    return EngineRunner(plans[precision], spec, VOCABULARY)


def test_engine_answers_as_pytorch_when_it_is_fp32(plans, spec, student, requests):
    check_parity(TorchRunner(student, spec), EngineRunner(plans[Precision.FP32], spec, VOCABULARY), *requests)


def test_engine_keeps_the_ranking(runner, spec, student, requests, precision):
    expected, _ = TorchRunner(student, spec).recommend(*requests)
    items, _ = runner.recommend(*requests)
    assert overlap(expected, items, spec.top_k).mean() >= LEAST_OVERLAP[precision]


def test_engine_answers_as_onnx_runtime_on_the_same_graph(runner, models, spec, requests, precision):
    expected, _ = OnnxRunner(models[precision], spec, optimize=False).recommend(*requests)
    items, _ = runner.recommend(*requests)
    assert overlap(expected, items, spec.top_k).mean() >= LEAST_OVERLAP[precision]


def test_engine_keeps_every_promise_of_the_contract(runner, spec, requests, precision):
    """Among them: no padded row, nothing seen or excluded, one answer alone, in a batch and twice in a batch."""
    check_contract(runner, spec, *requests, BATCH_TOLERANCE[precision])


def test_equal_rows_of_one_batch_have_equal_answers(runner, requests):
    history, exclude = (np.repeat(array[10:11], runner.max_batch_size, axis=0) for array in requests)
    items, scores = runner.recommend(history, exclude)
    assert (items == items[0]).all()
    assert (scores == scores[0]).all()


def test_padded_rows_are_never_returned_when_everything_is_asked_for(runner, spec, requests):
    items, _ = runner.recommend(*requests)
    assert items.min() >= PADDING
    assert items.max() <= spec.item_count


def test_indices_out_of_range_count_as_padding(runner, spec):
    history, exclude = edge_requests(spec)
    cleaned = [np.where((array >= 1) & (array <= spec.item_count), array, PADDING).astype(np.int32) for array in (history, exclude)]
    assert not np.array_equal(cleaned[0], history)
    for expected, found in zip(runner.recommend(*cleaned), runner.recommend(history, exclude), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("rows", [0, 1, 63, 64, 65, 150])
def test_batches_are_split_when_they_are_larger_than_the_plan_allows(runner, requests, rows, precision):
    items, scores = runner.recommend(requests[0][:rows], requests[1][:rows])
    assert (items.shape, items.dtype) == ((rows, runner.spec.top_k), np.int32)
    assert (scores.shape, scores.dtype) == ((rows, runner.spec.top_k), np.float32)
    whole = runner.recommend(*requests)[1][:rows]
    np.testing.assert_allclose(scores, whole, atol=BATCH_TOLERANCE[precision])


def test_cuda_graph_answers_as_eager(runner, plans, spec, requests, precision):
    graphs = EngineRunner(plans[precision], spec, VOCABULARY, cuda_graph_batches=(1, 8))
    for rows in (1, 8, 3):
        for start in (0, 8, 16, 24):  # the graph reads what is in its buffers now, not what it was captured with
            request = [array[start : start + rows] for array in requests]
            (items, scores), (expected_items, expected_scores) = graphs.recommend(*request), runner.recommend(*request)
            np.testing.assert_allclose(scores, expected_scores, atol=BATCH_TOLERANCE[precision])
            assert overlap(expected_items, items, spec.top_k).mean() > 0.95


def test_cuda_graph_is_refused_when_its_batch_is_too_large(plans, spec):
    with pytest.raises(EngineError, match=r"batches of \[65\], expected sizes of 1\.\.64"):
        EngineRunner(plans[Precision.FP32], spec, VOCABULARY, cuda_graph_batches=(1, 65))


def test_memory_is_reported(runner):
    assert runner.device_memory_bytes > 0


def test_plan_records_the_gpu_it_is_for(plans, precision):
    manifest = read_plan_manifest(plans[precision])
    device = this_device(find_backend(manifest.backend))
    assert device.compute_capability in manifest.compute_capabilities
    if manifest.backend == "tensorrt":
        assert manifest.gpu_name == device.gpu_name


def test_plan_is_refused_when_it_is_for_another_gpu(plans, spec, tmp_path):
    source = plans[Precision.FP32]
    plan = tmp_path / "other.plan"
    plan.write_bytes(source.read_bytes())
    other = {"compute_capabilities": ("5.0",), "hardware_compatible": False}
    write_plan_manifest(plan, read_plan_manifest(source).model_copy(update=other))
    with pytest.raises(EngineError, match=r"found a plan for compute capability 5\.0, expected"):
        EngineRunner(plan, spec, VOCABULARY)


def test_plan_is_refused_when_spec_or_vocabulary_are_others(plans, spec):
    device = this_device(find_backend(read_plan_manifest(plans[Precision.FP32]).backend))
    with pytest.raises(EngineError, match="found a plan for RecommenderSpec"):
        check_plan(plans[Precision.FP32], replace(spec, top_k=10), VOCABULARY, device)
    with pytest.raises(EngineError, match="vocabulary"):
        EngineRunner(plans[Precision.FP32], spec, "b" * 64)
