"""A teacher that learned from shuffled users harms its student: the student that was trained alone is exported, and it says why."""

import dataclasses
import json
from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
import pytest
from typer.testing import CliRunner

from distill.models.teachers.ease import EaseTeacherConfig
from distilrec.cli.app import app
from distilrec.config import Config, TeacherConfig, with_export_settings
from distilrec.core.errors import ManifestError
from distilrec.core.manifest import read_manifest, write_manifest
from distilrec.pipeline.finished import mixture_weights, shipped_student
from distilrec.pipeline.folders import run_dir
from distilrec.pipeline.models import model_folders
from distilrec.pipeline.stages import run_all, run_stage
from distilrec.tuning.preset import write_preset

pytestmark = pytest.mark.pipeline

WORSE = "the distilled student ranks clearly worse"


class Harmed(NamedTuple):
    config: Config
    output: str


@pytest.fixture(scope="module")
def harmed(shop_config, tmp_path_factory) -> Iterator[Harmed]:
    """``distilrec run`` with the bad teacher, whose kind is taken back afterwards, because other tests list all kinds."""
    kinds = TeacherConfig.kinds
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kinds, "_declared", {name: kinds[name] for name in kinds})

        class ShuffledTeacherConfig(EaseTeacherConfig):
            """EASE on interactions that are dealt out to the users at random."""

            kind: Literal["shuffled"] = "shuffled"

            def solve(self, dataset):
                shuffled = np.random.default_rng(0).permutation(dataset.items)
                return super().solve(dataclasses.replace(dataset, items=shuffled))

        folder = tmp_path_factory.mktemp("harmed")
        patch.chdir(folder)
        changes = {
            "name": "harmed",
            "text": {"use": "off"},
            "teachers": {"bad": {"kind": "shuffled", "l2": 5.0}},
            "student": shop_config.student.model_dump() | {"distillation": {"hard": 0.0, "soft": 1.0}},
            "qad": {"use": "off", "epochs": 1, "batch_size": 64},
            "export": {
                **shop_config.export.model_dump(),
                "student": "auto",
                "engines": "off",
                "repository": folder / "triton_repo",
            },
        }
        config = Config.model_validate(shop_config.model_dump() | changes)
        write_preset(folder / "harmed.toml", with_export_settings(config, {"student": "distilled"}), "")
        command = ["run", "--preset", "harmed.toml", "--student", "auto"]
        yield Harmed(config, CliRunner().invoke(app, command, catch_exceptions=False).stdout)


def test_the_undistilled_student_ships_and_the_sentence_says_why(harmed):
    folder = run_dir(harmed.config)
    verdict = read_manifest(folder / "student-verdict").metrics
    assert verdict["ndcg@10"]["distilled"] < verdict["ndcg@10"]["undistilled"]
    assert verdict["difference"]["high"] < 0
    assert (verdict["ships"], verdict["ranks_worse"]) == ("undistilled", False)
    assert verdict["reason"].startswith(
        "the undistilled student (the same model, trained without a teacher) ships; not the distilled"
    )
    assert WORSE in verdict["reason"]
    assert f"student: {verdict['reason']}\n" in harmed.output
    undistilled, exported = read_manifest(folder / "student-undistilled"), read_manifest(folder / "export")
    assert exported.inputs["student"] == undistilled.digest
    report = json.loads((folder / "export" / "report.json").read_text())
    assert report["student"] == {name: verdict[name] for name in ("ships", "ranks_worse", "reason")}
    assert report["precisions"]["fp32"]["ndcg"] == pytest.approx(verdict["ndcg@10"]["undistilled"], abs=1e-6)
    assert folder / "student-verdict" in model_folders(harmed.config)


def test_training_for_int8_starts_from_the_student_that_ships(harmed):
    manifest = run_stage(harmed.config, "student-qad")
    assert manifest.inputs["student"] == read_manifest(shipped_student(harmed.config)).digest
    assert "(which learned without a teacher)" in (run_dir(harmed.config) / "student-qad" / "README.md").read_text()


def test_another_loser_costs_no_export(harmed):
    path = run_dir(harmed.config) / "export" / "manifest.json"
    before, figures = path.read_bytes(), read_manifest(run_dir(harmed.config) / "student-verdict").metrics["ndcg@10"]
    student = harmed.config.student.model_dump() | {"distillation": {"hard": 0.1, "soft": 0.9}}
    other = Config.model_validate(harmed.config.model_dump() | {"student": student})
    run_all(other, serve=False)
    assert read_manifest(run_dir(other) / "student-verdict").metrics["ndcg@10"]["distilled"] != figures["distilled"]
    assert path.read_bytes() == before


def test_a_harmed_student_ships_only_by_force_and_with_a_warning(harmed):
    forced = with_export_settings(harmed.config, {"student": "distilled"})
    verdict = run_stage(forced, "student-verdict").metrics
    assert (verdict["ships"], verdict["ranks_worse"]) == ("distilled", True)
    assert verdict["reason"].startswith("WARNING, the student that ranks worse ships: the distilled student ships")
    assert shipped_student(forced).name == "student"


def test_a_student_trained_since_is_not_taken_unseen(harmed):
    folder = run_dir(harmed.config) / "student"
    manifest = read_manifest(folder)
    write_manifest(folder, manifest.model_copy(update={"seed": 1}))
    with pytest.raises(ManifestError, match=r"verdict on another student than the one in runs/harmed/student, expected"):
        run_stage(harmed.config, "student-qad")
    write_manifest(folder, manifest)


def test_in_a_mixture_the_bad_teacher_is_left_out(harmed):
    teachers = {"good": {"kind": "ease", "l2": 5.0}, "bad": {"kind": "shuffled", "l2": 5.0}}
    config = Config.model_validate(harmed.config.model_dump() | {"name": "mixed", "teachers": teachers})
    for stage in ("data", "text", "teacher-good", "teacher-bad", "student-undistilled"):
        run_stage(config, stage)
    verdict = run_stage(config, "teachers-verdict").metrics
    assert list(verdict["weights"]) == ["good"] == list(mixture_weights(config))
    assert "bad is left out, because the others rank no worse without it" in verdict["reason"]
    assert verdict["ndcg@10"]["bad"] < verdict["ndcg@10"]["good"] == pytest.approx(verdict["mixture_ndcg@10"])


def test_a_bad_teacher_alone_is_named_before_anybody_learns_from_it(harmed):
    verdict = read_manifest(run_dir(harmed.config) / "teachers-verdict").metrics
    assert verdict["difference"][2] < 0
    assert "no mixture of the teachers ranks better than the student alone" in verdict["reason"]
