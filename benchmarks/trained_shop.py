"""A student trained for a short time on the shop of ``distilrec generate``, for benchmarks with large catalogues.

Random item vectors say nothing about an approximate head: they have no neighbourhoods. This training takes minutes at any number
of items, because a step touches only the rows that it reads: the loss is a softmax over the batch's items and drawn ones, with the
correction for their frequency (Yi et al. 2019, doi:10.1145/3298689.3346996), and the table's Adam is sparse.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from distill.models.encoders import Encoder
from distill.models.item_table import ItemTable
from distill.models.students.mlp import MlpStudentConfig
from distilrec.core.progress import progress
from distilrec.data.dataset import Dataset
from distilrec.data.synthetic import INTERACTIONS, Shop, write_shop

_BATCH_SIZE, _DRAWN = 512, 2048
_LEARNING_RATE, _TABLE_LEARNING_RATE = 1e-3, 5e-3
_CORRECTION = 1.0
_SHORTEST = 3
"""Fewest events of a user that is learned from: history, validation and test."""


@dataclass(frozen=True)
class TrainedShop:
    """A student with its data."""

    student: Encoder
    dataset: Dataset


class _SparseTable(nn.Module):
    """The item table with sparse gradients: a fixed popularity coordinate and learned rows."""

    popularity: Tensor

    def __init__(self, popularity: Tensor, embedding_size: int) -> None:
        super().__init__()
        self.item_count, self.embedding_size = len(popularity), embedding_size
        self.register_buffer("popularity", torch.cat([torch.zeros(1), popularity])[:, None])
        self.rows = nn.Embedding(self.item_count + 1, embedding_size - 1, sparse=True)
        nn.init.normal_(self.rows.weight, std=0.02)

    def embed(self, history: Tensor) -> Tensor:
        """int64 [...] -> float32 [..., d]."""
        return torch.cat([nn.functional.embedding(history, self.popularity), self.rows(history)], dim=-1)


def shop_dataset(folder: Path, shop: Shop) -> Dataset:
    """The shop's interactions as sequences, with the last item of each user as test and the one before as validation."""
    if not (folder / INTERACTIONS).exists():
        write_shop(shop, folder)
    events = pl.read_parquet(folder / INTERACTIONS / "*.parquet", columns=["user_id", "item_id", "timestamp"])
    events = events.sort("user_id", "timestamp", maintain_order=True)
    lengths = events.group_by("user_id", maintain_order=True).len()["len"].to_numpy()
    kept = np.repeat(lengths >= _SHORTEST, lengths)
    lengths = lengths[lengths >= _SHORTEST].astype(np.int64)
    items = events["item_id"].to_numpy()[kept].astype(np.int32)
    return Dataset(items, np.concatenate([[0], np.cumsum(lengths)]), lengths - 2, lengths - 1, shop.items)


def train_on(dataset: Dataset, history_length: int, steps: int, *, settings: MlpStudentConfig | None = None) -> TrainedShop:
    """Train a student for some steps; the same arguments give the same student."""
    torch.manual_seed(0)
    settings = settings or MlpStudentConfig(dropout=0.0)
    counts = np.bincount(dataset.items, minlength=dataset.item_count + 1)
    popularity = popularity_prior_of(counts)
    table = _SparseTable(popularity, settings.embedding_size)
    student = settings.build(table, history_length)  # type: ignore[arg-type] # only ``embed`` is called
    sparse = torch.optim.SparseAdam(list(table.parameters()), lr=_TABLE_LEARNING_RATE)
    learned = [parameter for name, parameter in student.named_parameters() if not name.startswith("items.")]
    dense = torch.optim.Adam(learned, lr=_LEARNING_RATE)
    log_counts = torch.from_numpy(counts).clamp(min=1).float().log()
    rng = np.random.default_rng(0)
    for step in progress(range(steps), desc="training", unit="step"):
        for optimizer, rate in ((sparse, _TABLE_LEARNING_RATE), (dense, _LEARNING_RATE)):
            optimizer.param_groups[0]["lr"] = rate * (1 - step / steps)
        history, targets = _draw(dataset, history_length, rng)
        vectors = student.encode_last(history)
        drawn = torch.from_numpy(rng.integers(1, dataset.item_count + 1, _DRAWN))
        candidates = torch.cat([targets, drawn])
        # In-batch items come in proportion to their count, drawn ones all alike.
        expected = torch.cat(
            [
                log_counts[targets] + np.log(_BATCH_SIZE / len(dataset.items)),
                log_counts.new_full((_DRAWN,), np.log(_DRAWN / dataset.item_count)),
            ]
        )
        logits = vectors @ table.embed(candidates).T - _CORRECTION * expected
        same = (candidates[None] == targets[:, None]) & ~torch.eye(len(targets), len(candidates), dtype=torch.bool)
        loss = nn.functional.cross_entropy(logits.masked_fill(same, -1e4), torch.arange(len(targets)))
        for optimizer in (sparse, dense):
            optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        for optimizer in (sparse, dense):
            optimizer.step()  # type: ignore[no-untyped-call]
    print("loss", float(loss.detach()))
    items = ItemTable(dataset.item_count, settings.embedding_size)
    with torch.no_grad():
        items.learned[: dataset.item_count + 1] = torch.cat([table.popularity, table.rows.weight], dim=1)
    student.items = items
    return TrainedShop(student.eval(), dataset)


def popularity_prior_of(counts: NDArray[np.int64]) -> Tensor:
    logs = torch.from_numpy(counts[1:]).float().log1p()
    return 0.1 * (logs - logs.mean()) / logs.std()


def _draw(dataset: Dataset, history_length: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Random training positions: histories int64 [B, L], left-padded, and the items that follow, int64 [B]."""
    places = rng.integers(0, len(dataset.items), 4 * _BATCH_SIZE)
    users = np.searchsorted(dataset.offsets, places, side="right") - 1
    within = places - dataset.offsets[users]
    kept = np.flatnonzero((within > 0) & (within < dataset.validation_start[users]))[:_BATCH_SIZE]
    places, within = places[kept], within[kept]
    ages = np.arange(history_length, 0, -1)
    history = np.where(ages <= within[:, None], dataset.items[np.maximum(places[:, None] - ages, 0)], 0)
    return torch.from_numpy(history.astype(np.int64)), torch.from_numpy(dataset.items[places].astype(np.int64))
