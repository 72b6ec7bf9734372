"""Bad input to the export: a clear error, and the former artefact stays as it was."""

import dataclasses
import shutil

import numpy as np
import onnx
import pytest
from safetensors.numpy import load_file, save_file

from distilrec.config import CalibrationConfig, parse_config, spec_of_run
from distilrec.core.errors import CalibrationError, ConfigError, ManifestError, ParityError, PrecisionError
from distilrec.core.manifest import record_files, verify_manifest, write_manifest
from distilrec.data import stage as data_stage
from distilrec.data.dataset import held_out
from export import stage
from export.graph import precisions
from export.graph.calibration import load_calibration
from export.graph.onnx_runner import OnnxRunner


@pytest.fixture
def workplace(shop_run, tmp_path):
    """A copy of what the export reads, and of its artefact."""
    for name in ("data", "student", "student-verdict", "export"):
        shutil.copytree(shop_run / name, tmp_path / name)
    return tmp_path


def export_again(config, workplace):
    inputs = {"data": workplace / "data", "student": workplace / "student", "verdict": workplace / "student-verdict"}
    return stage.run(config, inputs, workplace / "export")


def with_export(config, **changes):
    return config.model_copy(update={"export": config.export.model_copy(update=changes)})


def with_requests(config, path):
    return with_export(config, calibration=config.export.calibration.model_copy(update={"requests": path}))


@pytest.fixture
def untouched(workplace):
    """The artefact must be the former one afterwards."""
    before = verify_manifest(workplace / "export")
    yield
    assert verify_manifest(workplace / "export") == before


@pytest.mark.usefixtures("untouched")
def test_recorded_requests_of_other_items_are_refused(shop_config, workplace, shop_run):
    recorded = dataclasses.replace(
        load_calibration(shop_run / "export" / "calibration.npz", *_spec_and_vocabulary(shop_config, shop_run)),
        vocabulary_sha256="0" * 64,
    )
    recorded.save(workplace / "recorded.npz")
    with pytest.raises(CalibrationError, match=r"recorded\.npz: found requests for vocabulary 000000000000"):
        export_again(with_requests(shop_config, workplace / "recorded.npz"), workplace)


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(("content", "message"), [(b"", "not a calibration set"), (None, "found no file")])
def test_empty_or_missing_requests_are_refused(shop_config, workplace, content, message):
    path = workplace / "recorded.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CalibrationError, match=message):
        export_again(with_requests(shop_config, path), workplace)


@pytest.mark.usefixtures("untouched")
def test_weights_that_are_no_numbers_are_refused(shop_config, workplace):
    path = workplace / "student" / "weights.safetensors"
    weights = load_file(path)
    weights["mlp.1.weight"][0, 0] = np.nan
    save_file(weights, path)
    manifest = verify_manifest_after_edit(workplace / "student")
    assert manifest.stage == "student"
    with pytest.raises(ParityError, match="the model is not exported"):
        export_again(shop_config, workplace)


def verify_manifest_after_edit(folder):
    """A student that was trained to these weights would have such a manifest."""
    from distilrec.core.manifest import read_manifest

    write_manifest(folder, read_manifest(folder).model_copy(update={"files": record_files(folder)}))
    return verify_manifest(folder)


@pytest.mark.usefixtures("untouched")
def test_student_that_was_edited_is_refused(shop_config, workplace):
    with (workplace / "student" / "weights.safetensors").open("r+b") as file:
        file.seek(-4, 2)
        file.write(b"\0\0\0\0")
    with pytest.raises(ManifestError, match=r"weights\.safetensors: sha256"):
        export_again(shop_config, workplace)


@pytest.mark.usefixtures("untouched")
def test_precision_that_breaks_the_contract_is_not_exported(shop_config, workplace, monkeypatch):
    def without_mask(model):
        for node in model.graph.node:
            if node.op_type == "ScatterElements":
                del node.attribute[:]
                node.op_type = "Identity"
                del node.input[1:]
        return model

    monkeypatch.setattr(precisions, "to_fp16", without_mask)
    with pytest.raises(ParityError, match=r"seen or excluded|without an item"):
        export_again(with_export(shop_config, precision="auto"), workplace)


