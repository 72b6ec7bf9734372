"""How well an exported model ranks, as it travels with the model, and whether another one ranks worse."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from distilrec.core.errors import DataError
from distilrec.core.files import write_text
from distilrec.data.dataset import HeldOut
from distilrec.evaluation.bootstrap import interval, resampled_means
from distilrec.evaluation.metrics import METRICS
from distilrec.evaluation.ranking import PRIMARY_K
from distilrec.evaluation.verdict import MAX_NDCG_LOSS

FILE_NAME = "ranking.json"


@dataclass(frozen=True)
class RankingRecord:
    """NDCG@10 of a model over its validation users."""

    ndcg_at_10: float
    """Mean over users."""
    low: float
    """Lower end of the mean's 95 % interval over users."""
    high: float
    """Upper end of that interval."""
    users: int
    held_out_sha256: str
    """Digest of the catalogue, the users, their right answers and whether seen ones count. Only figures with the same digest can be
    compared."""

    def save(self, path: Path) -> None:
        """Write a JSON file; equal records give equal bytes."""
        write_text(path, json.dumps(asdict(self), indent=2) + "\n")

    def __str__(self) -> str:
        return f"NDCG@10 {self.ndcg_at_10:.4f} ({self.low:.4f} to {self.high:.4f})"


def record_ranking(items: NDArray[np.int32], users: HeldOut, vocabulary_sha256: str) -> RankingRecord:
    """Record how well a model ranks.

    Args:
        items: The model's answers, int32 [U, K].
        users: Validation users with their right answers.
        vocabulary_sha256: Digest of the catalogue that item indices belong to.
    """
    values = METRICS["ndcg"](items, users.truth, PRIMARY_K)
    low, high = interval(resampled_means(values[:, None])[:, 0])
    held_out = hashlib.sha256(vocabulary_sha256.encode())
    for name in sorted(users.choices):  # whether seen items may be repeated
        held_out.update(name.encode())
    for array in (users.users, users.truth):
        held_out.update(str(array.shape).encode() + np.ascontiguousarray(array).tobytes())
    return RankingRecord(float(values.mean()), low, high, len(values), held_out.hexdigest())


def load_record(path: Path) -> RankingRecord | None:
    """Read what ``RankingRecord.save`` wrote; None where there is no file, as in artefacts of earlier versions.

    Raises:
        DataError: The file holds no record.
    """
    try:
        return RankingRecord(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{path}: found no record of a ranking ({error}), expected one. Export again: distilrec export") from error


def ranking_fault(new: RankingRecord, served: RankingRecord) -> str | None:
    """Description of a loss that exceeds the ranking budget, which is that of precisions; None where the ranking is kept.

    Args:
        new: Record of the model that is to be served.
        served: Record of the served model, of the same users and right answers.
    """
    if not served.ndcg_at_10:
        return None
    loss = (served.ndcg_at_10 - new.ndcg_at_10) / served.ndcg_at_10
    if loss <= MAX_NDCG_LOSS:
        return None
    return f"it ranks with {new}, the served version with {served}: a loss of {loss:.2%}, expected at most {MAX_NDCG_LOSS:.1%}"
