import numpy as np
import pytest
import torch

from distill.data.sequences import Batch, Windows, hard_windows, training_windows
from distill.models.catalogue import Catalogue
from distill.models.item_table import ItemTable, popularity_prior
from distill.models.teachers.masked import MaskedTeacher, hide
from distill.models.teachers.sequence import SequenceTeacherConfig
from distill.training.fit import fit
from distilrec.core.specs import RecommenderSpec
from distilrec.data import stage as data_stage
from distilrec.data.dataset import Dataset

N, L = 30, 6


def teacher(fraction: float = 0.3) -> MaskedTeacher:
    torch.manual_seed(0)
    return MaskedTeacher(ItemTable(N, 8), L, layers=1, heads=2, dropout=0.1, mask_fraction=fraction)


def guess(model: MaskedTeacher, history: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
    states, seen = model._read(history, history > 0, hidden)
    return model._predict(states[hidden], seen[hidden.nonzero()[:, 0]])


def test_hidden_items_are_a_share_of_those_present_and_never_none():
    torch.manual_seed(0)
    present = torch.arange(40) < torch.randint(1, 41, (3000, 1))
    hidden = hide(present, 0.3, 0.0)
    assert not (hidden & ~present).any()
    assert hidden.any(dim=1).all()
    assert (hidden.sum() / present.sum()).item() == pytest.approx(0.3, abs=0.01)


def test_the_last_item_alone_is_hidden_in_a_share_of_rows():
    torch.manual_seed(0)
    present = torch.arange(40) < torch.full((4000, 1), 25)
    hidden = hide(present, 0.5, 0.25)
    alone = hidden.sum(dim=1) == 1
    assert alone.float().mean().item() == pytest.approx(0.25, abs=0.03)
    assert hidden[alone].nonzero()[:, 1].unique().tolist() == [24]


def test_hiding_the_last_item_asks_what_the_served_form_answers():
    model = teacher().eval()
    history = torch.randint(1, N + 1, (5, L))
    history[0, 2:] = 0
    last = hide(history > 0, 0.5, 1.0)
    in_training = guess(model, history, last)
    before = torch.where(last, 0, history)
    left_padded = torch.stack([torch.roll(row, L - int((row > 0).sum())) for row in before])
    torch.testing.assert_close(in_training, model.encode_last(left_padded), atol=1e-5, rtol=1e-4)


def test_hidden_items_cannot_be_seen():
    model = teacher().eval()
    history = torch.randint(1, N + 1, (4, L))
    hidden = torch.zeros(4, L, dtype=torch.bool)
    hidden[:, 2] = True
    changed = torch.where(hidden, history % N + 1, history)
    torch.testing.assert_close(guess(model, history, hidden), guess(model, changed, hidden))


def test_both_sides_of_a_hidden_item_are_read():
    model = teacher().eval()
    history = torch.arange(1, L + 1)[None]
    hidden = torch.arange(L)[None] == 2
    before = guess(model, history, hidden)
    for side in (0, L - 1):
        changed = history.clone()
        changed[0, side] = N
        assert not torch.allclose(guess(model, changed, hidden), before)


def test_what_is_learned_is_in_the_training_part():
    # Each interaction is an item of its own, so that a held-out one would show.
    dataset = Dataset(np.arange(1, 13, dtype=np.int32), np.array([0, 8, 12]), np.array([6, 2]), np.array([7, 3]), 30)
    windows = Windows(dataset.items, np.zeros(12, np.int32), training_windows(dataset, L))
    model = teacher(0.5).train()
    learned = set()
    for _ in range(50):
        vectors, targets, prefixes = model.training_examples(windows.collate(windows.windows))
        assert len(vectors) == len(targets) == len(prefixes)
        learned |= set(targets.tolist())
    assert learned == {1, 2, 3, 4, 5, 6, 9, 10}


def test_a_full_history_leaves_a_place_for_the_hidden_item():
    model = teacher().eval()
    history = torch.randint(1, N + 1, (2, L))
    changed = history.clone()
    changed[:, 0] = changed[:, 0] % N + 1
    torch.testing.assert_close(model.encode_last(history), model.encode_last(changed))
    changed[:, 1] = changed[:, 1] % N + 1
    assert not torch.allclose(model.encode_last(history), model.encode_last(changed))


def test_padded_windows_learn_the_same():
    model = teacher(0.99).eval()
    history = torch.randint(1, N + 1, (3, 4))
    valid = torch.ones(3, 4, dtype=torch.bool)
    none = torch.zeros(12, dtype=torch.int64)
    wide = torch.nn.functional.pad(history, (0, 2))
    hidden = hide(valid, 0.5, 1.0)
    torch.testing.assert_close(guess(model, history, hidden), guess(model, wide, torch.nn.functional.pad(hidden, (0, 2))))
    assert (model.training_examples(Batch(wide, wide > 0, none, none))[1] > 0).all()


@pytest.mark.pipeline
@pytest.mark.parametrize("negatives", ["all", 60])
def test_it_learns(shop_config, tmp_path, negatives):
    data_stage.run(shop_config, {}, tmp_path / "data")
    dataset, _ = data_stage.load(tmp_path / "data")
    settings = SequenceTeacherConfig(
        objective="masked", embedding_size=16, heads=2, layers=1, dropout=0.1, batch_size=32, learning_rate=0.01, epochs=20,
        mask_fraction=0.3, negatives=negatives, patience=20,
    )  # fmt: skip
    torch.manual_seed(1)
    model = settings.build(Catalogue(dataset.item_count, popularity=popularity_prior(dataset)), shop_config.history_length)
    assert isinstance(model, MaskedTeacher)
    assert len(hard_windows(dataset, shop_config.history_length))
    result = fit(
        model, dataset, RecommenderSpec(dataset.item_count, shop_config.history_length, 16, 10), settings, seed=1, scratch=tmp_path
    )
    assert result.validation_ndcg > 0.2  # 90 items in 6 genres; a random list has about 0.05
