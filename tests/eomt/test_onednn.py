"""Linear layers through oneDNN give what torch's own give, and only where they may."""

from collections.abc import Callable, Iterator
from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import prune

from eomt import EomtConfig, EomtForUniversalSegmentation, onednn
from eomt.onednn import activated, linear


@pytest.fixture
def products() -> Iterator[mock.MagicMock]:
    """Calls of oneDNN's operator; skips where this torch or this processor does not have it."""
    if not onednn._trusted():
        pytest.skip("this torch has no oneDNN linear layer that equals its own")
    with mock.patch.object(onednn, "_product", wraps=onednn._product) as calls:
        yield calls


def layer_and_inputs(width: int = 96, rows: int = 150) -> tuple[nn.Linear, Tensor]:
    torch.manual_seed(3)
    return nn.Linear(512, width), torch.randn(2, rows, 512)


@pytest.mark.parametrize("activation", [F.gelu, F.silu, F.relu])
@pytest.mark.parametrize("bias", [True, False])
def test_a_layer_and_its_activation_are_those_of_torch_up_to_rounding(
    products: mock.MagicMock, activation: Callable[[Tensor], Tensor], bias: bool
) -> None:
    layer, inputs = nn.Linear(512, 96, bias=bias), layer_and_inputs()[1]
    with torch.inference_mode():
        torch.testing.assert_close(linear(layer, inputs), layer(inputs), rtol=0, atol=5e-6)
        torch.testing.assert_close(activated(layer, inputs, activation), activation(layer(inputs)), rtol=0, atol=5e-6)
    assert products.call_count == 2


def test_an_approximate_gelu_is_not_taken_for_the_exact_one(products: mock.MagicMock) -> None:
    layer, inputs = layer_and_inputs()
    with torch.inference_mode():
        found = activated(layer, inputs, lambda wide: F.gelu(wide, approximate="tanh"))
        torch.testing.assert_close(found, F.gelu(layer(inputs), approximate="tanh"), rtol=0, atol=5e-6)
    assert [call.args[2] for call in products.call_args_list] == ["none"]


def test_gradients_flow_through_torchs_own_layer(products: mock.MagicMock) -> None:
    layer, inputs = layer_and_inputs()
    activated(layer, inputs, F.gelu).sum().backward()
    assert layer.weight.grad is not None and not products.called


@torch.inference_mode()
def test_other_dtypes_autocast_few_rows_and_other_kinds_of_layers_are_left_to_torch(products: mock.MagicMock) -> None:
    layer, inputs = layer_and_inputs()
    linear(layer.double(), inputs.double())
    linear(layer.float(), inputs[:, :100])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert linear(layer, inputs).dtype == torch.bfloat16
    linear(type("Special", (nn.Linear,), {})(512, 96), inputs)
    assert not products.called


def with_a_quantised_weight(layer: nn.Linear) -> None:
    class Quantised(nn.Parameter):
        pass

    layer.weight = Quantised(layer.weight.detach())


@pytest.mark.parametrize(
    "change",
    [
        lambda layer: layer.register_forward_hook(lambda module, given, output: output + 1),
        lambda layer: layer.register_forward_pre_hook(lambda module, given: (given[0] + 1,)),
        lambda layer: setattr(layer, "forward", lambda inputs: F.linear(inputs, layer.weight) + 1),
        with_a_quantised_weight,
        lambda layer: prune.l1_unstructured(layer, "weight", 0.5),
    ],
    ids=["hook", "hook before", "another forward", "quantised", "pruned"],
)
@torch.no_grad()
def test_a_layer_that_does_more_than_a_product_is_called(
    products: mock.MagicMock, change: Callable[[nn.Linear], object]
) -> None:
    layer, inputs = layer_and_inputs()
    change(layer)
    assert torch.equal(linear(layer, inputs), layer(inputs))
    assert not products.called


@torch.no_grad()
def test_hooks_of_all_modules_are_called(products: mock.MagicMock) -> None:
    layer, inputs = layer_and_inputs()
    seen: list[nn.Module] = []
    hook = nn.modules.module.register_module_forward_hook(lambda module, given, output: seen.append(module))
    try:
        linear(layer, inputs)
    finally:
        hook.remove()
    assert seen == [layer] and not products.called


@torch.no_grad()
def test_where_onednn_is_switched_off_it_is_not_used(products: mock.MagicMock, monkeypatch: pytest.MonkeyPatch) -> None:
    layer, inputs = layer_and_inputs()
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)
    linear(layer, inputs)
    assert not products.called


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning", "ignore::torch.jit.TracerWarning")
@torch.no_grad()
def test_a_recording_of_the_model_holds_torchs_own_layers() -> None:
    layer, inputs = layer_and_inputs()

    class Recorded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, tokens: Tensor) -> Tensor:
            return linear(self.layer, tokens)

    recorded = torch.jit.trace(Recorded(), inputs, check_trace=False)  # type: ignore[no-untyped-call]
    assert "mkldnn" not in str(recorded.inlined_graph)


def test_trying_it_takes_nothing_from_the_callers_random_numbers() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    onednn._trusted.__wrapped__()
    assert torch.equal(torch.rand(3), expected)


@torch.inference_mode()
def test_no_tokens_at_all_are_no_tokens() -> None:
    assert linear(nn.Linear(512, 96), torch.zeros(0, 300, 512)).shape == (0, 300, 96)


def test_a_torch_without_the_operator_or_with_another_meaning_is_not_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    for replacement in (mock.Mock(side_effect=RuntimeError), mock.Mock(side_effect=AttributeError), torch.zeros_like):
        monkeypatch.setattr(onednn, "_product", lambda inputs, layer, then, r=replacement: r(layer(inputs)))
        assert not onednn._trusted.__wrapped__()


def test_a_model_gives_the_same_logits_with_and_without(
    products: mock.MagicMock, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    shape = {"hidden_size": 64, "num_attention_heads": 2, "num_hidden_layers": 3, "num_blocks": 2, "num_queries": 9}
    model = EomtForUniversalSegmentation(EomtConfig(image_size=256, **shape)).eval()
    pixels = torch.randn(2, 3, 256, 256)
    with torch.inference_mode():
        ours = model(pixel_values=pixels)
        assert products.call_count == 3 * 6
        monkeypatch.setattr(onednn, "_trusted", lambda: False)
        plain = model(pixel_values=pixels)
    torch.testing.assert_close(ours.masks_queries_logits, plain.masks_queries_logits, rtol=0, atol=1e-5)
    torch.testing.assert_close(ours.class_queries_logits, plain.class_queries_logits, rtol=0, atol=1e-5)
