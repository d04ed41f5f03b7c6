"""The published checkpoints: one table of what their configuration files say."""

from collections.abc import Sequence
from dataclasses import dataclass

from workbench.formats.base import Task

OWNER = "tue-mps"


@dataclass(frozen=True)
class Architecture:
    """A ViT's size: widths, depth, and in how many of its last layers the queries take part."""

    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_blocks: int


ARCHITECTURES = {
    "small": Architecture(384, 12, 6, 3),
    "base": Architecture(768, 12, 12, 3),
    "large": Architecture(1024, 24, 16, 4),
    "giant": Architecture(1536, 40, 24, 5),
    "7b": Architecture(4096, 32, 32, 5),
}


@dataclass(frozen=True)
class PublishedModel:
    """One checkpoint on the hub."""

    name: str
    task: Task
    size: str
    image_size: int
    """Edge of the square input, in pixels."""
    num_labels: int
    backbone: str
    """What its ViT was pre-trained by: "DINOv2", "DINOv3" or, for 7b, "Web-DINO"."""

    @property
    def model_id(self) -> str:
        """Its id on the hub."""
        return f"{OWNER}/{self.name}"

    @property
    def architecture(self) -> Architecture:
        """The ViT's sizes."""
        return ARCHITECTURES[self.size]

    @property
    def num_queries(self) -> int:
        """100 for semantic segmentation, else 200."""
        return 100 if self.task == "semantic" else 200


PUBLISHED: Sequence[PublishedModel] = (
    PublishedModel("coco_panoptic_eomt_small_640_2x", "panoptic", "small", 640, 133, "DINOv2"),
    PublishedModel("coco_panoptic_eomt_base_640_2x", "panoptic", "base", 640, 133, "DINOv2"),
    PublishedModel("coco_panoptic_eomt_large_640", "panoptic", "large", 640, 133, "DINOv2"),
    PublishedModel("coco_panoptic_eomt_large_1280", "panoptic", "large", 1280, 133, "DINOv2"),
    PublishedModel("coco_panoptic_eomt_giant_640", "panoptic", "giant", 640, 133, "DINOv2"),
    PublishedModel("coco_panoptic_eomt_7b_640", "panoptic", "7b", 640, 133, "Web-DINO"),
    PublishedModel("coco_instance_eomt_large_640", "instance", "large", 640, 80, "DINOv2"),
    PublishedModel("coco_instance_eomt_large_1280", "instance", "large", 1280, 80, "DINOv2"),
    PublishedModel("ade20k_panoptic_eomt_large_640", "panoptic", "large", 640, 150, "DINOv2"),
    PublishedModel("ade20k_panoptic_eomt_large_1280", "panoptic", "large", 1280, 150, "DINOv2"),
    PublishedModel("ade20k_panoptic_eomt_giant_640", "panoptic", "giant", 640, 150, "DINOv2"),
    PublishedModel("ade20k_panoptic_eomt_giant_1280", "panoptic", "giant", 1280, 150, "DINOv2"),
    PublishedModel("ade20k_semantic_eomt_large_512", "semantic", "large", 512, 150, "DINOv2"),
    PublishedModel("cityscapes_semantic_eomt_large_1024", "semantic", "large", 1024, 19, "DINOv2"),
    PublishedModel("eomt-dinov3-coco-panoptic-small-640", "panoptic", "small", 640, 133, "DINOv3"),
    PublishedModel("eomt-dinov3-coco-panoptic-base-640", "panoptic", "base", 640, 133, "DINOv3"),
    PublishedModel("eomt-dinov3-coco-panoptic-large-640", "panoptic", "large", 640, 133, "DINOv3"),
    PublishedModel("eomt-dinov3-coco-panoptic-large-1280", "panoptic", "large", 1280, 133, "DINOv3"),
    PublishedModel("eomt-dinov3-coco-instance-large-640", "instance", "large", 640, 80, "DINOv3"),
    PublishedModel("eomt-dinov3-coco-instance-large-1280", "instance", "large", 1280, 80, "DINOv3"),
    PublishedModel("eomt-dinov3-ade-semantic-large-512", "semantic", "large", 512, 150, "DINOv3"),
)


def published(model_id: str) -> PublishedModel | None:
    """The entry of that hub id, if there is one."""
    return next((model for model in PUBLISHED if model.model_id == model_id), None)
