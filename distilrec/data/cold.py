"""Items whose interactions are all held out, to judge how items are recommended that nobody has touched."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from distilrec.core.specs import RecommenderSpec
from distilrec.data.dataset import Dataset, HeldOut, requests

FILE_NAME = "cold.npz"
_SEED = 0
"""Random seed of the choice. It is not that of the run, so that runs of several seeds are judged by the same items."""


def choose_cold_items(item_ids: Iterable[str], fraction: float) -> list[str]:
    """Ids of a share of the items, drawn with a fixed seed; at least one where the share is not 0.

    Args:
        item_ids: Ids of the items to choose from, each once, in any order.
        fraction: Share to choose.
    """
    ids = sorted(item_ids)
    count = max(1, round(len(ids) * fraction)) if fraction else 0
    chosen = np.random.default_rng(_SEED).permutation(len(ids))[:count]
    return [ids[place] for place in sorted(chosen)]


@dataclass(frozen=True)
class ColdInteractions:
    """The held-out interactions of cold items, in the order of users and time."""

    users: NDArray[np.int64]
    """int64 [C]: index of the user in the data set."""
    items: NDArray[np.int32]
    """int32 [C]."""
    seen: NDArray[np.int64]
    """int64 [C]: number of interactions of the user's sequence that came before."""

    def save(self, folder: Path) -> None:
        """Write into a data folder."""
        np.savez(folder / FILE_NAME, users=self.users, items=self.items, seen=self.seen)

    def item_mask(self, item_count: int) -> NDArray[np.bool_]:
        """Mask of the cold items, bool [N + 1]."""
        mask = np.zeros(item_count + 1, np.bool_)
        mask[self.items] = True
        return mask


def load_cold(folder: Path) -> ColdInteractions | None:
    """Read what was saved into a data folder; None where no item was held out."""
    path = folder / FILE_NAME
    if not path.exists():
        return None
    with np.load(path, allow_pickle=False) as arrays:
        return ColdInteractions(**{name: arrays[name] for name in ("users", "items", "seen")})


def cold_held_out(dataset: Dataset, cold: ColdInteractions, spec: RecommenderSpec) -> HeldOut:
    """One request for each user with a cold item after something else: the newest cold item is the right answer."""
    usable = cold.seen > 0
    users, last = np.unique(cold.users[usable][::-1], return_index=True)
    items, seen = cold.items[usable][::-1][last], cold.seen[usable][::-1][last]
    sequences = [dataset.sequence(user)[:length] for user, length in zip(users, seen, strict=True)]
    history, exclude = requests(sequences, spec)
    truncated = int((seen > spec.history_length + spec.exclude_length).sum())
    unjudged = len(np.unique(cold.users)) - len(users)
    return HeldOut(users, history, exclude, items[:, None].astype(np.int32), unjudged, truncated)
