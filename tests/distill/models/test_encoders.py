"""What every encoder, teacher or student, must promise."""

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel

from distill.models.averages import decay_weights, decayed_averages
from distill.models.encoders import Recommender
from distill.models.item_content import KnownOfItems
from distill.models.item_table import ItemTable, is_item
from distill.models.runner import TorchRunner
from distill.models.students.gru import GruStudent
from distill.models.students.mlp import MlpStudent
from distill.models.students.residual import ResidualStudent
from distill.models.students.transformer import TransformerStudent
from distill.models.teachers.masked import MaskedTeacher
from distill.models.teachers.sequence import SequenceTeacher
from distill.models.teachers.text import TextTeacher, TextTeacherConfig, TitleTokens
from distilrec.core.specs import MASKED_SCORE, RecommenderSpec
from distilrec.evaluation.parity import check_parity
from export.graph.onnx import export_onnx
from export.graph.onnx_runner import OnnxRunner

N, L = 21, 6
SPEC = RecommenderSpec(N, L, exclude_length=4, top_k=10)
POPULARITY = torch.linspace(-1, 1, N)[torch.randperm(N, generator=torch.Generator().manual_seed(3))]


def table(rank=None) -> ItemTable:
    return ItemTable(N, 8, popularity=POPULARITY, rank=rank)


STUDENTS = {
    "mlp": lambda: MlpStudent(table(), L, 16, (1.0, 0.5), 0.2),
    "residual": lambda: ResidualStudent(table(), L, hidden_size=16, depth=2, decays=(1.0, 0.5), dropout=0.2),
    "gru": lambda: GruStudent(table(), hidden_size=16, depth=1, dropout=0.2),
    "deep gru": lambda: GruStudent(table(), hidden_size=16, depth=2, dropout=0.2),
    "transformer": lambda: TransformerStudent(table(), L, hidden_size=16, depth=1, heads=2, dropout=0.2),
    "deep transformer": lambda: TransformerStudent(table(), L, hidden_size=16, depth=2, heads=2, dropout=0.2),
    "low-rank mlp": lambda: MlpStudent(table(rank=4), L, 16, (1.0, 0.5), 0.2),
    "low-rank transformer": lambda: TransformerStudent(table(rank=4), L, hidden_size=16, depth=1, heads=2, dropout=0.2),
}


def teacher() -> SequenceTeacher:
    return SequenceTeacher(
        ItemTable(N, 8, content=KnownOfItems(torch.randn(N, 5), 5), popularity=POPULARITY), L, layers=1, heads=2, dropout=0.2
    )


def masked_teacher() -> MaskedTeacher:
    # One item more than the longest history here: of a full one the oldest is not read.
    return MaskedTeacher(ItemTable(N, 8, popularity=POPULARITY), L + 1, layers=1, heads=2, dropout=0.2, mask_fraction=0.3)


def text_teacher() -> TextTeacher:
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    body = BertModel(BertConfig(vocab_size=40, **sizes), add_pooling_layer=False)
    titles = torch.randint(4, 40, (24, 4), dtype=torch.int32)
    titles[1::3, 3:] = -1  # not all titles are equally long
    titles[0], titles[N + 1 :] = -1, -1
    tokens = TitleTokens(titles, torch.tensor([1, 2, 0, 1, 0], dtype=torch.int32))
    settings = TextTeacherConfig(embedding_size=8, max_titles=L, max_tokens=30)
    return TextTeacher(ItemTable(N, 8, content=KnownOfItems(torch.randn(N, 5), 5), popularity=POPULARITY), body, tokens, settings)


TEACHERS = {"teacher": teacher, "masked teacher": masked_teacher, "text teacher": text_teacher}


def built(make):
    """In evaluation mode, with nothing at zero where it would hide a fault."""
    torch.manual_seed(0)
    encoder = make().eval()
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return encoder


@pytest.fixture(params=[*STUDENTS, *TEACHERS])
def encoder(request):
    return built((STUDENTS | TEACHERS)[request.param])


@pytest.fixture(params=STUDENTS)
def student(request):
    return built(STUDENTS[request.param])


