"""What a store's error means, and trying again where it may pass: a few times, for a bounded time.

Errors are told by class name and by HTTP status, so that no store's package is imported for it.
"""

import os
import random
import time
from collections.abc import Callable, Iterator
from typing import Any, Literal, TypeVar

from workbench.errors import MissingObjectError, OptionError, PassingStorageError, StorageError
from workbench.storage.places import scheme_of
from workbench.storage.services import connection

T = TypeVar("T")
Kind = Literal["missing", "no bucket", "exists", "denied", "no credentials", "unsupported", "passing", "other"]

PATIENCE = "WORKBENCH_STORAGE_SECONDS"
"""Environment variable: no attempt begins later than so many seconds after the first."""
DEFAULT_PATIENCE = 30.0
_FIRST_PAUSE, _LONGEST_PAUSE, _MOST_ATTEMPTS = 0.2, 5.0, 12

_PASSING = {
    "HTTPClientError",  # botocore: refused, timed out, closed
    "IncompleteRead",
    "ResponseParserError",
    "ClientConnectionError",  # aiohttp
    "ClientPayloadError",
    "TransportError",  # httpx, google.auth
    "RequestException",  # requests
    "ConnectionError",
    "TimeoutError",
    "FSTimeoutError",
}
_NO_CREDENTIALS = {
    "NoCredentialsError",
    "PartialCredentialsError",
    "CredentialRetrievalError",
    "TokenRetrievalError",
    "ProfileNotFound",
    "DefaultCredentialsError",
    "LocalTokenNotFoundError",
}
# 409: S3 says so of a conditional write that met another one, and asks to try again
_PASSING_STATUS = {408, 409, 425, 429, 500, 502, 503, 504}
_REMEDIES: dict[str, str] = {
    "no bucket": "There is no such bucket: correct its name, or make it first.",
    "denied": "The store refuses it to these credentials. Check them, the bucket's name and its rules; S3 answers so "
    "for an object that is missing, too, where the bucket may not be listed.",
    "no credentials": "There are no credentials. Set them as the store's own tools read them: AWS_ACCESS_KEY_ID and "
    "AWS_SECRET_ACCESS_KEY or AWS_PROFILE (s3), `gcloud auth application-default login` (gs), HF_TOKEN (hf).",
    "unsupported": "The service does not know this operation: runs that others read lie there, none can be written.",
    "other": "See docs/storage.md.",
}


def attempt(url: str, action: Callable[[Any], T]) -> T:
    """What `action` gives for the store's file system, tried again after errors that may pass.

    Raises MissingObjectError, FileExistsError (of an exclusive write), PassingStorageError where it did not pass in
    time, or StorageError, each with place, cause and remedy.
    """
    started, pause = time.monotonic(), _FIRST_PAUSE
    for number in range(1, _MOST_ATTEMPTS + 1):
        try:
            return action(connection(scheme_of(url)))
        except StorageError:
            raise
        except Exception as error:  # each store raises its own; `_told` turns every one into ours
            waited = time.monotonic() - started
            if kind_of(error) != "passing" or number == _MOST_ATTEMPTS or waited + pause > patience():
                raise _told(url, error, number, waited) from error
        time.sleep(pause * random.uniform(0.5, 1))  # many readers must not come back together
        pause = min(2 * pause, _LONGEST_PAUSE)
    raise AssertionError("unreachable")


def patience() -> float:
    """Seconds after which no attempt begins any more. Raises OptionError where the environment says nonsense."""
    text = os.environ.get(PATIENCE, "")
    try:
        seconds = float(text) if text else DEFAULT_PATIENCE
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 86400:
        raise OptionError(f"{PATIENCE} is {text!r}; set a number of seconds, from 0 to 86400.")
    return seconds


def kind_of(error: BaseException) -> Kind:
    """What an error of a store, or of the connection to it, comes down to."""
    chain = list(_chain(error))
    names = {base.__name__ for each in chain for base in type(each).__mro__}
    status = next((found for each in chain if (found := _status(each)) is not None), None)
    if names & _NO_CREDENTIALS:
        return "no credentials"
    if "NoSuchBucket" in names or "bucket does not exist" in str(error):
        return "no bucket"
    if "FileNotFoundError" in names or status == 404:
        return "missing"
    if "FileExistsError" in names or status == 412:
        return "exists"
    if "PermissionError" in names or status in (401, 403):
        return "denied"
    if status == 501:
        return "unsupported"
    if status in _PASSING_STATUS or (status is None and names & _PASSING):
        return "passing"
    return "other"


def _chain(error: BaseException) -> Iterator[BaseException]:
    found: BaseException | None = error
    while found is not None:
        yield found
        found = found.__cause__


def _status(error: BaseException) -> int | None:
    """The HTTP status: of botocore's, gcsfs' and huggingface_hub's errors."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        found = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    else:
        found = getattr(response, "status_code", None) or getattr(error, "code", None) or getattr(error, "status", None)
    return int(found) if str(found).isdigit() else None


def _told(url: str, error: Exception, attempts: int, seconds: float) -> Exception:
    kind, cause = kind_of(error), str(error) or type(error).__name__
    if kind == "missing":
        return MissingObjectError(f"{url}: no such object.")
    if kind == "exists":
        return FileExistsError(url)
    if kind == "passing":
        return PassingStorageError(
            f"{url}: the store cannot be reached, or fails, now ({cause}; {attempts} attempts in {seconds:.0f} s). "
            f"Check the network and the endpoint, then run the same command again; {PATIENCE} makes it wait longer."
        )
    return StorageError(f"{url}: {cause}. {_REMEDIES[kind]}")
