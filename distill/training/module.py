"""The LightningModule and DataModule that train teachers and students alike."""

from collections.abc import Sequence
from typing import Any, cast

import lightning
import numpy as np
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.utils.data import DataLoader

from distill.data.indices import columns_of
from distill.data.sequences import Batch, LengthBatchSampler, Windows
from distill.losses.catalogue import catalogue_loss
from distill.losses.distillation import Distillation
from distill.losses.hard import hard_cross_entropy
from distill.losses.negatives import draw_candidates, drawn_items
from distill.losses.partition import NOWHERE, split_logits
from distill.models.encoders import Encoder, Recommender
from distill.training.optimizers import build_optimizer, learning_rate_factor
from distilrec.config import TrainingConfig
from distilrec.core.specs import PADDING, RecommenderSpec
from distilrec.data.dataset import HeldOut
from distilrec.evaluation.ranking import ranking_metrics

_VALIDATION_BATCH_SIZE = 256

VALIDATION_METRIC = "validation_ndcg@10"


def epoch_seed(seed: int, epoch: int) -> int:
    """Random seed of one epoch."""
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])


class SequenceData(lightning.LightningDataModule):
    """Training windows in a seeded order of their own each epoch, and the validation users.

    Args:
        windows: Data sets to learn from; several take turns, one in each epoch.
        validation: Users to validate with; fastest in order of their histories' lengths.
        batch_size: Windows in a step, over all processes together.
        seed: Random seed of the batch order.
    """

    def __init__(self, windows: Sequence[Windows], validation: HeldOut, batch_size: int, seed: int) -> None:
        super().__init__()
        self.windows = windows
        self.validation = validation
        self.batch_size = batch_size
        self.seed = seed

    def train_dataloader(self) -> DataLoader[Any]:
        """A new loader for each epoch, so that the order depends on seed and epoch alone and a resumed training is exact."""
        trainer = self.trainer
        epoch, rank, processes = (trainer.current_epoch, trainer.global_rank, trainer.world_size) if trainer else (0, 0, 1)
        windows = self.windows[epoch % len(self.windows)]
        sampler = LengthBatchSampler(windows.lengths, self.batch_size, epoch_seed(self.seed, epoch), rank=rank, processes=processes)
        # A generator of its own: a loader draws from the global one, which would disturb the dropout of a resumed training.
        return DataLoader(windows, batch_sampler=sampler, collate_fn=windows.collate, generator=torch.Generator())

    def val_dataloader(self) -> DataLoader[Any]:
        """Batches of (history, exclude) of the validation users, in order."""
        requests = list(zip(torch.from_numpy(self.validation.history), torch.from_numpy(self.validation.exclude), strict=True))
        return DataLoader(cast(Any, requests), batch_size=_VALIDATION_BATCH_SIZE, generator=torch.Generator())


