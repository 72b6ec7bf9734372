"""Several losses together: what counts, when, and for which prefixes."""

import numpy as np
import pytest
import torch

from distill.data.soft_targets import SoftTargets, SoftTargetWriter
from distill.losses.distillation import Distillation, value_at
from distilrec.config import DistillationConfig, Ramp, TargetsConfig

M, N, D, TOP = 6, 12, 4, 5
OFF = {"hard": 0.0, "soft": 0.0}
COUNTS = torch.arange(N + 1)
EVERY = ["hard", "soft", "mse", "ranking", "stratified", "hint", "relation"]


@pytest.fixture
def teacher():
    return torch.randn(M, N, generator=torch.Generator().manual_seed(1)) * 2


@pytest.fixture
def targets(tmp_path, teacher):
    """Of six prefixes; the teacher was not asked about the last one."""
    windows = np.array([[0, M, 0]], np.int64)
    settings = TargetsConfig(top_n=TOP)
    features = torch.randn(M, 3, generator=torch.Generator().manual_seed(2))
    with SoftTargetWriter(tmp_path, np.ones(M, np.int32), windows, settings, N, feature_size=3) as writer:
        writer.write(np.arange(M - 1), teacher[: M - 1].clone(), features[: M - 1])
    return SoftTargets(tmp_path, settings.temperatures)


def learn(targets, vectors, table, true_items, progress=0.0, **settings):
    torch.manual_seed(0)
    negatives = settings.pop("negatives", None)
    distillation = Distillation(DistillationConfig(**{**OFF, **settings}), targets, COUNTS, D, negatives)
    return distillation(vectors, table, true_items, torch.arange(M), progress)


@pytest.fixture
def student():
    torch.manual_seed(3)
    return torch.randn(M, D, requires_grad=True), torch.randn(N, D, requires_grad=True)


TRUE = torch.tensor([3, 1, 0, 12, 7, 5])


def cross_entropies(student):
    vectors, table = student
    return torch.nn.functional.cross_entropy(vectors @ table.T, (TRUE - 1).clamp(min=0), reduction="none")


def test_hard_alone_is_cross_entropy_of_the_prefixes_with_a_true_item(targets, student):
    loss, parts = learn(targets, *student, TRUE, hard=0.5)
    expected = cross_entropies(student)[TRUE > 0].sum()
    torch.testing.assert_close(loss, 0.5 * expected)
    assert set(parts) == {"hard"}


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_soft_alone_is_least_for_the_teachers_own_logits(targets, teacher, temperature):
    def soft(logits):
        # User vectors of one coordinate an item make the logits themselves the parameters.
        torch.manual_seed(0)
        distillation = Distillation(DistillationConfig(**OFF | {"soft": 1.0, "temperature": temperature}), targets, COUNTS, N)
        asked = torch.where(torch.arange(M) < M - 1, TRUE, 0)  # no true item takes the place of missing soft targets
        return distillation(logits, torch.eye(N), asked, torch.arange(M), 0.0)[0].item()

    assert soft(teacher) == pytest.approx(0, abs=1e-3)
    assert soft(teacher + torch.randn(M, N) * 0.3) > 0.05


@pytest.mark.parametrize("name", [name for name in EVERY if name != "hard"])
def test_a_prefix_the_teacher_was_not_asked_about_learns_from_its_true_item_alone(targets, student, name):
    vectors, table = student
    loss, parts = learn(targets, vectors, table, TRUE, **{name: 1.0})
    (found,) = torch.autograd.grad(loss, vectors)
    assert torch.isfinite(found).all()
    assert found[: M - 1].any()
    assert parts[name] > 0
    if name in ("hint", "relation"):  # losses on user vectors, which no true item replaces
        assert not found[M - 1].any()
        return
    (hard,) = torch.autograd.grad(learn(targets, vectors, table, TRUE, hard=1.0)[0], vectors)
    torch.testing.assert_close(found[M - 1], hard[M - 1])
    without = torch.where(torch.arange(M) < M - 1, TRUE, 0)
    (nothing,) = torch.autograd.grad(learn(targets, vectors, table, without, **{name: 1.0})[0], vectors)
    assert not nothing[M - 1].any()


