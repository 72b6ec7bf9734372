"""Trained teachers of any kind, loaded from their stages' folders."""

from collections.abc import Mapping
from pathlib import Path

from distill.models.encoders import Scorer
from distill.models.teachers.ensemble import Ensemble
from distilrec.config import Config


def load_teacher(config: Config, name: str, folder: Path, item_count: int) -> Scorer:
    """The trained teacher of this name, ready for inference."""
    teacher: Scorer = config.teachers[name].load(folder, item_count, config.history_length)
    return teacher


def load_ensemble(config: Config, weights: Mapping[str, float], folders: Mapping[str, Path], item_count: int) -> Scorer:
    """What teaches the student: its only teacher, or the mixture of all of them.

    Args:
        config: Settings of the run.
        weights: Names and weights of the teachers that are mixed.
        folders: Stage folder of each teacher by its name.
        item_count: N.
    """
    members = [load_teacher(config, name, folders[name], item_count) for name in weights]
    return members[0] if len(members) == 1 else Ensemble(members, list(weights.values())).eval()
