"""Windows of an update: new events in their context, and exemplars."""

import numpy as np
import pytest

from distill.data.replay import former_share, update_windows
from distilrec.data.dataset import Dataset
from distilrec.data.ragged import Ragged
from distilrec.data.update_state import Exemplars


def test_windows_predict_each_new_event_once_and_no_context():
    sequences = [[1, 2, 3, 4, 5, 6], [7, 8], [9]]
    ragged = Ragged.of([np.array(items, np.int32) for items in sequences])
    ends = np.array([6, 1, 1])  # the last event of the second user is held out
    dataset = Dataset(ragged.items, ragged.offsets, ends, ragged.lengths, item_count=20)
    replay = Ragged.of([np.array([11, 12, 13], np.int32)])
    exemplars = Exemplars(replay, np.array([2]), np.array([0]), 1.0)
    made = update_windows(dataset, np.array([3, 0, 0]), exemplars, history_length=2)
    assert (made.new, made.replayed) == (3, 1)
    found = [made.both.collate(made.both.windows[[row]]) for row in range(len(made.both))]
    seen = [(batch.history[0].tolist(), batch.targets.tolist()) for batch in found]
    assert seen == [([4, 5], [5, 6]), ([2, 3], [0, 4]), ([11, 12], [0, 13])]
    again = made.replay.collate(made.replay.windows)
    assert again.prefixes.tolist() == found[-1].prefixes.tolist()


def test_former_share_falls_with_new_items_and_new_data():
    assert former_share(100, 100, 50, 50) == 1
    assert former_share(50, 100, 50, 100) == pytest.approx(0.5)
