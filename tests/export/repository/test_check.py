import shutil

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from distilrec.config import ExportConfig, spec_of_artefact
from distilrec.core.errors import RepositoryError
from distilrec.core.manifest import read_manifest
from distilrec.core.specs import Precision
from export.artefact import plan_path
from export.engines.plan import manifest_path
from export.repository.check import check_against_engine, check_against_graph
from export.repository.config import ServedModelFacts
from export.repository.fill import fill_repository
from export.repository.models import render_student


@pytest.fixture
def student(shop_run, tmp_path):
    fill_repository(shop_run / "export", ExportConfig(repository=tmp_path / "repo"))
    return tmp_path / "repo" / "student"


@pytest.mark.parametrize("target", ["python", "onnxruntime"])
def test_rendered_configuration_fits_its_model(shop_run, tmp_path, target):
    fill_repository(shop_run / "export", ExportConfig(repository=tmp_path / "repo", target=target))
    check_against_graph(tmp_path / "repo" / "student" / "config.pbtxt", tmp_path / "repo" / "student" / "1")


def with_engine(shop_run, student, **settings):
    """As the target tensorrt would fill it; the engine is one of TensorRT for RTX, whose manifest says the same things."""
    plan = plan_path(shop_run / "export", "tensorrt_rtx", Precision.FP32)
    shutil.copyfile(plan, student / "1" / "model.plan")
    shutil.copyfile(manifest_path(plan), student / "1" / "model.plan.json")
    spec = spec_of_artefact(read_manifest(shop_run / "export"))
    (student / "config.pbtxt").write_text(
        render_student(ServedModelFacts(spec, "v", Precision.FP32), ExportConfig(target="tensorrt", **settings))
    )


def test_rendered_configuration_fits_its_engine(shop_run, student):
    with_engine(shop_run, student)
    check_against_engine(student / "config.pbtxt", student / "1")


def test_batch_beyond_the_engines_profile_is_refused(shop_run, student):
    with_engine(shop_run, student, max_batch_size=65)
    with pytest.raises(RepositoryError, match="found 65, expected at most 64"):
        check_against_engine(student / "config.pbtxt", student / "1")


def change_dims(config):
    config.input[0].dims[:] = [13]


def change_dtype(config):
    config.output[1].data_type = model_config_pb2.TYPE_FP16


def forget_dtype(config):
    config.output[0].data_type = model_config_pb2.TYPE_INVALID


def change_name(config):
    config.input[1].name = "without"


def set_zero_dims(config):
    config.input[0].dims[:] = [0]


def set_negative_batch(config):
    config.max_batch_size = -3


def switch_batching_off(config):
    config.max_batch_size = 0


def pin_another_version(config):
    config.version_policy.specific.versions[:] = [2]


def drop_inputs(config):
    del config.input[:]


def set_no_instances(config):
    config.instance_group[0].count = 0


def rename_model(config):
    config.name = "teacher"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (change_dims, r"history: stated .*13.*the model has .*12"),
        (change_dtype, "scores: stated"),
        (forget_dtype, "items: stated"),
        (change_name, "exclude: stated None"),
        (set_zero_dims, r"history: found dims \[0\]"),
        (set_negative_batch, "max_batch_size: found -3"),
        (switch_batching_off, "max_batch_size: found 0"),
        (pin_another_version, r"version_policy: found \[2\], expected 1 alone"),
        (drop_inputs, "history: stated None"),
        (set_no_instances, "found 0 instances"),
        (rename_model, "name: found 'teacher'"),
    ],
)
def test_configuration_that_does_not_fit_is_refused(student, change, message):
    path = student / "config.pbtxt"
    config = text_format.Parse(path.read_text(), model_config_pb2.ModelConfig())
    change(config)
    path.write_text(text_format.MessageToString(config))
    with pytest.raises(RepositoryError, match=message):
        check_against_graph(path, student / "1")


@pytest.mark.parametrize(
    ("name", "message"), [("config.pbtxt", "not a model configuration"), ("1/model.onnx", "not an ONNX model")]
)
def test_garbage_is_refused(student, name, message):
    (student / name).write_bytes(b"{ garbage")
    with pytest.raises(RepositoryError, match=message):
        check_against_graph(student / "config.pbtxt", student / "1")