@pytest.mark.parametrize("length", [1, 3, L])
def test_serving_form_equals_training_form(encoder, length):
    history = torch.randint(1, N + 1, (4, length))
    left_padded = torch.nn.functional.pad(history, (L - length, 0))
    for padding in (0, 2):
        right_padded = torch.nn.functional.pad(history, (0, min(padding, L - length)))
        torch.testing.assert_close(encoder.encode_all(right_padded)[:, length - 1], encoder.encode_last(left_padded))


def test_no_position_sees_the_future(encoder):
    history = torch.randint(1, N + 1, (4, L))
    changed = history.clone()
    changed[:, 3:] = changed[:, 3:] % N + 1
    before, after = encoder.encode_all(history), encoder.encode_all(changed)
    torch.testing.assert_close(before[:, :3], after[:, :3])
    assert not torch.allclose(before[:, 3], after[:, 3])


def test_folding_changes_no_answer_and_leaves_plain_matrices(encoder):
    history = torch.randint(1, N + 1, (4, L))
    before = encoder.encode_last(history)
    encoder.items.fold()
    torch.testing.assert_close(encoder.encode_last(history), before)
    shapes = {name: tuple(parameter.shape) for name, parameter in encoder.items.named_parameters()}
    # N + 1 rows, up to a multiple of 8
    assert shapes == ({"learned": (24, 8)} if encoder.items.basis is None else {"learned": (24, 4), "basis": (4, 8)})
    assert not dict(encoder.items.named_buffers())


def ask(encoder, history, exclude=()):
    rows = torch.zeros(1, L, dtype=torch.int32)
    banned = torch.zeros(1, SPEC.exclude_length, dtype=torch.int32)
    if len(history):
        rows[0, -len(history) :] = torch.tensor(history)
    if len(exclude):
        banned[0, : len(exclude)] = torch.tensor(exclude)
    with torch.inference_mode():
        items, scores = Recommender(encoder, SPEC).eval()(rows, banned)
    return items[0].tolist(), scores[0]


def test_best_unseen_items_come_first(encoder):
    history, exclude = [3, 9, 4], [7, 8]
    items, scores = ask(encoder, history, exclude)
    padded = torch.tensor([[0] * (L - 3) + history])
    all_scores = (encoder.items() @ encoder.encode_last(padded)[0]).tolist()
    allowed = [item for item in range(1, N + 1) if item not in history + exclude]
    assert items == sorted(allowed, key=lambda item: -all_scores[item])[: SPEC.top_k]
    assert scores.tolist() == pytest.approx([all_scores[item] for item in items], abs=1e-6)


def test_padding_and_filler_rows_never_come_back(encoder):
    with torch.no_grad():
        encoder.items.fold()
        encoder.items.learned[0] = 100.0
        encoder.items.learned[N + 1 :] = 100.0
        encoder.items.learned[N + 1 :, ::2] = -100.0
    for history in ([], [1], [N]):
        assert set(ask(encoder, history)[0]) <= set(range(1, N + 1))


@pytest.mark.parametrize("bad", [-1, N + 1, N + 3, 2**31 - 1, -(2**31), 0])
def test_indices_outside_the_catalogue_count_as_padding(encoder, bad):
    assert ask(encoder, [bad, 5], [bad])[0] == ask(encoder, [0, 5])[0]


@pytest.mark.parametrize("kind", ["gru", "deep gru", "transformer", "deep transformer", "low-rank transformer"])
def test_padding_within_a_history_changes_nothing(kind):
    encoder = built(STUDENTS[kind])
    histories = torch.tensor([[0, 0, 0, 5, 9, 5], [5, 0, 9, 0, 0, 5], [5, 9, N + 1, 5, -3, 0]])
    vectors = encoder.encode_last(histories.where(is_item(histories, N), 0))
    torch.testing.assert_close(vectors[1:], vectors[:1].expand(2, -1))


