"""An image of the dataset, read and prepared, or the reason why it cannot be."""

import errno
from collections.abc import Callable
from pathlib import Path

from eomt.errors import EomtError, ImageInputError
from workbench.errors import DatasetError, MissingObjectError, StorageError
from workbench.formats.base import ImageRecord
from workbench.prediction.encode import Failed
from workbench.prediction.model import Prepared
from workbench.storage import shown, url_of

_NO_SUCH_FILE = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL}


def reader(prepare: Callable[[Path], Prepared], images_folder: Path) -> Callable[[ImageRecord], Prepared | Failed]:
    """A function that prepares one image, for the pipeline's threads.

    A file that is missing, broken or not of the size that the annotations declare gives Failed: it could not be scored,
    and the other images can. Raises DatasetError for what is not the file's fault and may be over on the next attempt,
    since a resume does not try failed images again: an input/output error, a permission, too many open files, too
    little memory, that the whole images folder is gone, as when a disk is unmounted, or that an object store fails
    longer than it is asked again (`workbench.storage.retrying`).
    """

    def read(record: ImageRecord) -> Prepared | Failed:
        try:
            prepared = prepare(record.path)
        except MissingObjectError as error:
            return Failed(str(error))
        except StorageError as error:
            raise DatasetError(f"{error} Then run the same command again to go on.") from error
        except (ImageInputError, OSError, MemoryError) as error:
            if url_of(images_folder) is None and not images_folder.is_dir():
                raise DatasetError(f"{images_folder}: the images folder is not there (any more).") from error
            if reason := _passing(error):
                raise DatasetError(
                    f"{record.path}: cannot be read now ({reason}). Mend that, or take fewer --workers; then run the "
                    "same command again to go on."
                ) from error
            return Failed(_sentence(record, error))
        except EomtError:
            raise  # a processor that cannot work is not this image's fault
        except Exception as error:
            # A decoder that meets arbitrary bytes raises what it likes, struct.error and zlib.error among others.
            return Failed(_sentence(record, error))
        return _checked_size(prepared, record)

    return read


def _passing(error: Exception) -> str | None:
    """What kept the system from reading the file; None where the file itself is missing or no image.

    Decoders raise OSError without a number.
    """
    cause = error.__cause__ if isinstance(error, ImageInputError) else error
    if isinstance(cause, MemoryError):
        return "memory ran out"
    if isinstance(cause, OSError) and cause.errno is not None and cause.errno not in _NO_SUCH_FILE:
        return cause.strerror or str(cause)
    return None


def _sentence(record: ImageRecord, error: Exception) -> str:
    if isinstance(error, ImageInputError):
        return str(error)
    return f"{shown(record.path)}: cannot be read as an image ({type(error).__name__}: {error})."


def _checked_size(prepared: Prepared, record: ImageRecord) -> Prepared | Failed:
    if record.size_hw in (None, prepared.size_hw):
        return prepared
    (height, width), (declared_height, declared_width) = prepared.size_hw, record.size_hw
    return Failed(
        f"{shown(record.path)}: the file has {width}x{height} pixels (width x height), the annotations declare "
        f"{declared_width}x{declared_height}. Replace the file, or correct the annotations."
    )
