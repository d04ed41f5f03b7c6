"""An image of the dataset, read and prepared, or the reason why it cannot be."""

from collections.abc import Callable
from pathlib import Path

from eomt.errors import EomtError, ImageInputError
from workbench.errors import DatasetError
from workbench.formats.base import ImageRecord
from workbench.prediction.encode import Failed
from workbench.prediction.model import Prepared


def reader(prepare: Callable[[Path], Prepared], images_folder: Path) -> Callable[[ImageRecord], Prepared | Failed]:
    """A function that prepares one image, for the pipeline's threads.

    A file that is missing, broken or not of the size that the annotations declare gives Failed: it could not be scored,
    and the other images can. Raises DatasetError where the whole images folder is gone, as when a disk is unmounted:
    recording every image as failed would help nobody.
    """

    def read(record: ImageRecord) -> Prepared | Failed:
        try:
            prepared = prepare(record.path)
        except ImageInputError as error:
            if not images_folder.is_dir():
                raise DatasetError(f"{images_folder}: the images folder is not there (any more).") from error
            return Failed(str(error))
        except EomtError:
            raise  # a processor that cannot work is not this image's fault
        except Exception as error:
            # A decoder that meets arbitrary bytes raises what it likes, struct.error and zlib.error among others.
            return Failed(f"{record.path}: cannot be read as an image ({type(error).__name__}: {error}).")
        return _checked_size(prepared, record)

    return read


def _checked_size(prepared: Prepared, record: ImageRecord) -> Prepared | Failed:
    if record.size_hw in (None, prepared.size_hw):
        return prepared
    (height, width), (declared_height, declared_width) = prepared.size_hw, record.size_hw
    return Failed(
        f"{record.path}: the file has {width}x{height} pixels (width x height), the annotations declare "
        f"{declared_width}x{declared_height}. Replace the file, or correct the annotations."
    )
