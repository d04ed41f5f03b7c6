"""What can be wrong with a dataset's files: one list of codes, which readers refuse and `datasets check` counts."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from workbench.errors import DatasetError

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, at one place."""

    code: str
    """A key of `KINDS`."""
    where: str
    """The image, annotation or file concerned, e.g. "image 285"."""
    detail: str
    """What is wrong there, with the value."""


@dataclass(frozen=True)
class ProblemKind:
    """What a code means for the reader, and what to do about it."""

    severity: Severity
    advice: str
    refused: bool = False
    """Whether ground truth cannot be read past it."""


def _refused(advice: str) -> ProblemKind:
    return ProblemKind("error", advice, refused=True)


def _error(advice: str) -> ProblemKind:
    return ProblemKind("error", advice)


def _warning(advice: str) -> ProblemKind:
    return ProblemKind("warning", advice)


KINDS: dict[str, ProblemKind] = {
    # files
    "file_missing": _refused("Put it there, correct the definition, or run `workbench datasets download`."),
    "optional_missing": _warning("The definition calls it optional; tasks that only it allows are not offered."),
    "unreadable": _refused("Repair the file, or fetch it again with `workbench datasets download`."),
    "no_images": _error("Put images there, or correct `root` and `images` in the definition."),
    "image_missing": _error(
        "Put the file there, or take the image out of the annotations; `predict` marks it as failed."
    ),
    "image_undecodable": _error("Fetch the file again; `predict` marks the image as failed."),
    "image_too_large": _error(
        "Scale it down or, if you trust it, allow more pixels: `WORKBENCH_MAX_PIXELS=400000000`, for every command."
    ),
    "image_mode": _error("Scale its channels to 8 bits and write it again; `predict` marks the image as failed."),
    "image_size": _error("Image and annotations must have one size: fetch the image again, or correct the JSON."),
    "image_rotated": _warning(
        "EXIF asks viewers to rotate it; COCO's tools and ours do not. Annotations must fit the unrotated image."
    ),
    "no_images_folder": _warning("The definition names no `images` folder: evaluation works, `predict` cannot."),
    "unsafe_name": _refused(
        "File names must stay below their folder; for links of your own set `follow_links = true`."
    ),
    # JSON records
    "bad_record": _refused("Add the missing key, or correct its value."),
    "duplicate_image": _refused("Give every image its own id and list it once."),
    "image_disagreement": _warning(
        "The panoptic and the instances file describe the image differently; the first wins."
    ),
    "duplicate_category": _refused("Give every category its own id."),
    "unknown_category": _refused("Add the category to the file's `categories`, or correct the id."),
    # panoptic
    "duplicate_annotation": _refused("Keep one entry in `annotations` for each image."),
    "annotation_of_no_image": _refused("Add the image to `images`, or remove the entry."),
    "image_unannotated": _warning("The image has no entry in `annotations`: panopticapi does not score it, nor do we."),
    "duplicate_segment": _refused("Give every segment of an image its own id."),
    "segment_void_id": _refused("Id 0 means void in the PNG: give the segment another id, in the JSON and the PNG."),
    "segment_unlisted": _refused(
        'Add it to segments_info, or say in the definition what it is: `unlisted = "void"` makes the pixels void, '
        '`unlisted = "uncovered"` neither void nor segment, as panopticapi has it.'
    ),
    "segment_unpainted": _warning("The PNG has no pixel of it: panopticapi counts it as missed, and so do we."),
    # label maps
    "map_missing": _refused("Put the label map there, or take the image out."),
    "map_undecodable": _refused("Write the label map again."),
    "map_mode": _refused("Panoptic PNGs are 8-bit RGB (id = R + 256 G + 65536 B), label maps have one channel."),
    "map_size": _refused("A label map must have its image's size."),
    "map_of_no_image": _warning("The label map belongs to no image of the dataset; it is not read."),
    "unknown_label": _refused("Add the label to the class table, or to `void` in the definition."),
    "unmapped_id": _refused("Add the instance id to instance_id_to_semantic_id, or to `void` in the definition."),
    # instances
    "instance_of_no_image": _warning(
        "Its image is not in `images`: pycocotools leaves the annotation out, and so do we."
    ),
    "duplicate_id": _error("Give every annotation its own id: pycocotools keeps only the last one under an id."),
    "id_zero": _warning(
        "pycocotools reads the id 0 as 'no match', so this object never counts as found. Count from 1."
    ),
    "no_mask": _refused("Give the annotation a segmentation: polygons or RLE."),
    "bad_mask": _refused("Write the segmentation again; RLE counts sum to height x width, polygons have 3 points."),
    "odd_polygon": _warning(
        "A polygon has fewer than 3 points or an odd number of values; pycocotools' result is kept."
    ),
    "empty_mask": _warning("The segmentation covers no pixel, so no prediction can find it."),
    "area_missing": _warning("pycocotools needs `area`; the mask's own pixels stand in for it."),
    "area_differs": _warning("`area` and the mask differ by more than 5% and 10 px; AP's size ranges follow `area`."),
}


def refuse(problems: Iterable[Problem]) -> None:
    """Raise DatasetError for the first problem that ground truth cannot be read past."""
    for problem in problems:
        if KINDS[problem.code].refused:
            raise DatasetError(f"{problem.where}: {problem.detail}. {KINDS[problem.code].advice}")
