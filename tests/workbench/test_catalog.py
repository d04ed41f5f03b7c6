"""Definitions are found, read and checked; mistakes in them are told with the file, the key and the remedy."""

import json
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.reference.small_datasets import write_instances, write_semantic
from workbench import catalog
from workbench.catalog.class_tables import derived_color, read_class_table
from workbench.curation.adding import add, to_toml
from workbench.errors import DatasetError
from workbench.formats.tasks import annotation_kinds, is_present, offered_tasks

BUILT_IN = ["ade20k_train", "ade20k_val", "cityscapes_val", "coco_train", "coco_val"]


def toml(folder: Path, text: str, name: str = "mine") -> Path:
    path = folder / f"{name}.toml"
    path.write_text(text)
    return path


def test_built_in_definitions_are_found_by_name_and_readable():
    for name in BUILT_IN:
        definition = catalog.find(name)
        assert definition.name == name
        assert definition.class_table and read_class_table(definition.class_table).categories


def test_built_in_class_tables_have_the_official_numbers_of_things():
    counts = {}
    for name in ("coco_val", "ade20k_val", "cityscapes_val"):
        categories = read_class_table(catalog.find(name).class_table).categories
        counts[name] = (len(categories), sum(category.isthing for category in categories))
        assert len({category.color for category in categories}) == len(categories)
    assert counts == {"coco_val": (133, 80), "ade20k_val": (150, 100), "cityscapes_val": (19, 8)}


def test_coco_class_table_is_that_of_the_official_file(shared_data):
    official = json.loads((shared_data / "coco_panoptic_sample/annotations/panoptic_coco_categories.json").read_text())
    table = read_class_table(catalog.find("coco_val").class_table)
    ours = [(c.category_id, c.name, c.isthing, list(c.color)) for c in table.categories]
    assert ours == [(c["id"], c["name"], bool(c["isthing"]), c["color"]) for c in official]


def test_ade20k_names_are_those_of_object_info_150(shared_data):
    lines = (shared_data / "ade20k_sample/objectInfo150.txt").read_text().splitlines()[1:]
    official = {int(line.split("\t")[0]): line.split("\t")[4].strip() for line in lines}
    assert {
        c.category_id: c.name for c in read_class_table(catalog.find("ade20k_val").class_table).categories
    } == official


def test_cityscapes_void_and_classes_are_all_label_ids():
    definition = catalog.find("cityscapes_val")
    classes = {category.category_id for category in read_class_table(definition.class_table).categories}
    assert classes | set(definition.void) == set(range(34))
    assert not classes & set(definition.void)


def test_an_earlier_folder_hides_a_later_one(tmp_path, in_empty_folder, monkeypatch):
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
        toml(folder, f'format = "images"\nroot = "{folder}"\nimages = "."', "coco_val")
    monkeypatch.setenv("WORKBENCH_DATASETS", f"{first}:{second}")
    assert catalog.find("coco_val").root == first
    (in_empty_folder / "datasets").mkdir()
    toml(in_empty_folder / "datasets", 'format = "images"\nroot = "here"\nimages = "."', "coco_val")
    assert catalog.find("coco_val").root == in_empty_folder / "datasets" / "here"


def test_unknown_name_tells_the_nearest_one():
    with pytest.raises(DatasetError, match="Did you mean 'coco_val'"):
        catalog.find("coco_vall")


def test_a_path_needs_no_search(tmp_path):
    path = toml(tmp_path, 'format = "images"\nroot = "photos"\nimages = "."')
    definition = catalog.find(str(path))
    assert (definition.name, definition.root) == ("mine", tmp_path / "photos")


def test_root_expands_variables_defaults_and_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.setenv("DISK", "/disk")
    monkeypatch.delenv("UNSET", raising=False)
    roots = {"$DISK/a": "/disk/a", "${DISK}/a": "/disk/a", "${UNSET:-~/b}": "/home/ada/b", "~/c": "/home/ada/c"}
    for text, expected in roots.items():
        assert (
            str(catalog.parse({"format": "images", "root": text, "images": "."}, tmp_path / "x.toml").root) == expected
        )
    with pytest.raises(DatasetError, match="UNSET is not set"):
        catalog.parse({"format": "images", "root": "$UNSET", "images": "."}, tmp_path / "x.toml")


