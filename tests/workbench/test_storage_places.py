"""A remote place is known by a path, which tells its URL by itself; what is neither is refused with a remedy."""

import pickle
from pathlib import Path

import pytest

from workbench import catalog, storage
from workbench.errors import DatasetError, StorageError
from workbench.storage.places import mirror_root, scheme_of, with_urls

URLS = ["s3://bucket", "s3://bucket/a/b.json", "gs://bucket/with space/x", "hf://datasets/owner/name/x", "s3://b/a?b#c"]


@pytest.mark.parametrize("url", URLS)
def test_the_path_of_a_url_tells_the_url(url: str) -> None:
    path = storage.local_path(url)
    assert path.is_relative_to(mirror_root())
    assert storage.url_of(path) == storage.shown(path) == url
    assert storage.local_path(path) == path
    assert not storage.is_url(path)


@pytest.mark.parametrize("url", URLS)
def test_a_url_that_became_a_path_is_still_that_url(url: str) -> None:
    assert str(Path(url)) != url
    assert storage.url_of(Path(url)) == url
    assert storage.local_path(Path(url)) == storage.local_path(url)


def test_a_path_of_another_machine_tells_its_url_whatever_the_cache_here(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = pickle.dumps(storage.local_path("s3://bucket/images/1.jpg"))
    monkeypatch.setenv("WORKBENCH_CACHE", "/elsewhere")
    assert storage.url_of(pickle.loads(sent)) == "s3://bucket/images/1.jpg"


@pytest.mark.parametrize("path", ["/data/x", "data/x", "~/x", "./s3/x", "a:b", "C:/x", "s3:", "mirror-of/s3/b/k"])
def test_plain_paths_stay_what_they_are(path: str) -> None:
    assert storage.url_of(path) is None
    assert storage.local_path(path) == Path(path)
    assert storage.shown(path) == path


def test_a_file_url_is_the_plain_path() -> None:
    assert storage.local_path("file:///data/my%20set") == Path("/data/my set")
    assert storage.local_path("file://localhost/data") == Path("/data")
    with pytest.raises(StorageError, match="names the machine 'server'"):
        storage.local_path("file://server/share")


@pytest.mark.parametrize("url", ["http://host/x", "azure://x/y", "S3://bucket/x", "ftp://x", Path("https://host/x")])
def test_an_unknown_scheme_lists_the_known_ones(url: str | Path) -> None:
    with pytest.raises(StorageError, match=r"are not known\. Known: s3:// .*gs:// .*hf:// .*file:// and plain paths"):
        storage.url_of(url)


@pytest.mark.parametrize("url", ["s3://", "s3:///key", "s3://b//k", "s3://b/../c", "s3://b/./k", "s3://b/a\0"])
def test_urls_that_no_local_copy_can_have_are_refused(url: str) -> None:
    with pytest.raises(StorageError, match=r"names no bucket|has an empty part"):
        storage.url_of(url)


def test_a_closing_slash_does_not_count() -> None:
    assert storage.url_of("s3://bucket/runs/") == "s3://bucket/runs"
    assert scheme_of("gs://bucket") == "gs"


def test_messages_show_urls_in_place_of_the_paths_that_stand_for_them() -> None:
    path = storage.local_path("s3://bucket/runs/x")
    assert (
        with_urls(f"{path}: broken. See {path}/run.json")
        == "s3://bucket/runs/x: broken. See s3://bucket/runs/x/run.json"
    )


def test_a_definition_may_name_a_remote_root_or_remote_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUCKET", "s3://bucket/data")
    file = tmp_path / "mine.toml"
    file.write_text('format = "coco"\nroot = "$BUCKET/coco"\nimages = "gs://other/images"\npanoptic = "p.json"\n')
    definition = catalog.read(file)
    assert storage.shown(definition.root) == "s3://bucket/data/coco"
    assert storage.shown(definition.resolve("p.json")) == "s3://bucket/data/coco/p.json"
    assert storage.shown(definition.resolve(definition.images or "")) == "gs://other/images"
    with pytest.raises(DatasetError, match="leads out of the dataset's root"):
        definition.resolve("../p.json")
    with pytest.raises(StorageError, match="has an empty part"):
        definition.resolve("s3://bucket/../p.json")


@pytest.mark.parametrize("key", ["b/../../home/.bashrc", "b/k/../../../x", "../x", "b//x"])
def test_a_path_that_only_looks_like_a_copy_leads_nowhere_else(key: str) -> None:
    with pytest.raises(StorageError, match="has an empty part"):
        storage.url_of(f"/data/mirror-of/s3/{key}")


@pytest.mark.parametrize(
    "line",
    [
        'root = "/data/mirror-of/s3/bucket"\npanoptic = "p.json"',
        'root = "mirror-of/s3/bucket"\npanoptic = "p.json"',
        'root = "."\npanoptic = "x/mirror-of/s3/bucket/p.json"',
        'root = "."\npanoptic = "p.json"\nclasses = "../mirror-of/gs/bucket/c.csv"',
    ],
)
def test_a_definition_cannot_name_a_remote_place_by_a_path(tmp_path: Path, line: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(f'format = "coco"\n{line}\n')
    with pytest.raises(DatasetError, match=r"mirror-of.*Write the URL instead"):
        catalog.read(file)


def test_credentials_in_a_url_are_refused_and_not_repeated() -> None:
    with pytest.raises(StorageError, match="credentials do not belong into a place") as told:
        storage.local_path("s3://KEY:SECRET@bucket/x")
    assert "SECRET" not in str(told.value)
    assert storage.shown("hf://datasets/owner/name@main/x") == "hf://datasets/owner/name@main/x"
