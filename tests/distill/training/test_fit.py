"""Training learns, stops early, and goes on after an interruption as if there had been none."""

import csv
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from distill.data.sequences import Windows
from distill.models.item_table import popularity_prior
from distill.models.runner import TorchRunner
from distill.models.students.build import build_student, load_student
from distill.models.weights import save_weights
from distill.training.callbacks import expected_time
from distill.training.fit import batch_size, fit
from distill.training.loggers import Logging, make_logger
from distill.training.module import NextItemModule
from distilrec.config import Config, StudentConfig, TrainingConfig
from distilrec.core.errors import DataError, MissingExtraError
from distilrec.core.specs import RecommenderSpec
from distilrec.data import stage as data_stage
from distilrec.data.dataset import Dataset, held_out
from distilrec.evaluation.ranking import ranking_metrics, recommend_all


@pytest.fixture(scope="module")
def shop(shop_config: Config, tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("fit") / "data"
    data_stage.run(shop_config, {}, folder)
    return data_stage.load(folder)[0]


def train(config: Config, dataset, scratch, log=None, **training):
    torch.manual_seed(1)
    student = build_student(config, dataset.item_count, popularity_prior(dataset))
    spec = RecommenderSpec(dataset.item_count, config.history_length, 16, 10)
    settings = config.student.model_copy(update=training)
    result = fit(student, dataset, spec, settings, seed=1, scratch=scratch, log=log)
    return student, result


@pytest.mark.pipeline
def test_a_log_file_gets_a_line_for_each_epoch_and_no_bar(shop_config, shop, tmp_path, capfd):
    _, result = train(shop_config, shop, tmp_path, log=Logging("csv", tmp_path / "logs", "student"), epochs=2)
    written = capfd.readouterr()
    line = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d student: epoch %d of 2: loss \d\.\d{4}, validation NDCG@10 %.4f, \d+\.\d s\n"
    assert re.fullmatch("".join(line % (epoch, ndcg) for epoch, ndcg in enumerate(result.curve, start=1)), written.err)
    assert "\r" not in written.out + written.err


@pytest.mark.pipeline
def test_training_learns_and_keeps_the_best_epoch(shop_config, shop, tmp_path):
    _, short = train(shop_config, shop, tmp_path / "short", epochs=1)
    _, long = train(shop_config, shop, tmp_path / "long", epochs=12)
    assert long.validation_ndcg > short.validation_ndcg
    assert long.validation_ndcg > 0.08  # 90 items in 6 genres; a random list has about 0.05


@pytest.mark.pipeline
@pytest.mark.parametrize(
    "settings",
    [
        {"kind": "residual", "depth": 2},
        {"kind": "gru"},
        {"kind": "transformer", "depth": 2},
        {"table": "low_rank", "rank": 6},
    ],
    ids=lambda settings: "-".join(map(str, settings.values())),
)
def test_every_kind_of_student_learns_and_survives_saving(shop_config, shop, tmp_path, settings):
    values = shop_config.student.values_for(settings.get("kind"))
    student_config = StudentConfig.model_validate(values | settings | {"epochs": 12})
    config = shop_config.model_copy(update={"student": student_config})
    student, result = train(config, shop, tmp_path)
    assert result.validation_ndcg > 0.08
    history = torch.randint(0, shop.item_count + 1, (8, config.history_length))
    scores = student.items.scores(student.encode_last(history))
    save_weights(student, tmp_path)
    loaded = load_student(config, tmp_path, shop.item_count)
    torch.testing.assert_close(loaded.items.scores(loaded.encode_last(history)), scores)
    assert loaded.parameter_count() == student.parameter_count()


def test_training_stops_when_nothing_improves(shop_config, shop, tmp_path):
    _, result = train(shop_config, shop, tmp_path, epochs=50, learning_rate=1e-12, patience=2)
    assert result.epochs == 3


def test_a_training_that_is_given_up_stops_and_keeps_its_curve(shop_config, shop, tmp_path):
    torch.manual_seed(1)
    student = build_student(shop_config, shop.item_count, popularity_prior(shop))
    spec = RecommenderSpec(shop.item_count, shop_config.history_length, 16, 10)
    asked = []

    def give_up(curve):
        asked.append(tuple(curve))
        return len(curve) == 2

    result = fit(student, shop, spec, shop_config.student, seed=1, scratch=tmp_path, give_up=give_up)
    assert result.epochs == 2
    assert asked == [result.curve[:1], result.curve]
    assert max(result.curve) == result.validation_ndcg


def test_interrupted_training_ends_with_the_same_weights(shop_config, shop, tmp_path, monkeypatch):
    straight, _ = train(shop_config, shop, tmp_path / "straight", epochs=4)

    def interrupt(self):
        if self.current_epoch == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(NextItemModule, "on_train_epoch_start", interrupt, raising=False)
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            train(shop_config, shop, tmp_path / "resumed", epochs=4)
    assert (tmp_path / "resumed" / "last.ckpt").exists()

    started = []
    monkeypatch.setattr(NextItemModule, "on_train_epoch_start", lambda self: started.append(self.current_epoch), raising=False)
    resumed, result = train(shop_config, shop, tmp_path / "resumed", epochs=4)
    assert started == [2, 3]
    assert result.epochs == 4
    for name, weights in straight.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], weights, msg=name)


