"""A new kind of student, loss or serving target needs one declaration: those below go all the way without another line."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import pytest
import torch
from torch import nn

from distill.losses._base import LogitLoss
from distill.models.students._base import Student
from distill.models.students.build import load_student
from distilrec.config import Config, LossConfig, StudentConfig, parse_config
from distilrec.config.export import SERVING_TARGETS
from distilrec.config.section import Positive
from distilrec.core.errors import ConfigError, RepositoryError
from distilrec.core.manifest import read_manifest
from distilrec.core.specs import Precision
from distilrec.pipeline.folders import run_dir
from distilrec.pipeline.stages import fill_repository, run_stage
from distilrec.tuning.space import check_space, with_drawn
from export.artefact import model_path
from export.repository.config import config_text, recommender_config, run_on_cpu
from export.repository.target import ServingTarget


class Declared(NamedTuple):
    student: type[StudentConfig]
    loss: type[LossConfig]


@pytest.fixture(scope="module")
def declared() -> Iterator[Declared]:
    """The declarations; they are taken back afterwards, because other tests list all kinds and losses."""
    with pytest.MonkeyPatch.context() as patch:
        for registry in (StudentConfig.kinds, LossConfig.declared, SERVING_TARGETS):
            patch.setattr(registry, "_declared", {name: registry[name] for name in registry})

        class LastItemStudentConfig(StudentConfig):
            kind: Literal["last_item"] = "last_item"
            width: Positive = 4

            def build(self, items, history_length):  # noqa: ARG002
                return LastItemStudent(items, self.width)

        class LastItemStudent(Student):
            def __init__(self, items, width):
                super().__init__(items)
                self.net = nn.Sequential(nn.Linear(items.embedding_size, width), nn.GELU(), nn.Linear(width, items.embedding_size))

            def encode_all(self, history):
                vectors = self.items.embed(history)
                return vectors + self.net(vectors)

            def _encode_last(self, history, mask):
                positions = torch.arange(1, history.shape[1] + 1)
                newest = (mask * positions).argmax(dim=1, keepdim=True)
                return self.encode_all(history.gather(1, newest))[:, 0]

        class BestItemLoss(LogitLoss):
            """Cross-entropy with the teacher's best item."""

            name = "best_item"
            smoothing: float = 0.0

            def values(self, student, teacher, state):  # noqa: ARG002
                every = torch.cat([student.top, student.rest[:, None]], dim=1)
                best = torch.zeros(len(every), dtype=torch.int64)
                return nn.functional.cross_entropy(every, best, reduction="none", label_smoothing=self.smoothing)

        SERVING_TARGETS.declare("toy-graph", ServingTarget(render, write, check, front_door_runs_graph=False))
        yield Declared(LastItemStudentConfig, BestItemLoss)


def render(name, facts, config, version):
    model = recommender_config(name, facts, config, version)
    model.backend = "toy"
    return config_text(model, run_on_cpu(model, config))


def write(artefact, manifest, folder):
    (folder / "model.toy").write_bytes(model_path(artefact, Precision(manifest.metrics["precision"])).read_bytes())


def check(config_path, version_folder):
    if not (version_folder / "model.toy").is_file():
        raise RepositoryError(f"{config_path}: found no model.toy")


def parse(shop_config: Config, student: str, rest: str = "") -> Config:
    data = shop_config.data
    text = f"""
    name = "declared"
    history_length = 12
    [data]
    interactions = "{data.interactions}"
    items = "{data.items}"
    split = "leave_one_out"
    k_core = 2
    [text]
    use = "off"
    [teachers.linear]
    kind = "ease"
    [targets]
    top_n = 20
    [export]
    exclude_length = 16
    top_k = 20
    target = "toy-graph"
    engines = "off"
    [student]
    embedding_size = 8
    epochs = 2
    batch_size = 64
    learning_rate = 0.01
    {student}
    {rest}
    """
    return parse_config(text, where="shop.toml", folder=Path())


DISTILLATION = "distillation = { hard = 0.2, soft = 0.3, best_item = { weight = 0.5, smoothing = 0.1 } }"


