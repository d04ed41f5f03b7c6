"""Dense supervision: each quarter of a patch is told its class and where the centre of its segment is."""

import pytest
import torch
from torch import Tensor, nn

from eomt.configuration import EomtConfig
from eomt.dense_supervision import DenseSupervision, dense_share
from eomt.outputs import EomtForUniversalSegmentationOutput
from tests.reference.tiny_eomt import tiny_model, two_halves

CLASSES = 3


class Told(nn.Module):
    """A head that knows the answer: for tokens (B, P, D) it returns `answer` (B, K+1+2, rows, columns), by patch."""

    def __init__(self, answer: Tensor) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, tokens: Tensor) -> Tensor:
        return torch.pixel_unshuffle(self.answer, 2).flatten(2).transpose(1, 2)


def head() -> DenseSupervision:
    """For 32 x 32 pixels in patches of 8: cells of 4 x 4 pixels."""
    return DenseSupervision(tiny_model().config)


def output(config: EomtConfig, images: int = 1) -> EomtForUniversalSegmentationOutput:
    tokens = torch.zeros(images, config.num_prefix_tokens + config.num_patches, config.hidden_size)
    return EomtForUniversalSegmentationOutput(hidden_states=(tokens,) * (config.num_hidden_layers + 1))


def left_half() -> tuple[list[Tensor], list[Tensor]]:
    """One image whose left half is a segment of class 2; the rest is void."""
    masks = torch.zeros(1, 32, 32)
    masks[0, :, :16] = 1
    return [masks], [torch.tensor([2])]


def right_answer() -> Tensor:
    """Of `left_half`, worked out by hand, (1, 6, 8, 8): very sure class logits, then the ways in y and x.

    The eight columns of cells lie at -1, -5/7, ..., 1, and so do the rows; the centre of the left four is at x = -4/7.
    """
    answer = torch.zeros(1, CLASSES + 1 + 2, 8, 8)
    answer[:, 2, :, :4] = answer[:, CLASSES, :, 4:] = 100
    places = torch.linspace(-1, 1, 8)
    answer[:, -2] = -places[:, None]
    answer[:, -1] = -4 / 7 - places
    return answer


def loss_of(answer: Tensor) -> float:
    dense = head()
    dense.project = Told(answer)  # type: ignore[assignment]
    return float(dense(output(dense.config, len(answer)), *(part * len(answer) for part in left_half())))


def test_the_right_answer_costs_nothing() -> None:
    assert loss_of(right_answer()) == pytest.approx(0, abs=1e-5)


def test_a_way_that_misses_costs_its_distance_where_there_is_a_segment() -> None:
    """Half of the cells' ways are wrong by 0.3 in y and 0.1 in x, and void has no centre."""
    missed, void = right_answer(), right_answer()
    missed[:, -2, :, :2] += 0.3
    missed[:, -1, :, :2] -= 0.1
    void[:, -2:, :, 4:] += 5
    assert loss_of(missed) == pytest.approx(0.2, abs=1e-5)
    assert loss_of(void) == pytest.approx(0, abs=1e-5)


def test_void_is_a_class_of_its_own() -> None:
    """Sure of class 0 in the quarter of the cells that are the void's lower half: 100 each."""
    wrong = right_answer()
    wrong[:, 0, 4:, 4:], wrong[:, CLASSES, 4:, 4:] = 100, 0
    assert loss_of(wrong) == pytest.approx(25, abs=1e-4)


def test_each_image_counts_the_same() -> None:
    missed = right_answer()
    missed[:, -1] += 0.5
    assert loss_of(torch.cat((right_answer(), missed))) == pytest.approx(0.25, abs=1e-5)


def test_an_image_without_segments_is_all_void() -> None:
    dense = head()
    loss = dense(output(dense.config), [torch.zeros(0, 32, 32)], [torch.zeros(0, dtype=torch.int64)])
    answer = torch.zeros(1, CLASSES + 1 + 2, 8, 8)
    answer[:, CLASSES] = 100
    dense.project = Told(answer)
    sure = dense(output(dense.config), [torch.zeros(0, 32, 32)], [torch.zeros(0, dtype=torch.int64)])
    assert loss.item() > 1 and sure.item() == pytest.approx(0, abs=1e-5)


def test_an_output_without_hidden_states_is_refused() -> None:
    batch = two_halves()
    with pytest.raises(ValueError, match="output_hidden_states=True"):
        head()(tiny_model()(batch.pixel_values), batch.mask_labels, batch.class_labels)


def test_a_model_without_a_layer_before_the_queries_is_refused() -> None:
    with pytest.raises(ValueError, match="queries pass through all 4 layers"):
        DenseSupervision(tiny_model(num_blocks=4).config)


def test_its_weight_falls_in_a_line() -> None:
    assert [dense_share(step, 100, 0.5) for step in (0, 10, 25, 50, 99)] == pytest.approx([1, 0.8, 0.5, 0, 0])
    assert dense_share(0, 100, 0.0) == 0
