"""COCO datasets: a panoptic JSON with its PNGs, an instances JSON, or both, and label maps where there are some."""

from collections.abc import Mapping
from functools import cached_property

from workbench.formats.annotated import AnnotatedDataset
from workbench.formats.base import Category, ImageRecord
from workbench.formats.coco_json import in_order
from workbench.formats.problems import Problem


class CocoDataset(AnnotatedDataset):
    """Images and categories are those of the JSON files; where both list one, the panoptic file's word counts."""

    @cached_property
    def category_map(self) -> Mapping[int, Category]:
        """The files' categories; with label maps, those of the class table too."""
        categories: dict[int, Category] = {}
        for file in self.files.values():
            categories = {**file.categories, **categories}
        if self.definition.annotations is not None:
            categories = {**{category.category_id: category for category in self.class_table.categories}, **categories}
        return dict(sorted(categories.items()))

    @cached_property
    def image_map(self) -> Mapping[str, ImageRecord]:
        """The files' images."""
        images: dict[str, ImageRecord] = {}
        for file in self.files.values():
            images = {**file.images, **images}
        return in_order(images.values())

    @cached_property
    def file_problems(self) -> list[Problem]:
        """What is wrong within the JSON files, and between them."""
        found = [problem for file in self.files.values() for problem in file.problems]
        for file in self.files.values():
            for image_id, image in file.images.items():
                kept = self.image_map[image_id]
                if (image.file_name, image.size_hw) != (kept.file_name, kept.size_hw):
                    detail = (
                        f"{file.path.name} has {image.file_name} {image.size_hw}, not {kept.file_name} {kept.size_hw}"
                    )
                    found.append(Problem("image_disagreement", f"image {image_id}", detail))
        return found
