"""Fixtures that tests of both packages share."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import settings

if TYPE_CHECKING:
    from tests.reference.s3_server import S3Server

settings.register_profile("busy", deadline=None)  # a deadline of the clock fails wherever other programs run
settings.load_profile("busy")

REPOSITORY = Path(__file__).parent.parent


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny models run faster on one thread than on several, and their sums always round alike."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests neither read nor fill the user's cache of converted ground truth."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORKBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets beside the repository; tests that need it are skipped where it is absent."""
    folder = REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the real data sets are not there: ../shared/data beside the repository")
    return folder


@pytest.fixture(scope="session")
def s3_server() -> Iterator["S3Server"]:
    """An S3 service on loopback, for the whole session."""
    from tests.reference.s3_server import serving_s3

    with serving_s3() as server:
        yield server


@pytest.fixture
def s3(s3_server: "S3Server", monkeypatch: pytest.MonkeyPatch) -> Iterator["S3Server"]:
    """That service as this process's S3, with an empty bucket called `bucket`, and requests counted from 0."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    s3_server.client.create_bucket(Bucket="bucket")
    s3_server.forget()
    yield s3_server
    s3_server.forget()
    for key in s3_server.keys("bucket"):
        s3_server.client.delete_object(Bucket="bucket", Key=key)
    s3_server.client.delete_bucket(Bucket="bucket")


@pytest.fixture(scope="session")
def ray_ended() -> Iterator[None]:
    """Ray's processes end with the session."""
    yield
    import ray

    ray.shutdown()


@pytest.fixture
def ray_cluster(request: pytest.FixtureRequest) -> Any:
    """Ray with two cores of this machine, to which this process is connected: the same for all tests, as it is dear."""
    ray = pytest.importorskip("ray", reason="the extra [ray] is not installed")
    request.getfixturevalue("ray_ended")
    if not ray.is_initialized():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Ray's own settings warn of each other
            ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    return ray


@pytest.fixture
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, which is the current one during the test: commands write `runs/` there."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
