"""`distilrec evaluate` and the model cards on the tiny shop: their figures are those of the models."""

import json
import re
import shutil
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from typer.testing import CliRunner

from distilrec.cli.app import app
from distilrec.config import spec_of_run, with_seed
from distilrec.core.errors import ManifestError
from distilrec.core.manifest import read_manifest, verify_manifest
from distilrec.data.dataset import held_out
from distilrec.data.stage import load
from distilrec.evaluation.ranking import ranking_metrics, recommend_all
from distilrec.pipeline.evaluate import evaluate
from distilrec.pipeline.models import load_models
from distilrec.tuning.preset import write_preset

MODELS = [
    "teacher (PyTorch)",
    "student, no teacher",
    "student, distilled",
    *(f"student, ONNX {p}" for p in ("FP32", "FP16", "INT8")),
]


@pytest.fixture(scope="module")
def _in_work_dir(shop_run):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(shop_run.parent.parent)
        yield


@pytest.fixture(scope="module")
def report(_in_work_dir, shop_config):
    folder = evaluate(shop_config, "test")
    assert folder.as_posix() == "runs/shop/evaluation"
    verify_manifest(folder)
    return json.loads((folder / "evaluation.json").read_text()), (folder / "evaluation.md").read_text()


def test_figures_are_those_of_the_models(report, shop_run, shop_config):
    found, _ = report
    dataset, vocabulary = load(shop_run / "data")
    spec = spec_of_run(shop_config, len(vocabulary))
    users = held_out(dataset, "test", spec)
    estimates = found["evaluation"]["everybody"]["estimates"]
    assert list(estimates) == MODELS
    for model in load_models(shop_config, spec, users):
        items, _ = recommend_all(model.runner, users, 32, model.name)
        for name, mean in ranking_metrics(items, users, (5, 10, 20)).items():
            assert estimates[model.name][name]["mean"] == pytest.approx(mean, abs=1e-12)
    gain = found["evaluation"]["everybody"]["differences"]["student, no teacher"]["student, distilled"]["ndcg@10"]
    means = [estimates[name]["ndcg@10"]["mean"] for name in ("student, distilled", "student, no teacher")]
    assert gain["mean"] == pytest.approx(means[0] - means[1])
    assert gain["low"] <= gain["mean"] <= gain["high"]


def test_slices_are_those_of_popularity_history_and_attributes(report):
    slices = report[0]["evaluation"]["slices"]
    assert {"head", "tail", "short history", "long history", "plan: free", "plan: paid"} < set(slices)
    assert len([name for name in slices if name.startswith("age: ")]) == 4
    for kind in (("head", "tail"), ("plan: free", "plan: paid")):
        assert sum(slices[name]["users"] for name in kind) == report[0]["evaluation"]["everybody"]["users"]


def test_regressions_are_the_slices_that_lost(report):
    found, text = report
    slices = found["evaluation"]["slices"]
    differences = {n: s["differences"]["student, no teacher"]["student, distilled"]["ndcg@10"]["mean"] for n, s in slices.items()}
    assert {one["slice"] for one in found["harm"]} == {name for name, mean in differences.items() if mean < 0}
    section = text.split("## Regressions by distillation\n\n")[1]
    assert f"of {len(slices)} slices lost" in section or f"None of the {len(slices)} slices lost" in section
    assert "cannot be ruled out" in section


def test_report_reads_well(report, tmp_path):
    _, text = report
    assert text.startswith("# Evaluation of shop on its test split\n\nFull ranking of the whole catalogue for 2")
    titles = [line for line in text.splitlines() if line.startswith("#")][1:]
    assert titles == [
        f"## {t}" for t in ("All users", "What was kept and what was gained", "Catalogue", "Slices", "Regressions by distillation")
    ]
    tables = [block for block in text.split("\n\n") if block.startswith("|")]
    assert all(len({line.count("|") for line in block.splitlines()}) == 1 for block in tables)
    assert "\n\nStudent: WARNING, the student that ranks worse ships: the distilled student ships" in text
    assert "nan" not in text
    assert str(tmp_path.parent) not in text


@pytest.mark.usefixtures("_in_work_dir")
def test_command_prints_the_report_or_json(report, shop_config, tmp_path):
    preset = str(tmp_path / "shop.toml")
    write_preset(Path(preset), shop_config, "")
    plain = CliRunner().invoke(app, ["evaluate", "--preset", preset])
    assert plain.exit_code == 0, plain.output
    assert plain.stdout == f"{report[1]}\nevaluation: runs/shop/evaluation\n"
    as_json = CliRunner().invoke(app, ["evaluate", "--preset", preset, "--json", "--seed", "0"])
    assert json.loads(as_json.stdout) == report[0]


