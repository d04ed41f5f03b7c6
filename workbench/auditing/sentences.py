"""Why a label is suspicious, in a sentence that a person can check against the picture."""


def missing(name: str, score: float, unclaimed: float, right: float) -> str:
    """Of a prediction without a label."""
    return (
        f"{name} is predicted here with score {score:.2f}, and no label claims {_percent(unclaimed)} of it; "
        f"{_percent(right)} of similar predictions are right"
    )


def spurious(name: str, said: str | None, claimed: float | None, missed: float) -> str:
    """Of a label on which nothing of its class is predicted; `said` is the class that is.

    `claimed` is the share of it of which the run says something; None where that is always all.
    """
    instead = f"the run finds no {name} here" + (f", but {said}" if said else "")
    sure = "" if claimed is None else f", and says what {_percent(claimed)} of the place is"
    return f"{instead}{sure}; it misses {_percent(missed)} of similar labels"


def wrong_class(name: str, other: str, score: float, iou: float, right: float) -> str:
    """Of a label whose place the run gives to another class."""
    return (
        f"labelled {name}, predicted {other} with score {score:.2f} and IoU {iou:.2f}; "
        f"{_percent(right)} of similar predictions are right"
    )


def outline(name: str, iou: float, usual: float) -> str:
    """Of a label whose outline fits the prediction worse than usual."""
    return f"IoU {iou:.2f} with the predicted {name}, where {usual:.2f} is usual for its class and size"


def _percent(share: float) -> str:
    return f"{100 * share:.0f}\N{NO-BREAK SPACE}%"
