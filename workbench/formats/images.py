"""A folder of images without labels, and how a folder's images get their ids."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import PurePosixPath

import pyarrow as pa

from workbench.catalog.class_tables import read_class_table
from workbench.catalog.definitions import DatasetDefinition
from workbench.errors import DatasetError
from workbench.files.digests import content_digests, text_digest
from workbench.formats.base import Category, Dataset, ImageRecord, Task
from workbench.formats.paths import Folder
from workbench.formats.problems import Problem, refuse


def list_images(definition: DatasetDefinition) -> tuple[dict[str, ImageRecord], list[Problem]]:
    """The images of the definition's folder and its subfolders by id, ascending, and names that share an id.

    An image's id is its path below the folder without the ending and `images_suffix`: `ADE_val_00000001`,
    `frankfurt/frankfurt_000000_000294`. Raises DatasetError where there is no such folder.
    """
    folder = Folder(definition.resolve(definition.images or "."), definition.follow_links)
    of_id: dict[str, str] = {}
    problems = []
    for name in folder.images():
        stem = str(PurePosixPath(name).with_suffix(""))
        if not stem.endswith(definition.images_suffix):
            continue
        image_id = stem.removesuffix(definition.images_suffix)
        if image_id in of_id:
            detail = f"{of_id[image_id]} and {name} both are image {image_id}"
            problems.append(Problem("duplicate_image", name, detail))
        else:
            of_id[image_id] = name
    records = {
        image_id: ImageRecord(image_id, of_id[image_id], folder.file(of_id[image_id]), ordinal)
        for ordinal, image_id in enumerate(sorted(of_id))
    }
    return records, problems


class ImagesDataset(Dataset):
    """Unlabelled images; with a class table it also has categories."""

    @cached_property
    def _listed(self) -> tuple[dict[str, ImageRecord], list[Problem]]:
        return list_images(self.definition)

    @property
    def categories(self) -> tuple[Category, ...]:
        """Those of the class table; empty without one."""
        path = self.definition.class_table
        return read_class_table(path).categories if path else ()

    @property
    def tasks(self) -> tuple[Task, ...]:
        """None: there is no ground truth."""
        return ()

    def images(self) -> Sequence[ImageRecord]:
        """See `Dataset.images`."""
        records, problems = self._listed
        refuse(problems)
        return tuple(records.values())

    def problems(self) -> list[Problem]:
        """What is wrong with the list of images."""
        return self._listed[1]

    def ground_truth(self, task: Task, images_per_table: int = 256) -> Iterator[tuple[pa.Table, pa.Table]]:
        """Raises DatasetError: there is none."""
        raise DatasetError(
            f"{self.definition.name} is a folder of unlabelled images: it has no {task} ground truth. "
            "Use a dataset of format coco or ade20k."
        )

    def fingerprint(self) -> str:
        """Hex digest of the images' names and the class table."""
        table = [self.definition.class_table] if self.definition.class_table else []
        return text_digest(["images 1", *content_digests(table), *(image.file_name for image in self.images())])
