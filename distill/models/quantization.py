"""Fake quantisation for training: values are rounded as by INT8, gradients pass through (Jacob et al. 2018, arXiv:1712.05877)."""

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from distill.models.encoders import Encoder
from distill.models.item_table import ItemTable
from distilrec.core.specs import ACTIVATION_LIMIT, WEIGHT_LIMIT

_SMALLEST_SCALE = 1e-12
_RANGE_MOMENTUM = 0.01


class FakeQuantizedWeight(nn.Module):
    """Rounds a matrix as ``export.graph.int8.quantize_weights`` does: symmetric, one scale a row."""

    def forward(self, weights: Tensor) -> Tensor:
        """float32 [rows, columns] -> the same, on the grid of INT8."""
        scales = (weights.detach().abs().amax(dim=1) / WEIGHT_LIMIT).clamp(min=_SMALLEST_SCALE)
        zero_points = torch.zeros_like(scales, dtype=torch.int32)
        return torch.fake_quantize_per_channel_affine(weights, scales, zero_points, 0, -WEIGHT_LIMIT, WEIGHT_LIMIT)


class FakeQuantizedActivation(nn.Module):
    """Rounds an activation: symmetric, one scale for the tensor, from a moving average of the largest magnitude seen."""

    largest: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("largest", torch.tensor(0.0))

    def forward(self, values: Tensor) -> Tensor:
        """float32, any shape -> the same, on the grid of INT8."""
        if self.training:
            seen = values.detach().abs().max()
            self.largest.copy_(torch.where(self.largest > 0, self.largest.lerp(seen, _RANGE_MOMENTUM), seen))
        scale = (self.largest / ACTIVATION_LIMIT).clamp(min=_SMALLEST_SCALE)
        zero_point = torch.zeros((), dtype=torch.int32, device=values.device)
        return torch.fake_quantize_per_tensor_affine(values, scale, zero_point, -ACTIVATION_LIMIT, ACTIVATION_LIMIT)


class FakeQuantizedEncoder(Encoder):
    """A trained encoder whose item table, linear layers and user vectors are rounded as its INT8 export will be.

    It does not round what the export leaves in floating point, such as recurrent layers, nor the product of user vectors with
    the basis of a low-rank table.

    Args:
        encoder: Encoder with a folded item table; trained in place. ``release`` returns it with weights that can be exported.
    """

    def __init__(self, encoder: Encoder) -> None:
        super().__init__(encoder.items)
        self.encoder = encoder
        self.user_vectors = FakeQuantizedActivation()
        self.inputs = nn.ModuleList()
        self._hooks = []
        parametrize.register_parametrization(encoder.items, "learned", FakeQuantizedWeight())
        if encoder.items.basis is not None:
            self._round_basis(encoder.items, encoder.items.basis)
        for module in list(encoder.modules()):
            if isinstance(module, nn.Linear):
                parametrize.register_parametrization(module, "weight", FakeQuantizedWeight())
                activation = self._activation()
                self._hooks.append(module.register_forward_pre_hook(lambda _, inputs, rounded=activation: (rounded(inputs[0]),)))

    def encode_all(self, history: Tensor) -> Tensor:
        """int64 [B, T], right-padded -> float32 [B, T, d]."""
        with torch.autocast(history.device.type, enabled=False):  # bfloat16 is coarser than the grid
            return self.user_vectors(self.encoder.encode_all(history))  # type: ignore[no-any-return]

    def encode_last(self, history: Tensor) -> Tensor:
        """int64 [B, L], left-padded -> float32 [B, d]."""
        return self.user_vectors(self.encoder.encode_last(history))  # type: ignore[no-any-return]

    def _round_basis(self, items: ItemTable, basis: nn.Parameter) -> None:
        """Round by rows where user vectors are multiplied with the basis, by columns where it expands rows of the table."""
        parametrize.register_parametrization(items, "basis", FakeQuantizedWeight())
        activation, rounded = self._activation(), FakeQuantizedWeight()
        self._hooks.append(items.expand.register_forward_pre_hook(lambda _, inputs: (activation(inputs[0]), rounded(basis.T).T)))

    def _activation(self) -> FakeQuantizedActivation:
        activation = FakeQuantizedActivation()
        self.inputs.append(activation)
        return activation

    def release(self) -> Encoder:
        """The encoder with plain weights, not yet rounded: the export rounds them to the same grid."""
        for module in list(self.encoder.modules()):
            if parametrize.is_parametrized(module):
                for name in list(module.parametrizations):  # type: ignore[arg-type]
                    parametrize.remove_parametrizations(module, name, leave_parametrized=False)
        for hook in self._hooks:
            hook.remove()
        return self.encoder
