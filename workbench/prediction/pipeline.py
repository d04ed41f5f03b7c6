"""Read, predict, encode and write, overlapping: threads read ahead, the caller's thread predicts, one thread writes.

Batch k is always the same images of the dataset's list, and a shard is closed between two batches only: this is what
makes a resumed run give the rows of an undisturbed one.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from time import monotonic

from workbench.errors import RunError
from workbench.formats.base import ImageRecord
from workbench.prediction.candidates import CandidateBuilder
from workbench.prediction.encode import Failed, PredictedImage, ShardBuilder
from workbench.prediction.interrupt import StopRequest
from workbench.prediction.model import Predictor, Prepared
from workbench.prediction.progress import Progress
from workbench.store import SegmentStoreWriter

IMAGES_PER_SHARD = 512
SECONDS_PER_SHARD = 60.0
_BATCHES_READ_AHEAD = 2
_BATCHES_TO_WRITE = 1  # 100 masks of a 640x480 image are 30 MB

Reader = Callable[[ImageRecord], Prepared | Failed]


class ShardWriter:
    """Encodes predictions into rows; commits them every `IMAGES_PER_SHARD` images or `SECONDS_PER_SHARD` seconds.

    After an error it takes no more: images behind a gap would come before the gap's own when the run is resumed.
    """

    def __init__(
        self,
        store: SegmentStoreWriter,
        builder: ShardBuilder,
        progress: Progress,
        candidates: CandidateBuilder | None = None,
    ) -> None:
        self._store, self._builder, self._progress, self._candidates = store, builder, progress, candidates
        self._committed = monotonic()
        self._broken = False

    def add(self, batch: Sequence[PredictedImage]) -> None:
        """Add a batch, and commit where that is due."""
        if self._broken:
            return
        self._broken = True  # until all of it has worked
        for image in batch:
            self._builder.add(image)
            if self._candidates is not None:
                self._candidates.add(image)
        self._progress.advance(len(batch))
        if self._builder.images >= IMAGES_PER_SHARD or monotonic() - self._committed >= SECONDS_PER_SHARD:
            self._commit()
        self._broken = False

    def commit(self) -> None:
        """Write what was added as one shard. Raises RunError where the disk is full or gone."""
        if not self._broken:
            self._commit()

    def _commit(self) -> None:
        if self._builder.images:
            try:
                self._store.commit(*self._builder.build(), self._candidates and self._candidates.build())
            except OSError as error:
                raise RunError(
                    f"{self._store.store.folder}: cannot be written ({error.strerror}). What is there already is "
                    "whole: make room, then run the same command again to go on."
                ) from error
        self._committed = monotonic()


def run_batches(
    batches: Sequence[Sequence[ImageRecord]],
    read: Reader,
    predictor: Predictor,
    writer: ShardWriter,
    stop: StopRequest,
    workers: int,
) -> None:
    """Predict batches in order until all are done or a stop is requested; whatever ends it, whole batches stay."""
    with ThreadPoolExecutor(workers, "read") as readers, ThreadPoolExecutor(1, "write") as write_thread:
        writing: deque[Future[None]] = deque()
        try:
            for batch in _read_ahead(readers, batches, read):
                writing.append(write_thread.submit(writer.add, _predicted(batch, predictor)))
                if len(writing) > _BATCHES_TO_WRITE:
                    writing.popleft().result()
                if stop.requested:
                    break
        finally:
            readers.shutdown(wait=False, cancel_futures=True)
            for future in writing:
                future.result()
            # In that thread too: a second Ctrl-C may have come before the last `add` was noted in `writing`.
            write_thread.submit(writer.commit).result()


def _read_ahead(
    readers: ThreadPoolExecutor, batches: Sequence[Sequence[ImageRecord]], read: Reader
) -> Iterator[list[tuple[ImageRecord, Prepared | Failed]]]:
    """The batches in order, the next few of them being read meanwhile."""
    reading: deque[list[tuple[ImageRecord, Future[Prepared | Failed]]]] = deque()
    remaining = iter(batches)
    while True:
        while len(reading) <= _BATCHES_READ_AHEAD and (batch := next(remaining, None)) is not None:
            reading.append([(record, readers.submit(read, record)) for record in batch])
        if not reading:
            return
        yield [(record, future.result()) for record, future in reading.popleft()]


def _predicted(batch: Sequence[tuple[ImageRecord, Prepared | Failed]], predictor: Predictor) -> list[PredictedImage]:
    """The batch's images in order, with a prediction or the reason why there is none."""
    readable = [image for _, image in batch if isinstance(image, Prepared)]
    predictions = iter(predictor.predict(readable) if readable else ())
    return [
        PredictedImage(record, next(predictions) if isinstance(image, Prepared) else image) for record, image in batch
    ]
