import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from distilrec.config import ExportConfig
from distilrec.core.specs import Precision, RecommenderSpec
from export.repository.config import ServedModelFacts
from export.repository.models import render_front_door, render_student

FACTS = ServedModelFacts(RecommenderSpec(10, 4, 3, 5), "abc", Precision.INT8)


def parsed(text):
    return text_format.Parse(text, model_config_pb2.ModelConfig())


@pytest.mark.parametrize(("target", "names"), [("onnxruntime-cuda", []), ("onnxruntime-tensorrt", ["tensorrt"])])
def test_onnxruntime_with_a_provider_runs_on_the_gpu(target, names):
    model = parsed(render_student(FACTS, ExportConfig(target=target)))
    assert [a.name for a in model.optimization.execution_accelerators.gpu_execution_accelerator] == names
    assert model.instance_group[0].kind == model_config_pb2.ModelInstanceGroup.KIND_GPU


def test_target_tensorrt_has_graphs_and_pinned_memory():
    model = parsed(render_student(FACTS, ExportConfig(target="tensorrt")))
    assert (model.platform, model.default_model_filename) == ("tensorrt_plan", "model.plan")
    assert model.optimization.cuda.graphs
    assert model.optimization.cuda.output_copy_stream
    assert model.optimization.input_pinned_memory.enable
    assert model.optimization.output_pinned_memory.enable
    assert parsed(render_front_door(FACTS, ExportConfig(target="tensorrt"))).backend == "python"