@pytest.mark.usefixtures("report")
def test_unchanged_run_is_not_evaluated_again_and_a_damaged_one_is_refused(shop_run, shop_config):
    path = shop_run / "evaluation" / "evaluation.md"
    before = path.stat().st_mtime_ns
    evaluate(shop_config, "test")
    assert path.stat().st_mtime_ns == before
    weights = shop_run / "student" / "weights.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    try:
        with pytest.raises(ManifestError, match="is not what its manifest says"):
            evaluate(shop_config, "test")
    finally:
        weights.write_bytes(content)


@pytest.mark.usefixtures("report")
def test_validation_has_a_folder_of_its_own(shop_config, shop_run):
    folder = evaluate(shop_config, "validation")
    found = json.loads((folder / "evaluation.json").read_text())
    stated = read_manifest(shop_run / "student").metrics["validation_ndcg@10"]
    assert found["evaluation"]["everybody"]["estimates"]["student, distilled"]["ndcg@10"]["mean"] == pytest.approx(stated, abs=1e-3)
    assert (shop_run / "evaluation").exists()


def test_seeds_are_averaged_over_runs_of_the_same_data(report, shop_run, shop_config):
    other = shop_run.with_name("shop-seed5")
    shutil.copytree(shop_run, other, ignore=shutil.ignore_patterns("evaluation*"))
    # Another seed of the distilled student: here simply the undistilled one.
    shutil.rmtree(other / "student")
    shutil.copytree(other / "student-undistilled", other / "student")
    try:
        with_two = json.loads((evaluate(shop_config, "test", [0, 5]) / "evaluation.json").read_text())
        means = [
            report[0]["evaluation"]["everybody"]["estimates"][f"student, {n}"]["hr@10"]["mean"] for n in ("distilled", "no teacher")
        ]
        averaged = with_two["evaluation"]["everybody"]["estimates"]["student, distilled"]["hr@10"]
        assert with_two["seeds"] == [0, 5]
        assert averaged["seeds"] == pytest.approx(means)
        assert averaged["mean"] == pytest.approx(sum(means) / 2)
        text = (shop_run / "evaluation" / "evaluation.md").read_text()
        assert "Means over the seeds 0, 5" in text
        assert "standard deviation" in text

        (other / "data" / "test_start.npy").write_bytes((other / "data" / "validation_start.npy").read_bytes())
        manifest = read_manifest(other / "data")
        changed = manifest.files | {"test_start.npy": manifest.files["validation_start.npy"]}
        (other / "data" / "manifest.json").write_text(manifest.model_copy(update={"files": changed}).model_dump_json())
        with pytest.raises(ManifestError, match="found other data than in"):
            evaluate(shop_config, "test", [0, 5])
    finally:
        shutil.rmtree(other)
        evaluate(shop_config, "test")


@pytest.mark.usefixtures("_in_work_dir")
def test_a_seed_that_was_not_run_says_so(shop_config):
    assert with_seed(shop_config, 9).name == "shop-seed9"
    with pytest.raises(ManifestError, match=r"runs/shop-seed9/.*: found no manifest\.json"):
        evaluate(shop_config, "test", [0, 9])


ROUNDING = {"student-qad": 5e-3}
"""Its training validates as INT8 rounds; the card is of the FP32 weights."""


@pytest.mark.parametrize("stage", ["teacher-sequence", "student", "student-undistilled", "student-qad"])
def test_model_card_is_one_of_hugging_face(stage, shop_run):
    folder = shop_run / stage
    manifest = read_manifest(folder)
    assert set(manifest.files) == {"README.md", "content.safetensors", "weights.safetensors"}
    card = ModelCard.load(folder / "README.md")
    assert (card.data.library_name, card.data.license) == ("distilrec", "other")
    results = {result.metric_type: result for result in card.data.eval_results}
    assert set(results) == {f"{name}@{k}" for name in ("ndcg", "hr", "mrr") for k in (5, 10, 20)}
    assert {result.dataset_split for result in results.values()} == {"validation"}
    assert results["ndcg@10"].metric_value == pytest.approx(manifest.metrics["validation_ndcg@10"], abs=ROUNDING.get(stage, 1e-3))
    for title in ("Data", "Settings", "Metrics", "Slices", "Limits"):
        assert f"\n## {title}\n" in card.text
    assert all(f"| `{name}` |" in card.text for name in manifest.settings)
    named = re.findall(r"`(distilrec/[^`]*)`", card.text)
    assert named
    assert all((Path(__file__).parents[3] / path).exists() for path in named), named
    assert "| head | " in card.text
    assert "| plan: paid | " in card.text
    assert "/" + shop_run.parts[1] not in card.content.replace("https://", "")
