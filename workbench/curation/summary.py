"""What `datasets list` and `datasets show` tell: told from definitions and from which files exist."""

from pathlib import Path
from typing import Any

from workbench import catalog
from workbench.catalog.class_tables import read_class_table
from workbench.catalog.definitions import FILE_KEYS, DatasetDefinition
from workbench.errors import DatasetError, StorageError
from workbench.formats import open_dataset
from workbench.formats.tasks import is_present, offered_tasks
from workbench.storage import exists, shown


def list_datasets() -> list[dict[str, Any]]:
    """A line for every dataset that can be named, ascending by name. No dataset is opened.

    A definition that cannot be read, or whose store cannot be asked, has its name, its file as `source`, and the reason
    under `error`.
    """
    lines = []
    for name, path in sorted(catalog.names().items()):
        try:
            lines.append(_line(catalog.read(path)))
        except (DatasetError, StorageError) as error:
            lines.append({"name": name, "source": str(path), "error": str(error)})
    return lines


def describe(definition: DatasetDefinition) -> dict[str, Any]:
    """Everything about one dataset; it is opened to count its images and read its categories where its files are there.

    Raises DatasetError for files that are there and cannot be used.
    """
    line = _line(definition)
    images, categories = None, None
    if line["present"]:
        dataset = open_dataset(definition)
        images, categories = len(dataset.images()), dataset.categories
    elif definition.class_table:
        categories = read_class_table(definition.class_table).categories
    return {
        **line,
        "source": shown(definition.source),
        "ground_truth": offered_tasks(definition),
        "files": [_file(definition, key) for key in FILE_KEYS if getattr(definition, key) is not None],
        "images": images,
        "categories": categories
        and [
            {"category_id": c.category_id, "name": c.name, "isthing": c.isthing, "color": list(c.color)}
            for c in categories
        ],
        "void": list(definition.void),
        "ignore_index": definition.ignore_index,
        "licence": definition.licence,
        "homepage": definition.homepage,
        "archives": [{"url": archive.url, "size": archive.size} for archive in definition.archives],
    }


def _line(definition: DatasetDefinition) -> dict[str, Any]:
    return {
        "name": definition.name,
        "title": definition.title,
        "format": definition.format,
        "tasks": list(offered_tasks(definition)),
        "root": shown(definition.root),
        "present": is_present(definition),
        "bundled": definition.bundled,
    }


def _file(definition: DatasetDefinition, key: str) -> dict[str, Any]:
    path: Path = definition.resolve(getattr(definition, key))
    return {"key": key, "path": shown(path), "exists": exists(path), "optional": key in definition.optional}
