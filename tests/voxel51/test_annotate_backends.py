"""What `dataset.annotate` is given, as far as FiftyOne's own back ends look at it before they ask a server.

There is no CVAT and no Label Studio here: the version that a CVAT server would tell is the one thing that is made up.
"""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from packaging.version import Version

from tests.reference.labelled_pets import SIZE, Pets, write_pets_instances
from workbench import rle
from workbench.polygons import fill
from workbench.voxel51.prelabel import prelabel

SERVER = Version("2.20")  # of CVAT: from 2.3 on it takes masks, from 2.5 on it asks for the values of a checkbox
ATTRIBUTES = {"iscrowd": {"name": "iscrowd", "mutable": False, "input_type": "checkbox", "values": ["true", "false"]}}


@pytest.fixture
def offered(tmp_path: Any, fo: Any) -> tuple[Pets, Any]:
    pets = write_pets_instances(tmp_path)
    prelabel(pets.dataset, pets.run, labelled=True)
    prelabel(pets.dataset, pets.run, labelled=True, polygons=0.0)
    return pets, fo.load_dataset("pets_instances")


@pytest.mark.parametrize("name", ["cvat", "labelstudio"])
def test_the_schema_is_one_that_the_back_end_accepts(offered, name):
    import fiftyone.utils.annotations as foua

    pets, dataset = offered
    backend = foua._parse_config(name, None).build()
    backend.connect_to_api = lambda: SimpleNamespace(server_version=SERVER)
    schema = dataset.info["workbench"]["annotate"][name]
    edits = dict.fromkeys(("additions", "deletions", "label_edits", "index_edits", "spatial_edits"), True)
    allowed = {f"allow_{key}": value for key, value in edits.items()}
    nothing = dict.fromkeys(("label_field", "label_type", "classes", "attributes", "mask_targets"))
    built, _ = foua._build_label_schema(dataset, backend, schema, **nothing, **allowed)
    assert {field: about["type"] for field, about in built.items()} == {
        "label_edits": "instances",
        "polygon_edits": "polygons",
    }
    names = [category.name for category in pets.dataset.categories]
    assert [list(about["classes"]) for about in built.values()] == [names, names]
    assert all(about["existing_field"] for about in built.values())
    assert all(set(about["attributes"]) == ({"iscrowd"} if name == "cvat" else set()) for about in built.values())


def test_fiftyone_makes_cvat_s_shapes_of_every_mask_and_polygon_bit_by_bit(offered):
    from fiftyone.utils.cvat import CVATAnnotationAPI

    pets, dataset = offered
    interface = CVATAnnotationAPI.__new__(CVATAnnotationAPI)  # what connects to a server is left out
    interface._server_version = SERVER
    sample = dataset.match({"image_id": "1"}).first()
    schema = dict.fromkeys(("cat", "dog", "sky"), ATTRIBUTES)
    masks = interface._create_detection_shapes(
        sample.label_edits.detections, schema, "label_edits", 0, SIZE[::-1], label_type="instances"
    )[1]
    polygons = interface._create_polyline_shapes(
        sample.polygon_edits.polylines, schema, "polygon_edits", 0, SIZE[::-1], label_type="polygons"
    )[1]
    rows = pets.run.segments().to_pylist()
    for row, mask, polygon in zip(rows, masks, polygons, strict=True):
        expected = rle.decode(row["counts"], *SIZE)
        assert (mask["type"], polygon["type"]) == ("mask", "polygon")
        *runs, left, top, right, bottom = mask["points"]
        cut = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(bottom - top + 1, right - left + 1)
        assert np.array_equal(cut, expected[top : bottom + 1, left : right + 1])
        assert cut.sum() == row["area"]
        assert np.array_equal(fill([np.reshape(polygon["points"], (-1, 2))], *SIZE), expected)