def test_precision_that_cannot_be_made_is_reported_and_the_rest_exported(shop_config, workplace, monkeypatch):
    def refuse(*_, **__):
        raise PrecisionError("found an operator this precision does not know")

    monkeypatch.setattr(precisions, "to_int8", refuse)
    manifest = export_again(with_export(shop_config, precision="auto"), workplace)
    assert manifest.metrics["int8_within_budget"] is None
    assert manifest.metrics["precision"] in ("fp32", "fp16")
    assert '"refused": "found an operator' in (workplace / "export" / "report.json").read_text()
    with pytest.raises(PrecisionError, match="'int8' was asked for"):
        export_again(with_export(shop_config, precision="int8"), workplace)


def test_recorded_requests_are_used(shop_config, workplace, shop_run):
    recorded = load_calibration(shop_run / "export" / "calibration.npz", *_spec_and_vocabulary(shop_config, shop_run))
    dataclasses.replace(recorded, history=recorded.history[:30], exclude=recorded.exclude[:30]).save(workplace / "recorded.npz")
    export_again(with_requests(shop_config, workplace / "recorded.npz"), workplace)
    kept = load_calibration(workplace / "export" / "calibration.npz", *_spec_and_vocabulary(shop_config, shop_run))
    assert (kept.history == recorded.history[:30]).all()


@pytest.mark.parametrize("damage", ["truncated", "edited", "weights gone", "weights truncated"])
def test_damaged_model_is_refused(workplace, shop_config, shop_run, damage):
    spec, _ = _spec_and_vocabulary(shop_config, shop_run)
    folder = workplace / "export" / "int8"
    if damage == "truncated":
        content = (folder / "model.onnx").read_bytes()
        (folder / "model.onnx").write_bytes(content[: len(content) // 2])
    elif damage == "edited":
        model = onnx.load(folder / "model.onnx", load_external_data=False)
        model.graph.node[3].input[0] = "nobody makes this"
        onnx.save(model, folder / "model.onnx")
    elif damage == "weights gone":
        (folder / "weights.bin").unlink()
    else:
        (folder / "weights.bin").write_bytes(b"\0" * 100)
    with pytest.raises(ParityError, match=r"int8/model\.onnx: ONNX Runtime cannot load it"):
        OnnxRunner(folder / "model.onnx", spec)
    with pytest.raises(ManifestError, match="int8/"):
        verify_manifest(workplace / "export")


def test_more_than_3840_items_in_an_answer_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"export\.top_k: .*3840"):
        parse_config('name = "x"\n[data]\nsource = "ml-100k"\n[export]\ntop_k = 3841\n', where="x.toml", folder=tmp_path)


def _spec_and_vocabulary(config, run):
    _, vocabulary = data_stage.load(run / "data")
    return spec_of_run(config, len(vocabulary)), vocabulary.sha256


def test_layer_that_costs_most_is_found(shop_config, shop_run, tmp_path):
    """Calibrated with cold users alone, averages of a history have no range, and the layer that reads them loses everything."""
    dataset, vocabulary = data_stage.load(shop_run / "data")
    spec = spec_of_run(shop_config, len(vocabulary))
    users = held_out(dataset, "validation", spec)
    fp32 = OnnxRunner(shop_run / "export" / "fp32" / "model.onnx", spec)
    reference = precisions.Reference(spec, users, precisions.answers(fp32, users, "reference"))
    requests = load_calibration(shop_run / "export" / "calibration.npz", spec, vocabulary.sha256)
    cold = dataclasses.replace(requests, history=np.zeros_like(requests.history))
    shutil.copytree(shop_run / "export" / "fp32", tmp_path / "fp32")
    layer, overlap = precisions.costliest_layer(tmp_path, reference, precisions.Quantization(cold, CalibrationConfig()), tmp_path)
    assert layer == "scorer.mlp.1.weight"
    assert overlap > 0.8
