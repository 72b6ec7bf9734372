"""The parts of the load generator that need no server: arrivals, histories, quantiles, goals, settings."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clients.connection import Connection
from distilrec.core.errors import ConfigError
from distilrec.core.specs import RecommenderSpec
from distilrec.loadtest.arrivals import deal, poisson_arrivals
from distilrec.loadtest.histories import draw_histories, zipf_probabilities
from distilrec.loadtest.report import describe_load
from distilrec.loadtest.run import split_load
from distilrec.loadtest.settings import LoadSettings
from distilrec.loadtest.slo import CLOSE_ENOUGH, Search, parse_slo, search_rate
from distilrec.loadtest.statistics import answers_needed, client_bottleneck, field, latency_ms, quantile_ms

SPEC = RecommenderSpec(item_count=2000, history_length=50, exclude_length=8, top_k=10)


def load_settings(**changes):
    given = {"connection": Connection("127.0.0.1:1"), "model": "student", "rate_per_s": 100.0, "concurrency": None,
             "duration_s": 1.0, "processes": 2, "timeout_s": 1.0, "zipf_exponent": 1.0, "seed": 0}  # fmt: skip
    return LoadSettings(**given | changes)


@given(rate=st.floats(50, 500), seed=st.integers(0, 2**32))
@settings(max_examples=25, deadline=None)
def test_poisson_arrivals_have_the_rate_and_lie_in_the_time(rate, seed):
    arrivals = poisson_arrivals(rate, 20.0, np.random.default_rng(seed))
    assert abs(len(arrivals) - 20 * rate) < 6 * math.sqrt(20 * rate)
    assert (np.diff(arrivals) >= 0).all()
    assert arrivals.min() >= 0
    assert arrivals.max() < 20


def test_poisson_gaps_are_exponential():
    gaps = np.diff(poisson_arrivals(1000.0, 50.0, np.random.default_rng(1)))
    # Their deviation is their mean, and 1/e of them are longer than it; regular arrivals have neither.
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.03)
    assert (gaps > gaps.mean()).mean() == pytest.approx(1 / math.e, abs=0.01)


def test_processes_share_the_same_arrivals_however_many_they_are():
    arrivals = poisson_arrivals(100.0, 5.0, np.random.default_rng(3))
    for processes in (1, 2, 3, 7):
        dealt = deal(arrivals, processes)
        assert len(dealt) == processes
        np.testing.assert_array_equal(np.sort(np.concatenate(dealt)), arrivals)


def test_the_same_settings_give_the_same_load():
    def arrivals(seed):
        return np.concatenate([share.arrivals for share in split_load(load_settings(seed=seed), 100.0, 2.0, start=0.0)])

    first, again, other = map(arrivals, (5, 5, 6))
    np.testing.assert_array_equal(first, again)
    assert len(first) != len(other) or (first != other).any()


def test_closed_loop_shares_out_all_in_flight():
    found = split_load(load_settings(rate_per_s=None, concurrency=7, processes=3), None, 2.0, start=0.0)
    assert [share.concurrency for share in found] == [3, 2, 2]


@pytest.mark.parametrize("exponent", [0.0, 0.7, 1.0, 1.5])
def test_zipf_falls_on_a_line_of_that_slope_in_logarithms(exponent):
    found = zipf_probabilities(1000, exponent)
    slope = np.polyfit(np.log(np.arange(1, 1001)), np.log(found), 1)[0]
    assert found.sum() == pytest.approx(1)
    assert slope == pytest.approx(-exponent, abs=1e-9)


def test_histories_meet_items_as_zipf_says():
    spec = RecommenderSpec(item_count=500, history_length=1, exclude_length=1, top_k=1)  # length 1: nothing is left out as repeated
    counts = np.bincount(draw_histories(spec, 40_000, 1.0, np.random.default_rng(0)).ravel(), minlength=501)[1:]
    expected = zipf_probabilities(500, 1.0) * 40_000
    assert np.sort(counts)[::-1][:5] == pytest.approx(expected[:5], rel=0.06)
    assert counts.argmax() != 0, "which item is popular is drawn, not its index"


@given(
    item_count=st.integers(1, 60),
    length=st.integers(1, 20),
    exponent=st.floats(0, 3),
    seed=st.integers(0, 2**32),
    count=st.integers(1, 20),
)
@settings(max_examples=100, deadline=None)
def test_histories_are_valid(item_count, length, exponent, seed, count):
    spec = RecommenderSpec(item_count, length, 1, 1)
    histories = draw_histories(spec, count, exponent, np.random.default_rng(seed))
    assert histories.shape == (count, length)
    assert histories.dtype == np.int32
    for row in histories:
        items = row[row > 0]
        assert len(items) >= 1
        assert items.max() <= item_count
        assert len(set(items)) == len(items)
        assert (row[length - len(items) :] > 0).all(), "padding stands on the left"


def test_histories_are_of_all_lengths():
    lengths = (draw_histories(SPEC, 3000, 1.0, np.random.default_rng(0)) > 0).sum(axis=1)
    assert set(lengths) == set(range(1, 51))
    assert lengths.mean() == pytest.approx(25.5, rel=0.05)


@given(st.lists(st.floats(1e-6, 100), min_size=1, max_size=300), st.sampled_from([0.5, 0.9, 0.99, 1.0]))
def test_quantile_is_the_nearest_rank(values, quantile):
    found = quantile_ms(np.array(values), quantile)
    if len(values) < answers_needed(quantile):
        assert found is None
        return
    # Naively: the smallest value that enough others do not exceed.
    naive = next(value for value in sorted(values) if sum(other <= value for other in values) >= round(quantile * len(values), 9))
    assert found == pytest.approx(naive * 1000)
    assert found / 1000 == pytest.approx(np.sort(values)[math.ceil(round(quantile * len(values), 9)) - 1])


def test_quantiles_of_many_agree_with_numpy():
    seconds = np.random.default_rng(0).exponential(0.01, 50_000)
    found = latency_ms(seconds)
    for name, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)):
        assert found[field(name)] == pytest.approx(np.quantile(seconds, share) * 1000, rel=0.01)
    assert found["max_ms"] == seconds.max() * 1000


def test_quantiles_of_too_few_answers_are_not_reported():
    assert [answers_needed(q) for q in (0.5, 0.9, 0.99, 0.999, 1.0)] == [2, 10, 100, 1000, 1]
    found = latency_ms(np.full(999, 0.002))
    assert found["p99_ms"] == pytest.approx(2)
    assert found["p99_9_ms"] is None
    assert latency_ms(np.array([])) == dict.fromkeys(["p50_ms", "p90_ms", "p99_ms", "p99_9_ms", "max_ms", "mean_ms"])


@pytest.mark.parametrize(
    ("late_ms", "latency_ms", "busy", "found", "reason"),
    [
        (0.2, 5, 0.3, False, "within 0.20 ms"),
        (3, 5, 0.3, True, "sent more than 3.00 ms after"),
        (3, 100, 0.3, False, "within 3.00 ms"),  # a thirtieth of the latency
        (0.2, 5, 0.97, True, "busy 97% of the time"),
        (None, 5, 0.97, True, "busy 97%"),
        (None, 5, 0.5, False, "busy 50%"),
    ],
)
def test_client_bottleneck(late_ms, latency_ms, busy, found, reason):
    late = np.array([]) if late_ms is None else np.full(200, late_ms / 1000)
    verdict = client_bottleneck(late, np.full(200, latency_ms / 1000), np.array([0.1, busy]))
    assert verdict.found is found
    assert reason in verdict.reason


@pytest.mark.parametrize(
    ("text", "name", "limit_ms"),
    [("p99<10ms", "p99", 10), (" p99.9 < 1.5 s ", "p99.9", 1500), ("p50<250us", "p50", 0.25), ("max<1s", "max", 1000)],
)
def test_goal_is_read(text, name, limit_ms):
    slo = parse_slo(text)
    assert (slo.name, slo.limit_ms) == (name, pytest.approx(limit_ms))
    assert parse_slo(str(slo)) == slo


@pytest.mark.parametrize("text", ["", "p99", "p99<10", "p95<10ms", "p99>10ms", "p99<0ms", "p99<-1ms", "p99<=10ms", "99<10ms"])
def test_wrong_goal_says_what_is_expected(text):
    with pytest.raises(ConfigError, match=r"--slo: found '.*', expected .*p99<10ms"):
        parse_slo(text)


class Curve:
    """A queue's latency: it grows towards the capacity and has no bound beyond."""

    def __init__(self, capacity, goal_ms, rate):
        self.holds = rate < capacity and 1000 / (capacity - rate) < goal_ms


