"""The operators' inputs: samples, runs, checkpoints, thresholds, each checked while it is filled in."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fiftyone.operators import types

from workbench.errors import OptionError
from workbench.formats.base import TASKS
from workbench.prediction.options import task_options
from workbench.voxel51.actions import Wanted, known_runs
from workbench.voxel51.app import RUNS_VARIABLE

PREDICT = "(predict now)"
OPEN_SAMPLE = "open sample"
_OWN = "own"
_DEFAULT = "(default)"
_THRESHOLDS = {
    "threshold": "Class scores must reach",
    "mask_threshold": "A mask begins at",
    "overlap_threshold": "Share of its mask that a segment must keep",
}
_THRESHOLDS_OF = {"panoptic": tuple(_THRESHOLDS), "instance": ("threshold",), "semantic": ()}


class Form:
    """The inputs of one operator, as far as they are filled in."""

    def __init__(self, ctx: Any, inputs: Any, info: Mapping[str, Any]) -> None:
        self._ctx, self._inputs, self._info = ctx, inputs, info
        self.problem: str | None = None

    def value(self, name: str) -> Any:
        """What stands in that input now; None before the App has told."""
        return self._ctx.params.get(name)

    def target(self, verb: str, with_open_sample: bool = False) -> None:
        """Which samples: the selection, the view, or all; or the one that is open."""
        if with_open_sample and self._ctx.current_sample:
            choices = {OPEN_SAMPLE: "The sample that is open", "view": "All of the current view"}
            self.choice("open", f"{verb} which samples", choices)
            return
        self._inputs.view_target(self._ctx, action_description=verb)

    def switch(self, name: str, label: str, default: bool = False, why: str | None = None) -> None:
        """A yes or no."""
        self._inputs.bool(name, label=label, description=why, default=default, view=types.SwitchView())

    def choice(self, name: str, label: str, choices: Mapping[str, str], why: str | None = None) -> None:
        """One of several; the first is taken unless told otherwise."""
        view = types.DropdownView()
        for value, shown in choices.items():
            view.add_choice(value, label=shown)
        self._inputs.enum(
            name, list(choices), label=label, description=why, default=next(iter(choices)), required=True, view=view
        )

    def score(self, name: str, label: str, default: float) -> None:
        """A number from 0 to 1."""
        self._inputs.float(name, min=0, max=1, label=label, default=default)

    def run(self, or_predict: bool = False) -> None:
        """A run of the dataset."""
        runs = known_runs(self._info, root_of(self._ctx, self._info))
        choices = {str(path): f"{name}  ({path})" for name, path in runs.items()}
        if or_predict:
            choices[PREDICT] = "Predict now, with the checkpoint below"
        if not choices:
            self.problem = "There is no run of this dataset yet. Make one: EoMT: Predict, or `workbench predict`."
            return
        self.choice("run", "Run", choices)

    def prediction(self) -> None:
        """A checkpoint, a task, its thresholds, and where the run goes."""
        models = types.AutocompleteView(allow_user_input=True)
        for model_id, shown in _models().items():
            models.add_choice(model_id, label=shown)
        self._inputs.str(
            "model",
            label="Checkpoint",
            description="A bundled or published one, or the path of a folder. Empty: the one known for these classes",
            required=False,
            view=models,
        )
        tasks: dict[str, str] = {_DEFAULT: "The task that the checkpoint was trained for"}
        tasks.update((task, task) for task in TASKS)
        self.choice("task", "Task", tasks)
        self._thresholds()
        self._root()

    def _thresholds(self) -> None:
        task = self.value("task")
        names = _THRESHOLDS_OF.get(task, ())
        if not names:
            return
        defaults = task_options(task, {})
        self.switch(_OWN, "Other thresholds than the published ones")
        if self.value(_OWN):
            for name in names:
                self.score(name, _THRESHOLDS[name], getattr(defaults, name))

    def _root(self) -> None:
        root = root_of(self._ctx, self._info)
        default = {} if root is None else {"default": str(root)}
        self._inputs.str("root", label="Folder of run folders", required=True, **default)
        if (chosen := self.value("root")) and not Path(chosen).is_absolute():
            self.problem = f"{chosen!r} is no whole path: the folder of runs has to begin with {os.sep}."


def root_of(ctx: Any, info: Mapping[str, Any]) -> Path | None:
    """The folder of run folders: where the form says, else where the newest pushed run lies, else as started."""
    if chosen := ctx.params.get("root"):
        return Path(chosen)
    if pushed := [Path(run["path"]).parent for run in info["runs"].values()]:
        return pushed[-1]
    return Path(os.environ[RUNS_VARIABLE]) if RUNS_VARIABLE in os.environ else None


def sample_ids(ctx: Any) -> list[str]:
    """The chosen samples; of a view of patches those that the patches are cut from."""
    is_open = ctx.params.get("open") == OPEN_SAMPLE
    view = ctx.view.select(ctx.current_sample) if is_open else ctx.target_view()
    schema = view.get_field_schema()
    found: list[str] = view.distinct("sample_id") if "sample_id" in schema else view.values("id")
    return [str(each) for each in found]


def wanted(ctx: Any) -> Wanted:
    """What the form says about a prediction. Raises OptionError where no folder is named."""
    get = ctx.params.get
    task = get("task")
    if not get("root"):
        raise OptionError("no folder of run folders is named.")
    names = _THRESHOLDS_OF.get(task, ()) if get(_OWN) else ()
    return Wanted(
        Path(get("root")).expanduser(),
        get("model") or None,
        task if task in TASKS else None,
        {name: get(name) for name in names},
    )


def run_path(ctx: Any) -> Path:
    """The chosen run's folder."""
    if not ctx.params.get("run"):
        raise OptionError("no run is chosen.")
    return Path(ctx.params["run"])


def _models() -> dict[str, str]:
    from workbench.models.listing import list_models

    here = {"bundled": "bundled", "weights": "here"}
    return {
        model["id"]: f"{model['id']}  ({here.get(model['local'], 'is fetched')}, {model['task']})"
        for model in sorted(list_models(), key=lambda model: model["local"] not in here)
    }
