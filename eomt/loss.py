"""EoMT's training loss: match queries to targets one to one, then score classes and masks of the pairs.

The mask terms are taken at random points rather than on every pixel: uniform points to match, and mostly uncertain
points (where a mask's logit is near zero) to learn from. Random numbers are drawn in the order and shapes of
transformers' `EomtLoss`, so that a seed gives equal losses. Source: Cheng et al. 2022 (Mask2Former), section 3;
Kirillov et al. 2020 (PointRend), section 3.1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from eomt.configuration import EomtConfig


@dataclass(frozen=True)
class Targets:
    """The targets of a batch, all images' one after another.

    `masks` (M, H, W), `classes` (M,) int64; image i owns the `counts[i]` targets after those of image i - 1.
    """

    masks: Tensor
    classes: Tensor
    counts: list[int]


@dataclass(frozen=True)
class Matches:
    """N matched pairs of a batch, images in order and queries ascending within each; all int64 of shape (N,).

    `image` and `query` point into the predictions, `target` into the concatenated `Targets`.
    """

    image: Tensor
    query: Tensor
    target: Tensor


class EomtLoss(nn.Module):
    """Weighted cross-entropy, binary cross-entropy and dice loss of matched queries."""

    empty_weight: Tensor

    def __init__(self, config: EomtConfig):
        super().__init__()
        self.config = config
        empty_weight = torch.ones(config.num_labels + 1)
        empty_weight[-1] = config.no_object_weight
        self.register_buffer("empty_weight", empty_weight)

    def forward(
        self,
        predictions: Sequence[tuple[Tensor, Tensor]],
        mask_labels: Sequence[Tensor],
        class_labels: Sequence[Tensor],
    ) -> dict[str, Tensor]:
        """The weighted loss parts of every prediction; `total_loss` of them is the loss to minimise.

        `predictions` are (mask logits (B, Q, h, w), class logits (B, Q, K+1)) in the order in which the model makes
        them, the final one last. `mask_labels` are B tensors (n_i, H, W) of 0 and 1, of any dtype; H and W are free
        but the same for all. `class_labels` are B tensors (n_i,), int64, of 0..K-1. An image may have no targets.

        Returns the scalars `loss_mask`, `loss_dice` and `loss_cross_entropy` of the final prediction, and the same
        keys ending in `_0`, `_1`, ... of the earlier ones. Computed in float32, also under autocast.
        Raises ValueError where labels and predictions do not fit together.
        """
        targets = _join_targets(mask_labels, class_labels)
        _check_targets(targets, predictions, self.config.num_labels)
        normalizer = _mean_target_count(targets)
        losses: dict[str, Tensor] = {}
        for index, (mask_logits, class_logits) in enumerate(predictions):
            suffix = "" if index == len(predictions) - 1 else f"_{index}"
            with torch.autocast(mask_logits.device.type, enabled=False):
                parts = self._parts(mask_logits, class_logits.float(), targets, normalizer)
            losses |= {f"{name}{suffix}": value for name, value in parts.items()}
        return losses

    def _parts(
        self, mask_logits: Tensor, class_logits: Tensor, targets: Targets, normalizer: Tensor
    ) -> dict[str, Tensor]:
        config = self.config
        matches = match(mask_logits, class_logits, targets, config)
        loss_mask, loss_dice = self._mask_losses(mask_logits, targets, matches)
        return {
            "loss_mask": config.mask_weight * loss_mask / normalizer,
            "loss_dice": config.dice_weight * loss_dice / normalizer,
            "loss_cross_entropy": config.class_weight * self._class_loss(class_logits, targets, matches),
        }

    def _class_loss(self, class_logits: Tensor, targets: Targets, matches: Matches) -> Tensor:
        """Mean cross-entropy over all queries; those without a target belong to the last class, no object."""
        wanted = torch.full(class_logits.shape[:2], self.config.num_labels, device=class_logits.device)  # (B, Q)
        wanted[matches.image, matches.query] = targets.classes[matches.target]
        return F.cross_entropy(class_logits.transpose(1, 2), wanted, weight=self.empty_weight.float())

    def _mask_losses(self, mask_logits: Tensor, targets: Targets, matches: Matches) -> tuple[Tensor, Tensor]:
        """Binary cross-entropy (mean over points) and dice loss, each summed over the matched pairs."""
        logit_maps = mask_logits[matches.image, matches.query].unsqueeze(1).float()  # (N, 1, h, w)
        with torch.no_grad():
            points = uncertain_points(logit_maps, self.config)  # (N, P, 2)
            wanted_maps = targets.masks[matches.target].unsqueeze(1).float()  # (N, 1, H, W)
            wanted = sample_points(wanted_maps, points).squeeze(1)  # (N, P)
        logits = sample_points(logit_maps, points).squeeze(1)  # (N, P)
        cross_entropy = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none").mean(1).sum()
        probabilities = logits.sigmoid()
        overlap = 2 * (probabilities * wanted).sum(1)
        dice = 1 - (overlap + 1) / (probabilities.sum(1) + wanted.sum(1) + 1)
        return cross_entropy, dice.sum()


def total_loss(losses: dict[str, Tensor]) -> Tensor:
    """The scalar to minimise: the sum of all parts that `EomtLoss` returned (they are weighted already)."""
    return torch.stack(list(losses.values())).sum()


def sample_points(maps: Tensor, points: Tensor) -> Tensor:
    """Bilinear samples (N, C, P) of maps (N, C, h, w) at points (N, P, 2), given as x, y in 0..1 of width and height.

    Pixel centres lie at (i + 0.5) / size; outside the map there is zero, which the outermost half pixel fades into.
    """
    grid = (
        points.mul(2).sub_(1).unsqueeze(2)
    )  # (N, P, 1, 2), in place: a third large temporary costs as much as sampling
    return F.grid_sample(maps, grid, align_corners=False).squeeze(3)


def uncertain_points(logit_maps: Tensor, config: EomtConfig) -> Tensor:
    """Points (N, P, 2) at which to score N logit maps (N, 1, h, w): mostly where the logit is nearest zero.

    Of the P = `train_num_points`, `importance_sample_ratio` are the least certain of `oversample_ratio` x P uniform
    ones; the rest is uniform. Source: PointRend, section 3.1.
    """
    maps, count = logit_maps.shape[0], config.train_num_points
    uncertain = int(config.importance_sample_ratio * count)
    candidates = torch.rand(maps, int(count * config.oversample_ratio), 2, device=logit_maps.device)
    distance = sample_points(logit_maps, candidates).squeeze(1).abs()  # (N, oversample x P)
    nearest = distance.topk(uncertain, dim=1, largest=False, sorted=False).indices
    chosen = candidates.gather(1, nearest.unsqueeze(2).expand(-1, -1, 2))
    if uncertain == count:
        return chosen
    return torch.cat([chosen, torch.rand(maps, count - uncertain, 2, device=logit_maps.device)], dim=1)


@torch.no_grad()
def match(mask_logits: Tensor, class_logits: Tensor, targets: Targets, config: EomtConfig) -> Matches:
    """The cheapest one-to-one pairing of queries and targets in each image.

    Mask logits (B, Q, h, w), of any precision; class logits (B, Q, K+1), float32. Each image gets min(Q, n_i) pairs.
    A pair whose cost is not finite is made only where no other is left. Masks are compared at `train_num_points`
    points, drawn per image.
    """
    count, device = config.train_num_points, mask_logits.device
    points = [torch.rand(1, count, 2, device=device) for _ in targets.counts]
    masks, classes = torch.split(targets.masks, targets.counts), torch.split(targets.classes, targets.counts)
    costs = [
        _pair_costs(mask_logits[image], class_logits[image], masks[image], classes[image], points[image], config)
        for image, number in enumerate(targets.counts)
        if number
    ]
    return _matches(costs, targets.counts, mask_logits.shape[1], device)


def _pair_costs(
    mask_logits: Tensor,
    class_logits: Tensor,
    masks: Tensor,
    classes: Tensor,
    points: Tensor,
    config: EomtConfig,
) -> Tensor:
    """Costs (Q, n) of pairing each query of one image with each of its targets."""
    logits = sample_points(mask_logits.unsqueeze(0).float(), points).squeeze(0)  # (Q, P)
    wanted = sample_points(masks.unsqueeze(0).float(), points).squeeze(0)  # (n, P)
    probabilities = logits.sigmoid()
    # softplus(-x) = softplus(x) - x, so the cross-entropy of all pairs needs one product with the targets, not two.
    cross_entropy = (F.softplus(logits).sum(1, keepdim=True) - logits @ wanted.T) / points.shape[1]
    overlap = 2 * probabilities @ wanted.T
    dice = 1 - (overlap + 1) / (probabilities.sum(1, keepdim=True) + wanted.sum(1) + 1)
    of_class = -class_logits.softmax(1)[:, classes]
    return config.mask_weight * cross_entropy + config.class_weight * of_class + config.dice_weight * dice


def _matches(costs: list[Tensor], counts: list[int], queries: int, device: torch.device) -> Matches:
    """Solve the assignment of every image on the host: one transfer there, one back."""
    flat = torch.cat([cost.flatten() for cost in costs]).cpu().numpy() if costs else np.empty(0, np.float32)
    image_of, query_of, target_of = [], [], []
    start = first_target = 0
    for image, number in enumerate(counts):
        rows, columns = assign(flat[start : start + queries * number].reshape(queries, number))
        image_of.append(np.full(len(rows), image, np.int64))
        query_of.append(rows)
        target_of.append(columns + first_target)
        start, first_target = start + queries * number, first_target + number
    pairs = np.stack([np.concatenate(part) for part in (image_of, query_of, target_of)])
    image_index, query_index, target_index = torch.from_numpy(pairs.astype(np.int64)).to(device)
    return Matches(image_index, query_index, target_index)


def assign(cost: NDArray[np.floating[Any]]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows (ascending) and columns of the cheapest one-to-one assignment of a cost matrix (Q, n): min(Q, n) pairs.

    NaN and infinite costs are taken only where no others are left. They stand for a price just above any set of finite
    pairs, not for the largest float as in transformers: that swallows the other costs in the solver's sums, and the
    pairs which it then finds are not the cheapest.
    """
    price = cost.astype(np.float64)
    valid = np.isfinite(price)
    finite = price[valid] if valid.any() else np.zeros(1)
    price[~valid] = finite.max() + (np.ptp(finite) + 1) * min(price.shape)
    # Here and not above: half a second, which predictions need not wait for.
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(price)
    return rows, columns


