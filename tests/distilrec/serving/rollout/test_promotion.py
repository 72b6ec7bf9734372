"""Promotion and rollback without a server: the order of the steps, and what interruptions leave. With one: test_live.py."""

import dataclasses
import os
import shutil

import numpy as np
import pytest
from artefacts import record
from disks import failing_writes

from distilrec.core.errors import ManifestError, RepositoryError
from distilrec.core.manifest import sha256_of_file
from distilrec.evaluation.ranking_record import load_record
from distilrec.serving.rollout.promotion import PromotionError, promote, rollback, versions
from export.repository import journal
from export.repository.fill import fill_repository
from export.repository.journal import KEPT_GOOD, recover
from export.repository.locks import hold_as_server, locked
from export.repository.models import MODELS, write_student
from export.repository.versions import move_pin, served_version


def states(entries):
    return {entry.number: entry.state for entry in entries}


def served(config):
    return {served_version(config.repository, model.name) for model in MODELS}


def recovered(config):
    """What the next start of the server does."""
    with locked(config.repository):
        recover(config.repository, [model.name for model in MODELS])


def content(config):
    return {path.relative_to(config.repository).as_posix() for path in config.repository.rglob("*")}


def test_offline_promotion_and_rollback_move_the_pins(shop_run, serving_config):
    artefact = shop_run / "export"
    steps = []
    done = promote(artefact, serving_config.repository, serving_config, None, report=steps.append)
    assert (done.version, done.former, done.watched) == (2, 1, None)
    assert served(serving_config) == {2}
    assert steps == ["the artefact is whole and gives its golden answers", "version 2 is staged", "version 2 is pinned"]
    assert rollback(serving_config.repository, None).version == 1
    assert served(serving_config) == {1}
    assert states(versions(serving_config.repository)) == {1: "serving", 2: "retired"}
    assert not (serving_config.repository / "student" / "2").exists()
    assert promote(artefact, serving_config.repository, serving_config, None).version == 3
    assert versions(serving_config.repository)[-1].artefact


def test_rollback_without_an_earlier_version_is_refused(serving_config):
    with pytest.raises(PromotionError, match="found no good version but 1"):
        rollback(serving_config.repository, None)


def test_damaged_version_is_not_gone_back_to(shop_run, serving_config):
    promote(shop_run / "export", serving_config.repository, serving_config, None)
    with (serving_config.repository / "student" / "1" / "model.onnx").open("r+b") as file:
        file.truncate(500)
    with pytest.raises(PromotionError, match=r"version 1 was refused(?s:.*)Version 2 stays pinned"):
        rollback(serving_config.repository, None)
    assert served(serving_config) == {2}


def test_old_good_versions_are_retired(shop_run, serving_config):
    for _ in range(KEPT_GOOD + 2):
        promote(shop_run / "export", serving_config.repository, serving_config, None)
    found = states(versions(serving_config.repository))
    assert list(found.values()) == ["retired"] * 2 + ["good"] * KEPT_GOOD + ["serving"]
    folders = {path.name for path in (serving_config.repository / "recommend").iterdir() if path.name.isdigit()}
    warmed_up = {path.name.split(".")[0] for path in (serving_config.repository / "recommend" / "warmup").iterdir()}
    assert folders == warmed_up == {str(number) for number, state in found.items() if state != "retired"}


def test_damaged_artefact_leaves_the_repository_alone(shop_run, serving_config, tmp_path):
    before = content(serving_config)
    artefact = tmp_path / "export"
    shutil.copytree(shop_run / "export", artefact)
    (artefact / "fp32" / "model.onnx").unlink()
    with pytest.raises(ManifestError, match="missing"):
        promote(artefact, serving_config.repository, serving_config, None)
    with pytest.raises(RepositoryError, match="expected an export"):
        promote(shop_run / "student", serving_config.repository, serving_config, None)
    assert content(serving_config) == before
    assert states(versions(serving_config.repository)) == {1: "serving"}


def test_version_that_cannot_be_staged_is_noted_and_removed(shop_run, serving_config):
    def write(artefact, manifest, config, folder):
        write_student(artefact, manifest, config, folder)
        with (folder / "model.onnx").open("r+b") as file:
            file.truncate(100)

    with pytest.raises(PromotionError, match="another content than in"):
        promote(
            shop_run / "export",
            serving_config.repository,
            serving_config,
            None,
            models=[model._replace(write=write) if model.name == "student" else model for model in MODELS],
        )
    found = versions(serving_config.repository)
    assert states(found) == {1: "serving", 2: "failed"}
    assert "another content" in found[-1].reason
    assert not {name for name in content(serving_config) if "2" in name}


def test_interrupted_promotion_is_undone_and_its_number_not_used_again(shop_run, serving_config):
    def interrupt(step):
        if "staged" in step:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        promote(shop_run / "export", serving_config.repository, serving_config, None, report=interrupt)
    assert states(versions(serving_config.repository)) == {1: "serving", 2: "failed"}
    assert promote(shop_run / "export", serving_config.repository, serving_config, None).version == 3


