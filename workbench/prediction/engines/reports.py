"""What the workers of one session told of themselves, put together."""

from collections.abc import Sequence
from typing import Any

from workbench.prediction.engines.work import Report
from workbench.prediction.model import Note
from workbench.prediction.profiling import MODEL_THREAD, READERS, STAGES, WRITE, WRITER, Profile


class Reports:
    """The last report of each worker; what they have to say is passed on, once where several say the same."""

    def __init__(self, batch_size: int, note: Note, profile: Profile) -> None:
        self._first_batch_size, self._note, self._profile = batch_size, note, profile
        self._last: dict[str, Report] = {}
        self._told: set[str] = set()

    def add(self, report: Report) -> None:
        """Take a worker's newest report."""
        self._last[report.worker] = report
        for text in report.notes:
            if text not in self._told:
                self._told.add(text)
                self._note(f"{text} (on {report.device})")

    @property
    def batch_size(self) -> int:
        """The smallest of all workers."""
        return min((report.batch_size for report in self._last.values()), default=self._first_batch_size)

    def profile(self, images: int) -> dict[str, Any] | None:
        """What `Profile.result` gives, with the stages of all workers added up; this process's share is the writing."""
        own = self._profile.result(images, 1)
        parts = [report.profile for report in self._last.values() if report.profile]
        return None if own is None else merged(parts, own) if parts else own


def merged(parts: Sequence[dict[str, Any]], own: dict[str, Any]) -> dict[str, Any]:
    """One profile of all workers' (`parts`) and of the process that commits (`own`): means an image, means of busyness.

    `seconds` is the committing process's, from the first batch handed out to the last committed.
    """
    images = sum(part["images"] for part in parts) or 1
    per_image = {
        stage.name: round(sum(part["ms_per_image"][stage.name] * part["images"] for part in parts) / images, 3)
        for stage in STAGES
    }
    per_image[WRITE.name] = own["ms_per_image"][WRITE.name]
    seconds = sum(part["seconds"] for part in parts) or 1.0
    busy = {
        kind: round(sum(part["busy"][kind] * part["seconds"] for part in parts) / seconds, 4)
        for kind in (READERS, MODEL_THREAD, WRITER)
    }
    limit = max(busy, key=lambda kind: busy[kind])
    return {**own, "ms_per_image": per_image, "busy": busy, "limit": limit}
