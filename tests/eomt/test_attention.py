"""Attention by two products is torch's fused attention, and is taken only where it was measured to be faster."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from eomt import EomtConfig, attention
from eomt.attention import attend_by_products, products_are_faster

GENERATED = (2, 3, 50, 16)  # images, heads, tokens, channels


def heads(dtype: torch.dtype = torch.float32) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(GENERATED, generator=generator).to(dtype).requires_grad_() for _ in range(3)]


def with_gradients(attend: object, parts: list[Tensor]) -> list[Tensor]:
    """The output, and the gradients of query, key and value, in float32."""
    output = attend(*parts)  # type: ignore[operator]
    output.backward(torch.ones_like(output) * torch.arange(16) / 16)
    return [output.detach().float(), *(part.grad.float() for part in parts if part.grad is not None)]


def test_products_are_the_fused_attention() -> None:
    ours = with_gradients(attend_by_products, heads())
    fused = with_gradients(F.scaled_dot_product_attention, heads())
    assert len(ours) == 4
    torch.testing.assert_close(ours, fused, rtol=0, atol=1e-5)


def test_bfloat16_products_are_as_near_the_truth_as_bfloat16_is() -> None:
    """Rounding to 8 bits, of scores up to 5 or so, and of weights: within 2 per cent of the largest value."""
    ours = with_gradients(attend_by_products, heads(torch.bfloat16))
    truth = with_gradients(
        F.scaled_dot_product_attention, [part.detach().bfloat16().float().requires_grad_() for part in heads()]
    )
    for mine, true in zip(ours, truth, strict=True):
        assert float((mine - true).abs().max() / true.abs().max()) < 0.02


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (torch.zeros(GENERATED, dtype=torch.bfloat16, requires_grad=True), True),
        (torch.zeros(GENERATED, dtype=torch.bfloat16), False),
        (torch.zeros(GENERATED, requires_grad=True), False),
        (torch.zeros(1, 1, 4097, 1, dtype=torch.bfloat16, requires_grad=True), False),
        (torch.zeros(GENERATED, dtype=torch.bfloat16, device="meta", requires_grad=True), False),
    ],
    ids=["learning", "predicting", "float32", "too many tokens", "no CPU"],
)
def test_products_are_for_learning_in_bfloat16_on_a_cpu(query: Tensor, expected: bool) -> None:
    assert products_are_faster(query) is expected
    with torch.no_grad():
        assert not products_are_faster(query)


def test_dropout_drops_weights() -> None:
    query, key, _ = heads()
    value = torch.ones(GENERATED)
    torch.manual_seed(0)
    sums = attend_by_products(query, key, value, dropout_p=0.5)
    assert float(sums.detach().std()) > 0.1
    assert float(sums.detach().mean()) == pytest.approx(1, abs=0.05)


@torch.no_grad()
def test_dropout_is_asked_for_by_training_and_not_by_gradients() -> None:
    torch.manual_seed(0)
    config = EomtConfig(hidden_size=16, num_attention_heads=2, num_hidden_layers=2, num_blocks=1, attention_dropout=0.5)
    subject = attention.Attention(config).train()
    tokens = torch.randn(2, 10, 16)
    first, second = subject(tokens)[0], subject(tokens)[0]
    assert not torch.equal(first, second)
    subject.eval()
    assert torch.equal(subject(tokens)[0], subject(tokens)[0])


@torch.inference_mode()
def test_bfloat16_on_a_cpu_attends_by_products_of_some_rows_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    query, key, value = torch.randn(3, 2, 2, 50, 16)
    exact = F.scaled_dot_product_attention(query, key, value)
    monkeypatch.setattr(attention, "_ROWS_AT_ONCE", 20)
    found = attention.attend_without_gradients(query.bfloat16(), key.bfloat16(), value.bfloat16())
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), exact, rtol=0, atol=0.03)
    assert torch.equal(attention.attend_without_gradients(query, key, value), exact)
