"""A run on a Ray cluster of two nodes outlives the death of a worker and of a node."""

from pathlib import Path

import psutil
import pytest

import workbench
from tests.reference.few_scenes import coco_scenes
from workbench.prediction.defaults import BUNDLED_MODEL
from workbench.prediction.engines import ray_data
from workbench.prediction.progress import Progress


@pytest.mark.slow
@pytest.mark.filterwarnings(r"ignore:`use_.*` is deprecated:DeprecationWarning")
def test_a_killed_worker_and_a_lost_node_cost_no_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray", reason="the extra [ray] is not installed")
    ray.shutdown()  # the cluster of other tests, which is begun anew where it is needed
    from ray.cluster_utils import Cluster

    monkeypatch.setattr(ray_data, "IMAGES_PER_BLOCK", 2)
    dataset = coco_scenes(tmp_path / "scenes", 60)
    local = workbench.predict(dataset, model=BUNDLED_MODEL, out=tmp_path / "local", progress=False)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    try:
        second = cluster.add_node(num_cpus=1)
        lost: list[str] = []

        class Losing(Progress):
            def advance(self, images: int) -> None:
                super().advance(images)
                if self.done >= 4 and not lost:
                    workers = [p for p in psutil.process_iter() if "MapWorker" in "".join(p.cmdline()[:1])]
                    workers[0].kill()
                    lost.append("worker")
                elif self.done >= 10 and lost == ["worker"]:
                    cluster.remove_node(second, allow_graceful=False)
                    lost.append("node")

        run = workbench.predict(
            dataset, model=BUNDLED_MODEL, out=tmp_path / "run", progress=Losing(),
            engine="ray", num_workers=2, address=cluster.address,
        )  # fmt: skip
    finally:
        cluster.shutdown()
    assert lost == ["worker", "node"]
    assert run.complete
    assert run.segments().equals(local.segments())
    assert run.images().equals(local.images())
