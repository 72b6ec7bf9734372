"""What every encoder, teacher or student, must promise."""

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel

from distill.averages import decay_weights, decayed_averages
from distill.encoders import Recommender
from distill.item_table import ItemTable
from distill.masked_teacher import MaskedTeacher
from distill.students import MlpStudent
from distill.teachers import SequenceTeacher
from distill.text_teacher import TextTeacher, TitleTokens
from distilrec.config import TextTeacherConfig
from distilrec.specs import MASKED_SCORE, RecommenderSpec

N, L = 21, 6
SPEC = RecommenderSpec(N, L, exclude_length=4, top_k=10)
POPULARITY = torch.linspace(-1, 1, N)[torch.randperm(N, generator=torch.Generator().manual_seed(3))]


def student() -> MlpStudent:
    return MlpStudent(ItemTable(N, 8, popularity=POPULARITY), L, 16, (1.0, 0.5), 0.2)


def teacher() -> SequenceTeacher:
    return SequenceTeacher(ItemTable(N, 8, text=torch.randn(N, 5)), L, layers=1, heads=2, dropout=0.2)


def masked_teacher() -> MaskedTeacher:
    # One item more than the longest history here: of a full one the oldest is not read.
    return MaskedTeacher(ItemTable(N, 8, popularity=POPULARITY), L + 1, layers=1, heads=2, dropout=0.2, mask_fraction=0.3)


def text_teacher() -> TextTeacher:
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    body = BertModel(BertConfig(vocab_size=40, **sizes), add_pooling_layer=False)
    titles = torch.randint(4, 40, (24, 4), dtype=torch.int32)
    titles[1::3, 3:] = -1  # not all titles are equally long
    titles[0], titles[N + 1 :] = -1, -1
    tokens = TitleTokens(titles, torch.tensor([1, 2, 0, 1], dtype=torch.int32))
    settings = TextTeacherConfig(embedding_size=8, max_titles=L, max_tokens=30)
    return TextTeacher(ItemTable(N, 8, text=torch.randn(N, 5), popularity=POPULARITY), body, tokens, settings)


@pytest.fixture(params=[student, teacher, masked_teacher, text_teacher])
def encoder(request):
    torch.manual_seed(0)
    return request.param().eval()


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


def test_folding_changes_no_answer_and_leaves_one_matrix(encoder):
    history = torch.randint(1, N + 1, (4, L))
    before = encoder.encode_last(history)
    encoder.items.fold()
    torch.testing.assert_close(encoder.encode_last(history), before)
    assert [name for name, _ in encoder.items.named_parameters()] == ["learned"]
    assert encoder.items.learned.shape == (24, 8)  # N + 1 rows, up to a multiple of 8
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
    assert scores.tolist() == pytest.approx([all_scores[item] for item in items])


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
@pytest.mark.parametrize("build", [student, masked_teacher, text_teacher])
def test_empty_history_gets_the_most_popular_items(build, folded):
    encoder = build().eval()
    if folded:
        encoder.items.fold()
    by_popularity = (np.argsort(-POPULARITY.numpy()) + 1).tolist()
    assert ask(encoder, [])[0] == by_popularity[: SPEC.top_k]
    assert ask(encoder, [], by_popularity[:2])[0] == by_popularity[2 : SPEC.top_k + 2]


def test_decayed_averages_by_hand():
    vectors = torch.tensor([[[1.0], [10.0], [100.0]]])
    averages = decayed_averages(vectors, torch.tensor([[True, False, True]]), decay_weights(3, [1.0, 0.5, 0.0]))
    assert averages.shape == (1, 3, 3, 1)
    assert averages[0, 0, :, 0].tolist() == [1, 1, 1]
    assert averages[0, 1, :, 0].tolist() == pytest.approx([1, 1, 0])  # the last one does not count
    assert averages[0, 2, :, 0].tolist() == pytest.approx([50.5, (0.25 + 100) / 1.25, 100])
