"""Every kind of encoder and every size of catalogue, in all precisions."""

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel

from distill.encoders import Recommender
from distill.item_table import ItemTable
from distill.runner import TorchRunner
from distill.student_stage import build_student
from distill.teacher_stage import build_teacher
from distill.text_teacher import TextTeacher, TitleTokens
from distilrec.config import CalibrationConfig, TextTeacherConfig
from distilrec.specs import Precision, RecommenderSpec, table_rows
from export.calibration import CalibrationSet
from export.onnx import export_onnx
from export.onnx_runner import OnnxRunner
from export.parity import check_parity, edge_requests
from export.precisions import Quantization, make_precisions
from export.storage import model_path
from export.verification import BATCH_TOLERANCE, check_contract


def build_sequence_teacher(config, item_count, popularity):
    return build_teacher(config.teachers["sequence"], config.history_length, item_count, popularity=popularity)


def build_masked_teacher(config, item_count, popularity):
    settings = config.teachers["sequence"].model_copy(update={"objective": "masked"})
    return build_teacher(settings, config.history_length, item_count, popularity=popularity)


def build_text_teacher(_config, item_count, popularity):
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    body = BertModel(BertConfig(vocab_size=40, **sizes), add_pooling_layer=False)
    titles = torch.randint(4, 40, (table_rows(item_count), 5), dtype=torch.int32)
    titles[0], titles[item_count + 1 :] = -1, -1
    tokens = TitleTokens(titles, torch.tensor([1, 2, 0, 1], dtype=torch.int32))
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
    encoder = build(shop_config, item_count, popularity=torch.linspace(-0.1, 0.1, item_count)).eval()
    encoder.items.fold()
    spec = RecommenderSpec(item_count, shop_config.history_length, 4, min(5, item_count))
    path = model_path(tmp_path, Precision.FP32)
    path.parent.mkdir()
    export_onnx(Recommender(encoder, spec).eval(), path, {})
    history = np.random.default_rng(0).integers(0, item_count + 1, (32, spec.history_length), dtype=np.int32)
    exclude = np.zeros((32, spec.exclude_length), np.int32)
    check_parity(TorchRunner(encoder, spec), OnnxRunner(path, spec), history, exclude)
    assert make_precisions(tmp_path, Quantization(CalibrationSet(history, exclude, ""), CalibrationConfig(method=method))) == {}
    edges = edge_requests(spec)
    history, exclude = np.concatenate([edges[0], history]), np.concatenate([edges[1], exclude])
    expected = OnnxRunner(path, spec).recommend(history, exclude)[1]
    for precision in (Precision.FP16, Precision.INT8):
        runner = OnnxRunner(model_path(tmp_path, precision), spec)
        check_contract(runner, spec, history, exclude, BATCH_TOLERANCE[precision])
        found = runner.recommend(history, exclude)[1]
        real = expected > -1e30
        assert np.abs(found - expected)[real].sum() <= 0.1 * np.abs(expected[real]).sum() + 1e-3
