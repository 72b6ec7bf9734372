"""A student trained for a short time on the shop of ``distilrec generate``, for benchmarks with large catalogues.

Random item vectors say nothing about an approximate head: they have no neighbourhoods. This training takes minutes at any number
of items, because a step touches only the rows that it reads: the loss is a softmax over the batch's items and drawn ones, with the
correction for their frequency (Yi et al. 2019, doi:10.1145/3298689.3346996), and the table's Adam is sparse.
"""

import math
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
_SHORTEST = 3
"""Fewest events of a user that is learned from: history, validation and test."""


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


def train_on(dataset: Dataset, history_length: int, steps: int, *, settings: MlpStudentConfig) -> Encoder:
    """A student after some training steps, in evaluation mode; the same arguments give the same student."""
    torch.manual_seed(0)
    counts = np.bincount(dataset.items, minlength=dataset.item_count + 1)
    table = _SparseTable(_popularity(counts), settings.embedding_size)
    student = settings.build(table, history_length)  # type: ignore[arg-type] # only ``embed`` is called
    learned = [parameter for name, parameter in student.named_parameters() if not name.startswith("items.")]
    optimizers = {
        torch.optim.SparseAdam(list(table.parameters())): _TABLE_LEARNING_RATE,
        torch.optim.Adam(learned): _LEARNING_RATE,
    }
    log_counts, rng = torch.from_numpy(counts).clamp(min=1).float().log(), np.random.default_rng(0)
    for step in progress(range(steps), desc="training", unit="step"):
        loss = _loss(student, table, log_counts, _draw(dataset, history_length, rng), rng)
        for optimizer, rate in optimizers.items():
            optimizer.param_groups[0]["lr"] = rate * (1 - step / steps)
            optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        for optimizer in optimizers:
            optimizer.step()
    items = ItemTable(dataset.item_count, settings.embedding_size)
    with torch.no_grad():
        items.learned[: dataset.item_count + 1] = torch.cat([table.popularity, table.rows.weight], dim=1)
    student.items = items
    return student.eval()


def _loss(
    student: Encoder, table: _SparseTable, log_counts: Tensor, batch: tuple[Tensor, Tensor], rng: np.random.Generator
) -> Tensor:
    """Cross-entropy over the batch's targets and drawn items; targets come in proportion to their count, drawn items all alike."""
    history, targets = batch
    drawn = torch.from_numpy(rng.integers(1, table.item_count + 1, _DRAWN))
    candidates = torch.cat([targets, drawn])
    frequency = math.log(_BATCH_SIZE) - float(log_counts.exp().sum().log())
    expected = torch.cat([log_counts[targets] + frequency, log_counts.new_full((_DRAWN,), math.log(_DRAWN / table.item_count))])
    logits = student.encode_last(history) @ table.embed(candidates).T - expected
    same = (candidates[None] == targets[:, None]) & ~torch.eye(len(targets), len(candidates), dtype=torch.bool)
    return nn.functional.cross_entropy(logits.masked_fill(same, -1e4), torch.arange(len(targets)))


def _popularity(counts: NDArray[np.int64]) -> Tensor:
    """Standardised log(1 + count) of items 1..N, as ``distill.models.item_table.popularity_prior``. float32 [N]."""
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
