"""The names of the formats that `workbench import` reads and `workbench export` writes."""

from typing import Literal, get_args

TransferFormat = Literal["coco-results", "coco-panoptic", "index-png"]
TRANSFER_FORMATS: tuple[TransferFormat, ...] = get_args(TransferFormat)
AnnotationFormat = Literal["cvat", "label-studio"]
"""Pre-annotations, written only: what people correct there is ground truth, and no run."""
ANNOTATION_FORMATS: tuple[AnnotationFormat, ...] = get_args(AnnotationFormat)
LakeFormat = Literal["parquet"]
"""Many runs as one table, written only: for SQL engines and data frames."""
ExportFormat = TransferFormat | AnnotationFormat | LakeFormat
EXPORT_FORMATS: tuple[ExportFormat, ...] = (*TRANSFER_FORMATS, *ANNOTATION_FORMATS, *get_args(LakeFormat))
