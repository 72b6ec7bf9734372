"""A teacher trains on the GPU, in bfloat16 where sums stay in float32. Needs no TensorRT. Not run on a GPU yet."""

import pytest
import torch

from distill.models.catalogue import Catalogue
from distill.models.item_table import popularity_prior
from distill.training.fit import fit
from distilrec.core.specs import RecommenderSpec
from distilrec.data import stage as data_stage

pytestmark = pytest.mark.gpu


def test_teacher_trains_on_the_gpu_in_bfloat16(shop_config, tmp_path, record_property):
    data_stage.run(shop_config, {}, tmp_path / "data")
    dataset, _ = data_stage.load(tmp_path / "data")
    settings = shop_config.teachers["sequence"]
    torch.manual_seed(1)
    catalogue = Catalogue(dataset.item_count, popularity=popularity_prior(dataset))
    teacher = settings.build(catalogue, shop_config.history_length)
    seen = set()

    def note(module, _inputs, output):
        seen.add((next(module.parameters()).device.type, next(module.parameters()).dtype, output.dtype))

    linear = next(module for module in teacher.modules() if isinstance(module, torch.nn.Linear))
    handle = linear.register_forward_hook(note)
    spec = RecommenderSpec(dataset.item_count, shop_config.history_length, 16, 10)
    result = fit(teacher, dataset, spec, settings.training.model_copy(update={"epochs": 8}), seed=1, scratch=tmp_path / "fit")
    handle.remove()
    assert ("cuda", torch.float32, torch.bfloat16) in seen
    assert next(teacher.parameters()).device.type == "cpu"  # ready for what follows
    record_property("seconds of a tiny teacher's epoch", result.seconds_an_epoch)
    assert result.validation_ndcg > 0.05  # a random list has about that
