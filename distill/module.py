"""The LightningModule and DataModule that train teachers and students alike."""

from typing import Any, cast

import lightning
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from distill.encoders import Encoder, Recommender
from distill.losses import hard_cross_entropy, softened_kl
from distill.sequences import Batch, LengthBatchSampler, Windows
from distill.soft_targets import SoftTargets
from distilrec.config import TrainingConfig
from distilrec.data.dataset import HeldOut
from distilrec.evaluation import ranking_metrics
from distilrec.specs import RecommenderSpec

VALIDATION_METRIC = "validation_ndcg@10"


def epoch_seed(seed: int, epoch: int) -> int:
    """A seed of its own for each epoch."""
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])


class SequenceData(lightning.LightningDataModule):
    """Training windows in a seeded order of their own each epoch, and the validation users."""

    def __init__(self, windows: Windows, validation: HeldOut, batch_size: int, seed: int) -> None:
        super().__init__()
        self.windows = windows
        self.validation = validation
        self.batch_size = batch_size
        self.seed = seed

    def train_dataloader(self) -> DataLoader[Any]:
        """Made anew each epoch (see ``fit``), so that the order depends on seed and epoch alone and a resume is exact."""
        epoch = self.trainer.current_epoch if self.trainer else 0
        sampler = LengthBatchSampler(self.windows.lengths, self.batch_size, epoch_seed(self.seed, epoch))
        # A generator of its own: a loader draws from the global one, which would disturb the dropout of a resumed training.
        return DataLoader(self.windows, batch_sampler=sampler, collate_fn=self.windows.collate, generator=torch.Generator())

    def val_dataloader(self) -> DataLoader[Any]:
        """Batches of (history, exclude) of the validation users, in order."""
        requests = list(zip(torch.from_numpy(self.validation.history), torch.from_numpy(self.validation.exclude), strict=True))
        return DataLoader(cast(Any, requests), batch_size=self.batch_size, generator=torch.Generator())


class NextItemModule(lightning.LightningModule):
    """Next-item prediction at every position: hard cross-entropy, mixed with a teacher's soft targets where there are any.

    Args:
        encoder: the model.
        spec: sizes of the recommender for validation.
        config: optimizer settings.
        validation: the users ``SequenceData`` validates with.
        targets: the teacher's soft targets.
        soft_ratio: share of the softened KL in the loss; 0 without ``targets``.
    """

    def __init__(
        self,
        encoder: Encoder,
        spec: RecommenderSpec,
        config: TrainingConfig,
        validation: HeldOut,
        *,
        targets: SoftTargets | None = None,
        soft_ratio: float = 0.0,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.recommender = Recommender(encoder, spec)
        self.config = config
        self.validation = validation
        self.targets = targets
        self.soft_ratio = soft_ratio if targets is not None else 0.0
        self._ranked: list[Tensor] = []

    def training_step(self, batch: Batch) -> Tensor:
        """Loss over all M valid positions of a batch."""
        user_vectors = self.encoder.encode_all(batch.history)[batch.valid]  # (M, d)
        table = self.encoder.items()[1 : self.encoder.items.item_count + 1]  # (N, d)
        logits = nn.functional.linear(user_vectors, table)
        loss = hard_cross_entropy(logits, batch.targets - 1)
        if self.targets is not None and self.soft_ratio > 0:
            soft = self.targets.read(batch.prefixes).to(logits.device)
            kl = softened_kl(logits, soft.items - 1, soft.logits, soft.rest, self.targets.temperature)
            self.log("kl", kl, prog_bar=True)
            loss = (1 - self.soft_ratio) * loss + self.soft_ratio * kl
        self.log("loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: list[Tensor]) -> None:
        """Rank the catalogue for some validation users."""
        items, _ = self.recommender(*batch)
        self._ranked.append(items.cpu())

    def on_validation_epoch_end(self) -> None:
        """NDCG@10 over the validation users."""
        ranked = torch.cat(self._ranked).numpy()
        self._ranked.clear()
        self.log(VALIDATION_METRIC, ranking_metrics(ranked, self.validation)["ndcg@10"], prog_bar=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW; no decay on biases and norms."""
        parameters = list(self.encoder.parameters())
        matrices = [p for p in parameters if p.ndim >= 2]
        rest = [p for p in parameters if p.ndim < 2]
        return torch.optim.AdamW(
            [{"params": matrices, "weight_decay": self.config.weight_decay}, {"params": rest, "weight_decay": 0.0}],
            lr=self.config.learning_rate,
        )
