"""New events: which are used, which are held out, and what is left to the next update."""

import numpy as np
import polars as pl
import pytest

from distilrec.config import UpdateConfig
from distilrec.core.errors import DataError
from distilrec.core.specs import RecommenderSpec
from distilrec.data.ragged import Ragged
from distilrec.data.update import FEWEST_JUDGED, make_update, sort_events
from distilrec.data.update_state import EVENTS, Exemplars, Requests, UpdateState, choose_exemplars, systematic_sample
from distilrec.data.vocabulary import Vocabulary

NONE = np.zeros(0, np.int64)
VOCABULARY = Vocabulary(tuple(f"i{n}" for n in range(1, 41)), ("",) * 40)
SPEC = RecommenderSpec(40, 5, 5, 10)


def frame(*rows):
    return pl.DataFrame(list(rows), schema=EVENTS, orient="row")


def state_of(later=(), recent=(), users=()):
    return UpdateState(
        np.zeros(41, np.int64),
        tuple(users),
        Ragged.of([np.array(items, np.int32) for items in recent]),
        Exemplars(Ragged.of([]), NONE, NONE, 1.0),
        Requests(Ragged.of([]), Ragged.of([]), NONE, 1.0),
        frame(*later),
        100.0,
    )


def test_choice_gives_each_group_its_share_and_is_the_same_for_a_seed():
    groups = np.repeat([0, 1, 2], [600, 300, 100])
    rows = systematic_sample(np.ones(1000), (groups,), 100, seed=3)
    np.testing.assert_allclose(np.bincount(groups[rows]), [60, 30, 10], atol=1)
    np.testing.assert_array_equal(rows, systematic_sample(np.ones(1000), (groups,), 100, seed=3))
    assert (rows != systematic_sample(np.ones(1000), (groups,), 100, seed=4)).any()
    np.testing.assert_array_equal(systematic_sample(np.ones(3), (), 5, seed=0), [0, 1, 2])


def test_exemplars_of_many_updates_have_each_update_in_its_share():
    kept = Exemplars(Ragged.of([]), NONE, NONE, 1.0)
    for number in range(8):
        rows = Ragged.of([np.array([item % 40 + 1, (item + 1) % 40 + 1], np.int32) for item in range(100)])
        kept = choose_exemplars(kept, Exemplars(rows, np.ones(100, np.int64), np.full(100, number), 1.0), 80, seed=number)
    assert len(kept.update) == 80
    assert kept.weight == pytest.approx(10)
    np.testing.assert_allclose(np.bincount(kept.update), 10, atol=4)


def test_unknown_items_wait_until_they_have_enough_events():
    events = frame(("u", "i1", 101), ("u", "new", 102), ("v", "listed", 103), ("v", "i2", 90))
    first = sort_events(state_of(), VOCABULARY, events, {"listed"}, min_events=2)
    assert first.new_items == ("listed",)
    assert (first.late, first.unknown["item_id"].to_list()) == (1, ["new"])
    assert first.used["item_id"].to_list() == ["i1", "listed"]
    second = sort_events(state_of(later=first.unknown.rows()), VOCABULARY, frame(("w", "new", 110)), set(), min_events=2)
    assert second.new_items == ("new",)
    assert second.used["user_id"].to_list() == ["u", "w"]


def test_events_that_teach_nothing_are_refused():
    with pytest.raises(DataError, match=r"found 1 events, the newest of them at 99.0, older than the last event"):
        sort_events(state_of(), VOCABULARY, frame(("u", "i1", 99)), set(), 2)
    with pytest.raises(DataError, match="of unknown items alone"):
        sort_events(state_of(), VOCABULARY, frame(("u", "x", 101)), set(), 2)
    events = sort_events(state_of(), VOCABULARY, frame(("u", "i1", 101), ("u", "i2", 102)), set(), 2)
    with pytest.raises(DataError, match=r"of 1 users, of whom 1 have a history .* at least 20"):
        make_update(state_of(), VOCABULARY, events, SPEC, UpdateConfig(), number=1, seed=0)


def made_update():
    users = [f"u{n:02}" for n in range(30)]
    rows = [(user, f"i{1 + (7 * n + place) % 40}", 101.0 + place) for n, user in enumerate(users) for place in range(3)]
    state = state_of(users=["u00", "away"], recent=[[30, 31], [32]])
    events = sort_events(state, VOCABULARY, frame(*rows), set(), 2)
    return made_of(state, events)


def made_of(state, events):
    return make_update(state, VOCABULARY, events, SPEC, UpdateConfig(judged_users=FEWEST_JUDGED // 2), number=4, seed=1)


def test_newest_events_are_held_out_and_learned_later_or_never():
    made = made_update()
    dataset, state = made.dataset, made.state
    np.testing.assert_array_equal(dataset.sequence(0), [30, 31, 1, 2, 3])
    assert made.new_start[:2].tolist() == [2, 0]
    ends = np.diff(dataset.offsets)
    stopping = np.flatnonzero(dataset.validation_start < dataset.test_start)
    judged = np.flatnonzero(dataset.test_start < ends)
    assert len(stopping) == len(judged) == 10
    assert not set(stopping) & set(judged)
    newest = {(f"u{user:02}", f"i{dataset.sequence(user)[-1]}") for user in stopping}
    assert set(state.later.select("user_id", "item_id").iter_rows()) == newest
    assert state.counts.sum() == 3 * 30 - 20
    assert [truth.tolist() for truth in map(state.requests.truths.__getitem__, range(10))] == [
        dataset.sequence(user)[-1:].tolist() for user in judged
    ]
    recent = dict(zip(state.users, map(state.recent.__getitem__, range(len(state.users))), strict=True))
    assert state.users[0] == "away"  # who came last is at the end
    assert all(len(recent[f"u{user:02}"]) == ends[user] - 1 for user in stopping if user)
    learned = [dataset.sequence(user)[: dataset.validation_start[user]][-6:].tolist() for user in range(30)]
    assert [state.exemplars.sequences[row].tolist() for row in range(30)] == learned


def test_same_events_and_seed_make_the_same_update():
    one, other = made_update(), made_update()
    np.testing.assert_array_equal(one.dataset.validation_start, other.dataset.validation_start)
    np.testing.assert_array_equal(one.state.exemplars.sequences.items, other.state.exemplars.sequences.items)
