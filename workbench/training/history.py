"""The curve of a training: a JSON line and a CSV row now and then, and TensorBoard where it is installed."""

import csv
import importlib
import importlib.util
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eomt.training import StepReport

JSON_LINES, CSV, TENSORBOARD = "history.jsonl", "history.csv", "tensorboard"
COLUMNS = (
    "step", "epoch", "loss", "loss_mask", "loss_dice", "loss_cross_entropy", "loss_dense", "gradient_norm", "lr_heads",
    "lr_backbone", "skipped", "images_per_second", "metric", "value",
)  # fmt: skip
_PARTS = ("loss_mask", "loss_dice", "loss_cross_entropy", "loss_dense")  # the last only in a training that has it


def step_values(report: StepReport) -> dict[str, float]:
    """The numbers of one step; a loss part is the sum over the model's predictions."""
    values = {"loss": report.loss, "gradient_norm": report.gradient_norm, "skipped": float(report.skipped)}
    for name in _PARTS:
        if own := [part for key, part in report.loss_parts.items() if key.startswith(name)]:
            values[name] = sum(own)
    for part, rate in report.learning_rates.items():
        values[f"lr_{part}"] = rate
    return values


def mean_of(steps: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Several steps as one: means of the losses, the number of skipped steps, the rates of the last."""
    last = dict(steps[-1])
    averaged = [name for name in ("loss", "gradient_norm", *_PARTS) if name in last]
    means = {name: sum(step[name] for step in steps) / len(steps) for name in averaged}
    return last | means | {"skipped": sum(step["skipped"] for step in steps)}


class History:
    """Appends to the files in a folder; what lies beyond `step`, from which the training goes on, is taken back."""

    def __init__(self, folder: Path, step: int = 0) -> None:
        self._lines = folder / JSON_LINES
        self._csv = folder / CSV
        self.entries = [entry for entry in read_entries(self._lines) if entry["step"] <= step]
        self._rewrite()
        self._board = _tensorboard(folder / TENSORBOARD, step)

    def add(self, entry: dict[str, Any]) -> None:
        """One more entry: `step` and `epoch`, and either a training's values or a `metric` and its `value`."""
        entry = {name: value if _is_finite(value) else None for name, value in entry.items()}
        self.entries.append(entry)
        with self._lines.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
        with self._csv.open("a", encoding="utf-8", newline="") as file:
            csv.DictWriter(file, COLUMNS, extrasaction="ignore").writerow(entry)
        if self._board is not None:
            self._show(entry)

    def validated(self, step: int) -> bool:
        """Whether the weights after `step` have been validated."""
        return any(entry["step"] == step for entry in self.validations)

    @property
    def validations(self) -> list[dict[str, Any]]:
        """The entries that hold a validation's metric."""
        return [entry for entry in self.entries if "metric" in entry]

    def best(self) -> dict[str, Any] | None:
        """The first of the highest validations; None where there is none yet."""
        return max(self.validations, key=lambda entry: entry["value"], default=None)

    def close(self) -> None:
        """Write out what TensorBoard has not yet."""
        if self._board is not None:
            self._board.close()

    def _rewrite(self) -> None:
        partial = self._lines.with_name(f".{JSON_LINES}.partial")
        partial.write_text("".join(json.dumps(entry) + "\n" for entry in self.entries), encoding="utf-8")
        partial.replace(self._lines)
        with self._csv.open("w", encoding="utf-8", newline="") as file:
            rows = csv.DictWriter(file, COLUMNS, extrasaction="ignore")
            rows.writeheader()
            rows.writerows(self.entries)

    def _show(self, entry: dict[str, Any]) -> None:
        if "metric" in entry:
            self._board.add_scalar(f"validation/{entry['metric']}", entry["value"], entry["step"])
            return
        for name in COLUMNS[2:-2]:
            if entry.get(name) is not None:
                self._board.add_scalar(f"training/{name}", entry[name], entry["step"])


def _is_finite(value: Any) -> bool:
    return not isinstance(value, float) or math.isfinite(value)  # JSON knows neither NaN nor infinity


def read_entries(path: Path) -> list[dict[str, Any]]:
    """The entries of a file, up to a line that a crash cut short or that is none."""
    entries = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else ():
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            break
        if not isinstance(entry, dict) or not isinstance(entry.get("step"), int):
            break
        entries.append(entry)
    return entries


def _tensorboard(folder: Path, step: int) -> Any:
    """A writer, or None where TensorBoard is not installed; it takes back what lies beyond `step` itself."""
    if importlib.util.find_spec("tensorboard") is None:
        return None
    return importlib.import_module("torch.utils.tensorboard").SummaryWriter(folder, purge_step=step + 1)