def _join_targets(mask_labels: Sequence[Tensor], class_labels: Sequence[Tensor]) -> Targets:
    """One tensor of all images' masks and one of their classes; raises ValueError where they do not pair up."""
    if len(mask_labels) != len(class_labels):
        raise ValueError(
            f"{len(mask_labels)} mask_labels but {len(class_labels)} class_labels: give one of each per image"
        )
    size = mask_labels[0].shape[1:] if len(mask_labels) else None  # labels may come stacked, as one tensor
    for image, (masks, classes) in enumerate(zip(mask_labels, class_labels, strict=True)):
        if masks.ndim != 3 or classes.shape != masks.shape[:1]:
            raise ValueError(
                f"image {image} of the batch: mask_labels of shape {tuple(masks.shape)} and class_labels of shape"
                f" {tuple(classes.shape)} do not pair up; expected (n, height, width) and (n,)"
            )
        if masks.shape[1:] != size:
            raise ValueError(
                f"image {image} of the batch: masks of size {tuple(masks.shape[1:])}, but image 0 has"
                f" {tuple(mask_labels[0].shape[1:])}; bring all masks to the size of the model's input"
            )
    return Targets(torch.cat(list(mask_labels)), torch.cat(list(class_labels)).long(), [len(c) for c in class_labels])


def _check_targets(targets: Targets, predictions: Sequence[tuple[Tensor, Tensor]], num_labels: int) -> None:
    """Raise ValueError where a prediction has another batch size than the labels, or a class is out of range."""
    for mask_logits, _ in predictions:
        if len(mask_logits) != len(targets.counts):
            raise ValueError(f"predictions of {len(mask_logits)} images, but labels of {len(targets.counts)}")
    if not len(targets.classes):
        return
    lowest, highest = torch.stack([targets.classes.min(), targets.classes.max()]).tolist()
    if lowest < 0 or highest >= num_labels:
        wrong = lowest if lowest < 0 else highest
        raise ValueError(
            f"class_labels hold {wrong}, outside 0..{num_labels - 1}; map the classes to that range or set num_labels"
        )


def _mean_target_count(targets: Targets) -> Tensor:
    """Targets of a batch, averaged over the processes that train together and at least 1: a float scalar."""
    count = torch.tensor(float(sum(targets.counts)), device=targets.masks.device)
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(count)
        count /= torch.distributed.get_world_size()
    return count.clamp(min=1)
