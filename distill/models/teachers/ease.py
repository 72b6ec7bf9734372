"""Teacher kind ``ease``: a linear item-item model in closed form (Steck 2019, arXiv:1905.03375)."""

import warnings
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from safetensors.torch import load_file, save_file
from torch import Tensor

from distill.data.indices import columns_of
from distill.models.encoders import Scorer
from distill.models.item_table import is_item
from distill.models.teachers._base import SolvedTeacherConfig
from distill.models.weights import WEIGHTS
from distilrec.core.errors import ConfigError
from distilrec.core.specs import table_rows
from distilrec.data.dataset import Dataset

_LARGEST_CATALOGUE = 40_000


class EaseTeacherConfig(SolvedTeacherConfig):
    """A linear item-item model in closed form (Steck 2019): one inversion of an N x N matrix."""

    kind: Literal["ease"] = "ease"
    summary = (
        "A linear item-item model in closed form (Steck 2019, arXiv:1905.03375). The student learns from it; it is not served."
    )
    has_user_vectors = False
    l2: Annotated[float, Field(gt=0)] = 100.0
    """Regularisation: what is added to the diagonal of the co-occurrence matrix."""
    decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Weight of an item of the history relative to the one after it."""
    scale: Annotated[float, Field(gt=0)] = 10.0
    """Logits are scores times this, since EASE's scores are no log-probabilities."""

    def solve(self, dataset: Dataset) -> "EaseTeacher":
        """See ``SolvedTeacherConfig``."""
        return EaseTeacher(fit_ease(dataset, self.l2), self.decay, self.scale)

    def save(self, teacher: "EaseTeacher", folder: Path) -> None:
        """See ``SolvedTeacherConfig``."""
        save_file({"weights": teacher.weights.contiguous()}, folder / WEIGHTS)

    def load(self, folder: Path, item_count: int, history_length: int) -> "EaseTeacher":  # noqa: ARG002
        """See ``TeacherConfig``."""
        return EaseTeacher(load_file(folder / WEIGHTS)["weights"], self.decay, self.scale).eval()


class EaseTeacher(Scorer):
    """The score of an item is the sum of the weights that the history's items have for it.

    Args:
        weights: float32 [N, N], zero diagonal; row i holds the weights of item i + 1 for each item.
        decay: weight of an item of the history relative to the one after it.
        scale: logits are scores times this.
    """

    weights: Tensor

    def __init__(self, weights: Tensor, decay: float, scale: float) -> None:
        super().__init__()
        self.register_buffer("weights", weights)
        self.item_count = len(weights)
        self.decay = decay
        self.scale = scale

    def score_prefixes(self, history: Tensor, valid: Tensor) -> Tensor:
        """See ``Scorer``."""
        scores = torch.zeros(history.shape[0], self.item_count, device=history.device)
        steps = []
        for step in range(history.shape[1]):
            scores = scores * self.decay + self._scores_of(history[:, step])
            steps.append(scores[valid[:, step]])
        # Sorted back from the order of steps to that of rows, as in ``valid``.
        places = torch.cat([torch.nonzero(valid[:, step]).flatten() * history.shape[1] + step for step in range(history.shape[1])])
        return self.scale * torch.cat(steps)[places.argsort()]

    def score_last(self, history: Tensor) -> Tensor:
        """See ``Scorer``; 0 for all items when the history is empty."""
        scores = torch.zeros(history.shape[0], self.item_count, device=history.device)
        for step in range(history.shape[1]):
            scores = torch.where(is_item(history[:, step : step + 1], self.item_count), scores * self.decay, scores)
            scores = scores + self._scores_of(history[:, step])
        rows = table_rows(self.item_count)
        return torch.nn.functional.pad(self.scale * scores, (1, rows - self.item_count - 1))

    def _scores_of(self, items: Tensor) -> Tensor:
        """Scores that the items of one step add. int64 [B] -> float32 [B, N]; zeros for padding."""
        present = is_item(items, self.item_count)
        return self.weights[columns_of(items)] * present[:, None]

    def parameter_count(self) -> int:
        """All weights: the matrix is dense."""
        return self.weights.numel()


def fit_ease(dataset: Dataset, l2: float) -> Tensor:
    """The matrix B that minimises ||X - X B||^2 + l2 ||B||^2 with a zero diagonal, X the users' training items. float32 [N, N].

    Raises:
        ConfigError: the catalogue is too large for a dense N x N matrix.
    """
    count = dataset.item_count
    if count > _LARGEST_CATALOGUE:
        raise ConfigError(
            f"found a teacher of kind 'ease' and {count:,} items, expected at most {_LARGEST_CATALOGUE:,}: it inverts a"
            f" dense matrix of all pairs ({count**2 * 4 / 1e9:.0f} GB). Use kind 'sequence'."
        )
    users = np.repeat(np.arange(dataset.user_count), dataset.validation_start)
    items = np.concatenate([dataset.sequence(user)[:end] for user, end in enumerate(dataset.validation_start)])
    columns = columns_of(torch.from_numpy(items)).numpy()
    pairs = np.unique(np.stack([users, columns]).astype(np.int64), axis=1)  # an item counts once for each user
    size = (dataset.user_count, count)
    seen = torch.sparse_coo_tensor(torch.from_numpy(pairs), torch.ones(pairs.shape[1]), size, check_invariants=True)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
        gram = torch.sparse.mm(seen.t(), seen).to_dense()
    gram.diagonal().add_(l2)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(gram))
    weights = -inverse / inverse.diagonal()
    weights.fill_diagonal_(0)
    return weights
