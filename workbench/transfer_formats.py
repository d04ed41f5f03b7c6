"""The names of the formats that `workbench import` reads and `workbench export` writes."""

from typing import Literal, get_args

TransferFormat = Literal["coco-results", "coco-panoptic", "index-png"]
TRANSFER_FORMATS: tuple[TransferFormat, ...] = get_args(TransferFormat)
