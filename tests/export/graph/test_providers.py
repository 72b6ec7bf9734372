"""ONNX Runtime's providers on a GPU, as far as a machine without one can tell; tests/gpu runs them."""

import onnxruntime
import pytest

from distilrec.config import spec_of_artefact
from distilrec.core.errors import ParityError
from distilrec.core.manifest import read_manifest
from distilrec.core.specs import RecommenderSpec
from export.graph.onnx_runner import OnnxRunner
from export.graph.providers import provider_options, tensorrt_profile

SPEC = RecommenderSpec(10, 4, 3, 5)


def test_tensorrt_gets_one_profile_for_all_batches():
    assert tensorrt_profile(SPEC, 2, 16) == {
        "trt_profile_min_shapes": "history:1x4,exclude:1x3",
        "trt_profile_opt_shapes": "history:2x4,exclude:2x3",
        "trt_profile_max_shapes": "history:16x4,exclude:16x3",
    }


@pytest.mark.parametrize(
    ("provider", "first"),
    [("cpu", "CPUExecutionProvider"), ("cuda", "CUDAExecutionProvider"), ("tensorrt", "TensorrtExecutionProvider")],
)
def test_wanted_provider_comes_first_and_the_cpu_last(provider, first):
    names = [name for name, _ in provider_options(provider, SPEC)]
    assert (names[0], names[-1]) == (first, "CPUExecutionProvider")


def test_fp32_on_cuda_is_fp32():
    assert dict(provider_options("cuda", SPEC))["CUDAExecutionProvider"] == {"use_tf32": "0"}


@pytest.mark.skipif("CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="ONNX Runtime has the CUDA provider")
@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_runner_says_what_to_install_instead_of_going_back_to_the_cpu(shop_run, provider):
    spec = spec_of_artefact(read_manifest(shop_run / "export"))
    with pytest.raises(ParityError, match=r"expected (CUDA|Tensorrt)ExecutionProvider.*pip install onnxruntime-gpu"):
        OnnxRunner(shop_run / "export" / "fp32" / "model.onnx", spec, provider=provider)
