"""Downloads go on after interruptions, are held against their checksums, and unpack nothing where it must not go."""

import hashlib
import json
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.reference.archives import tarred, zipped
from tests.reference.file_server import FileServer, serving
from workbench import catalog
from workbench.catalog.definitions import DatasetDefinition
from workbench.curation.downloading import DOWNLOADS, download
from workbench.curation.fetching import DownloadError, fetch
from workbench.curation.unpacking import ArchiveError, unpack
from workbench.errors import DatasetError
from workbench.files.locks import exclusive

CONTENT = bytes(range(256)) * 2000  # half a megabyte


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FileServer]:
    (tmp_path / "served").mkdir()
    with serving(tmp_path / "served") as running:
        (running.folder / "file.bin").write_bytes(CONTENT)
        yield running


def got(server: FileServer, target: Path, **options) -> bytes:
    fetch(f"{server.url}/file.bin", target, pause=0, **options)
    return target.read_bytes()


# One file


def test_file_arrives_whole_and_progress_tells_its_bytes(server, tmp_path):
    told = []
    assert got(server, tmp_path / "out", progress=lambda done, total: told.append((done, total))) == CONTENT
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["out"]


def test_file_that_is_there_is_not_fetched_again(server, tmp_path):
    (tmp_path / "out").write_bytes(b"mine")
    assert got(server, tmp_path / "out") == b"mine"
    assert server.requests == []


def test_broken_connection_is_continued_where_it_ended(server, tmp_path):
    server.cut_after = [100_000, 50_000]
    assert got(server, tmp_path / "out") == CONTENT
    assert [asked for _, asked in server.requests] == [None, "bytes=100000-", "bytes=150000-"]


def test_transfer_of_an_earlier_call_is_continued(server, tmp_path):
    server.cut_after = [1000, 0, 0, 0, 0, 0]
    with pytest.raises(DownloadError, match=r"given up after 5 attempts .* goes on from here"):
        got(server, tmp_path / "out")
    server.cut_after = []
    assert got(server, tmp_path / "out") == CONTENT
    assert server.requests[-1] == ("/file.bin", "bytes=1000-")


def test_server_without_ranges_starts_anew(server, tmp_path):
    server.ranges, server.cut_after = False, [1000]
    assert got(server, tmp_path / "out") == CONTENT


def test_file_that_changed_on_the_server_starts_anew(server, tmp_path):
    server.cut_after = [1000, 0, 0, 0, 0, 0]
    with pytest.raises(DownloadError):
        got(server, tmp_path / "out")
    server.cut_after, server.etag = [], '"v2"'
    (server.folder / "file.bin").write_bytes(CONTENT[::-1])
    assert got(server, tmp_path / "out") == CONTENT[::-1]


@pytest.mark.parametrize(("resume_unversioned", "expected"), [(False, None), (True, "bytes=1000-")])
def test_without_a_version_only_a_checksum_allows_to_continue(server, tmp_path, resume_unversioned, expected):
    server.etag, server.cut_after = None, [1000]
    assert got(server, tmp_path / "out", resume_unversioned=resume_unversioned) == CONTENT
    assert server.requests[1] == ("/file.bin", expected)


def test_partial_file_that_is_already_whole_is_recognised(server, tmp_path):
    (tmp_path / "out.partial").write_bytes(CONTENT)
    (tmp_path / "out.partial.json").write_text('"\\"v1\\""')
    assert got(server, tmp_path / "out") == CONTENT
    assert len(server.requests) == 1


def test_partial_file_longer_than_the_servers_starts_anew(server, tmp_path):
    (tmp_path / "out.partial").write_bytes(CONTENT + b"more")
    (tmp_path / "out.partial.json").write_text('"\\"v1\\""')
    assert got(server, tmp_path / "out") == CONTENT


def test_busy_server_is_asked_again_and_a_refusal_is_final(server, tmp_path):
    server.statuses = [503, 500, 429]
    assert got(server, tmp_path / "out") == CONTENT
    server.statuses = [403]
    with pytest.raises(DownloadError, match="answers 403"):
        got(server, tmp_path / "other")
    assert len(server.requests) == 5


def test_length_need_not_be_told(server, tmp_path):
    server.tells_length = False
    told = []
    assert got(server, tmp_path / "out", progress=lambda done, total: told.append((done, total))) == CONTENT
    assert told[-1] == (len(CONTENT), None)


def test_wrong_size_is_refused(server, tmp_path):
    for server.tells_length in (True, False):
        with pytest.raises(DownloadError, match="the definition says 5"):
            got(server, tmp_path / "out", size=5)
    assert not (tmp_path / "out").exists()