def test_true_items_keep_the_weight_that_they_are_given(targets, student):
    """As in an update, where new events have no soft targets beside a replay that has."""
    weighted, _ = learn(targets, *student, TRUE, hard=1.0, soft=3.0)
    (found,) = torch.autograd.grad(weighted, student[0])
    (hard,) = torch.autograd.grad(learn(targets, *student, TRUE, hard=1.0)[0], student[0])
    torch.testing.assert_close(found[M - 1], hard[M - 1])


def test_losses_add_up_by_their_weights(targets, student):
    weights = {name: 0.1 * (place + 1) for place, name in enumerate(EVERY)}
    asked = torch.where(torch.arange(M) < M - 1, TRUE, 0)  # else the last prefix learns from its true item
    together, parts = learn(targets, *student, asked, **weights)
    alone = [learn(targets, *student, asked, **{name: weight})[0] for name, weight in weights.items()]
    torch.testing.assert_close(together, torch.stack(alone).sum())
    assert list(parts) == EVERY


def test_confidence_moves_weight_from_teacher_to_truth(targets, teacher, student):
    best = teacher.argmax(dim=1)
    worst = teacher.argmin(dim=1)
    trusted, distrusted = best.clone() + 1, worst.clone() + 1
    for true_items, expected in ((trusted, {"soft": 1.0}), (distrusted, {"hard": 1.0})):
        found, _ = learn(targets, *student, true_items, soft=1.0, confidence=True)
        plain, _ = learn(targets, *student, true_items, **expected)
        torch.testing.assert_close(found, plain)


def test_weights_and_temperature_follow_their_ramps(targets, student):
    ramp = Ramp(start=0.0, end=1.0)
    start, middle, end = (learn(targets, *student, TRUE, progress, hard=ramp)[0] for progress in (0.0, 0.5, 1.0))
    assert start.item() == 0
    torch.testing.assert_close(middle, end / 2)
    hot = learn(targets, *student, TRUE, 1.0, soft=1.0, temperature=Ramp(start=1.0, end=4.0))[0]
    torch.testing.assert_close(hot, learn(targets, *student, TRUE, soft=1.0, temperature=4.0)[0])
    assert value_at(Ramp(start=2.0, end=4.0, shape="cosine"), 0.25) == pytest.approx(2 + (1 - 2**-0.5))
    assert value_at(3.0, 0.7) == 3.0


@pytest.mark.parametrize("name", ["hard", "soft", "ranking", "stratified", "mse"])
def test_a_sample_of_the_whole_catalogue_changes_nothing(targets, student, name):
    vectors, table = student
    results = []
    for negatives in (None, 100 * N):
        loss, _ = learn(targets, vectors, table, TRUE, negatives=negatives, **{name: 1.0})
        results.append((loss.detach(), *torch.autograd.grad(loss, student)))
    torch.testing.assert_close(results[0], results[1])


def test_a_sample_estimates_only_the_mass_outside_the_teachers_items(targets, student):
    def gradients(negatives, seed):
        distillation = Distillation(DistillationConfig(), targets, COUNTS, D, negatives)
        torch.manual_seed(seed)
        loss, _ = distillation(*student, TRUE, torch.arange(M), 0.0)
        return torch.cat([gradient.flatten() for gradient in torch.autograd.grad(loss, student)])

    draws = torch.stack([gradients(6, seed) for seed in range(300)])
    exact = gradients(None, 0)
    assert (draws[0] - exact).norm() > 0.01 * exact.norm()
    assert (draws.mean(dim=0) - exact).norm() < 0.1 * exact.norm()


def test_example_weights_count_like_repeated_examples(targets, student):
    """Weights 0, 1 and 2 are the same as leaving out, keeping and repeating a prediction, for all losses on single predictions."""
    times = torch.tensor([place % 3 for place in range(M)])
    settings = DistillationConfig(**OFF | {"soft": 1.0, "hard": 0.5, "mse": 0.2})
    vectors, table = (part.detach() for part in student)
    rows = torch.repeat_interleave(torch.arange(M), times)
    distillation = Distillation(settings, targets, COUNTS, vectors.shape[1])
    weighted, _ = distillation(vectors, table, TRUE, torch.arange(M), 0.0, example_weights=times.float())
    repeated, _ = distillation(vectors[rows], table, TRUE[rows], rows, 0.0)
    torch.testing.assert_close(weighted, repeated)
