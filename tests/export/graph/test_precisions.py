"""Every kind of encoder and every size of catalogue, in all precisions, forms and engines."""

import importlib.util

import numpy as np
import onnx
import pytest
import torch
from transformers import BertConfig, BertModel

from distill.models.catalogue import Catalogue
from distill.models.encoders import Recommender
from distill.models.item_table import ItemTable
from distill.models.runner import TorchRunner
from distill.models.students.build import build_student
from distill.models.teachers.text import TextTeacher, TextTeacherConfig, TitleTokens
from distilrec.config import CalibrationConfig, EngineConfig, StudentConfig
from distilrec.core.specs import MODEL_FILE, Precision, RecommenderSpec, table_rows
from distilrec.evaluation.contract import BATCH_TOLERANCE, check_contract
from distilrec.evaluation.metrics import overlap
from distilrec.evaluation.parity import check_parity, edge_requests
from export.artefact import TENSORRT_FILE, model_folder, model_path, tensorrt_path
from export.engines.backends import find_backend
from export.engines.build import build_engine
from export.graph.calibration import CalibrationSet
from export.graph.layers import weight_layers
from export.graph.onnx import export_onnx
from export.graph.onnx_runner import OnnxRunner
from export.graph.precisions import Quantization, make_precisions

pytestmark = pytest.mark.pipeline

# TensorRT writes products over 4 numbers or fewer as sums, in which no proof of a precision is found.
LOW_RANK = {"table": "low_rank", "embedding_size": 16, "rank": 8}
KINDS = {
    "mlp": {},
    "residual": {"kind": "residual", "depth": 2},
    "gru": {"kind": "gru"},
    "deep gru": {"kind": "gru", "depth": 2},
    "transformer": {"kind": "transformer"},
    "deep transformer": {"kind": "transformer", "depth": 2},
    "low-rank mlp": LOW_RANK,
    "low-rank gru": {"kind": "gru", **LOW_RANK},
    "low-rank transformer": {"kind": "transformer", **LOW_RANK},
}
N = 90


def student_config(config, **settings):
    return config.model_copy(
        update={"student": StudentConfig.model_validate(config.student.values_for(settings.get("kind")) | settings)}
    )


def export(encoder, spec, folder, history, method="minmax"):
    """All precisions of an encoder, FP32 proved."""
    encoder.eval().items.fold()
    path = model_path(folder, Precision.FP32)
    path.parent.mkdir()
    export_onnx(Recommender(encoder, spec).eval(), path, {})
    exclude = np.zeros((len(history), spec.exclude_length), np.int32)
    check_parity(TorchRunner(encoder, spec), OnnxRunner(path, spec), history, exclude)
    assert make_precisions(folder, Quantization(CalibrationSet(history, exclude, ""), CalibrationConfig(method=method))) == {}


def check_precisions(folder, spec, history):
    """The contract of the lower precisions, and scores near those of FP32."""
    exclude = np.zeros((len(history), spec.exclude_length), np.int32)
    edges = edge_requests(spec)
    history, exclude = np.concatenate([edges[0], history]), np.concatenate([edges[1], exclude])
    expected = OnnxRunner(model_path(folder, Precision.FP32), spec).recommend(history, exclude)[1]
    for precision in (Precision.FP16, Precision.INT8):
        runner = OnnxRunner(model_path(folder, precision), spec)
        check_contract(runner, spec, history, exclude, BATCH_TOLERANCE[precision])
        found = runner.recommend(history, exclude)[1]
        real = expected > -1e30
        assert np.abs(found - expected)[real].sum() <= 0.1 * np.abs(expected[real]).sum() + 1e-3


def build_sequence_teacher(config, item_count, popularity):
    return config.teachers["sequence"].build(Catalogue(item_count, popularity=popularity), config.history_length)


def build_masked_teacher(config, item_count, popularity):
    settings = config.teachers["sequence"].model_copy(update={"objective": "masked"})
    return settings.build(Catalogue(item_count, popularity=popularity), config.history_length)


def build_text_teacher(_config, item_count, popularity):
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    body = BertModel(BertConfig(vocab_size=40, **sizes), add_pooling_layer=False)
    titles = torch.randint(4, 40, (table_rows(item_count), 5), dtype=torch.int32)
    titles[0], titles[item_count + 1 :] = -1, -1
    tokens = TitleTokens(titles, torch.tensor([1, 2, 0, 1, 0], dtype=torch.int32))
    settings = TextTeacherConfig(embedding_size=8, max_titles=6, max_tokens=20)
    return TextTeacher(ItemTable(item_count, 8, popularity=popularity), body, tokens, settings)


