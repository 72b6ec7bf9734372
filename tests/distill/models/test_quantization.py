import numpy as np
import onnx
import pytest
import torch
from torch.nn.utils import parametrize

from distill.models.encoders import Recommender
from distill.models.quantization import FakeQuantizedActivation, FakeQuantizedEncoder, FakeQuantizedWeight
from distill.models.runner import TorchRunner
from distill.models.students.build import build_student, load_student
from distilrec.config import StudentConfig, spec_of_run
from distilrec.core.specs import ACTIVATION_LIMIT, RecommenderSpec
from distilrec.data import stage as data_stage
from distilrec.data.dataset import held_out
from export.graph.int8 import Form, quantize_weights, to_int8
from export.graph.layers import weight_layers
from export.graph.onnx import export_onnx
from export.graph.onnx_runner import OnnxRunner


@pytest.fixture
def student(shop_run, shop_config):
    return load_student(shop_config, shop_run / "student", 90)


def test_weights_are_rounded_as_the_export_rounds_them():
    weights = np.random.default_rng(0).normal(size=(9, 5)).astype(np.float32)
    weights[3] = 0
    quantized, scales = quantize_weights(weights, axis=0)
    found = FakeQuantizedWeight()(torch.from_numpy(weights))
    assert found.numpy() == pytest.approx(quantized * scales[:, None], abs=1e-6)


def test_activation_learns_its_range_in_training_only():
    activation = FakeQuantizedActivation()
    values = torch.tensor([[-2.0, 0.5, 1.0]])
    rounded = activation(values)
    assert activation.largest == 2
    assert rounded.tolist()[0] == pytest.approx([-2, round(0.5 / 2 * ACTIVATION_LIMIT) / ACTIVATION_LIMIT * 2, 64 / 127 * 2])
    activation.eval()(values * 10)
    assert activation.largest == 2
    activation.train()(values * 10)
    assert activation.largest == pytest.approx(2 + 0.01 * 18)


def test_gradient_passes_straight_through():
    values = torch.randn(4, 3, requires_grad=True)
    FakeQuantizedWeight()(values).sum().backward()
    assert values.grad.tolist() == torch.ones(4, 3).tolist()


def test_released_encoder_is_the_one_that_went_in(student):
    before = {name: value.clone() for name, value in student.state_dict().items()}
    quantized = FakeQuantizedEncoder(student)
    assert quantized.encode_last(torch.tensor([[0] * 11 + [3]])).shape == (1, 8)
    released = quantized.release()
    assert released is student
    assert not any(parametrize.is_parametrized(module) or module._forward_pre_hooks for module in released.modules())
    assert all((released.state_dict()[name] == value).all() for name, value in before.items())


KINDS = [
    {"kind": "residual", "depth": 2},
    {"kind": "gru", "depth": 2},
    {"kind": "transformer", "depth": 2},
    {"table": "low_rank", "rank": 6},
    {"kind": "transformer", "table": "low_rank", "rank": 6},
]


@pytest.fixture(params=KINDS, ids=lambda settings: "-".join(map(str, settings.values())))
def untrained(request, shop_config):
    """A student of each kind, with a folded table."""
    settings = StudentConfig.model_validate(shop_config.student.values_for(request.param.get("kind")) | request.param)
    torch.manual_seed(0)
    student = build_student(shop_config.model_copy(update={"student": settings}), 90, torch.linspace(-0.1, 0.1, 90)).eval()
    with torch.no_grad():
        for parameter in student.parameters():  # some start at zero
            parameter.add_(0.05 * torch.randn_like(parameter))
    student.items.fold()
    return student


@pytest.mark.pipeline
def test_every_kind_of_student_is_rounded_as_its_int8_export(untrained, tmp_path):
    spec = RecommenderSpec(90, 12, 4, 90)
    export_onnx(Recommender(untrained, spec).eval(), tmp_path / "model.onnx", {})
    model = onnx.load(tmp_path / "model.onnx")
    history = np.random.default_rng(0).integers(1, 91, (64, 12), dtype=np.int32)
    requests = history, np.zeros((64, 4), np.int32)
    quantized = FakeQuantizedEncoder(untrained)
    quantized.train()
    for module in quantized.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    quantized.encode_all(torch.from_numpy(history).long())  # learns ranges
    quantized.eval()
    learned = [module.largest for module in quantized.modules() if isinstance(module, FakeQuantizedActivation)]
    assert all(0 < largest < 100 for largest in learned)
    for largest in learned:
        largest.fill_(3.0)
    ranges = {layer.activation: 3.0 for layer in weight_layers(model.graph) if layer.activation}
    onnx.save(to_int8(model, ranges, Form.CPU), tmp_path / "int8.onnx")
    plain, exported = (by_item(*OnnxRunner(tmp_path / name, spec).recommend(*requests)) for name in ("model.onnx", "int8.onnx"))
    trained = by_item(*TorchRunner(quantized, spec).recommend(*requests))
    # What a low-rank table makes of user vectors is rounded in the export alone.
    share = 0.2 if untrained.items.basis is None else 0.6
    assert np.abs(exported - trained).mean() < share * np.abs(exported - plain).mean()


def by_item(items, scores):
    """float32 [B, N + 1]: the score of each item, 0 where it was not returned."""
    found = np.zeros((len(items), 91), np.float32)
    np.put_along_axis(found, items, np.where(items > 0, scores, 0), axis=1)
    return found


def test_every_matrix_that_is_rounded_learns(untrained):
    quantized = FakeQuantizedEncoder(untrained).train()
    history = torch.randint(1, 91, (8, 12))
    (quantized.encode_all(history) @ quantized.items().T).square().mean().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in quantized.parameters() if parameter.ndim == 2)
    released = quantized.release()
    assert not any(parametrize.is_parametrized(module) or module._forward_pre_hooks for module in released.modules())


def test_fake_quantised_student_answers_as_its_int8_export(student, shop_run, shop_config, tmp_path):
    """Training sees what serving does: the same ranges give the same scores."""
    dataset, vocabulary = data_stage.load(shop_run / "data")
    spec = spec_of_run(shop_config, len(vocabulary))
    users = held_out(dataset, "test", spec)
    model = onnx.load(shop_run / "export" / "fp32" / "model.onnx")
    ranges = {layer.activation: 2.5 for layer in weight_layers(model.graph) if layer.activation}
    onnx.save(to_int8(model, ranges, Form.CPU), tmp_path / "model.onnx")
    _, exported = OnnxRunner(tmp_path / "model.onnx", spec).recommend(users.history, users.exclude)
    quantized = FakeQuantizedEncoder(student).eval()
    for module in quantized.modules():
        if isinstance(module, FakeQuantizedActivation):
            module.largest.fill_(2.5)
    _, trained = TorchRunner(quantized, spec).recommend(users.history, users.exclude)
    plain = OnnxRunner(shop_run / "export" / "fp32" / "model.onnx", spec).recommend(users.history, users.exclude)[1]
    assert np.abs(exported - trained).mean() < 0.2 * np.abs(exported - plain).mean()
