"""Read, predict, encode and write, overlapping: threads read ahead, the caller's runs the model, one does the rest.

The rest is post-processing, encoding and writing: compiled code mostly, which lets the model's thread go on.

Batch k is always the same images of the dataset's list, and a shard is closed between two batches only: this is what
makes a resumed run give the rows of an undisturbed one.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from time import monotonic
from typing import Protocol

import pyarrow as pa

from workbench.errors import RunError
from workbench.formats.base import ImageRecord
from workbench.prediction.allocator import freed_memory_kept
from workbench.prediction.encode import Failed, PredictedImage
from workbench.prediction.encoded import BatchEncoder, EncodedBatch
from workbench.prediction.interrupt import StopRequest
from workbench.prediction.model import Predictor, Prepared
from workbench.prediction.profiling import WAIT_FOR_IMAGES, WAIT_FOR_WRITER, WRITE, Profile
from workbench.prediction.progress import Progress
from workbench.store import SegmentStoreWriter

IMAGES_PER_SHARD = 512
SECONDS_PER_SHARD = 60.0
_BATCHES_READ_AHEAD = 2
_BATCHES_TO_WRITE = 1  # 100 masks of a 640x480 image are 30 MB

Batch = Sequence[ImageRecord]
Reader = Callable[[ImageRecord], Prepared | Failed]
Take = Callable[[bool], Batch | None]
"""Gives the next batch. None: there is none now, or, where it was asked to wait (True), there will be none any more."""


class Sink(Protocol):
    """Where encoded batches go, in order, from one thread."""

    def add(self, batch: EncodedBatch) -> None:
        """Take the next batch."""

    def commit(self) -> None:
        """There are no more for now, whatever the reason."""


class ShardWriter:
    """Commits batches to the run every `IMAGES_PER_SHARD` images or `SECONDS_PER_SHARD` seconds.

    After an error it takes no more: images behind a gap would come before the gap's own when the run is resumed.
    """

    def __init__(self, store: SegmentStoreWriter, progress: Progress, profile: Profile | None = None) -> None:
        self._store, self._progress, self._profile = store, progress, profile or Profile()
        self._waiting: list[EncodedBatch] = []
        self._images = 0
        self._committed = monotonic()
        self._takes_more = True

    def add(self, batch: EncodedBatch) -> None:
        """Add the next batch, and commit where that is due. Raises RunError where the disk is full or gone."""
        if not self._takes_more:
            return
        self._takes_more = False  # until all of it has worked
        self._waiting.append(batch)
        self._images += batch.images.num_rows
        self._progress.advance(batch.images.num_rows)
        if self._images >= IMAGES_PER_SHARD or monotonic() - self._committed >= SECONDS_PER_SHARD:
            self._commit()
        self._takes_more = True

    def commit(self) -> None:
        """Write what was added as one shard. Raises RunError where the disk is full or gone."""
        if self._takes_more:
            self._takes_more = False
            self._commit()
            self._takes_more = True

    def _commit(self) -> None:
        if self._waiting:
            try:
                with self._profile.stage(WRITE):
                    self._store.commit(*_shard(self._waiting))
            except OSError as error:
                raise RunError(
                    f"{self._store.store.folder}: cannot be written ({error.strerror}). What is there already is "
                    "whole: make room, then run the same command again to go on."
                ) from error
            self._waiting, self._images = [], 0
        self._committed = monotonic()


def _shard(batches: Sequence[EncodedBatch]) -> tuple[pa.Table, pa.Table, pa.Table | None]:
    """Segments, images and candidates of all batches; one chunk each, so that a row group has one dictionary."""
    candidates = [batch.candidates for batch in batches if batch.candidates is not None]
    return (
        pa.concat_tables([batch.segments for batch in batches]).combine_chunks(),
        pa.concat_tables([batch.images for batch in batches]).combine_chunks(),
        pa.concat_tables(candidates).combine_chunks() if candidates else None,
    )


def one_after_another(batches: Iterable[Batch]) -> Take:
    """Batches that are all known."""
    remaining = iter(batches)
    return lambda wait: next(remaining, None)


def run_batches(
    take: Take,
    read: Reader,
    predictor: Predictor,
    encoder: BatchEncoder,
    sink: Sink,
    stop: StopRequest,
    workers: int,
    profile: Profile | None = None,
) -> None:
    """Predict batches in order until there are no more or a stop is requested; whatever ends it, whole batches stay."""
    profile = profile or Profile()
    finish = _Finish(encoder, sink)
    with (
        freed_memory_kept(),
        ThreadPoolExecutor(workers, "read") as readers,
        ThreadPoolExecutor(1, "write") as write_thread,
    ):
        writing: deque[Future[None]] = deque()

        def take_next(wait: bool) -> Batch | None:
            while wait and writing:  # an error in one of these is not to wait for a batch that may never come
                writing.popleft().result()
            return take(wait)

        try:
            for batch in _read_ahead(readers, take_next, read, profile):
                writing.append(write_thread.submit(finish.batch, _through_model(batch, predictor)))
                if len(writing) > _BATCHES_TO_WRITE:
                    with profile.stage(WAIT_FOR_WRITER):
                        writing.popleft().result()
                if stop.requested:
                    break
        finally:
            readers.shutdown(wait=False, cancel_futures=True)
            try:
                with profile.stage(WAIT_FOR_WRITER):
                    for future in writing:
                        future.result()
            finally:  # what is whole stays, also where one of the last batches failed
                # In that thread too: a second Ctrl-C may have come before the last batch was noted in `writing`.
                write_thread.submit(sink.commit).result()


class _Finish:
    """Post-processes, encodes and hands on; after an error no more, as what follows would stand behind a gap."""

    def __init__(self, encoder: BatchEncoder, sink: Sink) -> None:
        self._encoder, self._sink = encoder, sink
        self._takes_more = True

    def batch(self, predicted: Callable[[], Sequence[PredictedImage]]) -> None:
        if self._takes_more:
            self._takes_more = False  # until all of it has worked
            self._sink.add(self._encoder.encode(predicted()))
            self._takes_more = True


def _read_ahead(
    readers: ThreadPoolExecutor, take: Take, read: Reader, profile: Profile
) -> Iterator[list[tuple[ImageRecord, Prepared | Failed]]]:
    """The batches in order, the next few of them being read meanwhile."""
    reading: deque[list[tuple[ImageRecord, Future[Prepared | Failed]]]] = deque()
    while True:
        while len(reading) <= _BATCHES_READ_AHEAD and (batch := take(not reading)) is not None:
            reading.append([(record, readers.submit(read, record)) for record in batch])
        if not reading:
            return
        with profile.stage(WAIT_FOR_IMAGES):
            ready = [(record, future.result()) for record, future in reading.popleft()]
        yield ready


def _through_model(
    batch: Sequence[tuple[ImageRecord, Prepared | Failed]], predictor: Predictor
) -> Callable[[], list[PredictedImage]]:
    """Run the model on the batch; what is returned does the rest.

    It gives the batch's images in order, each with a prediction or the reason why there is none.
    """
    readable = [image for _, image in batch if isinstance(image, Prepared)]
    outputs = predictor.forward(readable) if readable else None

    def predicted() -> list[PredictedImage]:
        predictions = iter(() if outputs is None else predictor.post_process(outputs, readable))
        return [
            PredictedImage(record, next(predictions) if isinstance(image, Prepared) else image)
            for record, image in batch
        ]

    return predicted
