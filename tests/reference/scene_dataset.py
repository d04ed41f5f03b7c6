"""A dataset in memory, and runs on disk, made of tiny panoptic images."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from tests.reference.scenes import CATEGORIES, PanopticImage, table_of
from workbench import runs
from workbench.catalog.definitions import DatasetDefinition
from workbench.formats.base import Category, Dataset, ImageRecord, Task
from workbench.formats.derive import merged_by_category, things_of
from workbench.runs import Run
from workbench.segments import image_table, segment_table

_NUMBERS = itertools.count()


class SceneDataset(Dataset):
    """Panoptic ground truth of tiny images, its things as instances, and merged (or given) semantic ground truth."""

    def __init__(
        self,
        scenes: Sequence[PanopticImage],
        tasks: tuple[Task, ...] = ("panoptic", "instance", "semantic"),
        semantic: Sequence[PanopticImage] | None = None,
    ) -> None:
        annotations = None if semantic is None else "semantic"
        panoptic = "panoptic.json" if "panoptic" in tasks else None
        super().__init__(
            DatasetDefinition(
                "tiny", Path("tiny.toml"), "coco", Path("/nowhere"), panoptic=panoptic, annotations=annotations
            )
        )
        self.scenes, self.semantic, self._tasks = scenes, semantic, tasks
        self._number = next(_NUMBERS)

    @property
    def categories(self) -> tuple[Category, ...]:
        return tuple(Category(i, f"class {i}", isthing, (i, i, i)) for i, isthing in CATEGORIES.items())

    @property
    def tasks(self) -> tuple[Task, ...]:
        return self._tasks

    def images(self) -> Sequence[ImageRecord]:
        return [
            ImageRecord(scene.image_id, f"{scene.image_id}.jpg", Path(f"{scene.image_id}.jpg"), ordinal)
            for ordinal, scene in enumerate(self.scenes)
        ]

    def ground_truth(self, task: Task, images_per_table: int = 2) -> Iterator[tuple[pa.Table, pa.Table]]:
        derive = {"panoptic": lambda table: table, "instance": things_of, "semantic": merged_by_category}[task]
        for start in range(0, len(self.scenes), images_per_table):
            part = self.scenes[start : start + images_per_table]
            if task == "semantic" and self.semantic is not None:
                yield table_of(self.semantic[start : start + images_per_table]), images_of(part, start)
            else:
                yield derive(table_of(part)), images_of(part, start)

    def fingerprint(self) -> str:
        return f"scenes {self._number}"


def images_of(scenes: Sequence[PanopticImage], first: int = 0, failed: Sequence[str] = ()) -> pa.Table:
    """Their image table; the ids in `failed` could not be read."""
    return image_table(
        {
            "image_id": [scene.image_id for scene in scenes],
            "file_name": [f"{scene.image_id}.jpg" for scene in scenes],
            "height": [scene.label_map.shape[0] for scene in scenes],
            "width": [scene.label_map.shape[1] for scene in scenes],
            "ordinal": range(first, first + len(scenes)),
            "status": ["failed" if scene.image_id in failed else "ok" for scene in scenes],
        }
    )


def make_run(
    folder: Path,
    dataset: Dataset,
    scenes: Sequence[PanopticImage],
    task: Task = "panoptic",
    shard: int = 2,
    failed: Sequence[str] = (),
    identity: Mapping[str, Any] | None = None,
    categories: Sequence[Category] | None = None,
    **manifest: Any,
) -> Run:
    """A complete run of those images, `shard` of them a shard; panoptic segments serve as any task's."""
    about = runs.new_manifest(
        "predict",
        dataset.definition,
        task,
        dataset.categories if categories is None else categories,
        {"dataset": dataset.fingerprint(), **(identity or {})},
        {},
    )
    run = runs.create_or_resume(folder, {**about, "status": runs.COMPLETE, **manifest})
    writer = runs.writer(run)
    for start in range(0, len(scenes), shard):
        part = scenes[start : start + shard]
        table = table_of([scene for scene in part if scene.image_id not in failed], score=0.5)
        writer.commit(table, images_of(part, start, failed))
    return run


def with_columns(table: pa.Table, **columns: Any) -> pa.Table:
    """The table with those columns replaced."""
    return segment_table({**{name: table[name] for name in table.schema.names}, **columns})
