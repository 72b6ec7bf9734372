"""A PyTorch model behind the serving contract."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from distill.models.encoders import Recommender, Scorer
from distilrec.core.runner import NOTHING_CHOSEN, Answer, Choices, request_arrays
from distilrec.core.specs import RecommenderSpec
from distilrec.data.item_filters import ItemFilters


class TorchRunner:
    """Runs a trained model eagerly, on the CPU.

    Args:
        scorer: The model.
        spec: Sizes of the tensors.
        filters: Attributes of the items; without them, a request that filters is an error.
        retired: Indices of items that are never returned.
    """

    def __init__(
        self, scorer: Scorer, spec: RecommenderSpec, filters: ItemFilters | None = None, *, retired: Sequence[int] = ()
    ) -> None:
        self.spec = spec
        self.recommender = Recommender(scorer, spec, filters, retired=retired).eval()

    @torch.inference_mode()
    def recommend(self, history: NDArray[np.int32], exclude: NDArray[np.int32], choices: Choices = NOTHING_CHOSEN) -> Answer:
        """int32 [B, L], int32 [B, E] and optional tensors -> items int32 [B, K] and scores float32 [B, K].

        Raises:
            ValueError: The model does not have such a choice.
        """
        arrays = request_arrays(self.spec, history, exclude, choices)
        for name in self.recommender.cannot():
            if arrays[name].any():
                raise ValueError(f"found a request with {name!r}, expected none: this model has no attributes or vectors of items")
        items, scores = self.recommender(*map(torch.from_numpy, arrays.values()))
        return items.numpy(), scores.numpy()

    @torch.inference_mode()
    def scores(self, history: NDArray[np.int32], exclude: NDArray[np.int32]) -> NDArray[np.float32]:
        """Scores of the whole catalogue, see ``ScoringRunner``."""
        scores: Tensor = self.recommender.masked_scores(torch.from_numpy(history), torch.from_numpy(exclude))
        return scores[:, : self.spec.item_count + 1].numpy()
