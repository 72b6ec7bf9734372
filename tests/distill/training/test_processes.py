"""Two processes share a training, as two GPUs would."""

import pytest
import torch

from distill.models.catalogue import Catalogue
from distill.models.item_table import popularity_prior
from distill.models.teachers.sequence import SequenceTeacherConfig
from distill.models.teachers.text import TextTeacherConfig
from distill.training.fit import fit
from distilrec.core.specs import RecommenderSpec
from distilrec.data import stage as data_stage


@pytest.mark.pipeline
@pytest.mark.parametrize("kind", ["causal", "masked", "gradual"])
def test_every_teacher_can_be_trained_by_two_processes(shop_config, tiny_bert, tmp_path, kind):
    data_stage.run(shop_config, {}, tmp_path / "data")
    dataset, vocabulary = data_stage.load(tmp_path / "data")
    length = shop_config.history_length
    catalogue = Catalogue(dataset.item_count, vocabulary.titles, popularity=popularity_prior(dataset))
    training = {"epochs": 2, "batch_size": 64, "learning_rate": 0.01, "embedding_size": 16, "ema_decay": 0.0}
    torch.manual_seed(0)
    if kind == "gradual":
        sizes = {"max_titles": 2, "max_tokens": 16, "prefixes_per_window": 1}
        settings = TextTeacherConfig(**training, **sizes, freeze="gradual", model=tiny_bert)
    else:
        settings = SequenceTeacherConfig(**training, objective=kind, heads=2, layers=1)
    teacher = settings.build(catalogue, length)
    before = teacher.items.learned.detach().clone()
    spec = RecommenderSpec(dataset.item_count, length, 16, 10)
    result = fit(teacher, dataset, spec, settings, seed=0, scratch=tmp_path / "scratch", processes=2)
    assert result.epochs == 2
    assert not torch.equal(teacher.items.learned, before)
