"""The tiny shop with an open catalogue: content goes all the way, and items that nobody has touched are recommended."""

import numpy as np
import torch
from safetensors.torch import load_file

from distill.models.students.build import load_student
from distill.models.weights import WEIGHTS
from distilrec.core.manifest import read_manifest
from distilrec.core.specs import table_rows
from distilrec.data.stage import load


def test_content_is_folded_away_and_kept_beside_the_weights(open_run):
    _, vocabulary = load(open_run / "data")
    weights = load_file(open_run / "student" / WEIGHTS)
    assert [name for name in weights if name.startswith("items.")] == ["items.learned"]
    assert weights["items.learned"].shape[0] == table_rows(len(vocabulary))
    assert load_file(open_run / "student" / "content.safetensors")["linear.weight"].shape[1] == 16 + 2 + 6
    assert load_file(open_run / "teacher-sequence" / "content.safetensors")["linear.weight"].shape[1] == 16 + 6
    metrics = read_manifest(open_run / "teacher-sequence").metrics
    assert (metrics["content"], metrics["id_dropout"]) == (["genre", "image"], 0.1)


def test_untouched_items_are_neither_lost_nor_everywhere(open_run, open_config):
    dataset, vocabulary = load(open_run / "data")
    untouched = dataset.training_counts()[1:] == 0
    assert untouched.sum() == 10 + 9  # listed alone, and a tenth that is held out
    student = load_student(open_config, open_run / "student", len(vocabulary))
    history = torch.from_numpy(dataset.items[: 12 * 20].reshape(20, 12)).long()
    with torch.inference_mode():
        scores = student.score_last(history)[:, 1 : len(vocabulary) + 1]
    share = untouched[scores.topk(20, dim=1).indices.numpy()].mean()
    assert 0.3 * untouched.mean() < share < 3 * untouched.mean()
    assert np.isfinite(scores.numpy()).all()
