"""The search: from drawn values to settings and back, what survives an interruption, and a real one on the tiny shop."""

import fcntl
import logging
from pathlib import Path

import optuna
import pytest
from typer.testing import CliRunner

from distill.training.module import NextItemModule
from distilrec.cli import app
from distilrec.config import Config, load_config, parse_config, preset_names
from distilrec.errors import ConfigError, TuningError
from distilrec.pipeline import run_dir, run_stage
from distilrec.tuning.front import choose, markdown_table, pareto_front
from distilrec.tuning.preset import write_preset
from distilrec.tuning.run import run_tuning
from distilrec.tuning.space import check_space, draw, with_drawn
from distilrec.tuning.study import Bar, Outcome, ended, failures, hopeless_bar, open_study, search

DRAWN = {
    "kind": "transformer",
    "embedding_size": 32,
    "hidden_size": 64,
    "depth": 2,
    "dropout": 0.123456,
    "learning_rate": 0.00123456,
    "soft": 0.3333333,
    "temperature": 2.0,
    "confidence": True,
    "loss_mse": 0.1,
}


def shop(tune: str = "", rest: str = "") -> Config:
    return parse_config(f'name = "x"\n{rest}\n[data]\nsource = "ml-100k"\n[tune]\n{tune}', where="x", folder=Path())


def closed_form(drawn, _bar: Bar) -> Outcome:
    """Wider ranks better and takes longer; as given it is in the middle."""
    width = drawn.get("embedding_size", 48)
    ndcg = width / 1000 - drawn.get("dropout", 0.3) / 1000
    return Outcome(ndcg, width / 100, width * 10, 3, (ndcg / 2, ndcg, ndcg))


def drawn_by(study: optuna.Study) -> list[dict]:
    return [trial.params for trial in ended(study)]


def test_drawn_values_become_settings_of_the_student():
    student = with_drawn(shop(), DRAWN).student
    assert (student.kind, student.embedding_size, student.hidden_size, student.depth) == ("transformer", 32, 64, 2)
    assert (student.dropout, student.learning_rate) == (0.123, 0.00123)
    learns = student.distillation
    assert (learns.soft, learns.hard, learns.temperature, learns.confidence, learns.mse) == (0.333, 0.667, 2.0, True, 0.1)
    assert learns.ranking == 0


def test_what_is_not_drawn_stays_as_given():
    given = shop(
        rest="[student]\nbatch_size = 7\ndecays = [0.5]\ndistillation = { ranking = 0.2, hard = { start = 0.0, end = 1.0 } }"
    )
    assert with_drawn(given, {}) == given
    mlp = with_drawn(given, {name: value for name, value in DRAWN.items() if name != "depth"} | {"kind": "mlp"})
    assert (mlp.student.batch_size, mlp.student.decays, mlp.student.distillation.ranking) == (7, (0.5,), 0.2)
    assert mlp.student.distillation.hard == 0.667
    # A transformer reads no decays, and would refuse them.
    assert with_drawn(given, DRAWN).student.decays == (1.0, 0.9, 0.6)


def test_every_kind_can_be_drawn_and_depth_only_where_it_is_read():
    config = shop()
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=optuna.samplers.RandomSampler(seed=0))
    depths = {}
    for _ in range(40):
        trial = study.ask()
        draw(trial, config)
        student = with_drawn(config, trial.params).student
        assert student.distillation.temperature in config.targets.temperatures
        depths.setdefault(student.kind, set()).add("depth" in trial.params)
    assert depths == {"mlp": {False}, "residual": {True}, "gru": {True}, "transformer": {True}}


@pytest.mark.parametrize(
    ("tune", "message"),
    [
        ("temperature = [8.0]", r"student\.distillation\.temperature: found 8\.0, expected one within targets\.temperatures"),
        ("embedding_size = [32, 33]", r"embedding_size \(33\) must be a multiple of heads \(2\)"),
        ("losses = { hint = [0.0, 1.0] }", r"need targets\.features = true"),
    ],
)
def test_a_space_that_cannot_be_is_found_before_any_training(tune, message):
    with pytest.raises(ConfigError, match=f"tune: cannot be searched: .*{message}"):
        check_space(shop(tune))


def test_presets_can_be_searched():
    for name in preset_names():
        check_space(load_config(name))


def test_ranges_have_their_lower_end_first():
    with pytest.raises(ConfigError, match=r"tune: learning_rate: found \[0.01, 0.001\], expected the lower end first"):
        shop("learning_rate = [0.01, 0.001]")


@pytest.mark.parametrize("name", preset_names())
def test_written_settings_are_read_back_as_they_were(name, tmp_path):
    given = load_config(name)
    config = with_drawn(given, DRAWN | {"temperature": max(given.targets.temperatures)})
    write_preset(tmp_path / "tuned.toml", config, "found\nby trial 1")
    paths = {name: path.absolute() for name in ("interactions", "items") if (path := getattr(config.data, name))}
    expected = config.model_copy(update={"data": config.data.model_copy(update=paths)})
    assert load_config(str(tmp_path / "tuned.toml")) == expected
    assert (tmp_path / "tuned.toml").read_text().startswith("# found\n# by trial 1\nname = ")


