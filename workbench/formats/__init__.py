"""One module a format: files on disk <-> segment tables. `open_dataset` is the way in."""

from workbench.catalog.definitions import DatasetDefinition
from workbench.formats.base import Dataset

__all__ = ["open_dataset"]


def open_dataset(definition: DatasetDefinition) -> Dataset:
    """The dataset that a definition describes, its files opened as they are needed.

    Raises DatasetError, now or on first use, for files that are missing or break their format.
    """
    from workbench.formats.pixel_limit import (
        apply_pixel_limit,  # these imports wait: Pillow and others cost start-up time
    )

    apply_pixel_limit()
    if definition.format == "coco":
        from workbench.formats.coco import CocoDataset

        return CocoDataset(definition)
    if definition.format == "ade20k":
        from workbench.formats.ade20k import Ade20kDataset

        return Ade20kDataset(definition)
    from workbench.formats.images import ImagesDataset

    return ImagesDataset(definition)
