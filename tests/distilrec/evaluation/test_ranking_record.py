"""What is recorded of a model's ranking, and when another one ranks worse."""

import dataclasses

import numpy as np
import pytest

from distilrec.core.errors import DataError
from distilrec.data.dataset import HeldOut
from distilrec.evaluation.ranking_record import load_record, ranking_fault, record_ranking


def held_out(*truths):
    rows, padding = len(truths), np.zeros((len(truths), 1), np.int32)
    return HeldOut(np.arange(rows), padding, padding, np.array(truths, np.int32), 0, 0)


def test_record_is_the_mean_over_users_with_its_interval(tmp_path):
    record = record_ranking(np.array([[1, 2], [3, 4]], np.int32), held_out([1], [4]), "v")
    assert record.ndcg_at_10 == pytest.approx((1 + 1 / np.log2(3)) / 2)
    assert record.low < record.ndcg_at_10 < record.high
    assert record.users == 2
    record.save(tmp_path / "ranking.json")
    assert load_record(tmp_path / "ranking.json") == record
    assert load_record(tmp_path / "none.json") is None


def test_digest_is_that_of_catalogue_users_right_answers_and_repeats():
    items = np.array([[1], [2]], np.int32)
    repeating = dataclasses.replace(held_out([1], [4]), choices={"repeats": np.ones((2, 1), np.int32)})
    kinds = ((held_out([1], [4]), "v"), (held_out([1], [5]), "v"), (held_out([1], [4]), "w"), (repeating, "v"))
    digests = {record_ranking(items, users, vocabulary).held_out_sha256 for users, vocabulary in kinds}
    assert len(digests) == 4


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"ndcg_at_10": 1, "more": 2}'])
def test_file_that_holds_no_record_is_refused(tmp_path, content):
    (tmp_path / "ranking.json").write_text(content)
    with pytest.raises(DataError, match=r"ranking\.json: found no record"):
        load_record(tmp_path / "ranking.json")


def test_loss_beyond_the_budget_is_a_fault():
    served = record_ranking(np.array([[1]], np.int32), held_out([1]), "v")
    assert ranking_fault(served, served) is None
    assert ranking_fault(dataclasses.replace(served, ndcg_at_10=0.996), served) is None
    assert "a loss of 0.60%, expected at most 0.5%" in ranking_fault(dataclasses.replace(served, ndcg_at_10=0.994), served)
    nothing = dataclasses.replace(served, ndcg_at_10=0.0)
    assert ranking_fault(nothing, nothing) is None
