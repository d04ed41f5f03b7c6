"""A helper for training without a pretrained backbone: name every patch's class and point to its segment's centre.

The queries of a random model need long before their masks mean anything, and until then the backbone learns little. A
linear head on the patch tokens, just before the queries join them, tells each layer below directly what is where. It is
ours, not the original's, and is thrown away after the training.
"""

import torch
import torch.distributed
import torch.nn.functional as F
from torch import Tensor, nn

from eomt.configuration import EomtConfig
from eomt.outputs import EomtForUniversalSegmentationOutput

_OWNED = 0.3  # the share of a cell that the largest segment in it must cover, or the cell is void
_CELLS = 2  # cells along each edge of a patch


class DenseSupervision(nn.Module):
    """The head and its loss. Cells are quarters of patches: a grid of (2 rows, 2 columns) for rows x columns patches.

    Raises ValueError for a model in which the queries pass through every layer: no patch tokens come before them.
    """

    def __init__(self, config: EomtConfig) -> None:
        super().__init__()
        if config.num_blocks >= config.num_hidden_layers:
            raise ValueError(
                f"the queries pass through all {config.num_hidden_layers} layers (num_blocks is {config.num_blocks}):"
                " dense supervision needs a layer before them"
            )
        self.config = config
        self.project = nn.Linear(config.hidden_size, _CELLS**2 * (config.num_labels + 1 + 2))

    def forward(
        self, output: EomtForUniversalSegmentationOutput, mask_labels: list[Tensor], class_labels: list[Tensor]
    ) -> Tensor:
        """The loss, a scalar: cross-entropy of the cells' classes plus the L1 distance of their ways to the centre.

        `output` must hold its hidden states. `mask_labels` are B tensors (n_i, H, W) of 0 and 1, `class_labels` B
        tensors (n_i,) int64. Void is a class of its own, and has no centre. Each image counts the same.
        """
        if output.hidden_states is None:
            raise ValueError("the output has no hidden states: call the model with output_hidden_states=True")
        tokens = output.hidden_states[self.config.num_hidden_layers - self.config.num_blocks]
        rows, columns = self.config.grid_size
        grid = self.project(tokens[:, self.config.num_prefix_tokens :]).float().transpose(1, 2)
        cells = F.pixel_shuffle(grid.unflatten(2, (rows, columns)), _CELLS)  # (B, K+1+2, 2 rows, 2 columns)
        with torch.no_grad():
            pairs = [self._targets(*target) for target in zip(mask_labels, class_labels, strict=True)]
            labels, ways = (torch.stack(part) for part in zip(*pairs, strict=True))
        known = (labels < self.config.num_labels)[:, None]  # (B, 1, 2 rows, 2 columns)
        distances = ((cells[:, -2:] - ways).abs() * known).sum((1, 2, 3)) / known.sum((1, 2, 3)).clamp(min=1)
        return F.cross_entropy(cells[:, :-2], labels) + distances.mean()

    def _targets(self, masks: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
        """Classes (2 rows, 2 columns) of one image's cells, and their ways (2, 2 rows, 2 columns), y before x.

        A way leads from the cell to the centre of mass of its segment, in units of half the image's edge.
        """
        shape = tuple(_CELLS * length for length in self.config.grid_size)
        void = torch.full(shape, self.config.num_labels, device=masks.device)
        if not len(masks):
            return void, torch.zeros(2, *shape, device=masks.device)
        shares = F.interpolate(masks[None].float(), size=shape, mode="area")[0]  # (n, 2 rows, 2 columns)
        share, owner = shares.max(0)
        axes = (torch.linspace(-1, 1, length, device=masks.device) for length in shape)
        places = torch.stack(torch.meshgrid(*axes, indexing="ij"))  # (2, 2 rows, 2 columns)
        weights = shares.flatten(1)
        centres = weights @ places.flatten(1).T / weights.sum(1, keepdim=True).clamp(min=1e-6)  # (n, 2)
        return torch.where(share > _OWNED, classes[owner], void), centres[owner].permute(2, 0, 1) - places

    def average_gradients(self) -> None:
        """Give every process of a distributed training the mean gradient; the model's own wrapper does not see these.

        Does nothing in a step that has not used the head.
        """
        for parameter in self.parameters():
            if parameter.grad is not None:
                torch.distributed.all_reduce(parameter.grad)
                parameter.grad /= torch.distributed.get_world_size()


def dense_share(step: int, total_steps: int, until: float) -> float:
    """The share of its weight that the loss has in `step`: 1 at the start, falling in a line to 0 at `until` of all."""
    return max(0.0, 1 - step / (until * total_steps)) if until > 0 else 0.0