@pytest.mark.parametrize(
    ("build", "item_count", "method"),
    [
        (build_student, 1, "minmax"),
        (build_student, 7, "minmax"),
        (build_student, 8, "percentile"),
        (build_student, 40, "entropy"),
        (build_sequence_teacher, 40, "minmax"),
        (build_masked_teacher, 40, "minmax"),
        (build_text_teacher, 40, "minmax"),
    ],
)
def test_every_precision_keeps_the_contract(shop_config, tmp_path, build, item_count, method):
    torch.manual_seed(0)
    encoder = build(shop_config, item_count, popularity=torch.linspace(-0.1, 0.1, item_count))
    spec = RecommenderSpec(item_count, shop_config.history_length, 4, min(5, item_count))
    history = np.random.default_rng(0).integers(0, item_count + 1, (32, spec.history_length), dtype=np.int32)
    export(encoder, spec, tmp_path, history, method)
    check_precisions(tmp_path, spec, history)


@pytest.fixture(scope="module", params=KINDS)
def kind(request, shop_config, tmp_path_factory):
    """Folder, sizes, requests and settings of each kind of student, exported with random weights."""
    folder = tmp_path_factory.mktemp("kind")
    config = student_config(shop_config, **KINDS[request.param])
    torch.manual_seed(0)
    student = build_student(config, N, torch.linspace(-0.1, 0.1, N))
    with torch.no_grad():
        for parameter in student.parameters():  # some start at zero
            parameter.add_(0.05 * torch.randn_like(parameter))
    spec = RecommenderSpec(N, config.history_length, 4, 20)
    random = np.random.default_rng(0)
    history = random.integers(1, N + 1, (64, spec.history_length), dtype=np.int32)
    for row in history:
        row[: random.integers(0, spec.history_length)] = 0
    export(student, spec, folder, history)
    return folder, spec, history, config.student


def test_every_kind_of_student_keeps_the_contract_in_every_precision(kind):
    folder, spec, history, _ = kind
    check_precisions(folder, spec, history)


def test_every_kind_of_student_ranks_alike_in_every_precision(kind):
    folder, spec, history, _ = kind
    exclude = np.zeros((len(history), spec.exclude_length), np.int32)
    items = {p: OnnxRunner(model_path(folder, p), spec).recommend(history, exclude)[0] for p in Precision}
    for precision, least in ((Precision.FP16, 0.98), (Precision.INT8, 0.9)):
        assert overlap(items[Precision.FP32], items[precision], 10).mean() > least


def test_both_forms_of_int8_answer_alike_for_every_kind_of_student(kind):
    folder, spec, history, _ = kind
    exclude = np.zeros((len(history), spec.exclude_length), np.int32)
    paths = [model_folder(folder, Precision.INT8) / name for name in (MODEL_FILE, TENSORRT_FILE)]
    scores = [OnnxRunner(path, spec).recommend(history, exclude)[1] for path in paths]
    assert np.abs(scores[0] - scores[1]).max() < 1e-3


def test_table_is_stored_once_and_factors_stay_factors(kind):
    folder, _, _, settings = kind
    for precision in Precision:
        graph = onnx.load(model_path(folder, precision)).graph
        columns = [t.dims[1] for t in graph.initializer if len(t.dims) == 2 and t.dims[0] == 96 and t.dims[1] > 1]
        assert columns == [settings.rank or settings.embedding_size]


def test_basis_of_a_low_rank_table_is_in_int8_along_both_axes(kind):
    folder, _, _, settings = kind
    uses = 0 if settings.table == "full" else 2
    layers = weight_layers(onnx.load(model_path(folder, Precision.FP32)).graph)
    names = [layer.name for layer in layers]
    assert (names[0], names[-1]) == ("embedding", "head")
    assert [layer.output_axis for layer in layers if layer.name == "scorer.items.basis"] == [1, 0][:uses]
    int8 = onnx.load(model_path(folder, Precision.INT8)).graph
    shapes = [list(t.dims) for t in int8.initializer if t.name.startswith("scorer.items.basis") and t.name.endswith(".int8")]
    assert shapes == [[settings.rank, settings.embedding_size]] * uses


@pytest.mark.skipif(importlib.util.find_spec("tensorrt_rtx") is None, reason="TensorRT for RTX is not installed")
@pytest.mark.parametrize("precision", list(Precision))
def test_every_kind_of_student_has_an_engine_of_every_precision(kind, precision, tmp_path):
    folder, spec, _, _ = kind
    manifest = build_engine(
        tensorrt_path(folder, precision),
        tmp_path / "student.plan",
        spec,
        precision=precision,
        vocabulary_sha256="a" * 64,
        backend=find_backend("tensorrt_rtx"),
        config=EngineConfig(),
    )
    assert set(manifest.product_types.values()) == {{"fp32": "Float", "fp16": "Half", "int8": "Int8"}[precision.value]}