def test_only_web_addresses_are_fetched(tmp_path):
    (tmp_path / "secret").touch()
    with pytest.raises(DownloadError, match="only http"):
        fetch(f"file://{tmp_path}/secret", tmp_path / "out")


def test_server_that_is_not_there_is_told(tmp_path):
    with pytest.raises(DownloadError, match="given up"):
        fetch("http://127.0.0.1:9/file", tmp_path / "out", pause=0)


# Archives


def unpacked(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_files_are_unpacked_without_the_litter(tmp_path, pack):
    files = {"a/b.txt": b"1", "c.txt": b"2"}
    (tmp_path / "x").write_bytes(pack({**files, "__MACOSX/a/._b.txt": b"", "a/.DS_Store": b""}))
    assert {path.name for path in unpack(tmp_path / "x", tmp_path / "out")} == {"b.txt", "c.txt"}
    assert unpacked(tmp_path / "out") == files


def test_members_are_chosen_and_their_front_taken_off(tmp_path):
    (tmp_path / "x").write_bytes(zipped({"top/val/1": b"1", "top/train/2": b"2", "top/valid": b"3"}))
    unpack(tmp_path / "x", tmp_path / "out", members=["top/val/"], strip="top/")
    assert unpacked(tmp_path / "out") == {"val/1": b"1"}
    with pytest.raises(ArchiveError, match="holds nothing named 'top/test/'"):
        unpack(tmp_path / "x", tmp_path / "out", members=["top/val/", "top/test/"])


@pytest.mark.parametrize("pack", [zipped, tarred])
@pytest.mark.parametrize("name", ["../evil", "/evil", "a/../../evil", "..\\evil", "C:/evil"])
def test_names_that_leave_the_folder_are_refused_before_anything_is_written(tmp_path, pack, name):
    (tmp_path / "x").write_bytes(pack({"good": b"1", name: b"2"}))
    with pytest.raises(ArchiveError, match="would be written outside"):
        unpack(tmp_path / "x", tmp_path / "out")
    assert unpacked(tmp_path / "out") == {}


def test_links_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "link.zip", "w") as archive:
        link = zipfile.ZipInfo("link")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE):
        with tarfile.open(tmp_path / f"link{kind.decode()}.tar", "w") as tar:
            info = tarfile.TarInfo("link")
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
    for path in tmp_path.glob("link*"):
        with pytest.raises(ArchiveError, match="is a link or a device"):
            unpack(path, tmp_path / "out")


def test_a_file_of_the_users_is_never_replaced(tmp_path):
    (tmp_path / "x").write_bytes(zipped({"a": b"same", "b": b"other"}))
    (tmp_path / "out").mkdir()
    (tmp_path / "out/a").write_bytes(b"same")
    before = (tmp_path / "out/a").stat().st_mtime_ns
    unpack(tmp_path / "x", tmp_path / "out")
    assert (tmp_path / "out/a").stat().st_mtime_ns == before
    (tmp_path / "out/b").write_bytes(b"OTHER")
    with pytest.raises(ArchiveError, match="there already, with other content"):
        unpack(tmp_path / "x", tmp_path / "out")
    assert (tmp_path / "out/b").read_bytes() == b"OTHER"


def test_broken_archives_are_told(tmp_path):
    whole = zipped({"a": CONTENT})
    (tmp_path / "text").write_bytes(b"<html>not found</html>")
    (tmp_path / "damaged").write_bytes(whole[:50] + b"\0" * 20 + whole[70:])
    (tmp_path / "cut").write_bytes(tarred({"a": np.random.default_rng(0).bytes(100_000)})[:50_000])
    messages = {"text": "neither a zip nor a tar", "damaged": "broken or encrypted", "cut": "broken or encrypted"}
    for name, message in messages.items():
        with pytest.raises(ArchiveError, match=message):
            unpack(tmp_path / name, tmp_path / "out")
    assert unpacked(tmp_path / "out") == {}


# Datasets


@pytest.fixture
def define(server: FileServer, tmp_path: Path) -> Callable[..., DatasetDefinition]:
    """A dataset of one image and one instances file, in an archive `data.zip` on the server."""
    inner = zipped({"more/deep.txt": b"deep"})
    instances = json.dumps({"images": [], "annotations": [], "categories": []}).encode()
    files = {"top/images/1.jpg": b"image", "top/instances.json": instances, "top/inner.zip": inner, "other/x": b"x"}
    content = zipped(files)
    (server.folder / "data.zip").write_bytes(content)
    right = {kind: hashlib.new(kind, content).hexdigest() for kind in ("sha256", "md5")} | {"size": len(content)}

    def build(*checked: str, **keys) -> DatasetDefinition:
        archive = {"url": f"{server.url}/data.zip", "members": ["top/"], "strip": "top/", "nested": ["top/inner.zip"]}
        archive |= {key: right[key] for key in checked} | keys
        raw = {"format": "coco", "root": "root", "images": "images", "instances": "instances.json"}
        return catalog.parse({**raw, "archives": [archive]}, tmp_path / "mine.toml")

    return build