def test_paths_in_written_settings_hold_from_anywhere(tmp_path, monkeypatch):
    text = 'name = "x"\n[data]\ninteractions = "logs.csv"\n[export.calibration]\nrequests = "traffic.npz"\n'
    monkeypatch.chdir(tmp_path)
    write_preset(tmp_path / "tuned.toml", parse_config(text, where="x", folder=Path("shop")), "")
    monkeypatch.chdir("/")
    config = load_config(str(tmp_path / "tuned.toml"))
    assert config.data.interactions == tmp_path / "shop/logs.csv"
    assert config.export.calibration.requests == tmp_path / "shop/traffic.npz"
    assert config.export.repository == Path("triton_repo")  # beside runs/, wherever that is


def test_the_first_trial_is_the_student_as_given(tmp_path):
    study = open_study(tmp_path / "study.db", "s")
    search(study, shop("trials = 4"), closed_form)
    assert [not drawn for drawn in drawn_by(study)] == [True, False, False, False]


def test_an_interrupted_study_goes_on_and_loses_no_trial(tmp_path):
    straight = open_study(tmp_path / "straight.db", "s")
    search(straight, shop("trials = 6"), closed_form)

    def interrupted(drawn, bar):
        if len(ended(study)) == 2:
            raise KeyboardInterrupt
        return closed_form(drawn, bar)

    study = open_study(tmp_path / "study.db", "s")
    with pytest.raises(KeyboardInterrupt):
        search(study, shop("trials = 6"), interrupted)
    assert len(ended(study)) == 2
    study = open_study(tmp_path / "study.db", "s")
    search(study, shop("trials = 6"), closed_form)
    assert drawn_by(study) == drawn_by(straight)
    search(study, shop("trials = 6"), interrupted)  # has all it should have
    search(study, shop("trials = 8"), closed_form)
    assert len(ended(study)) == 8
    assert drawn_by(study)[:6] == drawn_by(straight)


def test_the_student_as_given_is_repeated_too(tmp_path):
    def interrupted(_drawn, _bar):
        raise KeyboardInterrupt

    study = open_study(tmp_path / "study.db", "s")
    with pytest.raises(KeyboardInterrupt):
        search(study, shop("trials = 2"), interrupted)
    search(study, shop("trials = 2"), closed_form)
    assert [not drawn for drawn in drawn_by(study)] == [True, False]


def test_settings_that_never_end_are_left_out_at_last(tmp_path, caplog):
    def killed(drawn, bar):
        if not drawn:
            raise SystemExit
        return closed_form(drawn, bar)

    study = open_study(tmp_path / "study.db", "s")
    for _ in range(4):
        with pytest.raises(SystemExit):
            search(study, shop("trials = 2"), killed)
    search(study, shop("trials = 2"), killed)
    assert "interrupted 4 times and left out: as given" in caplog.text
    assert len(ended(study)) == 2


def test_a_failing_trial_is_recorded_and_the_study_goes_on(tmp_path, caplog):
    def fails_when_wide(drawn, bar):
        if drawn.get("embedding_size") == 128:
            raise MemoryError("too wide")
        return closed_form(drawn, bar)

    study = open_study(tmp_path / "study.db", "s")
    with caplog.at_level(logging.INFO, "distilrec"):
        search(study, shop("trials = 8"), fails_when_wide)
    wide = [drawn for drawn in drawn_by(study) if drawn.get("embedding_size") == 128]
    assert failures(study) == ["MemoryError: too wide"] * len(wide)
    assert len(wide) > 0
    assert len(ended(study)) == 8
    assert "failed: MemoryError: too wide (" in caplog.text
    assert all(entry.drawn.get("embedding_size") != 128 for entry in pareto_front(study))


def test_nothing_but_failures_is_an_error_with_the_reason(tmp_path):
    def fails(_drawn, _bar):
        raise ValueError("no such thing")

    study = open_study(tmp_path / "study.db", "s")
    search(study, shop("trials = 2"), fails)
    with pytest.raises(TuningError, match="all 2 trials failed, the last with ValueError: no such thing"):
        pareto_front(study)


def test_no_trial_begins_that_would_not_end_in_time(tmp_path):
    study = open_study(tmp_path / "study.db", "s")
    search(study, shop("trials = 50\nminutes = 1e-6"), closed_form)
    assert len(ended(study)) == 1  # something is found however short the time


def test_front_holds_what_nothing_beats_and_the_choice_respects_the_latency(tmp_path):
    study = open_study(tmp_path / "study.db", "s")
    search(study, shop("trials = 10\ndropout = [0.3, 0.3]"), closed_form)
    front = pareto_front(study)
    assert {entry.p50_ms for entry in front} == {0.32, 0.48, 0.64, 1.28}
    assert [entry.p50_ms for entry in front] == sorted(entry.p50_ms for entry in front)
    assert choose(front).p50_ms == 1.28
    assert choose(front, latency_ms=0.64).p50_ms == 0.64
    assert choose(front, latency_ms=0.5).drawn == {}
    with pytest.raises(TuningError, match=r"found no trial at or below 0.1 ms, the fastest needs 0.320 ms"):
        choose(front, latency_ms=0.1)
    assert "| 0 | 0.0477 | 0.480 | 480 | as given |" in markdown_table(front)