@pytest.fixture(scope="module")
def trained(declared, shop_config, tmp_path_factory) -> Iterator[Config]:  # noqa: ARG001
    config = parse(shop_config, f'kind = "last_item"\nwidth = 6\n{DISTILLATION}')
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("declared"))
        for stage in ("data", "text", "teacher-linear", "targets-linear", "student"):
            run_stage(config, stage)
        yield config


def test_settings_read_the_declarations(declared, shop_config):
    student = parse(shop_config, f'kind = "last_item"\nwidth = 6\n{DISTILLATION}').student
    assert isinstance(student, declared.student)
    assert (student.width, student.embedding_size) == (6, 8)
    loss = student.distillation.losses["best_item"]
    assert isinstance(loss, declared.loss)
    assert (loss.weight, loss.smoothing) == (0.5, 0.1)
    assert StudentConfig.model_validate(student.model_dump()) == student


@pytest.mark.usefixtures("declared")
@pytest.mark.parametrize(
    ("student", "message"),
    [
        ("width = 6", r"student\.width: is not read by kind 'mlp', only by last_item"),
        ('kind = "last_item"\ndepth = 2', r"student\.depth: is not read by kind 'last_item', only by gru, residual, transformer"),
        ('kind = "first_item"', r"expected one of gru, last_item, mlp, residual, transformer"),
        (
            "distillation = { worst_item = 1.0 }",
            r"student\.distillation\.worst_item: found the loss 'worst_item', expected one of best_item",
        ),
        (
            "distillation = { best_item = { smoothing = 'x' } }",
            r"student\.distillation\.best_item\.smoothing: Input should be a valid number",
        ),
    ],
)
def test_faults_read_the_declarations(shop_config, student, message):
    with pytest.raises(ConfigError, match=message):
        parse(shop_config, student)


@pytest.mark.usefixtures("declared")
def test_the_search_reads_the_declarations(shop_config):
    config = parse(shop_config, "", "[tune]\nembedding_size = [4, 8]")
    assert "last_item" in config.tune.kind
    assert "best_item" in config.tune.losses
    check_space(config)
    drawn = {"kind": "last_item", "embedding_size": 4, "dropout": 0.2, "learning_rate": 0.01, "soft": 0.5, "temperature": 1.0}
    student = with_drawn(config, drawn | {"confidence": False, "loss_best_item": 0.1}).student
    assert (student.kind, student.embedding_size) == ("last_item", 4)
    assert student.distillation.losses["best_item"].weight == 0.1


def test_the_student_is_trained_by_the_loss_and_survives_saving(trained):
    manifest = read_manifest(run_dir(trained) / "student")
    assert manifest.settings["width"] == 6
    assert manifest.settings["distillation"]["best_item"] == {"weight": 0.5, "smoothing": 0.1}
    assert manifest.metrics["validation_ndcg@10"] > 0.05  # 90 items in 6 genres; a random list has about 0.05
    logs = next((run_dir(trained) / "logs/student").glob("*/metrics.csv")).read_text()
    assert "best_item" in logs.splitlines()[0].split(",")
    student = load_student(trained, run_dir(trained) / "student", 90)
    assert student.parameter_count() == manifest.metrics["parameters"]


@pytest.mark.pipeline
def test_the_student_is_exported_judged_and_put_into_the_repository_of_the_target(trained):
    for stage in ("student-undistilled", "student-verdict"):
        run_stage(trained, stage)
    exported = run_stage(trained, "export")
    assert exported.metrics["parity_rows"] > 0
    report = json.loads((run_dir(trained) / "export" / "report.json").read_text())
    assert set(report["precisions"]) == {"fp32", "fp16", "int8"}
    assert "ships" in report["verdict"]["reason"]
    fill_repository(trained)
    folder = trained.export.repository / "student"
    graph = model_path(run_dir(trained) / "export", Precision(exported.metrics["precision"]))
    assert (folder / "1" / "model.toy").read_bytes() == graph.read_bytes()
    assert 'backend: "toy"' in (folder / "config.pbtxt").read_text()