def test_dataset_is_fetched_checked_unpacked_and_tidied(define):
    definition = define("sha256", "md5", "size")
    (fetched,) = download(definition, pause=0)
    assert (fetched.files, fetched.checked, fetched.already_there) == (3, True, False)
    present = {name for name in unpacked(definition.root) if not name.startswith(DOWNLOADS)}
    assert present == {"images/1.jpg", "instances.json", "more/deep.txt"}
    downloads = {path.name for path in (definition.root / DOWNLOADS).iterdir()}
    assert len(downloads) == 2 and all(name == ".lock" or name.endswith(".json") for name in downloads)


def test_second_download_fetches_nothing_unless_files_are_gone(define, server):
    definition = define("sha256")
    download(definition, pause=0)
    (again,) = download(definition, pause=0)
    assert (again.already_there, again.files, len(server.requests)) == (True, 3, 1)
    (definition.root / "instances.json").unlink()
    assert not download(definition, pause=0)[0].already_there
    assert (definition.root / "instances.json").exists()


@pytest.mark.parametrize("keys", [{"nested": ["../../x.zip"]}, {"nested": ["top//x.zip"], "strip": "top/"}])
def test_an_archive_inside_lies_below_the_root_or_is_refused(define, tmp_path, keys):
    outside = tmp_path / "x.zip"
    outside.write_bytes(zipped({"evil": b"evil"}))
    keys = {**keys, "nested": [name.replace("//", f"/{tmp_path}/") for name in keys["nested"]]}
    with pytest.raises(DatasetError, match="leads out of the dataset's root"):
        download(define(**keys), pause=0)
    assert outside.exists()
    assert not (tmp_path / "evil").exists()


def test_archives_are_kept_on_request(define):
    definition = define("sha256")
    download(definition, keep_archives=True, pause=0)
    assert (definition.root / DOWNLOADS / "data.zip").exists()


@pytest.mark.parametrize("kind", ["sha256", "md5"])
def test_wrong_checksum_is_refused_and_nothing_is_unpacked(define, kind):
    definition = define(**{kind: "0" * 32})
    with pytest.raises(DownloadError, match=f"its {kind} is .*, the definition says 000"):
        download(definition, pause=0)
    assert not (definition.root / "images").exists()
    assert not (definition.root / DOWNLOADS / "data.zip").exists()


def test_without_a_checksum_the_first_one_seen_is_held_against_later_downloads(define, server):
    definition = define()
    (fetched,) = download(definition, pause=0)
    assert (fetched.checked, len(fetched.sha256)) == (False, 64)
    (definition.root / "instances.json").unlink()
    (server.folder / "data.zip").write_bytes(zipped({"top/instances.json": b"other"}))
    with pytest.raises(DownloadError, match="it was once"):
        download(definition, pause=0)


def test_interrupted_download_goes_on_in_the_next_call(define, server):
    definition = define("sha256")
    server.cut_after = [300, 0, 0, 0, 0, 0]
    with pytest.raises(DownloadError):
        download(definition, pause=0)
    server.cut_after = []
    download(definition, pause=0)
    assert server.requests[-1] == ("/data.zip", "bytes=300-")


def test_progress_names_what_is_done(define):
    told = []
    download(define("sha256"), lambda what, done, total: told.append(what), pause=0)
    assert list(dict.fromkeys(told)) == [
        "fetching data.zip",
        "checking data.zip",
        "unpacking data.zip",
        "unpacking what was inside",
    ]


def test_two_downloads_into_one_root_do_not_mix(define):
    definition = define("sha256")
    (definition.root / DOWNLOADS).mkdir(parents=True)
    with exclusive(definition.root / DOWNLOADS / ".lock"), pytest.raises(DownloadError, match="another download"):
        download(definition, pause=0)


def test_dataset_without_archives_says_where_to_get_it():
    with pytest.raises(DownloadError, match=r"names no archives\. Get it from https://www\.cityscapes"):
        download(catalog.find("cityscapes_val"))


def test_built_in_archives_have_a_checksum():
    for name in ("coco_val", "coco_train", "ade20k_val", "ade20k_train"):
        for archive in catalog.find(name).archives:
            assert len(archive.sha256 or "") == 64 or len(archive.md5 or "") == 32
