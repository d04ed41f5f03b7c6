"""The App's plugin, run as the App's server runs it: found by its folder, its operators by their names."""

import copy
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.reference.few_scenes import coco_scenes
from tests.reference.labelled_pets import Pets, write_pets
from workbench.cli import main
from workbench.errors import FiftyOneError
from workbench.prediction.defaults import BUNDLED_MODEL
from workbench.runs import Run
from workbench.voxel51 import actions, plugin_folder
from workbench.voxel51.browse import push
from workbench.voxel51.plugin.streaming import Step, steps

PLUGIN = "@eomt/workbench"


@pytest.fixture
def installed(fo) -> Iterator[Path]:
    link = plugin_folder.install()
    yield link
    plugin_folder.remove()


def execute(name: str, dataset: Any, **request: Any) -> list[tuple[str, dict[str, Any]]]:
    """What an operator tells the App, message by message."""
    result = start(name, dataset, **request)
    return [(message.body.operator_uri, message.body.params) for message in result.result]


def start(name: str, dataset: Any, **request: Any) -> Any:
    """Run or queue an operator as the App's server does."""
    import asyncio

    from fiftyone.operators.executor import execute_or_delegate_operator

    asked = {"dataset_name": dataset.name, "view": [], "params": {}, **copy.deepcopy(request)}  # it is changed in place
    result = asyncio.run(execute_or_delegate_operator(f"{PLUGIN}/{name}", asked))
    result.raise_exceptions()
    return result


def told(messages: list[tuple[str, dict[str, Any]]]) -> str:
    """The notice at the end. Fails where it tells an error."""
    ((_, notice),) = [message for message in messages if message[0] == "notify"]
    assert notice["variant"] == "success", notice["message"]
    return str(notice["message"])


def form(name: str, dataset: Any, **request: Any) -> dict[str, Any]:
    """The inputs of an operator as the App gets them."""
    import asyncio

    from fiftyone.operators.executor import resolve_type
    from fiftyone.operators.registry import OperatorRegistry

    asked = {"dataset_name": dataset.name, "view": [], "params": {}, "target": "inputs", **request}
    found = asyncio.run(resolve_type(OperatorRegistry(), f"{PLUGIN}/{name}", asked))
    return dict(found.to_json())


def inputs(form_json: dict[str, Any]) -> dict[str, Any]:
    return dict(form_json["type"]["properties"])