@pytest.mark.parametrize("back", [False, True])
@pytest.mark.parametrize("moved", [0, 1, 2])
def test_pins_that_were_moved_in_part_are_moved_all(shop_run, serving_config, monkeypatch, moved, back):
    """Killed after the pins of ``moved`` models."""
    if back:
        promote(shop_run / "export", serving_config.repository, serving_config, None)

    calls = []

    def move_some(repository, model, version):
        if len(calls) == moved:
            raise KeyboardInterrupt
        calls.append(model)
        move_pin(repository, model, version)

    def move():
        if back:
            rollback(serving_config.repository, None)
        else:
            promote(shop_run / "export", serving_config.repository, serving_config, None)

    monkeypatch.setattr(journal, "move_pin", move_some)
    with pytest.raises(KeyboardInterrupt):
        move()
    monkeypatch.undo()
    recovered(serving_config)
    after = {1: "serving", 2: "retired"} if back else {1: "good", 2: "serving"}
    assert states(versions(serving_config.repository)) == after
    assert len(served(serving_config)) == 1
    files = content(serving_config)
    recovered(serving_config)
    assert content(serving_config) == files


def test_second_promotion_at_once_is_refused(shop_run, serving_config):
    with locked(serving_config.repository), pytest.raises(RepositoryError, match="another promotion, rollback or export at work"):
        promote(shop_run / "export", serving_config.repository, serving_config, None)
    assert promote(shop_run / "export", serving_config.repository, serving_config, None).version == 2


def test_an_export_after_promotions_takes_a_new_number(shop_run, serving_config, variant):
    promote(shop_run / "export", serving_config.repository, serving_config, None)
    rollback(serving_config.repository, None)
    fill_repository(variant(1), serving_config)
    assert served(serving_config) == {3}
    assert states(versions(serving_config.repository)) == {1: "good", 2: "retired", 3: "serving"}
    assert rollback(serving_config.repository, None).version == 1
    fill_repository(variant(1), serving_config)
    assert served(serving_config) == {4}
    assert promote(shop_run / "export", serving_config.repository, serving_config, None).version == 5


@pytest.fixture
def worse(shop_run, tmp_path):
    """An artefact whose record says that it loses half of the NDCG@10; with ``changes`` to the record."""

    def make(**changes):
        artefact = tmp_path / "worse"
        shutil.copytree(shop_run / "export", artefact)
        former = load_record(artefact / "ranking.json")
        dataclasses.replace(former, ndcg_at_10=former.ndcg_at_10 / 2, **changes).save(artefact / "ranking.json")
        return record(artefact)

    return make


def test_version_that_ranks_worse_needs_force(worse, serving_config):
    artefact, steps = worse(), []
    with pytest.raises(PromotionError, match=r"a loss of 50\.00%, expected at most 0\.5%.*--force"):
        promote(artefact, serving_config.repository, serving_config, None)
    assert states(versions(serving_config.repository)) == {1: "serving"}
    assert promote(artefact, serving_config.repository, serving_config, None, force=True, report=steps.append).version == 2
    assert any("promoted all the same" in step for step in steps)


def test_ranking_over_other_users_is_not_compared(worse, serving_config):
    steps = []
    promote(worse(held_out_sha256="other"), serving_config.repository, serving_config, None, report=steps.append)
    assert any("cannot be compared with that of version 1: found records of other users" in step for step in steps)


def test_stray_folder_does_not_poison_the_numbers(shop_run, serving_config):
    (serving_config.repository / "student" / "9999999999999999999999").mkdir()
    assert promote(shop_run / "export", serving_config.repository, serving_config, None).version == 2


def test_files_of_a_served_repository_stay(shop_run, serving_config, variant):
    """Whatever the journal says of them: without an answer of the server nothing is known of what it has loaded."""
    promote(shop_run / "export", serving_config.repository, serving_config, None)
    rollback_target = serving_config.repository / "student" / "2"
    held = hold_as_server(serving_config.repository)
    try:
        rollback(serving_config.repository, None)
        fill_repository(variant(1), serving_config)
        assert rollback_target.exists()
    finally:
        os.close(held)
    recovered(serving_config)
    assert not rollback_target.exists()
    assert served(serving_config) == {3}


def test_full_disk_at_any_moment_leaves_a_version_that_is_whole(shop_run, serving_config, monkeypatch):
    """The n-th write fails, for ten seeded n; then the same command is run again."""
    repository, moments = serving_config.repository, sorted(np.random.default_rng(0).choice(60, 10, replace=False).tolist())
    for writes in (*moments, 1000):
        (before,) = served(serving_config)
        with monkeypatch.context() as patch:
            failing_writes(patch, writes)
            try:
                version = promote(shop_run / "export", repository, serving_config, None).version
            except (PromotionError, RepositoryError):
                version = None
        recovered(serving_config)
        assert served(serving_config) in ({before}, {version or max(states(versions(repository)))})
        found = states(versions(repository))
        kept = {str(number) for number, state in found.items() if state in {"serving", "good"}}
        for model in MODELS:
            assert {path.name for path in (repository / model.name).iterdir() if path.is_dir()} - {"warmup"} == kept
            assert {path.name.split(".")[0] for path in (repository / model.name / "warmup").glob("*")} <= kept
    assert version
    assert served(serving_config) == {version}
    assert sha256_of_file(repository / "student" / str(version) / "model.onnx") == sha256_of_file(
        shop_run / "export" / "fp32" / "model.onnx"
    )
