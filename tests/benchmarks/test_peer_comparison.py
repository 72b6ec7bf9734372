"""The comparison with peers, as far as it needs none of them: timing, table, environment."""

import sys

import numpy as np
import pytest

from benchmarks.peers import environment
from benchmarks.peers.table import markdown_table
from benchmarks.peers.timing import ContenderTimes, interleaved


class Clock:
    """A clock that advances only while a contender works."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def test_all_are_asked_the_same_requests_in_turn():
    clock, asked = Clock(), []

    def answerer(name, seconds):
        def answer(row):
            asked.append((name, row))
            clock.now += seconds
            return np.array([row])

        return answer

    times = interleaved({"a": answerer("a", 1.0), "b": answerer("b", 3.0)}, rows=4, rounds=4, requests=3, clock=clock)
    assert times["b"].ratio_to(times["a"]) == (3.0, 3.0, 3.0)
    assert times["a"].median_s == 1.0
    assert times["a"].seconds.shape == (4, 3)
    rows = {name: [row for who, row in asked if who == name] for name in "ab"}
    assert rows["a"] == rows["b"]
    assert rows["a"][:8] == [0, 0, 1, 2, 3, 3, 0, 1], "one before each turn does not count"
    assert [name for name, _ in asked[::4]] == ["a", "b", "b", "a", "a", "b", "b", "a"], "each round begins with another"


def test_ratio_is_taken_within_rounds():
    # The machine slows down to a third in the second half: both get slower, and none of it is in the ratio.
    reference = ContenderTimes(np.array([[1.0], [1.0], [3.0], [3.0]]))
    assert ContenderTimes(2 * reference.seconds).ratio_to(reference) == (2.0, 2.0, 2.0)
    # One disturbed round is not in the median, but in the spread.
    middle, _, high = ContenderTimes(np.array([[2.0], [2.0], [6.0], [600.0]])).ratio_to(reference)
    assert (middle, high > 50) == (2.0, True)


def test_table_shows_no_number_for_what_was_not_measured():
    rows = {
        "student": {"seconds_per_request": 0.0002, "ratio": 1.0, "ratio_p10": 1.0, "ratio_p90": 1.0},
        "peer": {"seconds_per_request": 0.001, "ratio": 5.0, "ratio_p10": 4.5, "ratio_p90": 6.0},
        "absent": {"not_measured": "ModuleNotFoundError: no\nmodule | here"},
    }
    text = markdown_table({"model": {"item_count": 1682}, "contenders": rows, "reference": "student", "server_fault": "no server"})
    assert "| student | 0.200 | 1.00 |" in text
    assert "| peer | 1.000 | 5.00 (4.50 to 6.00) |" in text
    assert "| absent | not measured | ModuleNotFoundError: no module / here |" in text
    assert "Nothing was measured over the wire: no server" in text


def test_pip_says_why_it_could_not_install():
    assert "nowhere" in environment._pip_install(sys.executable, "/nowhere/at-all.whl")


def test_environment_of_the_same_requirements_is_taken_as_it_is(tmp_path, monkeypatch):
    (tmp_path / "requirements.txt").write_text("# nothing\n")
    monkeypatch.setattr(environment, "_FOLDER", tmp_path)
    monkeypatch.setattr(environment, "_REQUIREMENTS", (("requirements.txt", ()),))
    made = environment.make_environment(tmp_path / "venv")
    assert made.failed == {}
    assert made.python.exists()
    (tmp_path / "venv" / "stays").touch()
    environment.make_environment(tmp_path / "venv")
    assert (tmp_path / "venv" / "stays").exists()
    (tmp_path / "requirements.txt").write_text("/nowhere/at-all.whl\n")
    again = environment.make_environment(tmp_path / "venv")
    assert not (tmp_path / "venv" / "stays").exists()
    assert list(again.failed) == ["/nowhere/at-all.whl"]
    assert not (tmp_path / "venv" / environment._MARKER).exists(), "a failure is tried again"


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-no-deps.txt"])
def test_requirements_are_pinned(name):
    lines = (environment._FOLDER / name).read_text().splitlines()
    wanted = [line for line in lines if line and not line.startswith("#")]
    assert wanted
    assert all("==" in line for line in wanted)
