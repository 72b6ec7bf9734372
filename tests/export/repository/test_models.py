import os
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from distilrec.config import ExportConfig, load_config, spec_of_run
from distilrec.core.specs import Precision, RecommenderSpec
from distilrec.data import stage as data_stage
from export.repository.config import ServedModelFacts
from export.repository.models import MODELS, render_student

COMMITTED = Path(__file__).parents[3] / "triton_repo"
FACTS = ServedModelFacts(RecommenderSpec(10, 4, 3, 5), "abc", Precision.INT8)


def test_committed_config_is_what_the_default_preset_renders(tmp_path):
    config = load_config("ml-100k")
    data_stage.run(config, {}, tmp_path / "data")
    _, vocabulary = data_stage.load(tmp_path / "data")
    for model in MODELS:
        # FP32 is what the demo's verdict is with a catalogue this small.
        facts = ServedModelFacts(spec_of_run(config, len(vocabulary)), vocabulary.sha256, Precision.FP32)
        rendered = model.render(facts, config.export, 1)
        assert (COMMITTED / model.name / "config.pbtxt").read_text() == rendered


def test_config_says_what_the_spec_says():
    text = render_student(FACTS, ExportConfig(max_batch_size=7, instances=3))
    model = text_format.Parse(text, model_config_pb2.ModelConfig())
    tensors = {t.name: (model_config_pb2.DataType.Name(t.data_type), list(t.dims)) for t in (*model.input, *model.output)}
    assert tensors == {
        "history": ("TYPE_INT32", [4]),
        "exclude": ("TYPE_INT32", [3]),
        "items": ("TYPE_INT32", [5]),
        "scores": ("TYPE_FP32", [5]),
    }
    assert model.name == "student"
    assert model.max_batch_size == 7
    assert model.instance_group[0].count == 3
    assert model.HasField("dynamic_batching")
    assert list(model.version_policy.specific.versions) == [1]
    assert model.parameters["vocabulary_sha256"].string_value == "abc"
    assert model.parameters["item_count"].string_value == "10"
    assert model.parameters["precision"].string_value == "int8"


def test_rendering_is_deterministic():
    assert render_student(FACTS, ExportConfig()) == render_student(FACTS, ExportConfig())


def test_instances_are_the_cores_found_unless_they_are_set():
    model = text_format.Parse(text := render_student(FACTS, ExportConfig()), model_config_pb2.ModelConfig())
    assert model.instance_group[0].count == len(os.sched_getaffinity(0))
    assert "one for each core found" in text
    assert "3 instance(s), as the settings say" in render_student(FACTS, ExportConfig(instances=3))
