"""Whole small files of every format, for readers to begin from."""

import io
import json
import struct
import tarfile
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
import pycocotools.mask as coco_mask
from numpy.typing import NDArray
from PIL import Image

HEIGHT, WIDTH = 6, 8
MASK = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
MASK[1:4, 2:6] = 1
COUNTS: bytes = coco_mask.encode(np.asfortranarray(MASK))["counts"]
CATEGORIES = [
    {"id": 1, "name": "cat", "isthing": 1, "color": [1, 2, 3]},
    {"id": 7, "name": "sky", "isthing": 0, "supercategory": "stuff"},
]
IMAGES = [
    {"id": 1, "file_name": "a.png", "height": HEIGHT, "width": WIDTH},
    {"id": 2, "file_name": "sub/b.png", "height": HEIGHT, "width": WIDTH},
]


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode()


def instances() -> tuple[bytes, ...]:
    """COCO instances with masks of every form."""
    common = {"iscrowd": 0, "area": 12.0, "bbox": [2, 1, 4, 3], "category_id": 1}
    rle = {"size": [HEIGHT, WIDTH], "counts": COUNTS.decode()}
    uncompressed = {"size": [HEIGHT, WIDTH], "counts": [10, 12, 26]}
    annotations: list[Mapping[str, Any]] = [
        {"id": 3, "image_id": 1, "segmentation": [[1, 1, 5, 1, 5, 4, 1, 4]], **common},
        {"id": 4, "image_id": 1, "segmentation": rle, **common},
        {"id": 5, "image_id": 2, "segmentation": uncompressed, **common, "iscrowd": 1},
    ]
    whole = {"images": IMAGES, "annotations": annotations, "categories": CATEGORIES}
    unsized = [{"id": 1, "file_name": "a.png"}, {"id": "2", "file_name": "sub/b.png"}]
    return as_json(whole), as_json({**whole, "images": unsized, "info": {}})


def panoptic(predicted: bool = False) -> tuple[bytes, ...]:
    """COCO panoptic for the PNG of `panoptic_png`."""
    extra: dict[str, Any] = {"score": 0.5} if predicted else {"iscrowd": 0, "area": 12, "bbox": [2, 1, 4, 3]}
    infos = [{"id": 5, "category_id": 1, **extra}, {"id": 66000, "category_id": 7, **extra}]
    annotations = [{"image_id": 1, "file_name": "a.png", "segments_info": infos}]
    return (as_json({"images": IMAGES, "annotations": annotations, "categories": CATEGORIES}),)


def results() -> tuple[bytes, ...]:
    """COCO results with masks, with boxes, with polygons."""
    common = {"category_id": 1, "score": 0.9}
    rle = {"size": [HEIGHT, WIDTH], "counts": COUNTS.decode()}
    box = [2, 1, 4, 3]
    return (
        as_json([{"image_id": 1, "segmentation": rle, **common}, {"image_id": 2, "segmentation": rle, **common}]),
        as_json([{"image_id": 1, "bbox": box, **common}, {"image_id": 2, "bbox": box, **common}]),
        as_json([{"image_id": 1, "bbox": box, "segmentation": [[1, 1, 5, 1, 5, 4]], **common}]),
    )


def png(pixels: NDArray[np.generic], mode: str | None = None, form: str = "PNG") -> bytes:
    """Pixels as an image file."""
    file = io.BytesIO()
    image = Image.fromarray(pixels)
    (image if mode is None else image.convert(mode)).save(file, form)
    return file.getvalue()


def label_map(values: tuple[int, int] = (1, 7), dtype: type = np.uint8) -> NDArray[Any]:
    return np.where(MASK, values[0], values[1]).astype(dtype)


def panoptic_png() -> bytes:
    """Ids 5, 66000 (which needs all three channels) and void."""
    ids = label_map((5, 66000), np.int64)
    ids[0] = 0
    return png(np.stack([ids & 255, ids >> 8 & 255, ids >> 16], axis=-1).astype(np.uint8))


def label_maps() -> tuple[bytes, ...]:
    return png(label_map()), png(label_map(), "P"), png(label_map(dtype=np.uint16)), png(label_map((1, 0)), "1")


def pictures() -> tuple[bytes, ...]:
    """A photo in every format that data sets come in."""
    pixels = np.arange(HEIGHT * WIDTH * 3, dtype=np.uint8).reshape(HEIGHT, WIDTH, 3)
    return (
        *(png(pixels, form=form) for form in ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "PPM")),
        *(png(pixels, mode, form) for mode, form in (("L", "PNG"), ("CMYK", "JPEG"), ("RGBA", "PNG"), ("P", "PNG"))),
        png(pixels, form="GIF"),
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 6\n%%EndComments\nshowpage\n",
    )


def archives() -> tuple[bytes, ...]:
    """Zip and tar, packed and not, with folders; and ones that climb out, which are to be refused."""
    contents = {"a/one.txt": b"one" * 99, "a/b/two.txt": b"two", "three": b""}
    return (
        zipped(contents),
        *(tarred(contents, mode) for mode in ("w", "w:gz", "w:xz", "w:bz2")),
        zipped({"../out.txt": b"x"}),
        tarred({"/etc/out.txt": b"x"}),
        linked(),
    )


def zipped(contents: Mapping[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return file.getvalue()


def tarred(contents: Mapping[str, bytes], mode: str = "w") -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in contents.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


def linked() -> bytes:
    """A tar with a link out of its folder, and a file behind it."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        link = tarfile.TarInfo("a")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc"
        archive.addfile(link)
        archive.addfile(tarfile.TarInfo("a/behind"))
    return file.getvalue()


def rle_inputs() -> tuple[bytes, ...]:
    """(height, width) in two bytes, then counts."""
    head = struct.pack("BB", HEIGHT, WIDTH)
    chequered = np.indices((HEIGHT, WIDTH)).sum(axis=0) % 2
    masks = (MASK, np.zeros_like(MASK), np.ones_like(MASK), chequered.astype(np.uint8))
    return tuple(head + coco_mask.encode(np.asfortranarray(mask))["counts"] for mask in masks)
