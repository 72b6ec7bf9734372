"""Checkpoints survive a full disk and a killed process, and run no code."""

import os
import pickle
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
from disks import fill

from distill.models.item_table import popularity_prior
from distill.models.students.build import build_student
from distill.training.checkpoints import BEST, LAST, resumable
from distill.training.fit import fit
from distill.training.module import NextItemModule
from distilrec.config import Config
from distilrec.core.manifest import FileRecord
from distilrec.core.specs import RecommenderSpec
from distilrec.data import stage as data_stage
from distilrec.pipeline.stages import run_stage

pytestmark = pytest.mark.pipeline

EPOCHS = 4


class Stopped(Exception):
    """A training ends here as if it had been killed."""


@pytest.fixture(scope="module")
def shop(shop_config: Config, tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("checkpoints") / "data"
    data_stage.run(shop_config, {}, folder)
    return data_stage.load(folder)[0]


@pytest.fixture(scope="module")
def undisturbed(shop_config, shop, tmp_path_factory):
    return train(shop_config, shop, tmp_path_factory.mktemp("undisturbed"))[0]


def train(config, dataset, scratch, stop_before=None, learning_rate=0.01):
    """Returns the digest of the weights, and the epochs that were trained."""
    torch.manual_seed(1)
    student = build_student(config, dataset.item_count, popularity_prior(dataset))
    spec = RecommenderSpec(dataset.item_count, config.history_length, 16, 10)
    settings = config.student.model_copy(update={"epochs": EPOCHS, "learning_rate": learning_rate})
    started = []

    def start(self):
        if self.current_epoch == stop_before:
            raise Stopped
        started.append(self.current_epoch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(NextItemModule, "on_train_epoch_start", start, raising=False)
        fit(student, dataset, spec, settings, seed=1, scratch=scratch)
    weights = b"".join(value.numpy().tobytes() for _, value in sorted(student.state_dict().items()))
    return sha256(weights).hexdigest(), started


def interrupted(config, dataset, scratch, **options):
    with pytest.raises(Stopped):
        train(config, dataset, scratch, stop_before=3, **options)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    ("damaged", "trained"), [([LAST], [3]), ([BEST], [0, 1, 2, 3]), ([BEST, LAST], [0, 1, 2, 3])], ids=["last", "best", "both"]
)
def test_a_training_with_checkpoints_cut_short_ends_with_the_same_weights(
    shop_config, shop, undisturbed, tmp_path, caplog, damaged, trained
):
    interrupted(shop_config, shop, tmp_path)
    for name in damaged:
        cut_short(tmp_path / name)
    assert train(shop_config, shop, tmp_path) == (undisturbed, trained)
    assert {path.name for path in tmp_path.glob("*.unreadable")} == {f"{name}.unreadable" for name in damaged}
    assert sum("found a checkpoint that cannot be read" in record.message for record in caplog.records) == len(damaged)


def test_a_training_resumes_from_a_best_epoch_that_is_not_the_newest(shop_config, shop, tmp_path):
    rate = 1e-12  # nothing improves after the first epoch
    straight = train(shop_config, shop, tmp_path / "straight", learning_rate=rate)[0]
    interrupted(shop_config, shop, tmp_path / "cut", learning_rate=rate)
    cut_short(tmp_path / "cut" / LAST)
    assert train(shop_config, shop, tmp_path / "cut", learning_rate=rate) == (straight, [1, 2, 3])


def test_a_checkpoint_that_would_run_code_is_put_aside(shop_config, shop, undisturbed, tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    interrupted(shop_config, shop, tmp_path / "run")
    for name in (BEST, LAST):
        torch.save(Evil(), tmp_path / "run" / name)
    assert train(shop_config, shop, tmp_path / "run") == (undisturbed, [0, 1, 2, 3])
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [b"", b"\0" * 500, pickle.dumps({"epoch": 1}, protocol=2), b"not a checkpoint"])
def test_nothing_but_a_checkpoint_is_resumed_from(tmp_path, content):
    (tmp_path / LAST).write_bytes(content)
    (tmp_path / f"{BEST}.tmp").write_bytes(content)
    assert resumable(tmp_path) is None
    assert [path.name for path in tmp_path.iterdir()] == [f"{LAST}.unreadable"]


@pytest.fixture(scope="module")
def stage_files(shop_config, tmp_path_factory):
    """Digests of the stage's files, made with space enough."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("enough"))
        return _train_stage(shop_config)


@pytest.mark.pipeline
@pytest.mark.parametrize("seed", range(10))
def test_a_stage_ends_with_the_same_files_after_the_disk_was_full(shop_config, stage_files, small_disk, monkeypatch, seed):
    """From the start of a seeded epoch on, the disk has only a seeded part of the space that the epoch's checkpoints need."""
    random = np.random.default_rng(seed)
    epoch = int(random.integers(3))
    # The first epoch writes two files; each later one replaces them, and needs the space of one.
    files = random.uniform(0, 0.95) + (int(random.integers(2)) if epoch == 0 else 0)

    def fill_disk(self):
        if self.current_epoch == epoch:
            fill(small_disk, int(files * 40_000))

    monkeypatch.chdir(small_disk)
    with monkeypatch.context() as patch:
        patch.setattr(NextItemModule, "on_train_epoch_start", fill_disk, raising=False)
        with pytest.raises(OSError, match="No space left on device"):
            _train_stage(shop_config)
    assert not list(small_disk.rglob("*.tmp"))
    (small_disk / "filler").unlink()
    assert _train_stage(shop_config) == stage_files
    assert not list(small_disk.rglob("*.partial"))


def _train_stage(config: Config) -> dict[str, FileRecord]:
    for stage in ("data", "text", "student-undistilled"):
        manifest = run_stage(config, stage)
    return manifest.files
