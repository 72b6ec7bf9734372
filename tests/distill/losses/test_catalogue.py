import pytest
import torch

from distill.losses import catalogue
from distill.losses.catalogue import catalogue_loss

M, N, D = 7, 30, 4


@pytest.mark.parametrize("at_once", [1, 2 * N, 3 * N + 5, 100 * N])
def test_chunks_change_neither_loss_nor_gradients(monkeypatch, at_once):
    monkeypatch.setitem(catalogue._LOGITS_AT_ONCE, "cpu", at_once)
    torch.manual_seed(0)
    users, table = torch.randn(M, D, requires_grad=True), torch.randn(N, D, requires_grad=True)
    targets, weights = torch.randint(0, N, (M,)), torch.rand(M)

    def loss(logits, rows):
        each = torch.nn.functional.cross_entropy(logits, targets[rows], reduction="none")
        return (each * weights[rows]).sum()

    expected = loss(users @ table.T, slice(0, M))
    (3 * expected).backward()
    gradients = users.grad.clone(), table.grad.clone()
    users.grad = table.grad = None
    found = catalogue_loss(users, table, loss)
    (3 * found).backward()
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close((users.grad, table.grad), gradients)


def test_no_prediction_costs_nothing():
    users, table = torch.zeros(0, D, requires_grad=True), torch.randn(N, D, requires_grad=True)
    found = catalogue_loss(users, table, lambda logits, _: logits.sum())
    found.backward()
    assert found.item() == 0
    assert not table.grad.any()
