import onnx
import pytest
import torch
from disks import fill

from distill.models.encoders import Recommender
from distill.models.runner import TorchRunner
from distill.models.students.build import build_student, load_student
from distilrec.config import StudentConfig
from distilrec.core.errors import DistilRecError, ParityError
from distilrec.core.manifest import verify_manifest
from distilrec.core.specs import RecommenderSpec
from distilrec.data import stage as data_stage
from distilrec.evaluation.parity import check_parity, edge_requests
from export import stage
from export.graph.layers import weight_layers
from export.graph.onnx import export_onnx
from export.graph.onnx_runner import OnnxRunner


@pytest.fixture(scope="module")
def model(shop_run):
    return onnx.load(shop_run / "export" / "fp32" / "model.onnx")


def test_artefact_records_its_proof(shop_run):
    metrics = verify_manifest(shop_run / "export").metrics
    assert metrics["parity_rows"] > 200
    assert metrics["parity_max_score_error"] <= 1e-4


def test_graph_has_the_contracts_tensors_and_metadata(model, shop_run):
    _, vocabulary = data_stage.load(shop_run / "data")
    tensors = (*model.graph.input, *model.graph.output)
    found = {tensor.name: [d.dim_param or d.dim_value for d in tensor.type.tensor_type.shape.dim] for tensor in tensors}
    assert found == {"history": ["batch", 12], "exclude": ["batch", 16], "items": ["batch", 20], "scores": ["batch", 20]}
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert metadata == {"vocabulary_sha256": vocabulary.sha256, "item_count": str(len(vocabulary)), "precision": "fp32"}


def test_table_is_stored_once(model, shop_config):
    rows = [list(t.dims) for t in model.graph.initializer]
    assert rows.count([96, shop_config.student.embedding_size]) == 1
    assert [shop_config.student.embedding_size, 96] not in rows
    assert not [node for node in model.graph.node if node.op_type == "Transpose" and 96 in node.attribute]


def test_no_local_path_is_left_in_the_file(shop_run):
    content = (shop_run / "export" / "fp32" / "model.onnx").read_bytes()
    assert b".py" not in content
    assert b"site-packages" not in content


def test_model_that_answers_differently_leaves_no_artefact(shop_run, shop_config, tmp_path, monkeypatch):
    def wrong(recommender, path, metadata):
        with torch.no_grad():
            recommender.scorer.items.learned[5] += 1
            export_onnx(recommender, path, metadata)
            recommender.scorer.items.learned[5] -= 1

    monkeypatch.setattr(stage, "export_onnx", wrong)
    inputs = {"data": shop_run / "data", "student": shop_run / "student", "verdict": shop_run / "student-verdict"}
    with pytest.raises(ParityError, match="the model is not exported"):
        stage.run(shop_config, inputs, tmp_path / "export")
    assert not (tmp_path / "export").exists()


def test_runner_refuses_a_model_of_other_sizes(shop_run):
    with pytest.raises(ParityError, match=r"found tensors .*expected"):
        OnnxRunner(shop_run / "export" / "fp32" / "model.onnx", RecommenderSpec(90, 13, 16, 20))


@pytest.mark.pipeline
@pytest.mark.parametrize("item_count", [1, 7, 8])
def test_tiny_catalogues_export(shop_config, tmp_path, item_count):
    student = build_student(shop_config, item_count, torch.zeros(item_count)).eval()
    student.items.fold()
    spec = RecommenderSpec(item_count, shop_config.history_length, 4, min(5, item_count))
    export_onnx(Recommender(student, spec).eval(), tmp_path / "model.onnx", {})
    check_parity(TorchRunner(student, spec), OnnxRunner(tmp_path / "model.onnx", spec), *edge_requests(spec))


@pytest.mark.pipeline
def test_matrices_that_start_equal_keep_names_of_their_own(shop_config, tmp_path):
    large = {"embedding_size": 64, "hidden_size": 32}  # equal small ones are merged
    settings = StudentConfig.model_validate(shop_config.student.values_for("transformer") | {"depth": 2, **large})
    student = build_student(shop_config.model_copy(update={"student": settings}), 40, torch.zeros(40)).eval()
    student.items.fold()
    spec = RecommenderSpec(40, shop_config.history_length, 4, 5)
    export_onnx(Recommender(student, spec).eval(), tmp_path / "model.onnx", {})
    names = [layer.name for layer in weight_layers(onnx.load(tmp_path / "model.onnx").graph)]
    assert len(names) == len(set(names)) == 2 + 2 * 5
    assert all(name in ("embedding", "head") or name.endswith(".weight") for name in names)
    check_parity(TorchRunner(student, spec), OnnxRunner(tmp_path / "model.onnx", spec), *edge_requests(spec))


def test_student_survives_saving(shop_run, shop_config):
    student = load_student(shop_config, shop_run / "student", 90)
    assert not student.training
    assert student.items.popularity is None


@pytest.mark.parametrize("left_bytes", [2_000, 40_000])
def test_full_disk_during_the_export_costs_nothing_but_time(shop_run, shop_config, small_disk, left_bytes):
    config = shop_config.model_copy(update={"export": shop_config.export.model_copy(update={"engines": "off"})})
    inputs = {"data": shop_run / "data", "student": shop_run / "student", "verdict": shop_run / "student-verdict"}
    filler = fill(small_disk, left_bytes)
    with pytest.raises((OSError, DistilRecError), match="No space left"):
        stage.run(config, inputs, small_disk / "export")
    assert not (small_disk / "export").exists()
    filler.unlink()
    stage.run(config, inputs, small_disk / "export")
    expected, found = (verify_manifest(folder / "export").files for folder in (shop_run, small_disk))
    # The report has times; everything that is served is the same to the last bit.
    assert {name: record for name, record in found.items() if name in expected and name != "report.json"} == {
        name: record for name, record in expected.items() if name in found and name != "report.json"
    }
    assert {"fp32/model.onnx", "int8/model.onnx", "golden.npz", "ranking.json"} <= found.keys() & expected.keys()
