"""Journal, staging and offline promotion; the live part is in test_promotion.py."""

import shutil
from datetime import UTC, datetime

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from distilrec.core.errors import ManifestError, ParityError, RepositoryError
from distilrec.serving.rollout import journal as journals
from distilrec.serving.rollout.journal import Journal, VersionInfo, locked, next_number, reconcile, write_journal
from distilrec.serving.rollout.promotion import KEPT_GOOD, PromotionError, promote, recover, rollback, versions
from distilrec.serving.rollout.proving import check_copy
from export.repository.fill import fill_repository
from export.repository.models import MODELS, write_student
from export.repository.versions import served_version


@pytest.fixture
def config(shop_run, shop_config, tmp_path):
    config = shop_config.export.model_copy(update={"repository": tmp_path / "repo", "instances": 1})
    fill_repository(shop_run / "export", config)
    return config


def entry(number, state, vocabulary="v"):
    return VersionInfo(number=number, state=state, vocabulary_sha256=vocabulary, time=datetime.now(UTC))


def states(entries):
    return {entry.number: entry.state for entry in entries}


def served(config):
    return {served_version(config.repository, model.name) for model in MODELS}


def content(config):
    return {path.relative_to(config.repository).as_posix() for path in config.repository.rglob("*")}


def test_offline_promotion_and_rollback_move_the_pins(shop_run, config):
    artefact = shop_run / "export"
    steps = []
    promotion = promote(artefact, config.repository, config, None, report=steps.append)
    assert (promotion.version, promotion.former, promotion.watched) == (2, 1, None)
    assert served(config) == {2}
    assert steps == ["the artefact is whole and gives its golden answers", "version 2 is staged", "version 2 is pinned"]
    assert rollback(config.repository, None).version == 1
    assert served(config) == {1}
    assert states(versions(config.repository)) == {1: "serving", 2: "retired"}
    assert not (config.repository / "student" / "2").exists()
    assert promote(artefact, config.repository, config, None).version == 3
    assert versions(config.repository)[-1].artefact


def test_rollback_without_an_earlier_version_is_refused(config):
    with pytest.raises(PromotionError, match="found no good version but 1"):
        rollback(config.repository, None)


def test_damaged_version_is_not_gone_back_to(shop_run, config):
    promote(shop_run / "export", config.repository, config, None)
    with (config.repository / "student" / "1" / "model.onnx").open("r+b") as file:
        file.truncate(500)
    with pytest.raises(PromotionError, match=r"version 1 was refused(?s:.*)Version 2 stays pinned"):
        rollback(config.repository, None)
    assert served(config) == {2}


def test_old_good_versions_are_retired(shop_run, config):
    for _ in range(KEPT_GOOD + 2):
        promote(shop_run / "export", config.repository, config, None)
    found = states(versions(config.repository))
    assert list(found.values()) == ["retired"] * 2 + ["good"] * KEPT_GOOD + ["serving"]
    folders = {path.name for path in (config.repository / "recommend").iterdir() if path.name.isdigit()}
    warmed_up = {path.name.split(".")[0] for path in (config.repository / "recommend" / "warmup").iterdir()}
    assert folders == warmed_up == {str(number) for number, state in found.items() if state != "retired"}


def test_new_version_is_warmed_up_before_it_is_asked(shop_run, config):
    promote(shop_run / "export", config.repository, config, None)
    for model in MODELS:
        text = (config.repository / model.name / "config.pbtxt").read_text()
        warmup = text_format.Parse(text, model_config_pb2.ModelConfig()).model_warmup
        expected = {"vocabulary": [], "student": ["exclude", "history"], "recommend": ["history"]}[model.name]
        assert [sample.batch_size for sample in warmup] == ([1] * 8 + [config.max_batch_size] if expected else [])
        for sample in warmup:
            assert sorted(sample.inputs) == expected
            for tensor in sample.inputs.values():
                raw = (config.repository / model.name / "warmup" / tensor.input_data_file).read_bytes()
                if model.name == "student":
                    assert len(raw) == 4 * tensor.dims[0]
                else:
                    assert b"item-" in raw or raw == bytes(4)
    rollback(config.repository, None)
    assert list(config.repository.glob("*/warmup/*")) == []


def test_damaged_artefact_leaves_the_repository_alone(shop_run, config, tmp_path):
    versions(config.repository)
    before = content(config)
    artefact = tmp_path / "export"
    shutil.copytree(shop_run / "export", artefact)
    (artefact / "fp32" / "model.onnx").unlink()
    with pytest.raises(ManifestError, match="missing"):
        promote(artefact, config.repository, config, None)
    with pytest.raises(RepositoryError, match="expected an export"):
        promote(shop_run / "student", config.repository, config, None)
    assert content(config) - before == {"versions.json", "versions.lock"}
    assert states(versions(config.repository)) == {1: "serving"}


def test_version_that_cannot_be_staged_is_noted_and_removed(shop_run, config):
    def write(artefact, manifest, config, folder):
        write_student(artefact, manifest, config, folder)
        with (folder / "model.onnx").open("r+b") as file:
            file.truncate(100)

    with pytest.raises(PromotionError, match="another content than in"):
        promote(
            shop_run / "export",
            config.repository,
            config,
            None,
            models=[model._replace(write=write) if model.name == "student" else model for model in MODELS],
        )
    found = versions(config.repository)
    assert states(found) == {1: "serving", 2: "failed"}
    assert "another content" in found[-1].reason
    assert not {name for name in content(config) if "2" in name}


