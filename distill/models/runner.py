"""A PyTorch model behind the serving contract."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from distill.models.encoders import Recommender, Scorer
from distilrec.core.runner import Answer
from distilrec.core.specs import RecommenderSpec


class TorchRunner:
    """Runs a trained model eagerly, on the CPU; arguments as of ``Recommender``."""

    def __init__(self, scorer: Scorer, spec: RecommenderSpec, retired: Sequence[int] = ()) -> None:
        self.spec = spec
        self.recommender = Recommender(scorer, spec, retired).eval()

    @torch.inference_mode()
    def recommend(self, history: NDArray[np.int32], exclude: NDArray[np.int32]) -> Answer:
        """int32 [B, L] and int32 [B, E] -> items int32 [B, K] and scores float32 [B, K]."""
        items, scores = self.recommender(torch.from_numpy(history), torch.from_numpy(exclude))
        return items.numpy(), scores.numpy()

    @torch.inference_mode()
    def scores(self, history: NDArray[np.int32], exclude: NDArray[np.int32]) -> NDArray[np.float32]:
        """Scores of the whole catalogue, see ``ScoringRunner``."""
        scores: Tensor = self.recommender.masked_scores(torch.from_numpy(history), torch.from_numpy(exclude))
        return scores[:, : self.spec.item_count + 1].numpy()
