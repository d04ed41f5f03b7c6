"""Classes are matched to categories by name, and what does not match is named."""

import pytest

from tests.conftest import REPOSITORY
from workbench.catalog.class_tables import read_class_table
from workbench.errors import ModelError
from workbench.formats.base import Category
from workbench.prediction.classes import ALIASES, match_classes

PERSON = Category(1, "person", True, (0, 0, 0))
SKY = Category(119, "sky-other-merged", False, (0, 0, 0))
DOOR = Category(15, "door;double door", True, (0, 0, 0))


def categories_of(*names: str) -> list[Category]:
    return [Category(10 * (i + 1), name, True, (0, 0, 0)) for i, name in enumerate(names)]


def matched(classes: list[str], categories: list[str]) -> list[str | None]:
    result = match_classes(dict(enumerate(classes)), categories_of(*categories), "panoptic", "common")
    return [category and category.name for category in result.of_class]


def test_the_order_of_classes_does_not_matter() -> None:
    result = match_classes({0: "sky-other-merged", 1: "person"}, [PERSON, SKY], "panoptic")
    assert result.of_class == (SKY, PERSON)
    assert result.categories == (PERSON, SKY)


def test_case_underscores_and_hyphens_do_not_matter() -> None:
    assert matched(["Traffic_Light", "wall-brick"], ["wall brick", "traffic light"]) == ["traffic light", "wall brick"]


def test_the_first_of_several_names_wins_over_a_later_one() -> None:
    assert matched(
        ["screen door", "screen"],
        ["screen;silver screen", "screen door;screen"],
    ) == ["screen door;screen", "screen;silver screen"]


def test_a_synonym_matches_where_nothing_better_does() -> None:
    assert matched(["plane"], ["airplane;aeroplane;plane"]) == ["airplane;aeroplane;plane"]


def test_aliases_and_cocos_endings_match_last() -> None:
    assert matched(["tvmonitor", "tree"], ["tv", "tree-merged"]) == ["tv", "tree-merged"]


def test_an_ambiguous_name_matches_nothing() -> None:
    with pytest.raises(ModelError, match="classes without a category"):
        match_classes({0: "rock"}, categories_of("rock;stone", "rock;cliff"), "semantic")


def test_a_category_is_given_to_one_class_only() -> None:
    result = matched(["sofa", "couch"], ["couch;sofa"])
    assert result == [None, "couch;sofa"]


def test_a_mismatch_names_both_sides_and_the_remedy() -> None:
    with pytest.raises(ModelError) as error:
        match_classes({0: "person", 1: "tractor"}, [PERSON, SKY], "panoptic")
    message = str(error.value)
    assert "classes without a category (1 of 2): tractor" in message
    assert "none" not in message
    assert "categories without a class (1 of 2): sky-other-merged" in message
    assert "the 1 that match: --classes common" in message


def test_common_leaves_out_what_has_no_partner() -> None:
    result = match_classes({0: "person", 1: "tractor"}, [PERSON, SKY], "panoptic", "common")
    assert result.of_class == (PERSON, None)
    assert result.used == (0,)


def test_common_with_nothing_in_common_is_refused() -> None:
    with pytest.raises(ModelError, match="without a category"):
        match_classes({0: "tractor"}, [PERSON], "panoptic", "common")


def test_instances_need_no_class_for_stuff_and_leave_stuff_out() -> None:
    assert match_classes({0: "person"}, [PERSON, SKY], "instance").of_class == (PERSON,)
    both = match_classes({0: "sky-other-merged", 1: "person"}, [PERSON, SKY], "instance")
    assert both.of_class == (None, PERSON)


def test_instances_of_a_dataset_of_things_leave_out_the_other_classes_of_a_panoptic_checkpoint() -> None:
    coco = read_class_table(REPOSITORY / "datasets" / "classes" / "coco_panoptic.csv").categories
    names = {index: category.name for index, category in enumerate(coco)}
    things = [category for category in coco if category.isthing]
    found = match_classes(names, things, "instance")
    assert found.of_class == tuple(category if category.isthing else None for category in coco)
    with pytest.raises(ModelError, match=r"classes without a category \(53 of 133\): banner"):
        match_classes(names, things, "panoptic")


def test_instances_need_a_class_for_every_thing_whatever_other_classes_there_are() -> None:
    with pytest.raises(ModelError) as error:
        match_classes({0: "person", 1: "tractor"}, [PERSON, DOOR], "instance")
    assert "classes without a category (1 of 2): tractor" in str(error.value)


def test_instances_of_a_dataset_without_things_are_refused() -> None:
    with pytest.raises(ModelError, match="no things"):
        match_classes({0: "sky-other-merged"}, [SKY], "instance")


def test_a_checkpoint_without_class_names_is_refused_with_the_remedy() -> None:
    with pytest.raises(ModelError, match="id2label"):
        match_classes({0: "LABEL_0", 1: "LABEL_1"}, [PERSON, SKY], "panoptic")


def test_the_documented_aliases_are_those_in_use() -> None:
    page = (REPOSITORY / "docs" / "predict.md").read_text(encoding="utf-8")
    rows = page.partition("| written | meant |\n| --- | --- |\n")[2].partition("\n\n")[0].splitlines()
    documented = dict(tuple(cell.strip() for cell in row.strip("|").split("|")) for row in rows)
    assert documented == ALIASES
