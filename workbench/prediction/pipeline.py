"""Read, predict, encode and write, overlapping: threads read ahead, the caller's runs the model, one does the rest.

The rest is post-processing, encoding and writing: compiled code mostly, which lets the model's thread go on.

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
from workbench.prediction.profiling import ENCODE, WAIT_FOR_IMAGES, WAIT_FOR_WRITER, WRITE, Profile
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
        profile: Profile | None = None,
    ) -> None:
        self._store, self._builder, self._progress, self._candidates = store, builder, progress, candidates
        self._profile = profile or Profile()
        self._committed = monotonic()
        self._takes_more, self._whole_batches = True, True

    def add(self, predicted: Callable[[], Sequence[PredictedImage]]) -> None:
        """Add the batch that `predicted` gives, which may still have work to do, and commit where that is due."""
        if not self._takes_more:
            return
        self._takes_more = False  # until all of it has worked
        batch = predicted()
        self._whole_batches = False
        with self._profile.stage(ENCODE):
            self._encode(batch)
        self._progress.advance(len(batch))
        if self._builder.images >= IMAGES_PER_SHARD or monotonic() - self._committed >= SECONDS_PER_SHARD:
            self._commit()
        self._takes_more, self._whole_batches = True, True

    def _encode(self, batch: Sequence[PredictedImage]) -> None:
        for image in batch:
            self._builder.add(image)
            if self._candidates is not None:
                self._candidates.add(image)

    def commit(self) -> None:
        """Write what was added as one shard. Raises RunError where the disk is full or gone."""
        if self._whole_batches:
            self._commit()

    def _commit(self) -> None:
        if self._builder.images:
            try:
                with self._profile.stage(WRITE):
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
    profile: Profile | None = None,
) -> None:
    """Predict batches in order until all are done or a stop is requested; whatever ends it, whole batches stay."""
    profile = profile or Profile()
    with ThreadPoolExecutor(workers, "read") as readers, ThreadPoolExecutor(1, "write") as write_thread:
        writing: deque[Future[None]] = deque()
        try:
            for batch in _read_ahead(readers, batches, read, profile):
                writing.append(write_thread.submit(writer.add, _through_model(batch, predictor)))
                if len(writing) > _BATCHES_TO_WRITE:
                    with profile.stage(WAIT_FOR_WRITER):
                        writing.popleft().result()
                if stop.requested:
                    break
        finally:
            readers.shutdown(wait=False, cancel_futures=True)
            with profile.stage(WAIT_FOR_WRITER):
                for future in writing:
                    future.result()
            # In that thread too: a second Ctrl-C may have come before the last `add` was noted in `writing`.
            write_thread.submit(writer.commit).result()


def _read_ahead(
    readers: ThreadPoolExecutor, batches: Sequence[Sequence[ImageRecord]], read: Reader, profile: Profile
) -> Iterator[list[tuple[ImageRecord, Prepared | Failed]]]:
    """The batches in order, the next few of them being read meanwhile."""
    reading: deque[list[tuple[ImageRecord, Future[Prepared | Failed]]]] = deque()
    remaining = iter(batches)
    while True:
        while len(reading) <= _BATCHES_READ_AHEAD and (batch := next(remaining, None)) is not None:
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
