"""The names of the formats that `workbench import` reads and `workbench export` writes."""

from typing import Literal, get_args

TransferFormat = Literal["coco-results", "coco-panoptic", "index-png"]
TRANSFER_FORMATS: tuple[TransferFormat, ...] = get_args(TransferFormat)
AnnotationFormat = Literal["cvat", "label-studio"]
"""Pre-annotations, written only: what people correct there is ground truth, and no run."""
ANNOTATION_FORMATS: tuple[AnnotationFormat, ...] = get_args(AnnotationFormat)
ExportFormat = TransferFormat | AnnotationFormat
EXPORT_FORMATS: tuple[ExportFormat, ...] = (*TRANSFER_FORMATS, *ANNOTATION_FORMATS)
