"""The panel: a run's numbers as `workbench evaluate` prints them, its views a click away, and how far the review is."""

from collections.abc import Mapping
from typing import Any

import fiftyone.operators as foo
from fiftyone.operators import types

from workbench.errors import WorkbenchError
from workbench.evaluation.headlines import MEANS, QUALITIES, headlines
from workbench.runs import Run
from workbench.voxel51 import actions
from workbench.voxel51.pull_sources import REVIEWED

_PLUGIN = "@eomt/workbench"
_ACTIONS = {"predict": "Predict", "evaluate": "Evaluate", "prelabel": "Pre-label", "mark_reviewed": "Mark reviewed"}
_TABLES: tuple[Mapping[str, Mapping[str, str]], ...] = (
    {part: {quality.upper(): f"{quality}{suffix}" for quality in QUALITIES} for part, suffix in MEANS.items()},
    {
        part: {name: f"{prefix}{name}" for name in ("AP", "AP50", "AP75")}
        for part, prefix in (("masks", ""), ("boxes", "bbox_"), ("outlines", "boundary_"))
    },
    {"pixels": {"mIoU": "miou", "accuracy": "aacc", "mean class accuracy": "macc"}},
)
"""Of each table row -> column -> the headline's name."""


class RunNumbers(foo.Panel):  # type: ignore[misc]  # FiftyOne has no types
    """Numbers of one run of the dataset that is open."""

    @property
    def config(self) -> Any:
        """How the App lists it."""
        return foo.PanelConfig(
            name="run_numbers",
            label="EoMT: run numbers",
            icon="leaderboard",
            help_markdown="The numbers of `workbench evaluate`, in percent. They are read from the run's folder.",
        )

    def on_change_view(self, ctx: Any) -> None:
        """Nothing but to be drawn again: another run may have been pushed."""

    def choose_run(self, ctx: Any) -> None:
        """The run that the menu says; until then the one that was pushed last."""
        ctx.panel.state.run = ctx.params["value"]

    def show_view(self, ctx: Any) -> None:
        """Open the chosen saved view in the grid."""
        ctx.ops.set_view(view=ctx.dataset.load_saved_view(ctx.params["value"]))

    def render(self, ctx: Any) -> Any:
        """The panel as it is now."""
        panel = types.Object()
        buttons = panel.h_stack("actions", gap=1, align_x="left")
        for name, label in _ACTIONS.items():
            buttons.btn(name, label, variant="outlined", on_click=f"{_PLUGIN}/{name}", prompt=True)
        try:
            self._show(panel, ctx)
        except WorkbenchError as error:
            panel.md(str(error), name="problem")
        return types.Property(panel, view=types.GridView(orientation="vertical", gap=2, px=2, py=2))

    def _show(self, panel: Any, ctx: Any) -> None:
        runs = _runs(ctx)
        panel.md(_review(ctx), name="review")
        if not runs:
            panel.md("No run is pushed yet. Predict makes one, Evaluate takes one that is there.", name="none")
            return
        chosen = ctx.panel.state.run if ctx.panel.state.run in runs else next(reversed(runs))
        self._menu(panel, "run", "Run", {name: name for name in runs}, self.choose_run, default=chosen)
        views = [name for name in ctx.dataset.list_saved_views() if name.startswith(f"{chosen}: ")]
        shown = {name: name.removeprefix(f"{chosen}: ") for name in views}
        self._menu(panel, "view", "Show in the grid", shown, self.show_view)
        panel.md(_numbers(runs[chosen]), name="numbers")

    def _menu(
        self, panel: Any, name: str, label: str, choices: Mapping[str, str], on_change: Any, default: str | None = None
    ) -> None:
        view = types.DropdownView()
        for value, shown in choices.items():
            view.add_choice(value, label=shown)
        panel.enum(name, list(choices), label=label, default=default, view=view, on_change=on_change)


def redraw(ctx: Any) -> Any:
    """The message that has the App draw the panel anew which an operator was called from, the newest run first."""
    parameters = {"panel_id": ctx.panel_id, "panel_state": {}, "__method__": RunNumbers.on_change_view.__name__}
    return ctx.trigger(f"{_PLUGIN}/run_numbers", params=parameters)


def _runs(ctx: Any) -> dict[str, Mapping[str, Any]]:
    return dict(actions.about(ctx.dataset)["runs"])


def _numbers(about: Mapping[str, Any]) -> str:
    """Tables in Markdown. Raises RunError where the folder is gone or not evaluated."""
    run = Run.open(about["path"])
    metrics = run.metrics()
    found = headlines(metrics)
    images = next(iter(metrics["images"].values()))["scored"]
    tables = (_table(columns, found) for columns in _TABLES)
    return "\n\n".join([f"{run.task.capitalize()}, {images} images, percent", *filter(None, tables)])


def _table(columns: Mapping[str, Mapping[str, str]], found: Mapping[str, float | None]) -> str | None:
    """The rows of which a number was scored, under those columns; None where there is none."""
    heads = list(next(iter(columns.values())))
    rows = [(what, [found.get(name) for name in row.values()]) for what, row in columns.items()]
    lines = [
        "| ".join(["", what, *("" if value is None else f"{100 * value:.2f}" for value in values)])
        for what, values in rows
        if any(value is not None for value in values)
    ]
    return "\n".join([f"| | {' | '.join(heads)} |", "| --- |" + " ---: |" * len(heads), *lines]) if lines else None


def _review(ctx: Any) -> str:
    reviewed = len(ctx.dataset.match_tags(REVIEWED))
    return f"{reviewed} of {len(ctx.dataset)} images are marked `{REVIEWED}`."
