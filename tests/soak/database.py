"""A MongoDB server to be killed, and what a push left in it, in a form in which two pushes can be compared."""

import json
import os
import signal
from collections.abc import Mapping
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

import pymongo
from bson import Binary, ObjectId

from tests.reference import mongodb
from tests.soak.oracle import Contents, sha256

_CLOCKS = {"created_at", "last_modified_at", "last_loaded_at", "timestamp", "_rev", "version"}
_RANDOM = {"_id", "_rand"}
_OF_FIFTYONE = ("admin", "config", "local")


class Database:
    """A server with its database in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._port, self._running = folder, mongodb.free_port(), ExitStack()
        folder.mkdir()
        self._server = self._start()

    @property
    def environment(self) -> Mapping[str, str]:
        """In which FiftyOne uses it."""
        return self._server.environment

    @property
    def pid(self) -> int:
        """Of the server."""
        return self._server.pid

    def _start(self) -> mongodb.Server:
        return self._running.enter_context(mongodb.server(self._folder, self._port, journal=True))

    def restart(self) -> None:
        """Start the server again where it was killed."""
        self._running.close()
        self._server = self._start()

    def kill(self) -> None:
        """End the server with its memory, as a crash would."""
        os.kill(self.pid, signal.SIGKILL)

    def close(self) -> None:
        """End the server for good."""
        self._running.close()

    def clear(self) -> None:
        """Take away everything."""
        with self._client() as client:
            for name in client.list_database_names():
                if name not in _OF_FIFTYONE:
                    client.drop_database(name)

    def save(self) -> dict[str, tuple[list[Any], list[Any]]]:
        """All documents and indexes, for `restore`."""
        with self._client() as client:
            base = client[self.environment["FIFTYONE_DATABASE_NAME"]]
            return {
                name: (list(base[name].find({})), list(base[name].list_indexes()))
                for name in base.list_collection_names()
            }

    def restore(self, saved: Mapping[str, tuple[list[Any], list[Any]]]) -> None:
        """Put back what `save` gave, and nothing else."""
        self.clear()
        with self._client() as client:
            base = client[self.environment["FIFTYONE_DATABASE_NAME"]]
            for name, (documents, indexes) in saved.items():
                base.create_collection(name)
                for index in indexes:
                    options = {key: value for key, value in index.items() if key not in ("v", "key", "ns")}
                    base[name].create_index(list(index["key"].items()), **options)
                if documents:
                    base[name].insert_many(documents)

    def contents(self, dataset: str) -> Contents:
        """What is stored of a FiftyOne dataset, by sample, view and run; clocks and random ids left out."""
        with self._client() as client:
            return _Reading(client[self.environment["FIFTYONE_DATABASE_NAME"]], dataset).contents()

    def duplicates(self, dataset: str) -> list[str]:
        """Images with several samples, and labels that a sample holds twice."""
        with self._client() as client:
            return _Reading(client[self.environment["FIFTYONE_DATABASE_NAME"]], dataset).duplicates()

    def orphans(self) -> list[str]:
        """Collections of samples that belong to no dataset."""
        with self._client() as client:
            base = client[self.environment["FIFTYONE_DATABASE_NAME"]]
            owned = {document["sample_collection_name"] for document in base["datasets"].find({})}
            return sorted(
                name for name in base.list_collection_names() if name.startswith("samples.") and name not in owned
            )

    def _client(self) -> "pymongo.MongoClient[Any]":
        return pymongo.MongoClient(self.environment["FIFTYONE_DATABASE_URI"])


class _Reading:
    def __init__(self, base: Any, dataset: str) -> None:
        self.base, self.document = base, base["datasets"].find_one({"name": dataset})
        name = self.document and self.document["sample_collection_name"]
        self.samples = list(base[name].find({})) if name else []
        self.names: dict[str, str] = {
            str(sample["_id"]): f"sample of image {sample['image_id']}" for sample in self.samples
        }

    def contents(self) -> Contents:
        if self.document is None:
            return {}
        found = {f"sample {sample['image_id']}": self._digest(sample) for sample in self.samples}
        found["fields"] = self._digest(sorted(field["name"] for field in self.document["sample_fields"]))
        found["info"] = self._digest(self.document["info"])
        for view in self.base["views"].find({"_id": {"$in": self.document["saved_views"]}}):
            found[f"view {view['name']}"] = self._digest(view)
        evaluations = self.document["evaluations"]
        for run in self.base["runs"].find({"_id": {"$in": list(evaluations.values())}}):
            found[f"evaluation {run['key']}"] = self._digest({**run, "results": None})
        return found

    def duplicates(self) -> list[str]:
        images = [sample["image_id"] for sample in self.samples]
        found = [
            f"image {image} has {images.count(image)} samples"
            for image in sorted(set(images))
            if images.count(image) > 1
        ]
        for sample in self.samples:
            for name, value in sample.items():
                labels = value.get("detections", ()) if isinstance(value, dict) else ()
                ids = [label["_id"] for label in labels]
                if len(set(ids)) < len(ids):
                    found.append(f"image {sample['image_id']}: {name} holds labels twice")
        return found

    def _digest(self, value: Any) -> str:
        return sha256(json.dumps(self._plain(value), sort_keys=True, default=repr))

    def _plain(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: self._plain(item) for key, item in value.items() if key not in _CLOCKS | _RANDOM}
        if isinstance(value, list):
            return [self._plain(item) for item in value]
        if isinstance(value, ObjectId):
            return self.names.get(str(value), "an id")
        if isinstance(value, str):
            return self.names.get(value, value)
        if isinstance(value, datetime):
            return "a time"
        return sha256(bytes(value).hex()) if isinstance(value, Binary | bytes) else value
