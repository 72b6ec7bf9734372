"""``distilrec tune`` on the tiny shop: a real search, and what is said before one begins."""

import fcntl
import logging
from pathlib import Path

import optuna
import pytest
from typer.testing import CliRunner

from distill.training.module import NextItemModule
from distilrec.cli.app import app
from distilrec.config import Config, load_config
from distilrec.core.errors import ConfigError, TuningError
from distilrec.pipeline.folders import run_dir
from distilrec.pipeline.stages import run_stage
from distilrec.tuning.front import choose, pareto_front
from distilrec.tuning.run import run_tuning
from distilrec.tuning.space import with_drawn
from distilrec.tuning.study import open_study


@pytest.fixture
def tiny_shop(shop_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """Two trials of students that train for two epochs, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    values = shop_config.model_dump()
    values["student"]["epochs"] = values["undistilled"]["epochs"] = 2
    values["teachers"]["sequence"]["epochs"] = 1
    values["tune"] = {"trials": 2, "kind": ("residual", "gru"), "embedding_size": (4, 8), "hidden_size": (8, 16), "depth": (1,)}
    return Config.model_validate(values)


@pytest.mark.pipeline
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
    assert epochs == [1, 0, 1, 0, 1]  # on from the checkpoint, then two trials without a teacher
    assert "trial 2 (2 of 2): NDCG@10 " in caplog.text  # the interrupted trial has a number of its own
    assert "trial 1 (2 of 2): NDCG@10 " in caplog.text
    assert not list((run_dir(tiny_shop) / "tune").glob("student-*/*"))
    assert "Pareto front of 2 trials (0 failed); validation users" in said[0]

    names = optuna.get_all_study_names("sqlite:///runs/shop/tune/study.db")
    assert [name.partition("-")[0] for name in names] == ["student", "undistilled"]
    study = open_study(run_dir(tiny_shop) / "tune/study.db", names[0])
    best = choose(pareto_front(study))
    assert 0 < best.ndcg <= 1
    assert best.p50_ms > 0
    config = load_config(str(preset))
    assert config.student == with_drawn(tiny_shop, best.drawn).student
    undistilled = run_stage(config, "student-undistilled").metrics
    assert f"without a teacher, after 2 trials: NDCG@10 {undistilled['validation_ndcg@10']:.4f}" in said[1]
    trained = run_stage(config, "student").metrics
    assert trained["validation_ndcg@10"] == pytest.approx(best.ndcg)
    assert trained["parameters"] == best.parameters


def test_two_never_work_on_one_study(tiny_shop):
    folder = run_dir(tiny_shop) / "tune"
    folder.mkdir(parents=True)
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(TuningError, match="another distilrec tune is running here"):
            run_tuning(tiny_shop, print)


def test_a_missing_folder_for_the_output_is_said_before_the_search(tiny_shop):
    with pytest.raises(TuningError, match="--output: found no folder nowhere"):
        run_tuning(tiny_shop, print, output=Path("nowhere/tuned.toml"))


def test_the_preset_that_is_read_is_never_written_over(tmp_path):
    path = tmp_path / "shop.toml"
    path.write_text('name = "shop"\n[data]\nsource = "ml-100k"\n')
    with pytest.raises(ConfigError, match=r"--output: found .*shop\.toml, which is the preset itself"):
        CliRunner().invoke(app, ["tune", "--preset", str(path), "--output", str(path)], catch_exceptions=False)
    assert path.read_text().startswith('name = "shop"')