def test_the_bar_is_the_worst_of_the_front(tmp_path):
    study = open_study(tmp_path / "study.db", "s")
    assert not hopeless_bar(study, 1, 0.5)([0.0] * 9)
    outcomes = iter([Outcome(0.04, 1.0, 1, 2, (0.02, 0.04)), Outcome(0.06, 2.0, 1, 3, (0.0, 0.06, 0.05))])
    search(study, shop("trials = 2"), lambda _drawn, _bar: next(outcomes))
    bar = hopeless_bar(study, 2, 0.5)
    assert bar.floor == pytest.approx((0.0, 0.02, 0.02))
    assert not bar([0.001])  # too early to say
    assert not bar([0.021, 0.0])  # the best epoch counts
    assert bar([0.001, 0.019])
    assert bar([0.001] * 9)
    assert not hopeless_bar(study, 2, 0.0)([0.0] * 9)


def test_a_file_that_is_no_database_is_said_so(tmp_path):
    (tmp_path / "study.db").write_text("a shopping list, long enough to be read as a header of something")
    with pytest.raises(TuningError, match=r"study\.db: found no SQLite study"):
        open_study(tmp_path / "study.db", "s")


@pytest.fixture
def tiny_shop(shop_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """Three trials of students that train for two epochs, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    values = shop_config.model_dump()
    values["student"]["epochs"] = 2
    values["teachers"]["sequence"]["epochs"] = 1
    values["tune"] = {"trials": 3, "kind": ("residual", "gru"), "embedding_size": (4, 8), "hidden_size": (8, 16), "depth": (1,)}
    return Config.model_validate(values)


def test_tuning_a_real_shop_survives_an_interruption_and_leaves_a_preset_that_runs(tiny_shop, monkeypatch, caplog):
    epochs = []

    def interrupt(self):
        epochs.append(self.current_epoch)
        if epochs[3:] == [0, 1]:  # after the teacher's and the first trial's
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(NextItemModule, "on_train_epoch_start", interrupt, raising=False)
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            run_tuning(tiny_shop, print)
    assert list((run_dir(tiny_shop) / "tune").glob("student-*/*/last.ckpt"))

    with monkeypatch.context() as patch, caplog.at_level(logging.INFO, "distilrec"):
        epochs.clear()
        patch.setattr(NextItemModule, "on_train_epoch_start", lambda self: epochs.append(self.current_epoch), raising=False)
        said = []
        preset = run_tuning(tiny_shop, said.append)
    assert epochs == [1, 0, 1]  # on from the checkpoint, then the last one
    assert "trial 3 (3 of 3): NDCG@10 " in caplog.text
    assert not list((run_dir(tiny_shop) / "tune").glob("student-*/*"))
    assert "Pareto front of 3 trials (0 failed); validation users" in said[0]

    study = open_study(run_dir(tiny_shop) / "tune/study.db", optuna.get_all_study_names("sqlite:///runs/shop/tune/study.db")[0])
    best = choose(pareto_front(study))
    assert 0 < best.ndcg <= 1
    assert best.p50_ms > 0
    config = load_config(str(preset))
    assert config == with_drawn(tiny_shop, best.drawn)
    trained = run_stage(config, "student").metrics
    assert trained["validation_ndcg@10"] == pytest.approx(best.ndcg)
    assert trained["parameters"] == best.parameters


def test_two_never_work_on_one_study(tiny_shop):
    folder = run_dir(tiny_shop) / "tune"
    folder.mkdir(parents=True)
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(TuningError, match="another distilrec tune is at work here"):
            run_tuning(tiny_shop, print)


def test_other_settings_begin_a_study_beside_the_former(tmp_path, caplog):
    search(open_study(tmp_path / "study.db", "former"), shop("trials = 1"), closed_form)
    with caplog.at_level(logging.INFO, "distilrec"):
        assert ended(open_study(tmp_path / "study.db", "other")) == []
    assert "a new study begins, the former stay in" in caplog.text
    assert len(ended(open_study(tmp_path / "study.db", "former"))) == 1


def test_the_preset_that_is_read_is_never_written_over(tmp_path):
    path = tmp_path / "shop.toml"
    path.write_text('name = "shop"\n[data]\nsource = "ml-100k"\n')
    with pytest.raises(ConfigError, match=r"--output: found .*shop\.toml, which is the preset itself"):
        CliRunner().invoke(app, ["tune", "--preset", str(path), "--output", str(path)], catch_exceptions=False)
    assert path.read_text().startswith('name = "shop"')


def test_a_missing_folder_for_the_output_is_said_before_the_search(tiny_shop):
    with pytest.raises(TuningError, match="--output: found no folder nowhere"):
        run_tuning(tiny_shop, print, output=Path("nowhere/tuned.toml"))