@pytest.mark.pipeline
def test_two_processes_end_with_the_weights_of_one(shop_config, shop, tmp_path):
    """Batches are shared out, gradients averaged over all predictions: without dropout nothing differs but rounding."""
    results = {}
    for processes in (1, 2):
        torch.manual_seed(1)
        student = build_student(
            shop_config, shop.item_count, popularity_prior(shop), settings=shop_config.student.model_copy(update={"dropout": 0.0})
        )
        spec = RecommenderSpec(shop.item_count, shop_config.history_length, 16, 10)
        settings = shop_config.student.model_copy(update={"epochs": 2, "learning_rate": 1e-3, "precision": "float32"})
        scratch = tmp_path / str(processes)
        results[processes] = student, fit(student, shop, spec, settings, seed=1, scratch=scratch, processes=processes)
    (alone, one), (shared, two) = results[1], results[2]
    assert two.epochs == one.epochs == 2
    assert two.validation_ndcg == pytest.approx(one.validation_ndcg, abs=5e-3)
    for name, weights in alone.state_dict().items():
        torch.testing.assert_close(shared.state_dict()[name], weights, msg=name, atol=2e-4, rtol=1e-3)


def test_losses_are_logged_to_csv(shop_config, shop, tmp_path):
    log = Logging("csv", tmp_path / "logs", "student")
    train(shop_config, shop, tmp_path / "scratch", log=log, epochs=2)
    (path,) = (tmp_path / "logs" / "student").glob("*/metrics.csv")
    rows = list(csv.DictReader(path.open()))
    assert [row["epoch"] for row in rows if row["validation_ndcg@10"]] == ["0", "1"]
    assert any(row["loss"] for row in rows)


@pytest.mark.parametrize(
    ("kind", "package", "pattern"), [("tensorboard", "tensorboard", "events.out*"), ("wandb", "wandb", "*.wandb")]
)
def test_other_loggers_leave_their_files(shop_config, shop, tmp_path, monkeypatch, kind, package, pattern):
    pytest.importorskip(package)
    monkeypatch.setenv("WANDB_MODE", "offline")
    train(shop_config, shop, tmp_path / "scratch", log=Logging(kind, tmp_path / "logs", "student"), epochs=1)
    assert list((tmp_path / "logs" / "student").rglob(pattern))


@pytest.mark.parametrize("kind", ["tensorboard", "wandb"])
def test_a_logger_that_is_not_installed_is_named_with_its_extra(tmp_path, monkeypatch, kind):
    monkeypatch.setattr("distill.training.loggers.find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=rf"pip install 'distilrec\[{kind}\]'"):
        make_logger(Logging(kind, tmp_path, "student"))


def test_no_validation_user_is_an_error(shop_config, shop, tmp_path):
    ends = shop.offsets[1:] - shop.offsets[:-1]
    all_training = type(shop)(shop.items, shop.offsets, ends, ends, shop.item_count)
    with pytest.raises(DataError, match="found no user with both training and validation"):
        train(shop_config, all_training, tmp_path)


@pytest.mark.parametrize(
    ("windows", "length", "batch"),
    [(12_800, 4, 100), (12_800, 50, 60), (200, 50, 8)],
    ids=["some 128 steps an epoch", "at most 3,000 predictions a step", "never tiny"],
)
def test_batch_size_follows_the_data(windows, length, batch):
    ends = np.arange(1, windows + 1) * length
    data = Windows(np.empty(0, np.int32), np.empty(0, np.int32), np.stack([ends - length, ends], axis=1))
    assert batch_size(TrainingConfig(batch_size="auto"), data) == batch
    assert batch_size(TrainingConfig(batch_size=32), data) == 32


def test_the_expected_time_is_said_in_words():
    assert expected_time(18.0, 40) == (
        "an epoch takes about 18 s; 40 epochs would take 12 min, fewer where validation stops improving"
    )
    assert "1.7 hours" in expected_time(150, 40)


@pytest.mark.pipeline
def test_validation_counts_repeats_where_requests_may_ask_for_them(shop_config, tmp_path):
    """Users who take two items in turn: with repeats the next one is easily right, and without them nobody could be judged."""
    items = np.concatenate([np.tile([2 * user + 1, 2 * user + 2], 6) for user in range(16)]).astype(np.int32)
    starts = np.full(16, 10)
    dataset = Dataset(items, np.arange(17) * 12, starts, starts + 1, item_count=32)
    plain = RecommenderSpec(32, shop_config.history_length, 16, 10, filter_length=2)
    assert held_out(dataset, "validation", plain).unjudged_users == 16
    spec = replace(plain, repeats=True)
    torch.manual_seed(1)
    student = build_student(shop_config, 32, popularity_prior(dataset))
    settings = shop_config.student.model_copy(update={"epochs": 12, "batch_size": 4})
    result = fit(student, dataset, spec, settings, seed=1, scratch=tmp_path)
    users = held_out(dataset, "validation", spec)
    ranked, _ = recommend_all(TorchRunner(student, spec), users, 8, "repeats")
    assert result.validation_ndcg == pytest.approx(ranking_metrics(ranked, users)["ndcg@10"], abs=1e-6)
    assert result.validation_ndcg > 0.6
