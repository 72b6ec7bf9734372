"""Which stages a run has, and teachers of several kinds on their way to one student."""

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from distill.models.runner import TorchRunner
from distill.models.teachers.load import load_ensemble
from distilrec.cli.app import app
from distilrec.config import Config, parse_config
from distilrec.core.errors import ConfigError
from distilrec.core.manifest import read_manifest
from distilrec.core.specs import RecommenderSpec
from distilrec.data.dataset import held_out
from distilrec.data.stage import load
from distilrec.evaluation.ranking import ranking_metrics, recommend_all
from distilrec.pipeline.finished import mixture_weights
from distilrec.pipeline.folders import run_dir, teacher_folders
from distilrec.pipeline.stages import run_stage, stages
from distilrec.tuning.preset import write_preset

SEVERAL = """
name = "several"
[data]
source = "ml-100k"
[teachers.big]
kind = "sequence"
[teachers.linear]
kind = "ease"
[teachers.middle]
kind = "assistant"
taught_by = ["big", "linear"]
"""


def parse(text: str) -> Config:
    return parse_config(text, where="x.toml", folder=Path())


def test_a_student_learns_from_the_teachers_that_no_assistant_learns_from():
    graph = stages(parse(SEVERAL))
    assert list(graph)[:10] == [
        "data",
        "text",
        "teacher-big",
        "targets-big",
        "teacher-linear",
        "targets-linear",
        "targets-big+linear",
        "teacher-middle",
        "targets-middle",
        "student-undistilled",
    ]
    assert graph["teacher-middle"].inputs["targets"] == "targets-big+linear"
    assert graph["student"].inputs["targets"] == "targets-middle"
    assert "targets" not in graph["student-undistilled"].inputs


def test_weights_choose_and_mix_the_teachers():
    config = parse(SEVERAL + "[targets]\nweights = { big = 2.0, middle = 1.0 }\n")
    graph = stages(config)
    assert graph["student"].inputs["targets"] == "targets-2xbig+middle"
    assert graph["targets-2xbig+middle"].inputs == {"data": "data", "big": "targets-big", "middle": "targets-middle"}
    assert graph["targets-2xbig+middle"].options == {"weights": {"big": 2.0, "middle": 1.0}}


def test_the_same_teachers_mixed_otherwise_are_another_cache():
    graph = stages(parse(SEVERAL + "[targets]\nweights = { big = 2.0, linear = 1.0 }\n"))
    assert graph["teacher-middle"].inputs["targets"] == "targets-big+linear"
    assert graph["targets-big+linear"].options == {"weights": {"big": 1.0, "linear": 1.0}}
    assert graph["student"].inputs["targets"] == "targets-2xbig+linear"
    assert graph["targets-2xbig+linear"].options == {"weights": {"big": 2.0, "linear": 1.0}}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("[targets]\nweights = { huge = 1.0 }\n", r"targets.weights: found 'huge', expected names of teachers"),
        (
            '[teachers.first]\nkind = "assistant"\ntaught_by = ["last"]\n',
            "teachers.first.taught_by: found 'last', expected teachers",
        ),
        ("[targets]\ntemperatures = [2.0, 4.0]\n", r"temperatures must rise and hold 1\.0"),
        ("[student.distillation]\ntemperature = 8.0\n", r"student.distillation.temperature: found 8.0, expected one within"),
        ("[student.distillation]\nhint = 1.0\n", r"found losses on user vectors \(hint\); they need targets\.features = true"),
        (
            "[targets]\nfeatures = true\n[student.distillation]\nrelation = 1.0\n[teachers.e]\nkind = 'ease'\n",
            r"losses on user vectors \(relation\)",
        ),
    ],
)
def test_teaching_that_cannot_be(settings, message):
    with pytest.raises(ConfigError, match=message):
        parse('name = "x"\n[data]\nsource = "ml-100k"\n' + settings)


