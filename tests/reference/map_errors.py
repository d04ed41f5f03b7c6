"""Error types of panoptic segments, one segment after another, from their pixels: slow and obvious."""

import numpy as np
from numpy.typing import NDArray

from tests.reference.scenes import PanopticImage

Found = dict[tuple[str, int], str]
"""(side, id in the label map) -> error type; void rows of the ground truth left out."""


def types_of(gt: PanopticImage, pred: PanopticImage, matches: set[tuple[int, int]], ignored: set[int]) -> Found:
    """The types of one image, given PQ's matches as (gt id, predicted id), and what PQ ignores."""
    return _Image(gt, pred, matches, ignored).types()


class _Image:
    def __init__(
        self, gt: PanopticImage, pred: PanopticImage, matches: set[tuple[int, int]], ignored: set[int]
    ) -> None:
        self.void = gt.label_map == 0
        self.crowds = [entry for entry in gt.listed if entry.iscrowd]
        self.gts = [entry for entry in gt.listed if not entry.iscrowd]
        self.preds = list(pred.listed)
        self.gt_mask = {entry.id: gt.label_map == entry.id for entry in gt.listed}
        self.whole = {entry.id: pred.label_map == entry.id for entry in pred.listed}
        self.pred_mask = {key: mask & ~self.void for key, mask in self.whole.items()}
        self.matches, self.ignored = matches, ignored

    def types(self) -> Found:
        found = {("gt", crowd.id): "crowd" for crowd in self.crowds}
        found |= {("gt", g.id): self.of_gt(g) for g in self.gts}
        return found | {("pred", p.id): self.of_pred(p) for p in self.preds}

    def of_pred(self, p) -> str:
        own = [g for g in self.gts if g.category_id == p.category_id]
        if any(p.id == pair[1] for pair in self.matches):
            return "matched"
        if p.id in self.ignored:
            on_void = int((self.whole[p.id] & self.void).sum())
            on_crowds = sum(
                int((self.whole[p.id] & self.gt_mask[c.id]).sum())
                for c in self.crowds
                if c.category_id == p.category_id
            )
            return "void" if on_void >= on_crowds else "crowd"
        if any(self.iou(g, p) > 0.5 for g in self.gts if g.category_id != p.category_id):
            return "wrong_class"
        if self.covers_several(p):
            return "merged"
        if any(self.is_split(g) and self.lies_in(p, g) for g in own):
            return "split"
        if any(self.lies_in(p, g) and self.is_matched(g) for g in own):
            return "duplicate"
        if any(self.lies_in(p, g) or self.iou(g, p) >= 0.1 for g in own):
            return "poor_outline"
        return "background"

    def of_gt(self, g) -> str:
        own = [p for p in self.preds if p.category_id == g.category_id]
        if self.is_matched(g):
            return "matched"
        if any(self.iou(g, p) > 0.5 for p in self.preds if p.category_id != g.category_id):
            return "wrong_class"
        if self.is_split(g):
            return "split"
        if any(self.covers(p, g) and (self.covers_several(p) or self.has_match(p)) for p in own):
            return "merged"
        if any(self.iou(g, p) >= 0.1 for p in own):
            return "poor_outline"
        return "missed"

    def is_matched(self, g) -> bool:
        return any(g.id == pair[0] for pair in self.matches)

    def has_match(self, p) -> bool:
        return any(p.id == pair[1] for pair in self.matches)

    def shared(self, g, p) -> NDArray[np.bool_]:
        return self.gt_mask[g.id] & self.pred_mask[p.id]

    def iou(self, g, p) -> float:
        union = int((self.gt_mask[g.id] | self.pred_mask[p.id]).sum())
        return int(self.shared(g, p).sum()) / union if union else 0.0

    def lies_in(self, p, g) -> bool:
        return 2 * int(self.shared(g, p).sum()) > int(self.pred_mask[p.id].sum())

    def covers(self, p, g) -> bool:
        return 2 * int(self.shared(g, p).sum()) > int(self.gt_mask[g.id].sum())

    def covers_several(self, p) -> bool:
        return sum(self.covers(p, g) for g in self.gts if g.category_id == p.category_id) > 1

    def is_split(self, g) -> bool:
        if self.is_matched(g):
            return False
        parts = [
            p for p in self.preds if p.category_id == g.category_id and self.lies_in(p, g) and not self.has_match(p)
        ]
        together = sum(int(self.shared(g, p).sum()) for p in parts)
        return len(parts) > 1 and 2 * together > int(self.gt_mask[g.id].sum())
