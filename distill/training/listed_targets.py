"""Soft targets of a teacher that has lists for some training prefixes."""

from pathlib import Path

import numpy as np

from distill.data.soft_targets import SoftTargetWriter
from distill.models.teachers.external import ExternalTeacher
from distill.training.teacher_inference import sequences_to_score
from distilrec.config import TargetsConfig
from distilrec.core.progress import progress
from distilrec.data.dataset import Dataset

_SCORES_AT_ONCE = 1 << 24


def write_listed_targets(
    teacher: ExternalTeacher, dataset: Dataset, folder: Path, *, history_length: int, settings: TargetsConfig, seed: int
) -> int:
    """Write a folder of soft targets from lists; returns the number of training prefixes with a list.

    Perturbed copies and prefixes without a list have none: items are 0 there. No more items are kept than the longest list has,
    because all others have the same probability.

    Args:
        teacher: The lists.
        dataset: Data set whose training part they are for.
        folder: Existing folder.
        history_length: L, longest window.
        settings: What is kept, and how many perturbed copies other teachers score.
        seed: Random seed of the perturbed copies.
    """
    sequences, windows = sequences_to_score(dataset, history_length, settings, seed)
    training = np.concatenate([np.arange(begin, end) for begin, end, copy in windows.tolist() if copy == 0])
    prefixes, lists = teacher.state["prefixes"].numpy(), teacher.state["lists"]
    listed = np.flatnonzero(np.isin(prefixes, training))
    kept = settings.model_copy(update={"top_n": min(settings.top_n, teacher.longest)})
    step = max(1, _SCORES_AT_ONCE // teacher.item_count)
    with SoftTargetWriter(folder, sequences, windows, kept, teacher.item_count) as writer:
        for start in progress(range(0, len(listed), step), desc="soft targets", unit="batch"):
            rows = listed[start : start + step]
            writer.write(prefixes[rows], teacher.scores_of(lists[rows]))
    return len(listed)