def test_ranks_without_an_item_are_zero():
    torch.manual_seed(0)
    spec = RecommenderSpec(N, N, exclude_length=4, top_k=10)
    encoder = MlpStudent(ItemTable(N, 8, popularity=POPULARITY), N, 16, (1.0, 0.5), 0.2).eval()
    history = torch.arange(0, N, dtype=torch.int32)[None]  # item N alone was not seen
    items, scores = Recommender(encoder, spec)(history, torch.zeros(1, 4, dtype=torch.int32))
    assert items[0].tolist() == [N] + [0] * 9
    assert scores[0, 1:].tolist() == pytest.approx([MASKED_SCORE] * 9)


def test_vectors_of_prefixes_are_those_of_all_positions(encoder):
    history = torch.randint(1, N + 1, (3, L))
    history[1, 4:] = 0
    valid = torch.rand(3, L).lt(0.5) & (history > 0)
    for at_once in (2, 100):
        encoder.at_once = at_once  # of no meaning where one pass does
        torch.testing.assert_close(encoder.encode_prefixes(history, valid), encoder.encode_all(history)[valid])
    expected = encoder.encode_all(history)[valid] @ encoder.items()[1 : N + 1].T
    torch.testing.assert_close(encoder.score_prefixes(history, valid), expected)
    assert encoder.encode_prefixes(history, torch.zeros_like(valid)).shape == (0, 8)


@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize("name", [*STUDENTS, *TEACHERS])
def test_empty_history_gets_the_most_popular_items(name, folded):
    encoder = built((STUDENTS | TEACHERS)[name])
    if folded:
        encoder.items.fold()
    by_popularity = (np.argsort(-POPULARITY.numpy()) + 1).tolist()
    assert ask(encoder, [])[0] == by_popularity[: SPEC.top_k]
    assert ask(encoder, [], by_popularity[:2])[0] == by_popularity[2 : SPEC.top_k + 2]


@pytest.mark.pipeline
def test_exported_every_history_is_answered_the_same(encoder, tmp_path):
    spec = RecommenderSpec(N, L, SPEC.exclude_length, top_k=N)  # all scores
    export_onnx(Recommender(encoder, spec).eval(), tmp_path / "model.onnx", {})
    torch_runner, onnx_runner = TorchRunner(encoder, spec), OnnxRunner(tmp_path / "model.onnx", spec)
    clean = [[0] * L, [0] * (L - 1) + [5], [0, 0, 3, 9, 4, 9], [1, 8, 2, 7, 3, N]]
    dirty = [[N + 1, -3, 0, 2**31 - 1, 0, N + 3], [5, 0, 0, 0, 0, 0], [0, 5, N + 1, 0, 9, -1], [-1, 5, 9, 7, 2, 4]]
    for rows in (clean, dirty, [*clean, *dirty], [clean[0], dirty[0]], clean[3:]):
        check_parity(torch_runner, onnx_runner, np.array(rows, np.int32), np.zeros((len(rows), SPEC.exclude_length), np.int32))


def test_deeper_students_have_more_parameters():
    counts = {kind: built(make).parameter_count() for kind, make in STUDENTS.items()}
    assert counts["deep gru"] - counts["gru"] == 3 * 16 * (16 + 16)
    # Attention, feed-forward, two norms, recency of two heads.
    assert counts["deep transformer"] - counts["transformer"] == 4 * (64 + 8) + 2 * 8 * 16 + 16 + 8 + 2 * 16 + 2 * L
    assert counts["residual"] - counts["mlp"] == 2 * (2 * (16 * 16 + 16) + 32) + 32
    # Without popularity, which is not learned.
    assert counts["mlp"] - counts["low-rank mlp"] == 24 * 7 - (24 * 3 + 3 * 7)


def test_decayed_averages_by_hand():
    vectors = torch.tensor([[[1.0], [10.0], [100.0]]])
    averages = decayed_averages(vectors, torch.tensor([[True, False, True]]), decay_weights(3, [1.0, 0.5, 0.0]))
    assert averages.shape == (1, 3, 3, 1)
    assert averages[0, 0, :, 0].tolist() == [1, 1, 1]
    assert averages[0, 1, :, 0].tolist() == pytest.approx([1, 1, 0])  # the last one does not count
    assert averages[0, 2, :, 0].tolist() == pytest.approx([50.5, (0.25 + 100) / 1.25, 100])
