"""Engines on a real GPU against PyTorch and ONNX Runtime. Skipped, with the reason, where there is no GPU or no TensorRT."""

from dataclasses import replace

import numpy as np
import pytest

from distill.models.runner import TorchRunner
from distilrec.core.errors import EngineError
from distilrec.core.specs import PADDING, Precision
from distilrec.evaluation.contract import BATCH_TOLERANCE, Agreement, check_contract
from distilrec.evaluation.latency import p50_ms
from distilrec.evaluation.metrics import overlap
from distilrec.evaluation.parity import check_parity, edge_requests
from distilrec.evaluation.verdict import PrecisionMeasurement, choose_precision
from export.engines.backends import find_backend
from export.engines.build import inspect_plan
from export.engines.plan import check_plan, read_plan_manifest, this_device, write_plan_manifest
from export.engines.runner import EngineRunner
from export.graph.onnx_runner import OnnxRunner
from export.graph.precisions import SMALLEST_FIRST

pytestmark = pytest.mark.gpu

LEAST_OVERLAP = {Precision.FP32: 0.999, Precision.FP16: 0.98, Precision.INT8: 0.9}


@pytest.fixture(params=list(Precision), scope="module")
def precision(request):
    return request.param


@pytest.fixture(scope="module")
def runner(plans, spec, precision, vocabulary):
    return EngineRunner(plans[precision], spec, vocabulary)


def test_engine_answers_as_pytorch_when_it_is_fp32(plans, spec, student, requests, vocabulary):
    check_parity(TorchRunner(student, spec), EngineRunner(plans[Precision.FP32], spec, vocabulary), *requests)


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


def test_cuda_graph_answers_as_eager(runner, plans, spec, requests, precision, vocabulary):
    graphs = EngineRunner(plans[precision], spec, vocabulary, cuda_graph_batches=(1, 8))
    for rows in (1, 8, 3):
        for start in (0, 8, 16, 24):  # the graph reads what is in its buffers now, not what it was captured with
            request = [array[start : start + rows] for array in requests]
            (items, scores), (expected_items, expected_scores) = graphs.recommend(*request), runner.recommend(*request)
            np.testing.assert_allclose(scores, expected_scores, atol=BATCH_TOLERANCE[precision])
            assert overlap(expected_items, items, spec.top_k).mean() > 0.95


def test_cuda_graph_is_refused_when_its_batch_is_too_large(plans, spec, vocabulary):
    with pytest.raises(EngineError, match=r"batches of \[65\], expected sizes of 1\.\.64"):
        EngineRunner(plans[Precision.FP32], spec, vocabulary, cuda_graph_batches=(1, 65))


def test_every_batch_within_a_graphs_bounds_is_answered_as_eager(plans, spec, requests, vocabulary, runner, precision):
    """As Triton is configured to do: the graph of the next larger size runs, with whatever the other rows hold."""
    graphs = EngineRunner(plans[precision], spec, vocabulary, cuda_graph_batches=(1, 2, 4, 8))
    whole = EngineRunner.recommend(graphs, *(array[:8] for array in requests))
    for rows in (3, 5, 7):
        (items, scores), (expected, expected_scores) = (one.recommend(*(a[:rows] for a in requests)) for one in (graphs, runner))
        np.testing.assert_allclose(scores, expected_scores, atol=BATCH_TOLERANCE[precision])
        np.testing.assert_allclose(whole[1][:rows], expected_scores, atol=BATCH_TOLERANCE[precision])
        assert overlap(expected, items, spec.top_k).mean() > 0.95


def test_memory_of_one_context_is_small(runner, record_property, precision):
    record_property(f"MiB of an execution context, {precision.value}", runner.device_memory_bytes / 2**20)
    assert runner.device_memory_bytes > 0


def test_int8_is_faster_than_fp16_or_the_verdict_says_no(plans, spec, requests, vocabulary, record_property):
    runners = {p: EngineRunner(plans[p], spec, vocabulary, cuda_graph_batches=(1,)) for p in SMALLEST_FIRST}
    times = p50_ms(runners, *requests)
    kept = Agreement(ndcg=0.1, ndcg_loss=0.0, overlap_at_10=1.0, overlap_at_100=1.0, score_error=0.0)
    verdict = choose_precision([PrecisionMeasurement(p, times[p], kept) for p in SMALLEST_FIRST])
    for name, ms in times.items():
        record_property(f"p50 ms of one request, engine {name.value}", ms)
    record_property("verdict on engines by their times alone", verdict.reason)
    if times[Precision.INT8] > 0.95 * min(times[Precision.FP16], times[Precision.FP32]):
        assert verdict.choice is not Precision.INT8
    else:
        assert verdict.choice is Precision.INT8


def test_precision_is_proved_by_the_engine_inspector(plans, precision):
    backend = find_backend(read_plan_manifest(plans[precision]).backend)
    layers = inspect_plan(plans[precision].read_bytes(), backend)
    assert layers
    assert any(layer.inputs for layer in layers)


def test_plan_records_the_gpu_it_is_for(plans, precision):
    manifest = read_plan_manifest(plans[precision])
    device = this_device(find_backend(manifest.backend))
    assert device.compute_capability in manifest.compute_capabilities
    if manifest.backend == "tensorrt":
        assert manifest.gpu_name == device.gpu_name


def test_plan_is_refused_when_it_is_for_another_gpu(plans, spec, tmp_path, vocabulary):
    source = plans[Precision.FP32]
    plan = tmp_path / "other.plan"
    plan.write_bytes(source.read_bytes())
    other = {"compute_capabilities": ("5.0",), "hardware_compatible": False}
    write_plan_manifest(plan, read_plan_manifest(source).model_copy(update=other))
    with pytest.raises(EngineError, match=r"found a plan for compute capability 5\.0, expected"):
        EngineRunner(plan, spec, vocabulary)


def test_plan_is_refused_when_spec_or_vocabulary_are_others(plans, spec, vocabulary):
    device = this_device(find_backend(read_plan_manifest(plans[Precision.FP32]).backend))
    with pytest.raises(EngineError, match="found a plan for RecommenderSpec"):
        check_plan(plans[Precision.FP32], replace(spec, top_k=10), vocabulary, device)
    with pytest.raises(EngineError, match="vocabulary"):
        EngineRunner(plans[Precision.FP32], spec, "b" * 64)