def test_void_defaults_by_format(tmp_path):
    coco = catalog.parse({"format": "coco", "root": ".", "instances": "a.json"}, tmp_path / "x.toml")
    keys = {"format": "ade20k", "root": ".", "images": "i", "annotations": "a", "classes": "c.csv"}
    ade20k = catalog.parse(keys, tmp_path / "x.toml")
    assert (coco.void, ade20k.void, ade20k.ignore_index) == ((255,), (0,), 255)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('root = "."', "'format' is missing"),
        ('format = "coco"\ninstances = "a.json"', "'root' is missing"),
        ('format = "cocoo"\nroot = "."', "Did you mean 'coco'"),
        ('format = "coco"\nroot = "."\npanoptik = "a.json"', "Did you mean 'panoptic'"),
        ('format = "coco"\nroot = "."\ninstances = 3', "is not text"),
        ('format = "images"\nroot = "."\nimages = "."\nvoid = 255', "is not a list of whole numbers"),
        ('format = "images"\nroot = "."\nimages = "."\nvoid = [true]', "is not a list of whole numbers"),
        ('format = "images"\nroot = "."\nimages = "."\nname = "other"', "must then be other.toml"),
        ('format = "coco"\nroot = "."', "needs 'panoptic' or 'instances'"),
        ('format = "images"\nroot = "."', "needs 'images'"),
        ('format = "ade20k"\nroot = "."\nimages = "."', "needs 'annotations'"),
        ('format = "images"\nroot = "."\nimages = "../photos"', "leads out of the dataset's root"),
        ('format = "images"\nroot = "."\nimages = "/photos"', "leads out of the dataset's root"),
        ('format = "coco"\nroot = "."\ninstances = "a"\nunlisted = "maybe"', "Known: error, void, uncovered"),
        ('format = "coco"\nroot = "."\ninstances = "a"\noptional = ["images"]', "optional names 'images'"),
        ('format = "images"\nroot = "."\nimages = "."\n[[archives]]\nsize = 3', "'url' is missing"),
        ('format = "images"\nroot = "."\nimages = "."\narchives = 3', "list of tables"),
        ("format = ", "not a readable TOML file"),
    ],
)
def test_mistakes_are_told_with_the_file_and_the_remedy(tmp_path, text, message):
    path = toml(tmp_path, text)
    with pytest.raises(DatasetError, match=message) as error:
        catalog.read(path)
    assert str(path) in str(error.value)


def test_missing_file_is_told(tmp_path):
    with pytest.raises(DatasetError, match="no such dataset definition"):
        catalog.find(str(tmp_path / "none.toml"))


def test_class_table_reads_labels_colors_and_quoted_names(tmp_path):
    path = tmp_path / "classes.csv"
    path.write_text('category_id,name,isthing,color,label\n5,"chest, drawers",1,#0a0b0c,9\n2,sky,0,,4\n')
    table = read_class_table(path)
    assert [(c.category_id, c.name, c.isthing) for c in table.categories] == [
        (2, "sky", False),
        (5, "chest, drawers", True),
    ]
    assert [c.color for c in table.categories] == [derived_color(2), (10, 11, 12)]
    assert table.labels == {5: 9, 2: 4}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("category_id,name\n1,a\n", "its columns are"),
        ("category_id,name,isthing\n1,a,yes\n", "line 2"),
        ("category_id,name,isthing\n1,a,1\n1,b,1\n", "occurs twice"),
        ("category_id,name,isthing,label\n1,a,1,5\n2,b,1,5\n", "occurs twice"),
        ("category_id,name,isthing\n1,chest, drawers,1\n", "Quote names"),
        ("category_id,name,isthing\n1,,1\n", "has no name"),
        ("category_id,name,isthing,color\n1,a,1,blue\n", "color is like"),
    ],
)
def test_broken_class_tables_are_refused(tmp_path, text, message):
    path = tmp_path / "classes.csv"
    path.write_text(text)
    with pytest.raises(DatasetError, match=message):
        read_class_table(path)