def uuids_aside(stages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of a view; each time that it is written its stages have new ones."""
    return [{key: value for key, value in stage.items() if key != "_uuid"} for stage in stages]


def selected(dataset: Any, *image_ids: str) -> list[str]:
    return [str(i) for i in dataset.match({"image_id": {"$in": list(image_ids)}}).values("id")]


def test_the_plugin_is_found_by_its_folder_and_loads_without_errors(fo, installed):
    import fiftyone.plugins as fop
    from fiftyone.plugins.context import build_plugin_contexts

    assert fop.get_plugin(PLUGIN).directory == str(installed)
    (context,) = [each for each in build_plugin_contexts() if each.name == PLUGIN]
    assert context.errors == []
    names = {instance.name for instance in context.instances}
    assert names == {"predict", "evaluate", "prelabel", "mark_reviewed", "run_numbers"}


def test_the_command_prints_a_folder_of_links_to_the_plugin_and_the_users_own(fo):
    theirs = Path(os.environ["FIFTYONE_PLUGINS_DIR"])
    (theirs / "mine").mkdir(parents=True, exist_ok=True)
    printed = CliRunner().invoke(main, ["plugin"])
    folder = Path(printed.stdout.strip())
    assert (folder / "eomt-workbench" / "fiftyone.yml").is_file()
    assert (folder / "others" / "mine").is_dir()
    assert all(entry.is_symlink() for entry in folder.iterdir())
    assert plugin_folder.together() == folder


def test_the_link_for_every_session_is_made_and_taken_away(fo):
    link = Path(CliRunner().invoke(main, ["plugin", "--install"]).stdout.strip())
    assert link.readlink() == plugin_folder.folder()
    assert plugin_folder.together() == link.parent  # nothing to add
    assert "Removed" in CliRunner().invoke(main, ["plugin", "--remove"]).stderr
    assert not link.is_symlink()
    link.mkdir()
    with pytest.raises(FiftyOneError, match="no link of ours"):
        plugin_folder.install()
    link.rmdir()


def test_predict_runs_over_the_selected_samples_alone_and_again_changes_nothing(tmp_path, fo, installed):
    definition = coco_scenes(tmp_path / "data", 5)
    dataset = push(dataset=str(definition)).dataset
    params = {
        "view_target": "SELECTED_SAMPLES",
        "model": BUNDLED_MODEL,
        "task": "panoptic",
        "root": str(tmp_path / "runs"),
    }
    request = {"selected": selected(dataset, "2", "4"), "params": {**params, "score": False}}
    message = told(execute("predict", dataset, **request))
    run = Run.open(tmp_path / "runs" / f"few_scenes-panoptic-{BUNDLED_MODEL}")
    assert run.images()["image_id"].to_pylist() == run.manifest["identity"]["images"] == ["2", "4"]
    assert message.startswith(f"Predicted 2 images into {run.path}: field panoptic_{BUNDLED_MODEL}.")
    field = f"panoptic_{BUNDLED_MODEL}.detections"
    before = labels_of(dataset, field)
    assert [image_id for image_id, objects in before.items() if objects] == ["2", "4"]
    told(execute("predict", dataset, **request))
    assert labels_of(dataset, field) == before
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [run.path.name]


def labels_of(dataset: Any, path: str) -> dict[str, list[tuple[Any, str]]]:
    dataset.reload()
    values = zip(*dataset.values(["image_id", f"{path}.id", f"{path}.label"]), strict=True)
    return {image_id: list(zip(ids or [], labels or [], strict=True)) for image_id, ids, labels in values}


def test_evaluate_scores_a_run_and_shows_its_worst_images(tmp_path, fo, installed):
    pets = write_pets(tmp_path, evaluated=False)
    dataset = push([pets.run]).dataset
    messages = execute("evaluate", dataset, params={"run": str(pets.run.path)})
    pq = 100 * pets.run.metrics()["panoptic"]["all"]["pq"]
    assert told(messages).startswith(f"Evaluated first. pq {pq:.1f}")
    dataset.reload()
    (shown,) = [params["view"] for uri, params in messages if uri == "set_view"]
    assert uuids_aside(shown) == uuids_aside(dataset.load_saved_view("first: worst images")._serialize())
    assert set(dataset.list_evaluations()) == {"pq_first", "confusion_first"}


def test_runs_that_were_not_pushed_can_be_chosen_too(pets: Pets, fo, installed):
    dataset = push(dataset=pets.dataset).dataset
    without = form("evaluate", dataset)
    assert "no run of this dataset yet" in json.dumps(without)
    assert without["invalid"]
    choices = inputs(form("evaluate", dataset, params={"root": str(pets.run.path.parent)}))["run"]["view"]["choices"]
    assert [choice["value"] for choice in choices] == [str(pets.run.path.resolve())]


def test_prelabel_takes_the_chosen_samples_alone(pets: Pets, fo, installed):
    dataset = push([pets.run]).dataset
    params = {"view_target": "SELECTED_SAMPLES", "run": str(pets.run.path), "labelled": True, "min_score": 0.8}
    request = {"params": {**params, "order": "uncertainty"}, "selected": selected(dataset, "1")}
    assert told(execute("prelabel", dataset, **request)).startswith("2 pre-labels in 1 images")
    offered = labels_of(dataset, "label_edits.detections")
    assert {image_id: len(objects) for image_id, objects in offered.items()} == {"1": 2, "2": 0, "3": 0}


def test_what_is_marked_reviewed_is_what_pull_takes_home(pets: Pets, fo, installed, tmp_path):
    dataset = push([pets.run]).dataset
    request = {
        "params": {"view_target": "SELECTED_SAMPLES", "mark": "reviewed"},
        "selected": selected(dataset, "1", "3"),
    }
    assert told(execute("mark_reviewed", dataset, **request)) == "2 images marked reviewed; 2 of 3 are."
    assert told(execute("mark_reviewed", dataset, **request)) == "0 images marked reviewed; 2 of 3 are."
    away = {**request, "params": {**request["params"], "mark": "not"}, "selected": selected(dataset, "3")}
    assert told(execute("mark_reviewed", dataset, **away)) == "1 images not marked any more; 1 of 3 are."
    arguments = ["pull", "--dataset", str(pets.definition), "--field", "ground_truth", "--reviewed"]
    pulled = CliRunner().invoke(main, [*arguments, "--out", str(tmp_path / "new.toml"), "--json"])
    assert json.loads(pulled.stdout)["images"] == 1


def test_of_patches_the_samples_are_taken_that_they_are_cut_from(pets: Pets, fo, installed):
    dataset = push([pets.run]).dataset
    patches = dataset.to_evaluation_patches("pq_first").match({"type": "fp"})
    request = {"view": patches._serialize(), "params": {"view_target": "CURRENT_VIEW", "mark": "reviewed"}}
    assert told(execute("mark_reviewed", dataset, **request)) == "2 images marked reviewed; 2 of 3 are."
    assert dataset.match_tags("reviewed").values("image_id") == ["1", "2"]


def test_a_sample_that_is_open_is_marked_unless_told_otherwise(pets: Pets, fo, installed):
    dataset = push([pets.run]).dataset
    (sample,) = selected(dataset, "2")
    which = inputs(form("mark_reviewed", dataset, current_sample=sample))["open"]
    params = {"open": which["default"], "mark": "reviewed"}
    told(execute("mark_reviewed", dataset, current_sample=sample, params=params))
    assert dataset.match_tags("reviewed").values("image_id") == ["2"]


def test_thresholds_can_be_set_for_the_tasks_that_have_them(pets: Pets, fo, installed):
    dataset = push([pets.run]).dataset
    names = {
        task: set(inputs(form("predict", dataset, params={"task": task, "own": True})))
        for task in ("panoptic", "semantic")
    }
    assert names["panoptic"] - names["semantic"] == {"own", "threshold", "mask_threshold", "overlap_threshold"}
    models = inputs(form("predict", dataset))["model"]["view"]["choices"]
    assert models[0]["value"] == BUNDLED_MODEL  # what is here stands first


def test_errors_are_told_in_the_app(pets: Pets, fo, installed, tmp_path):
    dataset = push([pets.run]).dataset
    params = {"view_target": "DATASET", "model": "nonsense", "task": "panoptic", "root": str(tmp_path)}
    messages = execute("predict", dataset, params=params)
    assert messages[-1][0] == "notify"
    assert messages[-1][1]["variant"] == "error"
    assert "nonsense is neither an existing folder" in messages[-1][1]["message"]
    relative = form("predict", dataset, params={"root": "runs"})
    assert relative["invalid"]
    assert "no whole path" in json.dumps(relative)


def test_work_can_be_queued_and_fails_as_a_whole_where_it_cannot_be_done(pets: Pets, fo, installed):
    from fiftyone.operators.delegated import DelegatedOperationService

    dataset = push([pets.run]).dataset
    params = {"view_target": "SELECTED_SAMPLES", "run": str(pets.run.path), "labelled": True, "order": "rarity"}
    queued = {"params": params, "selected": selected(dataset, "2"), "request_delegation": True}
    assert start("prelabel", dataset, **queued).delegated
    assert start("prelabel", dataset, **{**queued, "params": {**params, "labelled": False}}).delegated
    service = DelegatedOperationService()
    queue = service.list_operations(operator=f"{PLUGIN}/prelabel", dataset_name=dataset.name)
    good, bad = sorted(queue, key=lambda operation: operation.id)
    for operation in (good, bad):
        service.execute_operation(operation)
    states = {operation.id: operation for operation in service.list_operations(dataset_name=dataset.name)}
    assert states[good.id].run_state == "completed", states[good.id].result.error
    assert states[good.id].status.label.startswith("2 pre-labels in 1 images")
    assert states[bad.id].run_state == "failed"
    assert "nothing to pre-label" in states[bad.id].result.error
    assert set(labels_of(dataset, "label_edits.detections")["1"]) == set()
    for operation in (good, bad):
        service.delete_operation(operation.id)


def test_datasets_of_others_are_left_alone(fo, installed):
    other = fo.Dataset("theirs")
    refused = form("mark_reviewed", other)
    assert refused["invalid"]
    assert "was not made by the workbench" in json.dumps(refused)


def test_what_a_thread_raises_is_raised_where_it_was_asked_for():
    def work(progress: Any) -> Any:
        progress("Counting", 1, 2)
        progress("Counting", 2, 2)
        raise FiftyOneError("no")

    found = steps(work)
    assert next(found) == Step("Counting", 1, 2)
    assert next(found) == Step("Counting", 2, 2)
    with pytest.raises(FiftyOneError, match="no"):
        next(found)


def test_a_run_named_as_a_pushed_one_elsewhere_is_offered_by_its_path(pets, tmp_path):
    other = tmp_path / "elsewhere" / pets.run.path.name
    shutil.copytree(pets.run.path, other)
    info = {"runs": {pets.run.path.name: {"path": str(pets.run.path)}}, "dataset": pets.run.manifest["dataset"]["name"]}
    found = actions.known_runs(info, other.parent)
    assert found == {pets.run.path.name: pets.run.path, str(other): other}