@pytest.fixture(scope="module")
def several(shop_config, tmp_path_factory) -> Config:
    """A linear teacher, and an assistant that learned from another one, mixed; every stage up to the student is run."""
    small = shop_config.student.model_dump() | {"epochs": 2}
    settings = shop_config.model_dump() | {
        "name": "several",
        "teachers": {
            "linear": {"kind": "ease", "l2": 20.0, "decay": 0.8},
            "other": {"kind": "ease", "l2": 200.0, "decay": 0.5},
            "assistant": {"kind": "assistant", "student": small | {"embedding_size": 16}, "taught_by": ["linear"]},
        },
        "targets": {"top_n": 20, "perturbed_copies": 1},
        "student": small | {"distillation": {"hard": 0.2, "soft": 0.8, "ranking": 0.1}},
    }
    config = Config.model_validate(settings)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("several"))
        for stage in list(stages(config))[: list(stages(config)).index("student") + 1]:
            run_stage(config, stage)
        yield config


@pytest.mark.pipeline
def test_every_learner_names_what_it_learned_from(several):
    folder = run_dir(several)
    caches = ("targets-linear", "targets-other", "targets-assistant", "mixed-targets")
    digest = {stage: read_manifest(folder / stage).digest for stage in caches}
    assert read_manifest(folder / "teacher-assistant").inputs["targets"] == digest["targets-linear"]
    mixed = read_manifest(folder / "mixed-targets")
    assert (mixed.inputs["other"], mixed.inputs["assistant"]) == (digest["targets-other"], digest["targets-assistant"])
    assert mixed.inputs["verdict"] == read_manifest(folder / "teachers-verdict").digest
    assert read_manifest(folder / "student").inputs["targets"] == digest["mixed-targets"]
    assert mixed.metrics["gb_a_million_prefixes"] > 0


@pytest.mark.pipeline
def test_teachers_are_judged_against_the_student_alone_before_it_learns(several):
    found = read_manifest(run_dir(several) / "teachers-verdict").metrics
    assert set(found["ndcg@10"]) == {"other", "assistant"}
    assert found["weights"] == mixture_weights(several)
    assert set(found["weights"]) | set(found["left_out"]) == {"other", "assistant"}
    assert found["mixture_ndcg@10"] >= max(found["ndcg@10"].values()) - 0.02
    assert found["difference"][0] == pytest.approx(found["mixture_ndcg@10"] - found["undistilled_ndcg@10"])
    assert f"the student alone {found['undistilled_ndcg@10']:.4f}" in found["reason"]


@pytest.mark.pipeline
def test_the_ensemble_is_evaluated_as_any_other_model(several):
    dataset, vocabulary = load(run_dir(several) / "data")
    spec = RecommenderSpec(len(vocabulary), several.history_length, 16, 10)
    users = held_out(dataset, "validation", spec)
    teacher = load_ensemble(several, mixture_weights(several), teacher_folders(several), len(vocabulary))
    items, _ = recommend_all(TorchRunner(teacher, spec), users, 64, "ensemble")
    assert ranking_metrics(items, users)["ndcg@10"] > 0.08  # a random list has about 0.05
    assert not np.isin(items, 0).any()
    parts = [read_manifest(teacher_folders(several)[name]).metrics["parameters"] for name in mixture_weights(several)]
    assert teacher.parameter_count() == sum(parts)


@pytest.mark.pipeline
def test_the_command_targets_makes_all_that_the_mixture_needs(several, tmp_path):
    write_preset(tmp_path / "several.toml", several, "")
    result = CliRunner().invoke(app, ["targets", "--preset", str(tmp_path / "several.toml")], catch_exceptions=False)
    made = [line.split()[0].rpartition("/")[2].rstrip(":") for line in result.stdout.splitlines() if "runs/several/" in line]
    assert result.exit_code == 0, result.output
    assert {"targets-other", "targets-assistant", "student-undistilled", "teachers-verdict", "mixed-targets"} <= set(made)
    assert "student" not in made
