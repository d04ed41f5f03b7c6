"""The operators: forms for what the commands have as options, and the commands' own functions behind them."""

from collections.abc import Iterator
from typing import Any

import fiftyone.operators as foo
from fiftyone.operators import types

from workbench.errors import WorkbenchError
from workbench.voxel51 import actions
from workbench.voxel51.actions import Done
from workbench.voxel51.plugin import forms, panel
from workbench.voxel51.plugin.streaming import Work, messages


class Action(foo.Operator):  # type: ignore[misc]  # FiftyOne has no types
    """What the four have in common: a form, work with a progress bar, and the App brought up to date."""

    name_, label, description, icon = "", "", "", ""
    may_be_queued = True

    @property
    def config(self) -> Any:
        """How the App lists it."""
        return foo.OperatorConfig(
            name=self.name_,
            label=f"EoMT: {self.label}",
            description=self.description,
            icon=self.icon,
            dynamic=True,
            execute_as_generator=True,
            allow_immediate_execution=True,
            allow_delegated_execution=self.may_be_queued,
            resolve_execution_options_on_change=False,
        )

    def resolve_input(self, ctx: Any) -> Any:
        """The form, or why there is none."""
        inputs = types.Object()
        try:
            info = actions.about(ctx.dataset)
            problem = self.fill(forms.Form(ctx, inputs, info))
        except WorkbenchError as error:
            problem = str(error)
        form = types.Property(inputs, view=types.View(label=self.label, description=self.description))
        if problem:
            inputs.view("problem", types.Error(label="Not possible here", description=problem))
            form.invalid = True
        return form

    def execute(self, ctx: Any) -> Iterator[Any]:
        """Do it, telling how far it is."""
        yield from messages(ctx, self.work(ctx), _refresh)

    def fill(self, form: forms.Form) -> str | None:
        """Put the inputs in; returns what stands in the way."""
        raise NotImplementedError

    def work(self, ctx: Any) -> Work:
        """The function behind it, with what the form says."""
        raise NotImplementedError


class Predict(Action):
    """`workbench predict` on some samples."""

    name_, label, icon = "predict", "Predict", "auto_awesome"
    description = "Run a model over the current view or the selected samples, and show the run as a field of its own"

    def fill(self, form: forms.Form) -> str | None:
        """The samples, the checkpoint, its thresholds, the folder."""
        form.target("Predict")
        form.prediction()
        form.switch("score", "Evaluate the run as well", default=True, why="Where the dataset has ground truth")
        return form.problem

    def work(self, ctx: Any) -> Work:
        """Predict, evaluate, push."""
        ids, wanted = forms.sample_ids(ctx), forms.wanted(ctx)
        score = bool(ctx.params.get("score", True))
        return lambda show: actions.predict_samples(ctx.dataset.name, ids, wanted, show, score)


class Evaluate(Action):
    """`workbench evaluate` of a run, and its push."""

    name_, label, icon = "evaluate", "Evaluate a run", "analytics"
    description = "Score a run against the ground truth, and show every object's match and the run's numbers"

    def fill(self, form: forms.Form) -> str | None:
        """The run, and how it is scored."""
        form.run()
        form.switch("boundary", "The same metrics by outlines, too")
        form.switch("corrected", "Mend the official tools' oddities", why="See the document on parity")
        return form.problem

    def work(self, ctx: Any) -> Work:
        """Evaluate, push."""
        path, boundary, corrected = forms.run_path(ctx), ctx.params.get("boundary"), ctx.params.get("corrected")
        return lambda show: actions.evaluate_run(ctx.dataset.name, path, show, bool(boundary), bool(corrected))


class Prelabel(Action):
    """`workbench prelabel` on some samples."""

    name_, label, icon = "prelabel", "Pre-label", "edit_note"
    description = "Put predictions into the field label_edits, to be corrected, the images that need it most first"

    def fill(self, form: forms.Form) -> str | None:
        """The samples, the run or what to predict, and which labels."""
        form.target("Pre-label")
        form.run(or_predict=True)
        if form.value("run") == forms.PREDICT:
            form.prediction()
        form.score("min_score", "Leave out objects that score less than", default=0.0)
        form.choice(
            "order",
            "What makes an image worth a look",
            {"uncertainty": "uncertainty: its objects' doubts, added up", "rarity": "rarity: classes that are few"},
        )
        form.switch("labelled", "Images that have ground truth too")
        form.switch("replace", "Replace pre-labels that are there, corrections and all")
        return form.problem

    def work(self, ctx: Any) -> Work:
        """Predict where there is no run, pre-label."""
        get, ids = ctx.params.get, forms.sample_ids(ctx)
        source = forms.wanted(ctx) if get("run") == forms.PREDICT else forms.run_path(ctx)
        return lambda show: actions.prelabel_samples(
            ctx.dataset.name,
            ids,
            source,
            show,
            get("min_score") or 0.0,
            get("order") or "uncertainty",
            bool(get("labelled")),
            bool(get("replace")),
        )


class MarkReviewed(Action):
    """The tag that `workbench pull --reviewed` goes by."""

    name_, label, icon = "mark_reviewed", "Mark reviewed", "task_alt"
    description = "Tag samples as reviewed: `workbench pull --reviewed` takes home these alone"
    may_be_queued = False

    def fill(self, form: forms.Form) -> str | None:
        """The samples, and which way."""
        form.target("Mark", with_open_sample=True)
        form.choice("mark", "What to do", {"reviewed": "Mark them reviewed", "not": "Take the mark away"})
        return form.problem

    def work(self, ctx: Any) -> Work:
        """Tag, or untag."""
        ids, reviewed = forms.sample_ids(ctx), ctx.params.get("mark") != "not"
        return lambda show: actions.mark_reviewed(ctx.dataset.name, ids, reviewed)


OPERATORS = (Predict, Evaluate, Prelabel, MarkReviewed)


def _refresh(ctx: Any, done: Done) -> Iterator[Any]:
    ctx.dataset.reload()
    yield ctx.ops.reload_dataset()
    if done.view:  # not by name: the App knows only the names that it listed before
        yield ctx.ops.set_view(view=ctx.dataset.load_saved_view(done.view))
    if ctx.panel_id:
        yield panel.redraw(ctx)
