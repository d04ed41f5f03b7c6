"""What is wrong with a dataset's files, found in one pass: each kind of problem once, with a count and examples."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from PIL import Image

from eomt.image_modes import mode_problem
from workbench.catalog.definitions import FILE_KEYS, DatasetDefinition
from workbench.errors import DatasetError
from workbench.formats import open_dataset
from workbench.formats.annotated import AnnotatedDataset, thread_pool
from workbench.formats.base import Dataset, ImageRecord
from workbench.formats.images import ImagesDataset
from workbench.formats.pictures import UNDECODABLE, decode_fully
from workbench.formats.problems import KINDS, Problem, Severity
from workbench.formats.rows import Entry, GroundTruthSource
from workbench.formats.tasks import annotation_kinds
from workbench.storage import exists, shown

_EXAMPLES = 5
_AT_ONCE = 256  # images in flight

Size = tuple[int, int]
"""(height, width) in pixels."""

Progress = Callable[[str, int, int], None]
"""Called with (what is being read, how many of them are done, how many there are)."""


@dataclass(frozen=True)
class Finding:
    """One kind of problem, everywhere it occurs."""

    code: str
    severity: Severity
    count: int
    examples: tuple[str, ...]
    """The first few, each with its place and what is wrong there."""
    advice: str


@dataclass(frozen=True)
class Report:
    """What a check found. Errors come first, then warnings, the most frequent first."""

    dataset: str
    images: int
    segments: dict[str, int]
    """Rows of ground truth by kind of annotation, void rows left out."""
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether there is no error; warnings may remain."""
        return not any(finding.severity == "error" for finding in self.findings)

    def as_json(self) -> dict[str, Any]:
        """The report as `datasets check --json` prints it."""
        return {"ok": self.ok, **asdict(self)}


def check(definition: DatasetDefinition, progress: Progress | None = None) -> Report:
    """Read every file of a dataset, and collect what is wrong instead of stopping at the first.

    Images are decoded to their end, label maps and masks converted as for evaluation. What is wrong with the dataset's
    files is in the report, never raised.
    """
    found = _Collector()
    dataset = open_dataset(definition)
    report = progress or (lambda *_: None)
    images: Sequence[ImageRecord] = ()
    segments: dict[str, int] = {}
    missing = list(_missing_files(definition))
    found.add(missing)
    # COCO's files list the images: without their folder each is reported missing, and the annotations are still read.
    listed = "images" if definition.format == "coco" else None
    if any(problem.code == "file_missing" and problem.where != listed for problem in missing):
        return Report(definition.name, 0, {}, found.findings())
    try:
        images = _images(dataset)
        if not images:
            place = "the JSON" if definition.format == "coco" else shown(definition.resolve(definition.images or "."))
            found.add([Problem("no_images", definition.name, f"there are none in {place}")])
        found.add(dataset.problems() if isinstance(dataset, AnnotatedDataset | ImagesDataset) else [])
        sizes = _check_images(definition, images, found, report)
        if isinstance(dataset, AnnotatedDataset):
            dataset.fetch_pictures()
            for kind, source in dataset.sources.items():
                segments[kind] = _check_source(kind, source, sizes, found, report)
    except DatasetError as error:
        found.add([Problem("unreadable", definition.name, str(error))])
    return Report(definition.name, len(images), segments, found.findings())


class _Collector:
    """Problems, counted by kind."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._examples: dict[str, list[str]] = {}

    def add(self, problems: Iterable[Problem]) -> None:
        for problem in problems:
            self._counts[problem.code] = self._counts.get(problem.code, 0) + 1
            examples = self._examples.setdefault(problem.code, [])
            if len(examples) < _EXAMPLES:
                examples.append(f"{problem.where}: {problem.detail}")

    def findings(self) -> tuple[Finding, ...]:
        found = [
            Finding(code, KINDS[code].severity, count, tuple(self._examples[code]), KINDS[code].advice)
            for code, count in self._counts.items()
        ]
        return tuple(sorted(found, key=lambda finding: (finding.severity, -finding.count, finding.code)))


def _missing_files(definition: DatasetDefinition) -> Iterator[Problem]:
    """Files that the definition names and that are not there."""
    kinds = annotation_kinds(definition)
    for key in FILE_KEYS:
        if (relative := getattr(definition, key)) is None or exists(path := definition.resolve(relative)):
            continue
        optional = key in definition.optional and key not in kinds.values()
        yield Problem("optional_missing" if optional else "file_missing", key, f"{shown(path)} does not exist")


def _images(dataset: Dataset) -> Sequence[ImageRecord]:
    """The images that can be listed, however wrong other records are."""
    if isinstance(dataset, AnnotatedDataset):
        return tuple(dataset.image_map.values())
    return dataset.images()


def _check_images(
    definition: DatasetDefinition, images: Sequence[ImageRecord], found: _Collector, progress: Progress
) -> dict[str, Size]:
    """The (height, width) of each image that can be decoded."""
    if definition.images is None:
        found.add([Problem("no_images_folder", shown(definition.source), "no key `images`")])
        return {}
    sizes = {}
    with thread_pool() as pool:
        for start in range(0, len(images), _AT_ONCE):
            part = images[start : start + _AT_ONCE]
            for image, (size_hw, problems) in zip(part, pool.map(_check_image, part), strict=True):
                found.add(problems)
                if size_hw is not None:
                    sizes[image.image_id] = size_hw
            progress("images", start + len(part), len(images))
    return sizes


def _check_image(image: ImageRecord) -> tuple[Size | None, list[Problem]]:
    where, place = f"image {image.image_id}", shown(image.path)
    try:
        size_hw, rotated, mode = decode_fully(image.path)
    except FileNotFoundError:
        return None, [Problem("image_missing", where, f"{place} does not exist")]
    except Image.DecompressionBombError as error:
        return None, [Problem("image_too_large", where, f"{place} ({error})")]
    except UNDECODABLE as error:
        return None, [Problem("image_undecodable", where, f"{place} ({error})")]
    problems = [Problem("image_rotated", where, "its EXIF orientation is not upright")] if rotated else []
    if not_rgb := mode_problem(mode):
        problems.append(Problem("image_mode", where, f"{place} {not_rgb}"))
    if image.size_hw not in (None, size_hw):
        detail = f"the file is {size_hw} (height, width), the annotations say {image.size_hw}"
        problems.append(Problem("image_size", where, detail))
    return size_hw, problems


def _check_source(
    kind: str, source: GroundTruthSource, sizes: Mapping[str, Size], found: _Collector, progress: Progress
) -> int:
    """The segments of a source, void left out."""
    segments = 0

    def convert(entry: Entry) -> tuple[int, list[Problem]]:
        record = entry.record
        if record.size_hw is None:  # nothing declares it: the label map must then fit the image itself
            entry = replace(entry, record=replace(record, size_hw=sizes.get(record.image_id)))
        converted = source.convert(entry)
        return sum(row.segment_id > 0 for row in converted.segments), converted.problems

    with thread_pool() as pool:
        for start in range(0, len(source.entries), _AT_ONCE):
            part = source.entries[start : start + _AT_ONCE]
            for count, problems in pool.map(convert, part):
                segments += count
                found.add(problems)
            progress(f"{kind} annotations", start + len(part), len(source.entries))
    return segments
