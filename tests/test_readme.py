"""The tables of README and docs are those of the recorded results, and all files that the documentation names exist."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.readme import DOCUMENTS, ROOT, TABLES, fill
from benchmarks.record import RESULTS, main_numbers, record, without_timings


def block(name: str, content: str = "old\n") -> str:
    return f"before\n<!-- results: {name} -->\n{content}<!-- end -->\nafter\n"


@pytest.fixture
def results(tmp_path):
    shutil.copytree(RESULTS, tmp_path / "results")
    return tmp_path / "results"


def test_documents_hold_what_is_recorded():
    texts = [path.read_text(encoding="utf-8") for path in DOCUMENTS]
    for text in texts:
        filled, _ = fill(text, RESULTS)
        assert filled == text, "fill it with: python -m benchmarks.readme"
    assert all(any(f"<!-- results: {name} -->" in text for text in texts) for name in TABLES)


def test_a_stranger_reads_the_readme_in_a_minute():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


@pytest.mark.parametrize("document", ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "OPERATIONS.md"])
def test_documentation_names_files_that_exist(document):
    root = ROOT
    folders = "|".join(path.name for path in root.iterdir() if path.is_dir() and path.name != "runs" and path.name[0] != ".")
    named = re.findall(rf"(?:`|\]\()((?:{folders})(?:/[\w.-]+)*/?)(?:`|\))", (root / document).read_text(encoding="utf-8"))
    assert named
    assert [name for name in named if not (root / name).exists()] == []


@pytest.mark.pipeline
def test_architecture_lists_the_declared_kinds():
    # In a process of its own, because other tests declare toys.
    listed = subprocess.run([sys.executable, "-m", "distilrec", "kinds"], capture_output=True, text=True, check=True).stdout
    assert listed in (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8"), "replace the table by: distilrec kinds"


def test_another_number_is_drift(results):
    path = results / "ml-100k" / "evaluation.json"
    content = json.loads(path.read_text())
    content["evaluation"]["everybody"]["estimates"]["student, distilled"]["ndcg@10"]["mean"] = 0.9876
    path.write_text(json.dumps(content))
    text = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    filled, _ = fill(text, results)
    assert filled != text
    assert "0.9876" in filled
    assert fill(filled, results)[0] == filled


def test_teachers_are_those_that_the_verdict_took(results):
    filled, _ = fill(block("distillation"), results)
    assert "| Online Retail: teacher (sequence) |" in filled  # the second one was left out
    assert "| Amazon Beauty: teacher (sequence + averages) |" in filled  # weights by hand


def test_several_seeds_are_said(results):
    path = results / "ml-100k" / "evaluation.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"seeds": [0, 1, 2]}))
    filled, _ = fill(block("distillation"), results)
    assert "MovieLens-100K: 943 test users, mean of 3 seeds" in filled


def test_what_is_not_recorded_stays(tmp_path):
    for name in TABLES:
        assert fill(block(name), tmp_path) == (block(name), [name])


def test_unknown_block_is_an_error(results):
    with pytest.raises(KeyError, match="nonsense"):
        fill(block("nonsense"), results)


def test_recorded_precisions_and_sizes_fill_their_tables(results, benchmark_content):
    measured = {"p50_ms": 0.1266, "size_bytes": 169687, "ndcg": 0.13716, "ndcg_loss": 0.0139}
    measured |= {"overlap_at_10": 0.98568, "overlap_at_100": 0.9947}
    precisions = {"int8": measured, "fp16": {"refused": "no"}, "fp32": measured | {"ndcg_loss": 0.0, "overlap_at_10": 1.0}}
    (results / "ml-100k" / "precisions.json").write_text(json.dumps({"precisions": precisions}))
    (results / "ml-100k" / "benchmark.json").write_text(json.dumps(benchmark_content("digest")))
    filled, left = fill(block("precisions") + block("catalogue-size"), results)
    assert left == []
    assert "| MovieLens-100K, INT8 | 0.1372 | 1.4 % | 0.9857 | 0.9947 | 169,687 | 0.127 |" in filled
    assert "| MovieLens-100K, FP32 | 0.1372 |  |  |  | 169,687 | 0.127 |" in filled
    assert "MovieLens-100K, FP16" not in filled
    assert "| 10,000 | 0.1 | 0.1 | 1.0x | 28 % of FP32 | 2.0x | 2.0x |" in filled


def test_timings_and_the_machines_name_are_not_kept(benchmark_content):
    content = benchmark_content("digest") | {"version": "5"}
    content["machine_info"] |= {"node": "a-name", "memory_bytes": 1, "system": "Linux", "threads": {}}
    for row in content["benchmarks"]:
        row["group"] = "g"
        row["stats"] = dict.fromkeys(("min", "median", "iqr", "rounds", "iterations"), 1) | {"data": [1.0] * 1000}
    kept = json.dumps(without_timings(content))
    assert "a-name" not in kept
    assert '"data"' not in kept
    assert json.loads(kept)["artefact"] == {"digest": "digest"}


@pytest.mark.usefixtures("evaluated_shop")
def test_main_numbers_are_those_of_the_evaluation():
    whole = json.loads(Path("runs/shop/evaluation/evaluation.json").read_text())
    kept = main_numbers(whole)
    everybody = whole["evaluation"]["everybody"]
    for model, values in kept["evaluation"]["everybody"]["estimates"].items():
        assert values == {metric: everybody["estimates"][model][metric] for metric in ("ndcg@10", "hr@10")}
    assert len(json.dumps(kept)) < len(json.dumps(whole)) / 10


@pytest.mark.usefixtures("evaluated_shop")
def test_a_run_is_recorded_as_far_as_it_was_measured(shop_config, tmp_path):
    folder = record(shop_config, tmp_path)
    assert folder == tmp_path / "shop"
    assert {path.name for path in folder.iterdir()} == {"evaluation.json", "evaluation.md", "precisions.json", "stages.json"}
    assert "fp32" in json.loads((folder / "precisions.json").read_text())["precisions"]


def test_ratios_are_taken_inside_one_run(results, benchmark_content):
    for run, factor in (("amazon-beauty", 1.0), ("ml-100k", 2.0)):
        content = benchmark_content("digest")
        for row in content["benchmarks"]:
            found = row["extra_info"]
            if found["suite"] == "model":
                found["p50_ms"] = factor * (3.0 if found["model"].startswith("teacher") else 0.1)
            if found["suite"] == "serving":
                found["p50_ms"] = factor * {"identity": 0.5, "student": 0.7}.get(found["model"], 1.0)
                found["requests_per_s"] = {"identity": 2000, "student": 1800}.get(found["model"], 100) / factor
        (results / run / "benchmark.json").write_text(json.dumps(content))
    filled, left = fill(block("speed") + block("serving"), results)
    assert left == []
    assert "| MovieLens-100K: teacher, PyTorch | 6 | 30x |" in filled
    assert "| Amazon Beauty: teacher, PyTorch | 3 | 30x |" in filled
    assert "| MovieLens-100K: student | 1.4 | 1.40x | 900 | 0.90x |" in filled