@given(capacity=st.floats(20, 5000), goal_ms=st.floats(1, 100), first=st.floats(10, 1000))
@settings(max_examples=200, deadline=None)
def test_search_finds_the_rate_at_which_the_goal_breaks(capacity, goal_ms, first):
    true = capacity - 1000 / goal_ms
    asked, search = [], Search()

    def probe(rate):
        asked.append(rate)
        return Curve(capacity, goal_ms, rate)

    search_rate(probe, first, search, most_probes=40, lowest_rate=1.0)
    assert len(asked) <= 40
    if true > 2:
        assert search.complete
        assert search.highest_held <= true <= search.lowest_failed <= search.highest_held * CLOSE_ENOUGH
    elif true < 1:
        assert search.highest_held is None
        assert min(asked) >= 1
        assert not search.complete


def test_search_is_bounded_and_says_so():
    search = Search()
    search_rate(lambda rate: Curve(1e9, 10, rate), 100, search, most_probes=3)
    assert [rate for rate, _ in search.probes] == [100, 200, 400]
    assert (search.highest_held, search.lowest_failed, search.complete) == (400, None, False)


def test_interrupted_probe_does_not_count():
    search, asked = Search(), []
    search_rate(lambda rate: asked.append(rate) or Curve(1e9, 10, rate), 100, search, most_probes=9, stop=lambda: len(asked) == 3)
    assert [rate for rate, _ in search.probes] == [100, 200]


