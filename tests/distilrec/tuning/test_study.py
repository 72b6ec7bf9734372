"""The study and its front: what is tried, what survives an interruption, and which trial is chosen. Trials are of closed form."""

import logging

import optuna
import pytest

from distilrec.core.errors import TuningError
from distilrec.tuning.front import choose, front_table, pareto_front
from distilrec.tuning.study import StopRule, TrialResult, ended, failures, open_study, search, stop_rule


def closed_form(drawn, _bar: StopRule) -> TrialResult:
    """Wider ranks better and takes longer; as given it is in the middle."""
    width = drawn.get("embedding_size", 48)
    ndcg = width / 1000 - drawn.get("dropout", 0.3) / 1000
    return TrialResult(ndcg, width / 100, width * 10, 3, (ndcg / 2, ndcg, ndcg))


def drawn_by(study: optuna.Study) -> list[dict]:
    return [trial.params for trial in ended(study)]


def test_the_first_trial_is_the_student_as_given(tmp_path, tune_config):
    study = open_study(tmp_path / "study.db", "s")
    search(study, tune_config("trials = 4"), closed_form)
    assert [not drawn for drawn in drawn_by(study)] == [True, False, False, False]


def test_an_interrupted_study_goes_on_and_loses_no_trial(tmp_path, tune_config):
    straight = open_study(tmp_path / "straight.db", "s")
    search(straight, tune_config("trials = 6"), closed_form)

    def interrupted(drawn, bar):
        if len(ended(study)) == 2:
            raise KeyboardInterrupt
        return closed_form(drawn, bar)

    study = open_study(tmp_path / "study.db", "s")
    with pytest.raises(KeyboardInterrupt):
        search(study, tune_config("trials = 6"), interrupted)
    assert len(ended(study)) == 2
    study = open_study(tmp_path / "study.db", "s")
    search(study, tune_config("trials = 6"), closed_form)
    assert drawn_by(study) == drawn_by(straight)
    search(study, tune_config("trials = 6"), interrupted)  # has all it should have
    search(study, tune_config("trials = 8"), closed_form)
    assert len(ended(study)) == 8
    assert drawn_by(study)[:6] == drawn_by(straight)


def test_the_student_as_given_is_repeated_too(tmp_path, tune_config):
    def interrupted(_drawn, _bar):
        raise KeyboardInterrupt

    study = open_study(tmp_path / "study.db", "s")
    with pytest.raises(KeyboardInterrupt):
        search(study, tune_config("trials = 2"), interrupted)
    search(study, tune_config("trials = 2"), closed_form)
    assert [not drawn for drawn in drawn_by(study)] == [True, False]


def test_settings_that_never_end_are_left_out_at_last(tmp_path, caplog, tune_config):
    def killed(drawn, bar):
        if not drawn:
            raise SystemExit
        return closed_form(drawn, bar)

    study = open_study(tmp_path / "study.db", "s")
    for _ in range(4):
        with pytest.raises(SystemExit):
            search(study, tune_config("trials = 2"), killed)
    search(study, tune_config("trials = 2"), killed)
    assert "interrupted 4 times and left out: as given" in caplog.text
    assert len(ended(study)) == 2


def test_a_failing_trial_is_recorded_and_the_study_goes_on(tmp_path, caplog, tune_config):
    def fails_when_wide(drawn, bar):
        if drawn.get("embedding_size") == 128:
            raise MemoryError("too wide")
        return closed_form(drawn, bar)

    study = open_study(tmp_path / "study.db", "s")
    with caplog.at_level(logging.INFO, "distilrec"):
        search(study, tune_config("trials = 8"), fails_when_wide)
    wide = [drawn for drawn in drawn_by(study) if drawn.get("embedding_size") == 128]
    assert failures(study) == ["MemoryError: too wide"] * len(wide)
    assert len(wide) > 0
    assert len(ended(study)) == 8
    assert "failed: MemoryError: too wide (" in caplog.text
    assert all(entry.drawn.get("embedding_size") != 128 for entry in pareto_front(study))


def test_no_trial_begins_that_would_not_end_in_time(tmp_path, tune_config):
    study = open_study(tmp_path / "study.db", "s")
    search(study, tune_config("trials = 50\nminutes = 1e-6"), closed_form)
    assert len(ended(study)) == 1  # something is found however short the time


def test_the_bar_is_the_worst_of_the_front(tmp_path, tune_config):
    study = open_study(tmp_path / "study.db", "s")
    assert not stop_rule(study, 1, 0.5)([0.0] * 9)
    outcomes = iter([TrialResult(0.04, 1.0, 1, 2, (0.02, 0.04)), TrialResult(0.06, 2.0, 1, 3, (0.0, 0.06, 0.05))])
    search(study, tune_config("trials = 2"), lambda _drawn, _bar: next(outcomes))
    bar = stop_rule(study, 2, 0.5)
    assert bar.floor == pytest.approx((0.0, 0.02, 0.02))
    assert not bar([0.001])  # too early to say
    assert not bar([0.021, 0.0])  # the best epoch counts
    assert bar([0.001, 0.019])
    assert bar([0.001] * 9)
    assert not stop_rule(study, 2, 0.0)([0.0] * 9)


def test_other_settings_begin_a_study_beside_the_former(tmp_path, caplog, tune_config):
    search(open_study(tmp_path / "study.db", "student-former"), tune_config("trials = 1"), closed_form)
    with caplog.at_level(logging.INFO, "distilrec"):
        assert ended(open_study(tmp_path / "study.db", "student-other")) == []
    assert "a new study begins, the former stay in" in caplog.text
    assert len(ended(open_study(tmp_path / "study.db", "student-former"))) == 1


def test_a_file_that_is_no_database_is_said_so(tmp_path):
    (tmp_path / "study.db").write_text("a shopping list, long enough to be read as a header of something")
    with pytest.raises(TuningError, match=r"study\.db: found no SQLite study"):
        open_study(tmp_path / "study.db", "s")


def test_nothing_but_failures_is_an_error_with_the_reason(tmp_path, tune_config):
    def fails(_drawn, _bar):
        raise ValueError("no such thing")

    study = open_study(tmp_path / "study.db", "s")
    search(study, tune_config("trials = 2"), fails)
    with pytest.raises(TuningError, match="all 2 trials failed, the last with ValueError: no such thing"):
        pareto_front(study)


def test_front_holds_what_nothing_beats_and_the_choice_respects_the_latency(tmp_path, tune_config):
    study = open_study(tmp_path / "study.db", "s")
    search(study, tune_config("trials = 10\ndropout = [0.3, 0.3]"), closed_form)
    front = pareto_front(study)
    assert {entry.p50_ms for entry in front} == {0.32, 0.48, 0.64, 1.28}
    assert [entry.p50_ms for entry in front] == sorted(entry.p50_ms for entry in front)
    assert choose(front).p50_ms == 1.28
    assert choose(front, latency_ms=0.64).p50_ms == 0.64
    assert choose(front, latency_ms=0.5).drawn == {}
    with pytest.raises(TuningError, match=r"found no trial at or below 0.1 ms, the fastest needs 0.320 ms"):
        choose(front, latency_ms=0.1)
    assert "| 0 | 0.0477 | 0.480 | 480 | as given |" in front_table(front)
