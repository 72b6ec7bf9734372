"""What importing costs: the client and the command line stay light."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "transformers", "lightning", "polars", "onnxruntime", "onnx")


def loaded_by(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*{{name.split('.')[0] for name in sys.modules}})"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(result.stdout.split())


@pytest.mark.parametrize(
    "statement",
    [
        "import distilrec",
        "import clients",
        "import distilrec.cli.app",
        "import distilrec.evaluation.model_card, distilrec.core.stage, distilrec.pipeline.evaluate",
        "import distilrec.serving.serve",
        "import distilrec.loadtest.run",
        "import distilrec.config; distilrec.config.ExportConfig(target='tensorrt')",
    ],
)
def test_nothing_heavy_is_loaded(statement):
    assert not loaded_by(statement) & set(HEAVY)


def test_the_client_needs_nothing_of_the_training():
    assert not loaded_by("import clients, distilrec.loadtest.run") & {"distill", "export", "tqdm", "safetensors"}


def test_promotion_runs_where_there_is_no_pytorch():
    """In the serving image: ONNX proves a model there, nothing of the training does."""
    assert not loaded_by("import distilrec.serving.rollout.promotion") & {
        "torch",
        "transformers",
        "lightning",
        "polars",
        "tqdm",
        "distill",
    }


def test_a_kind_loads_only_what_it_needs_itself():
    loaded = loaded_by("from distilrec.config import StudentConfig; StudentConfig.of_kind('gru')")
    assert "torch" in loaded
    assert not loaded & {"transformers", "lightning", "polars"}
