"""The judge of every hop: anything that recommends, asked for all held-out users."""

import numpy as np
from numpy.typing import NDArray

from distilrec.data.dataset import HeldOut
from distilrec.metrics import METRICS
from distilrec.progress import progress
from distilrec.runner import Answer, Runner


def recommend_all(runner: Runner, users: HeldOut, batch_size: int, title: str) -> Answer:
    """Answers for all held-out users, in batches."""
    starts = progress(range(0, len(users.users), batch_size), desc=title, unit="batch", leave=False)
    answers = [
        runner.recommend(users.history[start : start + batch_size], users.exclude[start : start + batch_size]) for start in starts
    ]
    return np.concatenate([items for items, _ in answers]), np.concatenate([scores for _, scores in answers])


def ranking_metrics(items: NDArray[np.int32], users: HeldOut, ks: tuple[int, ...] = (10,)) -> dict[str, float]:
    """Means over users of all metrics, for example {"ndcg@10": 0.12, "hr@10": 0.22, "mrr@10": 0.09}."""
    return {f"{name}@{k}": float(metric(items, users.truth, k).mean()) for k in ks for name, metric in METRICS.items()}