def test_all_wrong_settings_are_reported_at_once():
    with pytest.raises(ConfigError) as error:
        load_settings(rate_per_s=-1.0, duration_s=math.nan, processes=0, timeout_s=0.0, zipf_exponent=9.0)
    for name in ("--rate: found -1, expected 0.01 to", "--duration-s: found nan", "--processes: found 0", "--timeout-s", "--zipf"):
        assert name in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rate_per_s": None}, "found both or none"),
        ({"concurrency": 4}, "found both or none"),
        ({"rate_per_s": None, "concurrency": 4, "slo": parse_slo("p99<1s")}, "--slo: found with --closed"),
        ({"rate_per_s": None, "concurrency": 1}, "--processes: found 2, expected at most --concurrency, which is 1"),
        ({"rate_per_s": 1e6, "duration_s": 3600.0}, "at most 10,000,000 requests"),
    ],
)
def test_settings_that_contradict_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        load_settings(**changes)


def test_probe_lasts_until_the_quantile_can_be_measured():
    goal = load_settings(slo=parse_slo("p99<10ms"))
    assert goal.probe_s(1000.0) == 1.0
    assert goal.probe_s(10.0) * 10 >= 150
    assert goal.probe_s(0.1) == 60
    assert goal.probe_s(goal.lowest_rate) * goal.lowest_rate >= answers_needed(0.99)


def test_unknown_quantile_is_said_in_words():
    load = {
        "rate_per_s": 10.0, "achieved_rate_per_s": 9.5, "requests": {"due": 20, "answered": 19, "failed": 1},
        "errors": {"UNAVAILABLE": 1}, "latency_from": "intended sending", "latency": latency_ms(np.full(19, 0.001)),
        "client_bottleneck": False, "client_bottleneck_reason": "all well",
    }  # fmt: skip
    text = "\n".join(describe_load(load))
    assert "p99 unknown (fewer than 100 answers)" in text
    assert "19 of 20; errors: 1 UNAVAILABLE" in text
