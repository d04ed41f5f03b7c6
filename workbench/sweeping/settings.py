"""Which thresholds a run can be swept over: its own, and those from which on it holds everything."""

from workbench.errors import OptionError
from workbench.runs import Run
from workbench.sweeping import grid
from workbench.sweeping.curve import Setting

_MOST_POINTS = 10_000  # each takes some 200 bytes an image: a grid beyond it is a slip, and would fill the memory


def own_setting(run: Run) -> Setting | None:
    """The run's own thresholds; None for imported instances, which had some threshold or none."""
    identity = run.manifest.get("identity", {})
    if identity.get("threshold") is None:
        return None
    return Setting(identity["threshold"], identity.get("overlap_threshold"))


def lowest_threshold(run: Run) -> float:
    """From which threshold on the run has all that there is: the floor of its candidates, or its own threshold."""
    identity = run.manifest.get("identity", {})
    return float(identity.get("candidate_floor" if run.task == "panoptic" else "threshold") or 0.0)


def choose(
    run: Run, thresholds: grid.Values | None, overlaps: grid.Values | None
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The thresholds and the overlap thresholds (none for instances) to try, the run's own among them.

    Raises OptionError for what is no grid, and for what the run cannot give.
    """
    own, values = own_setting(run), _thresholds(run, thresholds)
    if own is not None:
        values = tuple(sorted({*values, own.threshold}))
    if run.task == "instance":
        if overlaps is not None:
            raise OptionError("--overlaps has no meaning for an instance run: instances may overlap. Leave it out.")
        return values, ()
    shares = grid.parse(grid.OVERLAPS if overlaps is None else overlaps, "--overlaps")
    if own is not None and own.overlap_threshold is not None:
        shares = tuple(sorted({*shares, own.overlap_threshold}))
    points = len(values) * len(shares)
    if points > _MOST_POINTS:
        raise OptionError(
            f"--thresholds and --overlaps: {len(values)} x {len(shares)} values make {points} points, more than "
            f"{_MOST_POINTS}. Take larger steps."
        )
    return values, shares


def check(run: Run, setting: Setting) -> None:
    """Raise OptionError for a setting that the run cannot give."""
    if (setting.overlap_threshold is None) == (run.task == "panoptic"):
        raise OptionError(f"{run.path}: {setting} does not fit a {run.task} run: panoptic ones alone have an overlap.")
    low = lowest_threshold(run)
    if not low <= setting.threshold <= 1:
        raise OptionError(f"{run.path}: it knows thresholds from {low:g} to 1, not {setting.threshold:g}.")


def _thresholds(run: Run, thresholds: grid.Values | None) -> tuple[float, ...]:
    """Those asked for; by default those of `grid.THRESHOLDS` that the run can give."""
    low = lowest_threshold(run)
    if thresholds is None:
        return tuple(value for value in grid.parse(grid.THRESHOLDS, "--thresholds") if value >= low)
    values = grid.parse(thresholds, "--thresholds")
    if values[0] < low:
        option = "--candidate-floor" if run.task == "panoptic" else "--threshold"
        raise OptionError(
            f"--thresholds: {values[0]:g} is below {low:g}, where what {run.path} holds ends. Start there, or predict "
            f"again with {option} {values[0]:g}."
        )
    return values