def test_tasks_follow_from_the_keys_and_say_what_is_derived(tmp_path):
    def tasks(**keys):
        return offered_tasks(catalog.parse({"format": "coco", "root": ".", **keys}, tmp_path / "x.toml"))

    assert tasks(panoptic="p.json") == {
        "panoptic": "panoptic",
        "instance": "derived from panoptic",
        "semantic": "derived from panoptic",
    }
    assert tasks(panoptic="p.json", instances="i.json")["instance"] == "instances"
    assert tasks(instances="i.json") == {"instance": "instances"}
    assert tasks(instances="i.json", annotations="maps") == {"instance": "instances", "semantic": "annotations"}
    assert list(tasks(instances="i.json", annotations="ids", instance_id_to_semantic_id="m.json")) == [
        "panoptic",
        "instance",
        "semantic",
    ]


def test_optional_files_count_only_where_they_exist(tmp_path):
    path = write_semantic(
        tmp_path, {"a": [[1]]}, panoptic="p.json", instances="i.json", optional=["panoptic", "instances"]
    )
    assert annotation_kinds(catalog.read(path)) == {"semantic": "annotations"}
    assert is_present(catalog.read(path))
    (tmp_path / "i.json").touch()
    assert annotation_kinds(catalog.read(path)) == {"semantic": "annotations", "instance": "instances"}
    assert set(offered_tasks(catalog.find("coco_val"))) == {"panoptic", "instance", "semantic"}  # nothing is there yet


def test_added_dataset_is_found_by_its_name_and_never_replaced_silently(tmp_path, in_empty_folder):
    write_instances(in_empty_folder / "data", {1: (2, 2)}, [])
    added = add("mine", {"format": "coco", "root": "data", "images": "images", "instances": "instances.json"})
    assert (added.images, added.tasks, added.categories) == (1, ("instance",), 2)
    assert catalog.find("mine").root == in_empty_folder / "data"
    with pytest.raises(DatasetError, match="there already"):
        add("mine", {"format": "images", "root": "data", "images": "images"})
    assert add("mine", {"format": "images", "root": "data", "images": "images"}, replace=True).tasks == ()


def test_adding_what_does_not_open_writes_nothing(tmp_path, in_empty_folder):
    with pytest.raises(DatasetError, match="does not exist"):
        add("mine", {"format": "coco", "root": "data", "instances": "instances.json"})
    with pytest.raises(DatasetError, match="no name for a dataset"):
        add("../mine", {"format": "images", "root": ".", "images": "."})
    assert list(in_empty_folder.iterdir()) == []


def test_added_class_table_is_found_from_the_definition(in_empty_folder):
    write_semantic(in_empty_folder, {"a": [[1, 2]]})
    keys = {"format": "ade20k", "root": ".", "images": "images", "annotations": "labels", "classes": "classes.csv"}
    add("mine", {**keys, "void": [0]})
    assert catalog.find("mine").class_table.samefile(in_empty_folder / "classes.csv")


def test_written_toml_reads_back():
    import tomllib

    keys = {"title": 'a "quoted" \\ line\nand another', "void": [0, 255], "follow_links": True, "ignore_index": -1}
    assert tomllib.loads(to_toml(keys)) == keys


def test_test_definitions_lie_beside_their_data(shared_data):
    for path in sorted((REPOSITORY / "tests/definitions").glob("*.toml")):
        assert is_present(catalog.read(path)), path


def test_a_dataset_is_written_as_its_name_only_where_that_leads_to_it(tmp_path: Path) -> None:
    assert catalog.name_or_path("scenes_val", catalog.built_in_folder() / "scenes_val.toml") == "scenes_val"
    assert catalog.name_or_path("scenes_val", tmp_path / "scenes_val.toml") == str(tmp_path / "scenes_val.toml")
    assert catalog.name_or_path("mine", tmp_path / "mine.toml") == str(tmp_path / "mine.toml")
