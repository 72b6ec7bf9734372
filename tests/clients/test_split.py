"""Which version answers a key, and what becomes of a candidate that does not. With a server: serving/rollout/test_trial.py."""

import pytest

from clients.codec import Query, Recommendations
from clients.errors import InvalidRequest, ServerUnavailable
from clients.split import VersionSplit, share_of_candidate, variant_of
from clients.steps import Deadline, drive


def test_keys_stay_with_their_version_when_the_share_grows():
    keys = [f"user {number}" for number in range(4000)]
    few = {key for key in keys if variant_of(key, 0.1) == "candidate"}
    many = {key for key in keys if variant_of(key, 0.5) == "candidate"}
    assert few < many
    assert 0.08 < len(few) / len(keys) < 0.12
    assert variant_of(None, 1.0) == "served"


@pytest.mark.parametrize("split", [{"candidate": 1.5}, {"other": 0.1}, {"candidate": "half"}, "candidate"])
def test_wrong_split_is_an_error(split):
    with pytest.raises(InvalidRequest, match=r"expected a share of 0 to 1"):
        share_of_candidate(split)


class Version:
    """A session that answers as it is told to."""

    def __init__(self, outcome):
        self.outcome, self.asked = outcome, 0

    def recommend(self, *_):
        self.asked += 1
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return [self.outcome]
        yield


SERVED = Recommendations(("a",), (1.0,), ("A",), (), "1", 0.0)


@pytest.mark.parametrize("failure", [ServerUnavailable("gone"), InvalidRequest("k is too large for it")])
def test_served_version_answers_where_the_candidate_does_not(failure):
    candidate = Version(failure)
    split = VersionSplit(Version(SERVED), candidate, 1.0)
    for _ in range(3):
        assert drive(split.recommend(Query(["a"]), 1, Deadline(1), "key"), lambda step: step) == SERVED
    # One that is not there is not asked for each request; a request that it cannot take says nothing of the next one.
    assert candidate.asked == (1 if isinstance(failure, ServerUnavailable) else 3)
