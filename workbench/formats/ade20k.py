"""ADE20K-style datasets: a folder of images and one of label maps, and JSON annotations where they exist."""

from collections.abc import Mapping
from functools import cached_property

from workbench.formats.annotated import AnnotatedDataset
from workbench.formats.base import Category, ImageRecord
from workbench.formats.images import list_images
from workbench.formats.problems import Problem


class Ade20kDataset(AnnotatedDataset):
    """Images are those of the folder, classes those of the class table.

    Panoptic and instance files, as Mask2Former's preparation of ADE20K writes them, name images by their stem and count
    categories from 0: `category_id_offset = 1` brings them to the label maps' numbers.
    """

    @cached_property
    def _listed(self) -> tuple[dict[str, ImageRecord], list[Problem]]:
        return list_images(self.definition)

    @cached_property
    def category_map(self) -> Mapping[int, Category]:
        """The class table."""
        return {category.category_id: category for category in self.class_table.categories}

    @cached_property
    def image_map(self) -> Mapping[str, ImageRecord]:
        """The folder's images."""
        return self._listed[0]

    @cached_property
    def file_problems(self) -> list[Problem]:
        """What is wrong with the folder's names, and within the JSON files."""
        return self._listed[1] + [problem for file in self.files.values() for problem in file.problems]