class NextItemModule(lightning.LightningModule):
    """Next-item prediction at every position: with hard cross-entropy, or with the losses of a distillation.

    Args:
        encoder: the model.
        spec: sizes of the recommender for validation.
        config: optimizer settings.
        validation: the users ``SequenceData`` validates with, in the same order.
        distillation: how to learn from soft targets.
        example_weights: float32 [interactions], what the prediction at each flat position counts; None counts all alike.
    """

    def __init__(
        self,
        encoder: Encoder,
        spec: RecommenderSpec,
        config: TrainingConfig,
        validation: HeldOut,
        distillation: Distillation | None = None,
        *,
        example_weights: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.recommender = Recommender(encoder, spec)
        self.config = config
        self.validation = validation
        self.distillation = distillation
        self.register_buffer("example_weights", example_weights, persistent=False)
        self._ranked: list[Tensor] = []

    def training_step(self, batch: Batch) -> Tensor:
        """Mean loss over the M predictions of a batch, of all processes' batches together."""
        with self.encoder.items.kept():
            return self._loss(batch)

    def _loss(self, batch: Batch) -> Tensor:
        vectors, targets, prefixes = self.encoder.training_examples(batch)
        weights = None if self.example_weights is None else cast(Tensor, self.example_weights)[prefixes]
        if self.distillation is None:
            true = targets > 0
            vectors, targets = vectors[true], targets[true]
            loss = self._hard_loss(vectors, targets, None if weights is None else weights[true])
        else:
            progress = self.trainer.current_epoch / max(self.config.epochs - 1, 1)
            loss, parts = self.distillation(vectors, self._table(), targets, prefixes, progress, example_weights=weights)
            self.log_dict({name: value / max(len(vectors), 1) for name, value in parts.items()}, prog_bar=True)
        loss = loss / self._predictions_a_process(len(vectors))
        self.log("loss", loss, prog_bar=True)
        return loss

    def _hard_loss(self, vectors: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
        """Summed cross-entropy. float32 [M, d], int64 [M], weights float32 [M] or None -> scalar.

        Items that nobody has touched are no wrong answers, or their content would count against them.
        """
        untouched = self.encoder.items.untouched_rows()
        negatives = drawn_items(self.config.negatives, self.encoder.item_count)
        if negatives is None:
            table = self._table()
            if untouched is not None:
                table, targets = table[~untouched], (~untouched).cumsum(dim=0)[columns_of(targets)]
            return catalogue_loss(vectors, table, lambda logits, rows: _hard_sum(logits, targets[rows], _some(weights, rows)))
        candidates = draw_candidates(targets, self.encoder.item_count, negatives)
        if untouched is not None:
            candidates.correction[untouched[columns_of(candidates.items)]] = NOWHERE
        return catalogue_loss(
            vectors,
            self.encoder.items()[candidates.items],
            lambda logits, rows: _hard_sum(logits + candidates.correction, candidates.targets[rows], _some(weights, rows)),
        )

    def _table(self) -> Tensor:
        """Vectors of items 1..N."""
        table: Tensor = self.encoder.items()
        return table[1 : self.encoder.item_count + 1]

    def _predictions_a_process(self, own: int) -> float:
        """Mean number of predictions a process. DDP averages gradients; divided by this, they are those of one process alone."""
        if self.trainer.world_size == 1:
            return max(own, 1)
        counts = cast(Tensor, self.all_gather(torch.tensor(float(own), device=self.device)))
        return max(float(counts.mean()), 1.0)

    def validation_step(self, batch: list[Tensor]) -> None:
        """Rank the catalogue for some validation users; columns of padding alone are left out."""
        history, exclude = batch
        choices = []
        if self.recommender.spec.repeats:  # the users were held out with repeats, and choose nothing else
            sizes = ((tensor.name, tensor.shape) for tensor in self.recommender.spec.choices)
            choices = [history.new_full((len(history), *shape), int(name == "repeats")) for name, shape in sizes]
        longest = int((history != PADDING).sum(dim=1).max())
        with torch.autocast(self.device.type, enabled=False):  # in float32, as served: rounded scores tie
            items, _ = self.recommender(history[:, -longest:], exclude, *choices)
        self._ranked.append(items.cpu())

    def on_validation_epoch_end(self) -> None:
        """NDCG@10 over the validation users."""
        ranked = torch.cat(self._ranked).numpy()
        self._ranked.clear()
        self.log(VALIDATION_METRIC, ranking_metrics(ranked, self.validation)["ndcg@10"], prog_bar=True)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Optimizer and learning rate as the settings say."""
        optimizer = build_optimizer(self.parameters(), self.config, *self.encoder.pretrained_parameters())
        steps_an_epoch = max(int(self.trainer.estimated_stepping_batches) // self.config.epochs, 1)
        scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: learning_rate_factor(step / steps_an_epoch, self.config)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def _hard_sum(logits: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
    """Cross-entropy summed over predictions. float32 [m, N], int64 [m], weights float32 [m] or None -> scalar."""
    split = split_logits(logits, targets)
    values = hard_cross_entropy(split.target, split.top, split.rest)
    return values.sum() if weights is None else (values * weights).sum()


def _some(weights: Tensor | None, rows: slice) -> Tensor | None:
    return None if weights is None else weights[rows]
