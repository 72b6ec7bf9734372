import numpy as np

from distill.data.sequences import LengthBatchSampler, hard_windows, perturbed_copy, training_targets, training_windows
from distilrec.data.dataset import Dataset

ITEMS = np.arange(1, 13, dtype=np.int32)
DATASET = Dataset(ITEMS, np.array([0, 8, 9, 12]), np.array([6, 0, 2]), np.array([7, 1, 3]), item_count=12)


def test_windows_cover_every_training_prefix_once_from_the_newest():
    windows = training_windows(DATASET, history_length=4)
    assert windows.tolist() == [[2, 6], [0, 2], [9, 11]]


def test_targets_are_the_next_items_of_the_training_part():
    assert training_targets(DATASET).tolist() == [2, 3, 4, 5, 6, 0, 0, 0, 0, 11, 0, 0]


def test_batch_pairs_each_prefix_with_its_next_item():
    windows = hard_windows(DATASET, 4)
    batch = windows.collate(windows.windows)
    assert batch.history.tolist() == [[3, 4, 5, 6], [1, 2, 0, 0], [10, 11, 0, 0]]
    assert batch.valid.sum().item() == len(batch.targets) == len(batch.prefixes) == 8
    assert batch.history[batch.valid].tolist() == ITEMS[batch.prefixes.numpy()].tolist()
    assert batch.targets.tolist() == [4, 5, 6, 0, 2, 3, 11, 0]  # the last prefix of a user has no target


def test_perturbed_copies_are_seeded_parts_of_the_training_data():
    def parts(drop_fraction, seed):
        items, lengths = perturbed_copy(DATASET, 4, drop_fraction, seed)
        return [part.tolist() for part in np.split(items, np.cumsum(lengths)[:-1])]

    assert parts(0.4, seed=1) == parts(0.4, seed=1)
    assert parts(0.0, seed=1) == [[3, 4, 5, 6], [10, 11]]
    seen = [part for seed in range(50) for part in parts(0.4, seed)]
    assert all(part == sorted(part) and (set(part) <= {3, 4, 5, 6} or set(part) <= {10, 11}) for part in seen)
    assert 0.5 < sum(map(len, seen)) / (50 * 6) < 0.7


def test_processes_share_each_batch_and_take_as_many_steps():
    lengths = np.random.default_rng(0).integers(1, 200, 101)
    alone = list(LengthBatchSampler(lengths, 10, 3))
    shares = [list(LengthBatchSampler(lengths, 10, 3, rank=rank, processes=2)) for rank in (0, 1)]
    assert len(alone) == 11
    assert len(shares[0]) == len(shares[1]) == len(LengthBatchSampler(lengths, 10, 3, rank=1, processes=2)) == 10
    together = [sorted(first + second) for first, second in zip(*shares, strict=True)]
    assert together == [sorted(batch) for batch in alone if len(batch) > 1]


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