def test_interrupted_promotion_is_undone_and_its_number_not_used_again(shop_run, config):
    def interrupt(step):
        if "staged" in step:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        promote(shop_run / "export", config.repository, config, None, report=interrupt)
    assert states(versions(config.repository)) == {1: "serving", 2: "failed"}
    assert promote(shop_run / "export", config.repository, config, None).version == 3


@pytest.mark.parametrize("back", [False, True])
@pytest.mark.parametrize("moved", [0, 1, 2])
def test_pins_that_were_moved_in_part_are_moved_all(shop_run, config, monkeypatch, moved, back):
    """Killed after the pins of ``moved`` models."""
    if back:
        promote(shop_run / "export", config.repository, config, None)
    real = journals.pin
    monkeypatch.setattr(journals, "pin", lambda repository, models, version: real(repository, models[:moved], version))
    monkeypatch.setattr("distilrec.serving.rollout.promotion._finish", lambda *_: None)
    if back:
        rollback(config.repository, None)
    else:
        promote(shop_run / "export", config.repository, config, None)
    monkeypatch.undo()
    recover(config.repository)
    before, after = (
        ({1: "good", 2: "serving"}, {1: "serving", 2: "retired"})
        if back
        else ({1: "serving", 2: "failed"}, {1: "good", 2: "serving"})
    )
    assert states(versions(config.repository)) == (after if moved else before)
    assert len(served(config)) == 1
    assert recover(config.repository) is None


def test_second_promotion_at_once_is_refused(shop_run, config):
    with locked(config.repository), pytest.raises(RepositoryError, match="another promotion or rollback at work"):
        promote(shop_run / "export", config.repository, config, None)
    assert promote(shop_run / "export", config.repository, config, None).version == 2


def test_pins_that_differ_for_no_known_reason_are_refused(config):
    path = config.repository / "recommend" / "config.pbtxt"
    path.write_text(path.read_text().replace("versions: 1", "versions: 7"))
    with pytest.raises(RepositoryError, match=r"found versions \{'vocabulary': 1, 'student': 1, 'recommend': 7\} pinned"):
        versions(config.repository)


def test_journal_that_is_no_journal_is_said_plainly(config):
    (config.repository / "versions.json").write_text("{")
    with pytest.raises(RepositoryError, match=r"versions\.json: expected a journal of format version 1"):
        versions(config.repository)


def test_numbers_are_never_used_twice(tmp_path):
    (tmp_path / "student" / "4.partial").mkdir(parents=True)
    assert next_number(tmp_path) == 5
    (tmp_path / "student" / "6").mkdir()
    write_journal(tmp_path, Journal(versions=(entry(3, "good"),)))
    assert next_number(tmp_path) == 7
    write_journal(tmp_path, Journal(versions=(entry(9, "failed"),)))
    assert next_number(tmp_path) == 10


def test_an_export_after_promotions_takes_a_new_number(shop_run, config):
    promote(shop_run / "export", config.repository, config, None)
    rollback(config.repository, None)
    fill_repository(shop_run / "export", config)
    assert served(config) == {3}
    assert states(versions(config.repository)) == {1: "good", 2: "retired", 3: "serving"}
    assert rollback(config.repository, None).version == 1
    fill_repository(shop_run / "export", config)
    assert served(config) == {4}
    assert promote(shop_run / "export", config.repository, config, None).version == 5


def test_an_export_without_promotions_is_made_anew_under_its_number(shop_run, config):
    versions(config.repository)
    fill_repository(shop_run / "export", config)
    assert served(config) == {1}


def test_journal_follows_the_pin():
    journal = Journal(versions=(entry(1, "good"), entry(2, "serving"), entry(3, "staged")))
    assert states(reconcile(journal, 2, "v").versions) == {1: "good", 2: "serving", 3: "failed"}
    assert states(reconcile(journal, 3, "v").versions) == {1: "good", 2: "good", 3: "serving"}
    assert states(reconcile(journal, 1, "v").versions) == {1: "serving", 2: "good", 3: "failed"}
    back = journal.model_copy(update={"moving_to": 1})
    assert states(reconcile(back, 1, "v").versions) == {1: "serving", 2: "retired", 3: "failed"}
    assert reconcile(journal, 2, "other").find(2).vocabulary_sha256 == "other"


def test_version_without_model_py_is_never_loaded(tmp_path, shop_run):
    from distilrec.core.manifest import read_manifest

    with pytest.raises(RepositoryError, match=r"found no model\.py"):
        check_copy(shop_run / "export", read_manifest(shop_run / "export"), tmp_path)


def test_golden_answers_of_another_model_are_refused(shop_run, config, tmp_path):
    from distilrec.core.golden import Golden, load_golden
    from distilrec.core.manifest import read_manifest, record_files, write_manifest

    artefact = tmp_path / "export"
    shutil.copytree(shop_run / "export", artefact)
    golden = load_golden(artefact / "golden.npz")
    Golden(golden.history, golden.exclude, golden.items, golden.scores + 1).save(artefact / "golden.npz")
    write_manifest(artefact, read_manifest(artefact).model_copy(update={"files": record_files(artefact)}))
    with pytest.raises(ParityError, match="golden answers"):
        promote(artefact, config.repository, config, None)
