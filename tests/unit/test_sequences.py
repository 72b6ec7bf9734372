import numpy as np

from distill.sequences import LengthBatchSampler, Windows, training_windows
from distilrec.data.dataset import Dataset

ITEMS = np.arange(1, 13, dtype=np.int32)
DATASET = Dataset(ITEMS, np.array([0, 8, 9, 12]), np.array([6, 0, 2]), np.array([7, 1, 3]), item_count=12)


def test_windows_cover_every_prediction_once_from_the_newest():
    windows = training_windows(DATASET, history_length=2)
    assert windows == [(3, 5), (1, 3), (0, 1), (9, 10)]


def test_windows_for_targets_cover_every_training_prefix():
    windows = training_windows(DATASET, history_length=4, drop_last_prefix=False)
    covered = sorted(position for begin, end in windows for position in range(begin, end))
    assert covered == [0, 1, 2, 3, 4, 5, 9, 10]


def test_batch_pairs_each_prefix_with_its_next_item():
    windows = Windows(ITEMS, training_windows(DATASET, 4))
    batch = windows.collate(windows.windows)
    assert batch.history.tolist() == [[2, 3, 4, 5], [1, 0, 0, 0], [10, 0, 0, 0]]
    assert batch.valid.sum().item() == len(batch.targets) == len(batch.prefixes) == 6
    assert batch.history[batch.valid].tolist() == ITEMS[batch.prefixes.numpy()].tolist()
    assert batch.targets.tolist() == (ITEMS[batch.prefixes.numpy()] + 1).tolist()


def test_no_target_is_held_out():
    windows = Windows(ITEMS, training_windows(DATASET, 4))
    assert set(windows.collate(windows.windows).targets.tolist()) == {2, 3, 4, 5, 6, 11}


def test_batches_are_seeded_and_hold_similar_lengths():
    lengths = np.random.default_rng(0).integers(1, 200, 100)

    def batches(seed):
        return list(LengthBatchSampler(lengths, 10, seed))

    assert batches(1) == batches(1)
    assert batches(1) != batches(2)
    assert sorted(index for batch in batches(1) for index in batch) == list(range(100))
    assert len(batches(1)) == len(LengthBatchSampler(lengths, 10, 1)) == 10
    assert np.mean([np.ptp(lengths[batch]) for batch in batches(1)]) < np.ptp(lengths) / 2
    assert lengths[np.concatenate(batches(None))].tolist() == sorted(lengths.tolist())
