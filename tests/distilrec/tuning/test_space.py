"""From drawn values to settings of the student, to a preset and back."""

from pathlib import Path

import optuna
import pytest

from distilrec.config import load_config, parse_config, preset_names
from distilrec.core.errors import ConfigError
from distilrec.tuning.preset import write_preset
from distilrec.tuning.space import check_space, draw, with_drawn

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


def test_drawn_values_become_settings_of_the_student(tune_config):
    student = with_drawn(tune_config(), DRAWN).student
    assert (student.kind, student.embedding_size, student.hidden_size, student.depth) == ("transformer", 32, 64, 2)
    assert (student.dropout, student.learning_rate) == (0.123, 0.00123)
    learns = student.distillation
    assert {name: loss.weight for name, loss in learns.losses.items()} == {"hard": 0.667, "soft": 0.333, "mse": 0.1}
    assert (learns.temperature, learns.confidence) == (2.0, True)


def test_what_is_not_drawn_stays_as_given(tune_config):
    given = tune_config(
        rest="[student]\nbatch_size = 7\ndecays = [0.5]\n"
        "distillation = { ranking = { weight = 0.2, depth = 5 }, hard = { start = 0.0, end = 1.0 } }"
    )
    assert with_drawn(given, {}) == given
    mlp = with_drawn(given, {name: value for name, value in DRAWN.items() if name != "depth"} | {"kind": "mlp"})
    assert (mlp.student.batch_size, mlp.student.decays) == (7, (0.5,))
    ranking = mlp.student.distillation.losses["ranking"]
    assert (ranking.weight, ranking.depth) == (0.2, 5)
    assert mlp.student.distillation.losses["hard"].weight == 0.667
    reweighted = with_drawn(given, DRAWN | {"loss_ranking": 0.4}).student.distillation.losses["ranking"]
    assert (reweighted.weight, reweighted.depth) == (0.4, 5)
    # A transformer reads no decays, and would refuse them.
    assert "decays" not in with_drawn(given, DRAWN).student.model_dump()


def test_every_kind_can_be_drawn_and_depth_only_where_it_is_read(tune_config):
    config = tune_config()
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
def test_a_space_that_cannot_be_is_found_before_any_training(tune, message, tune_config):
    with pytest.raises(ConfigError, match=f"tune: cannot be searched: .*{message}"):
        check_space(tune_config(tune))


def test_presets_can_be_searched():
    for name in preset_names():
        check_space(load_config(name))


def test_ranges_have_their_lower_end_first(tune_config):
    with pytest.raises(ConfigError, match=r"tune: learning_rate: found \[0.01, 0.001\], expected the lower end first"):
        tune_config("learning_rate = [0.01, 0.001]")


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
