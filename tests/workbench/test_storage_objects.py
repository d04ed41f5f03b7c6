"""Objects are read and written with bounded attempts; whatever a store says becomes one message with a remedy."""

import importlib
import json
import socket
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.reference.s3_server import S3Server
from workbench import storage
from workbench.errors import MissingObjectError, OptionError, PassingStorageError, RunError, StorageError
from workbench.storage import leases, mirror, objects, services
from workbench.storage.retrying import kind_of

URL = "s3://bucket/folder/x"


@pytest.fixture(autouse=True)
def own_mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))


def put(s3: S3Server, key: str, content: bytes) -> None:
    s3.client.put_object(Bucket="bucket", Key=key, Body=content)


def closed_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


def test_an_object_is_read_in_one_request(s3: S3Server) -> None:
    put(s3, "folder/x", b"content")
    s3.forget()
    assert objects.read(URL) == b"content"
    assert s3.requests == [("GET", "/bucket/folder/x")]


@pytest.mark.parametrize("status", [500, 502, 503, 504, 429])
def test_failures_that_pass_are_tried_again(s3: S3Server, status: int) -> None:
    put(s3, "folder/x", b"content")
    s3.fail_first(2, "GET", "folder/x", status)
    assert objects.read(URL) == b"content"


def test_an_answer_that_breaks_off_is_tried_again(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    put(s3, "folder/x", b"content")
    answers = [
        b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\ncon",
        b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\ncontent",
    ]
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            for text in answers:
                connection, _ = server.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(text)

        thread = threading.Thread(target=answer)
        thread.start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
        assert objects.read(URL) == b"content"
        thread.join()


def test_a_failure_that_stays_ends_after_the_time_that_is_set(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_STORAGE_SECONDS", "1")
    s3.fail_first(1000, "GET", "folder/x")
    begun = time.monotonic()
    with pytest.raises(PassingStorageError, match=r"folder/x: .* attempts in \d s.*WORKBENCH_STORAGE_SECONDS"):
        objects.read(URL)
    assert time.monotonic() - begun < 2
    assert s3.count("GET", "folder/x") > 1


def test_a_service_that_is_not_there_ends_in_time_too(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_STORAGE_SECONDS", "0.5")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{closed_port()}")
    with pytest.raises(PassingStorageError, match="cannot be reached"):
        objects.read(URL)


def test_a_service_that_never_answers_ends_in_time(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_STORAGE_SECONDS", "0.5")
    monkeypatch.setattr(services, "READ_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(PassingStorageError, match=r"(?i)timeout"):
            objects.read(URL)


@pytest.mark.parametrize("status", [403, 404])
def test_what_is_missing_or_forbidden_is_asked_for_once(s3: S3Server, status: int) -> None:
    s3.fail_first(1000, "GET", "folder/x", status)
    with pytest.raises(MissingObjectError if status == 404 else StorageError):
        objects.read(URL)
    assert s3.count("GET", "folder/x") == 1


def test_errors_name_the_place_and_the_remedy(s3: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(MissingObjectError, match=r"^s3://bucket/folder/x: no such object\.$"):
        objects.read(URL)
    with pytest.raises(StorageError, match=r"no-bucket.*There is no such bucket: correct its name"):
        objects.read("s3://no-bucket/x")
    with pytest.raises(StorageError, match="There is no such bucket"):
        storage.exists("s3://no-bucket/x")
    with pytest.raises(StorageError, match="There is no such bucket"):
        objects.create("s3://no-bucket/x", b"")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(StorageError, match="There are no credentials"):
        objects.read(URL)


def test_a_missing_package_is_told_with_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(importlib.import_module("fsspec.registry")._registry, "s3", raising=False)
    monkeypatch.setattr(services, "_connections", {})
    with pytest.raises(StorageError, match=r"s3:// needs the package s3fs .*pip install 'eomt-workbench\[cloud\]'"):
        objects.read(URL)


def test_nonsense_in_the_environment_is_told(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_STORAGE_SECONDS", "soon")
    s3.fail_first(1, "GET", "folder/x")
    with pytest.raises(OptionError, match="WORKBENCH_STORAGE_SECONDS is 'soon'"):
        objects.read(URL)


def test_listings_name_objects_relative_to_their_place(s3: S3Server) -> None:
    for key in ("a/x", "a/b/y", "a/b/c/z", "ab/x"):
        put(s3, key, b"1")
    assert set(objects.listing("s3://bucket/a")) == {"x", "b/y", "b/c/z"}
    assert set(objects.listing("s3://bucket/a", deep=False)) == {"x"}
    assert objects.entries("s3://bucket/a") == {"x", "b"}
    assert objects.listing("s3://bucket/none") == {}
    assert objects.entries("s3://bucket/none") == set()
    assert storage.is_folder("s3://bucket/a/b")
    assert not storage.exists("s3://bucket/none")


def test_an_object_is_made_exclusively_once(s3: S3Server) -> None:
    objects.create(URL, b"mine")
    objects.create(URL, b"mine")  # an attempt whose answer was lost
    with pytest.raises(FileExistsError):
        objects.create(URL, b"yours")
    assert objects.creates_exclusively(URL)
    assert objects.read(URL) == b"mine"


def test_an_exclusive_write_whose_answer_was_lost_is_ours(s3: S3Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"rows")
    lost = ["once"]

    def before(request: tuple[str, str]) -> int | None:
        if request[0] == "PUT" and lost:
            lost.pop()
            put(s3, "folder/x", b"rows")  # it arrives all the same
            return 503
        return None

    s3.before = before
    objects.upload(tmp_path / "file", URL, exclusive=True)
    assert objects.read(URL) == b"rows"
    with pytest.raises(FileExistsError):
        (tmp_path / "file").write_bytes(b"other rows")
        objects.upload(tmp_path / "file", URL, exclusive=True)


def test_an_object_is_replaced_only_in_the_version_that_was_seen(s3: S3Server) -> None:
    put(s3, "folder/x", b"first")
    seen = objects.state(URL)
    assert seen is not None
    assert objects.replace(URL, b"second", seen.version)
    assert not objects.replace(URL, b"third", seen.version)
    assert objects.read(URL) == b"second"


def test_the_hub_is_only_read() -> None:
    with pytest.raises(StorageError, match=r"hf:// places are only read here\. Write to a folder or to s3:// or gs://"):
        objects.create("hf://datasets/owner/name/x", b"")


def test_a_copy_is_fetched_once_and_anew_when_the_object_changes(s3: S3Server) -> None:
    put(s3, "folder/x", b"first")
    path = storage.local_path(URL)
    storage.fetch([path])
    storage.fetch([path])
    assert path.read_bytes() == b"first"
    assert s3.count("GET", "folder/x") == 1
    put(s3, "folder/x", b"again")
    storage.fetch([path])
    assert path.read_bytes() == b"again"
    path.write_bytes(b"spoil")  # by another hand
    storage.fetch([path])
    assert path.read_bytes() == b"again"
    s3.client.delete_object(Bucket="bucket", Key="folder/x")
    storage.fetch([path])
    assert not path.exists()


def test_many_files_of_a_folder_are_checked_with_one_listing(s3: S3Server) -> None:
    for number in range(30):
        put(s3, f"maps/{number}.png", str(number).encode())
    paths = [storage.local_path(f"s3://bucket/maps/{number}.png") for number in range(31)]
    s3.forget()
    storage.fetch(paths)
    assert [path.read_bytes() for path in paths[:30]] == [str(number).encode() for number in range(30)]
    assert not paths[30].exists()
    assert len(s3.requests) == 31
    s3.forget()
    storage.fetch(paths[:30])
    assert len(s3.requests) == 1


def test_offline_the_copies_are_used_unasked(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    put(s3, "folder/x", b"first")
    path = storage.local_path(URL)
    storage.fetch([path])
    s3.forget()
    monkeypatch.setenv("WORKBENCH_OFFLINE", "1")
    storage.fetch([path])
    assert storage.exists(path)
    assert not s3.requests
    with pytest.raises(StorageError, match=r"s3://bucket/folder/y: no copy .* WORKBENCH_OFFLINE is set"):
        storage.fetch([storage.local_path("s3://bucket/folder/y")])
    with pytest.raises(StorageError, match="not asked while WORKBENCH_OFFLINE is set"):
        objects.read(URL)


def test_a_store_that_cannot_be_asked_is_an_error_although_there_is_a_copy(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(s3, "folder/x", b"first")
    storage.fetch([storage.local_path(URL)])
    monkeypatch.setenv("WORKBENCH_STORAGE_SECONDS", "0.3")
    s3.fail_first(1000, "HEAD", "folder/x")
    with pytest.raises(PassingStorageError):
        storage.fetch([storage.local_path(URL)])


def test_a_file_larger_than_expected_is_not_fetched(s3: S3Server) -> None:
    put(s3, "folder/x", b"0123456789")
    with pytest.raises(StorageError, match="has 10 bytes; at most 9"):
        mirror.fetch([storage.local_path(URL)], most_bytes=9)


def test_a_lease_keeps_others_out_and_says_who_holds_it(s3: S3Server) -> None:
    notes: list[str] = []
    with leases.held("s3://bucket/run", notes.append) as lease:
        lease.check()
        with (
            pytest.raises(RunError, match=r"run/.lease: in use by process \d+ on .*30 minutes.*remove this"),
            leases.held("s3://bucket/run", notes.append),
        ):
            pass
        lease.renew()
        lease.check()
    assert s3.keys("bucket") == []
    assert notes == []


def test_the_lease_of_a_process_that_is_gone_is_taken_over(s3: S3Server) -> None:
    gone = {**leases._self_description(), "started": "1"}  # the same machine and number, but another process
    put(s3, "run/.lease", json.dumps(gone).encode())
    notes: list[str] = []
    with leases.held("s3://bucket/run", notes.append) as lease:
        lease.check()
    assert "left a lock and is gone" in notes[0]


def test_the_lease_of_another_machine_counts_until_it_expires(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    other = {**leases._self_description(), "host": "elsewhere", "boot": "another"}
    put(s3, "run/.lease", json.dumps(other).encode())
    with pytest.raises(RunError, match="on elsewhere, since"), leases.held("s3://bucket/run", print):
        pass
    monkeypatch.setattr(leases, "EXPIRY_SECONDS", -1.0)
    with leases.held("s3://bucket/run", lambda text: None) as lease:
        lease.check()


def test_a_lease_that_is_damaged_counts_like_another_machines(s3: S3Server) -> None:
    put(s3, "run/.lease", b"\xff[")
    with pytest.raises(RunError, match=r"in use by process \? on \?"), leases.held("s3://bucket/run", print):
        pass


def test_a_lease_that_was_taken_away_is_noticed_and_left_alone(s3: S3Server) -> None:
    with leases.held("s3://bucket/run", print) as lease:
        put(s3, "run/.lease", b"{}")
        with pytest.raises(RunError, match="does not hold the lock any more"):
            lease.check()
        lease.renew()
    assert objects.read("s3://bucket/run/.lease") == b"{}"


def test_a_lease_is_renewed_while_it_is_held(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "RENEWAL_SECONDS", 0.05)
    with leases.held("s3://bucket/run", print):
        s3.forget()
        deadline = time.monotonic() + 10
        while s3.count("PUT", "run/.lease") < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert s3.count("PUT", "run/.lease") >= 2


def test_a_service_without_conditional_writes_is_told(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "creates_exclusively", lambda url: False)
    notes: list[str] = []
    with leases.held("s3://bucket/run", notes.append):
        pass
    assert "does not keep an object from being made twice" in notes[0]


def test_what_stores_raise_is_told_apart() -> None:
    class Answer:
        status_code = 503

    class HfHubHTTPError(Exception):
        response = Answer()

    class HttpError(Exception):  # gcsfs
        def __init__(self, code: int) -> None:
            self.code = code

    assert kind_of(HfHubHTTPError()) == "passing"
    assert [kind_of(HttpError(code)) for code in (503, 429, 404, 403, 412, 501, 400)] == [
        "passing", "passing", "missing", "denied", "exists", "unsupported", "other",
    ]  # fmt: skip
    assert kind_of(ConnectionResetError()) == kind_of(TimeoutError()) == "passing"
    assert kind_of(PermissionError()) == "denied"
    assert kind_of(OSError(28, "No space left on device")) == "other"


def test_a_lease_that_two_want_at_the_moment_it_is_let_go_is_refused_to_one(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(s3, "run/.lease", b"{}")
    monkeypatch.setattr(objects, "state", lambda url: None)  # let go of, and taken again before we could
    with pytest.raises(RunError, match="another process took it at this moment"), leases.held("s3://bucket/run", print):
        pass


def test_a_lease_that_could_not_be_checked_is_not_left_behind(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(url: str) -> bool:
        raise StorageError("the network is gone")

    monkeypatch.setattr(objects, "creates_exclusively", fails)
    with pytest.raises(StorageError, match="the network is gone"), leases.held("s3://bucket/run", print):
        pass
    assert s3.keys("bucket") == []


def test_a_conflict_of_conditional_writes_is_tried_again(s3: S3Server) -> None:
    s3.fail_first(1, "PUT", "folder/x", status=409)
    objects.create(URL, b"mine")
    assert objects.read(URL) == b"mine"
