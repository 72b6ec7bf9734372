"""Two more models in the repository, for benchmarks. Unlike the served models they need PyTorch."""

from dataclasses import replace
from pathlib import Path

from distill.models.encoders import Scorer
from distill.models.runner import TorchRunner
from distilrec.config import ExportConfig
from distilrec.core.files import write_text
from distilrec.core.filters import FilterValues
from distilrec.core.manifest import verify_manifest
from distilrec.core.specs import FIRST_VERSION, MODEL_FILE, MODEL_NAME, Precision
from distilrec.evaluation.parity import check_parity, edge_requests
from export.graph.onnx import export_onnx
from export.graph.onnx_runner import OnnxRunner
from export.repository.fill import IDENTITY_NAME, TEACHER_NAME, artefact_facts
from export.repository.targets.python import PYTHON
from export.repository.version_files import make_version, model_source


def fill_benchmark_models(teacher: Scorer | None, artefact: Path, config: ExportConfig) -> None:
    """Put two more models into the repository, for benchmarks: the teacher, and one with the same tensors that does no work.

    Args:
        teacher: Trained teacher in evaluation mode; None leaves it out.
        artefact: Folder of the student's export, whose sizes and vocabulary are the teacher's, too.
        config: Settings of the repository. These models are served by the target ``python``, whatever the student's is.

    Raises:
        ManifestError: The artefact is not what its manifest says.
        ParityError: The exported teacher answers otherwise than PyTorch.
    """
    manifest = verify_manifest(artefact)
    facts = artefact_facts(manifest)
    identity = (Path(__file__).parent / IDENTITY_NAME / "model.py").read_text(encoding="utf-8")
    sources = {IDENTITY_NAME: identity} | ({} if teacher is None else {TEACHER_NAME: model_source(MODEL_NAME)})
    for name, source in sources.items():
        folder = config.repository / name
        make_version(folder / str(FIRST_VERSION), {})
        write_text(folder / str(FIRST_VERSION) / "model.py", source)
        described = replace(facts, precision=Precision.FP32)
        if teacher is not None and name == TEACHER_NAME:
            spec = facts.spec.plain  # a teacher may have no vectors of items, and its speed is all that counts
            described = replace(described, spec=spec, filters=FilterValues({}))
            runner, path = TorchRunner(teacher, spec), folder / str(FIRST_VERSION) / MODEL_FILE
            export_onnx(runner.recommender, path, {"vocabulary_sha256": facts.vocabulary_sha256})
            check_parity(runner, OnnxRunner(path, spec), *edge_requests(spec))
        write_text(folder / "config.pbtxt", PYTHON.render(name, described, config, FIRST_VERSION))
