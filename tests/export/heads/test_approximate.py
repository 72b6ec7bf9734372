"""The approximate head: exact where it reads every list, within the contract where it reads few, and it grows without training."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from distill.models.item_table import ItemTable
from distill.models.runner import TorchRunner
from distill.models.students.gru import GruStudent
from distill.models.students.mlp import MlpStudent
from distill.models.students.transformer import TransformerStudent
from distilrec.core import specs
from distilrec.core.errors import ParityError
from distilrec.core.specs import MASKED_SCORE, RecommenderSpec
from distilrec.data.item_filters import build_filters
from distilrec.evaluation.contract import check_contract
from distilrec.evaluation.parity import SCORE_TOLERANCE, check_parity, compare, draw_choices, edge_requests
from export import artefact
from export.heads import approximate, build, head_files
from export.heads.made_of import HeadInput
from export.heads.runner import ApproximateRunner

ITEMS, WIDTH = 1203, 16
SPEC = RecommenderSpec(ITEMS, 6, 8, top_k=60, filter_length=4, allow_length=30, repeats=True, similar=True)
RETIRED = (3, 77, 1200)


def student_of(kind=MlpStudent, items=ITEMS, rank=None):
    """A student whose table holds what INT8 holds, in clusters as a trained one."""
    torch.manual_seed(0)
    table = ItemTable(items, WIDTH, rank=rank)
    student = {
        MlpStudent: lambda: MlpStudent(table, 6, 24, (0.5, 0.9), 0.0),
        GruStudent: lambda: GruStudent(table, hidden_size=12, depth=1, dropout=0.0),
        TransformerStudent: lambda: TransformerStudent(table, 6, hidden_size=24, depth=2, heads=2, dropout=0.0),
    }[kind]().eval()
    rows = torch.randn(30, table.learned.shape[1])[torch.arange(len(table.learned)) % 30] + 0.5 * torch.randn_like(table.learned)
    codes, scales = build.quantize_rows(rows.numpy())
    table.learned.data = torch.from_numpy(codes * scales[:, None])
    return student


def filters_of(items=ITEMS):
    colours = [[] if item % 3 == 0 else [f"colour {item % 4}"] for item in range(items)]
    return build_filters(
        {"genre": [["rare"] if item % 100 == 7 else [f"genre {item % 5}"] for item in range(items)], "colour": colours}
    )


def write_head(folder, student, spec=SPEC, filters=None, retired=RETIRED, lists=24):
    folder.mkdir(parents=True)
    build.write_student(HeadInput(student, spec, "abc", filters, retired), folder)
    users = np.random.default_rng(0).integers(1, spec.item_count + 1, (300, spec.history_length), dtype=np.int32)
    with torch.no_grad():
        vectors = student.items.in_factor_space(student.encode_last(torch.from_numpy(users).long())).numpy()
    build.write_index(folder, vectors, np.ones(spec.item_count + 1, np.int64), lists, seed=0)
    build.set_search(folder, probes=lists, depth=spec.item_count)
    return folder


def requests(spec=SPEC, rows=120, values=9):
    random = np.random.default_rng(3)
    history = random.integers(-2, spec.item_count + 3, (rows, spec.history_length), dtype=np.int32)
    exclude = random.integers(0, spec.item_count + 1, (rows, spec.exclude_length), dtype=np.int32)
    edges = edge_requests(spec)
    history, exclude = np.concatenate([edges[0], history]), np.concatenate([edges[1], exclude])
    return history, exclude, draw_choices(spec, values, len(history))


@pytest.fixture(scope="module")
def head(tmp_path_factory):
    return write_head(tmp_path_factory.mktemp("head") / "head", student_of(), filters=filters_of())


@pytest.mark.parametrize("exact_limit", [0, 100, 20_000])
def test_answers_as_pytorch_where_every_list_is_read(head, tmp_path, exact_limit):
    folder = shutil.copytree(head, tmp_path / "head")
    settings = json.loads((folder / "head.json").read_text()) | {"exact_limit": exact_limit}
    (folder / "head.json").write_text(json.dumps(settings))
    filters = filters_of()
    history, exclude, choices = requests(values=filters.values.count)
    check_parity(
        TorchRunner(student_of(), SPEC, filters, retired=RETIRED), ApproximateRunner(folder, SPEC), history, exclude, choices
    )


@pytest.mark.parametrize(("kind", "rank"), [(GruStudent, None), (TransformerStudent, None), (MlpStudent, 5)])
def test_every_encoder_answers_as_pytorch(tmp_path, kind, rank):
    student = student_of(kind, rank=rank)
    spec = replace(SPEC, filter_length=0)
    folder = write_head(tmp_path / "head", student, spec)
    check_parity(TorchRunner(student, spec, retired=RETIRED), ApproximateRunner(folder, spec), *requests(spec))


def test_keeps_the_contract_with_few_lists(head):
    filters = filters_of()
    runner = ApproximateRunner(head, SPEC, probes=1)
    runner.head.depth = SPEC.top_k
    history, exclude, choices = requests(values=filters.values.count)
    check_contract(runner, SPEC, history, exclude, SCORE_TOLERANCE, choices=choices, filters=filters)
    items, _ = runner.recommend(history, exclude)
    assert (items > 0).all()  # K items back wherever K are left, though a list of the index has fewer


@pytest.mark.parametrize("items", [1, 60])
def test_fewer_items_than_lists_or_answers(tmp_path, items):
    spec = RecommenderSpec(items, 6, 8, top_k=min(20, items))
    folder = write_head(tmp_path / "head", student_of(items=items), spec, retired=(), lists=build.list_counts(items)[-1])
    history, exclude, _ = requests(spec)
    check_parity(TorchRunner(student_of(items=items), spec), ApproximateRunner(folder, spec), history, exclude)


def test_grown_head_answers_as_pytorch_without_a_build(head, tmp_path):
    spec = replace(SPEC, item_count=ITEMS + 40)
    student = student_of(items=spec.item_count)
    with torch.no_grad():
        student.items.learned[: ITEMS + 1] = student_of().items.learned[: ITEMS + 1]
        student.items.learned[[5, 600]] *= -1  # changed
    retired = (3, 5, 8, 900, ITEMS + 2)  # 77 and 1200 are back
    filters = filters_of(spec.item_count)
    folder = tmp_path / "grown"
    folder.mkdir()
    build.write_student(HeadInput(student, spec, "def", filters, retired), folder)
    assert build.grow_index(head, folder) == 39 + 1 + 2
    assert (folder / "index.faiss").read_bytes() == (head / "index.faiss").read_bytes()
    history, exclude, choices = requests(spec, values=filters.values.count)
    reference = TorchRunner(student, spec, filters, retired=retired)
    check_parity(reference, ApproximateRunner(folder, spec), history, exclude, choices)
    found, _ = ApproximateRunner(folder, spec, probes=1).recommend(history, exclude, choices)
    assert not np.isin(found, retired).any()


def test_head_of_another_student_does_not_grow(head, tmp_path, monkeypatch):
    monkeypatch.setattr(build, "_MOST_FRESH", 100)
    folder = tmp_path / "grown"
    folder.mkdir()
    student = student_of()
    with torch.no_grad():
        student.items.learned.mul_(1.5)
    build.write_student(HeadInput(student, SPEC, "abc", filters_of(), RETIRED), folder)
    assert build.grow_index(head, folder) is None


def test_index_of_another_table_is_refused(head, tmp_path):
    student = student_of()
    with torch.no_grad():
        student.items.learned.copy_(student.items.learned.roll(5, 0))
    other = write_head(tmp_path / "other", student, filters=filters_of())
    shutil.copyfile(other / "index.faiss", (folder := shutil.copytree(head, tmp_path / "head")) / "index.faiss")
    with pytest.raises(ParityError, match=r"expected the index of this table.*Export again"):
        ApproximateRunner(folder, SPEC)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("index.faiss", "index.faiss: cannot be read"),
        ("table.npy", "table.npy: cannot be read"),
        ("head.json", "found no settings of an approximate head"),
        ("encoder.onnx", "ONNX Runtime cannot load it"),
    ],
)
def test_damaged_file_is_refused(head, tmp_path, name, message):
    folder = shutil.copytree(head, tmp_path / "head")
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(ParityError, match=message):
        ApproximateRunner(folder, SPEC)


def test_head_of_other_sizes_is_refused(head):
    with pytest.raises(ParityError, match=r"found a head for 1,203 items and the top 60, expected 1,203 and 61"):
        ApproximateRunner(head, replace(SPEC, top_k=61))


def test_search_starts_no_thread(head):
    runner = ApproximateRunner(head, SPEC, probes=4)
    history, exclude, _ = requests()
    before = len(list(Path("/proc/self/task").iterdir()))
    for _ in range(3):
        runner.recommend(history, exclude)
    assert len(list(Path("/proc/self/task").iterdir())) == before


def test_scores_of_the_catalogue_are_those_of_pytorch(head):
    history, exclude, _ = requests()
    expected = TorchRunner(student_of(), SPEC, filters_of(), retired=RETIRED).scores(history, exclude)
    assert np.allclose(ApproximateRunner(head, SPEC).scores(history, exclude), expected, atol=SCORE_TOLERANCE)
    assert (expected[:, RETIRED] == np.float32(MASKED_SCORE)).all()


def test_constants_are_those_of_the_contract():
    assert (approximate.PADDING, approximate.MASKED_SCORE) == (specs.PADDING, specs.MASKED_SCORE)
    assert (head_files.HEAD_FILE, head_files.ENCODER_FILE) == (artefact.HEAD_FILE, artefact.ENCODER_FILE)


def test_one_row_gets_the_same_answer_in_any_batch(head):
    runner = ApproximateRunner(head, SPEC, probes=3)
    history, exclude, _ = requests()
    together = runner.recommend(history, exclude)
    for row in range(0, len(history), 9):
        alone = runner.recommend(history[row : row + 1], exclude[row : row + 1])
        expected = (together[0][row : row + 1], together[1][row : row + 1])
        assert compare(expected, alone).misplaced == 0
