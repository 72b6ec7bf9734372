"""Section ``export``: what serves the student."""

import pytest
from pydantic import ValidationError

from distilrec.config import ExportConfig
from distilrec.config.faults import describe_faults


def faults(**settings):
    with pytest.raises(ValidationError) as caught:
        ExportConfig.model_validate(settings)
    return describe_faults(caught.value)


def test_unknown_target_is_refused_with_those_that_exist():
    (fault,) = faults(target="onnx")
    assert fault.startswith("target: expected one of ")
    assert fault.endswith(" (found 'onnx')")
    for name in ("python", "onnxruntime", "onnxruntime-cuda", "onnxruntime-tensorrt", "tensorrt"):
        assert name in fault
        assert ExportConfig(target=name).target == name


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"target": "onnxruntime", "accelerator": "cuda"}, "accelerator = 'cuda' is target = 'onnxruntime-cuda' now"),
        ({"accelerator": "tensorrt"}, "accelerator = 'tensorrt' is target = 'onnxruntime-tensorrt' now"),
        ({"target": "onnxruntime", "accelerator": "cpu"}, "'onnxruntime' run on a CPU. Leave accelerator out"),
    ],
)
def test_accelerator_of_former_versions_is_refused_with_the_target_it_is_now(settings, message):
    (fault,) = faults(**settings)
    assert message in fault
