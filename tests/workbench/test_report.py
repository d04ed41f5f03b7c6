"""`report`: one page that needs nothing else, whatever the names in the data are, from runs of every task."""

import base64
import hashlib
import itertools
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from tests.conftest import REPOSITORY
from tests.reference.scene_dataset import SceneDataset, make_run
from tests.reference.scenes import Listed, PanopticImage
from workbench.cli import main
from workbench.errors import OptionError, RunError
from workbench.evaluation.evaluation import evaluate
from workbench.evaluation.resampling import Bootstrap
from workbench.formats.base import TASKS, Category, ImageRecord, Task
from workbench.printable import printable
from workbench.report.api import report
from workbench.runs import Run

# Markup, template and mathtext syntax, quotes, a terminal's code, and a character that turns reading round.
HOSTILE = """<img src=x onerror="alert(1)">'&{{ 7*7 }}</script>$\\frac$|`\x1b[2J\u202e"""
SCENE = np.array([[1, 1, 1, 2, 2, 7], [1, 1, 1, 2, 2, 7], [0, 0, 0, 7, 7, 7]]).repeat(8, axis=0).repeat(8, axis=1)
BUNDLED = REPOSITORY / "workbench" / "checkpoints" / "eomt_scenes_panoptic"
LISTED = (Listed(1, 1), Listed(2, 2), Listed(7, 7))
WIDTH = SCENE.shape[1]


class NamedDataset(SceneDataset):
    """The tiny scenes with image files, and categories and images of any name."""

    def __init__(
        self, scenes: Sequence[PanopticImage], folder: Path, name: str = "class {}", tasks: tuple[Task, ...] = TASKS
    ) -> None:
        super().__init__(scenes, tasks)
        self.folder, self.name = folder, name
        folder.mkdir(exist_ok=True)
        for number, scene in enumerate(scenes):
            Image.new("RGB", scene.label_map.shape[::-1], (90, 140, 200)).save(folder / f"{number}.png")

    @property
    def categories(self) -> tuple[Category, ...]:
        return tuple(
            replace(category, name=self.name.replace("{}", str(category.category_id)))
            for category in super().categories
        )

    def images(self) -> Sequence[ImageRecord]:
        return [replace(record, path=self.folder / f"{record.ordinal}.png") for record in super().images()]


def scenes(count: int = 4, name: str = "{}") -> list[PanopticImage]:
    return [PanopticImage(name.replace("{}", str(i)), np.roll(SCENE, 8 * i, axis=1), LISTED) for i in range(count)]


def worn(images: Sequence[PanopticImage]) -> list[PanopticImage]:
    """Things 1 and 2 change places on the first image, and the left half of the others is void."""
    swapped = replace(images[0], listed=(Listed(1, 2), Listed(2, 1), Listed(7, 7)))
    half = np.arange(WIDTH) > WIDTH // 2
    return [swapped, *(replace(image, label_map=np.where(half, image.label_map, 0)) for image in images[1:])]


def scored_run(folder: Path, dataset: SceneDataset, images: Sequence[PanopticImage], **manifest: Any) -> Run:
    """Evaluated with few resamples, which is quicker than what `report` does by itself."""
    run = make_run(folder, dataset, images, **manifest)
    evaluate(run, dataset, bootstrap=Bootstrap(resamples=20))
    return run


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a report on the runs `before` and `after`, whose model lies on this machine."""
    folder = tmp_path_factory.mktemp("two")
    dataset = NamedDataset(scenes(), folder / "images")
    provenance = {"model": str(folder / "models" / "mine"), "command": f"workbench predict --out {folder}"}
    runs = [
        scored_run(folder / name, dataset, images, provenance=provenance)
        for name, images in (("before", worn(scenes())), ("after", scenes()))
    ]
    return report(runs, folder / "out", dataset).folder


@pytest.fixture
def dataset(tmp_path: Path) -> NamedDataset:
    return NamedDataset(scenes(), tmp_path / "images")


class Page(HTMLParser):
    """What a browser would see of it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.raw: dict[str, str] = {}
        self._open = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._open = tag

    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    def handle_data(self, data: str) -> None:
        if self._open in ("style", "script"):
            self.raw[self._open] = self.raw.get(self._open, "") + data
        else:
            self.text.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def written(run: Run, dataset: SceneDataset, out: Path, **options: int) -> Page:
    return Page(report([run], out, dataset, **options).html.read_text(encoding="utf-8"))


def test_the_page_loads_nothing_and_its_policy_allows_only_its_own_style_and_script(tmp_path, dataset):
    page = written(scored_run(tmp_path / "run", dataset, worn(scenes())), dataset, tmp_path / "out")
    (policy,) = [each["content"] for each in page.all("meta") if each.get("http-equiv") == "Content-Security-Policy"]
    hashes = {tag: base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for tag, text in page.raw.items()}
    assert policy == (
        f"default-src 'none'; style-src 'sha256-{hashes['style']}'; script-src 'sha256-{hashes['script']}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    assert (len(page.all("style")), len(page.all("script"))) == (1, 1)
    for tag, attributes in page.tags:
        assert tag not in ("link", "iframe", "object", "embed", "base", "form", "audio", "video")
        for name, value in attributes.items():
            assert not name.startswith("on") and name != "style", (tag, name)  # the policy refuses them
            if name in ("src", "href", "xlink:href", "srcset"):
                assert value and value.startswith(("data:image/webp;base64,", "#")), (tag, value)
    assert not re.search(r"url\((?!#)", page.raw["style"]) and "@import" not in page.raw["style"]


def test_hostile_names_are_text_and_nothing_else(tmp_path):
    images = scenes(name="{}" + HOSTILE)
    harmless = NamedDataset(scenes(), tmp_path / "images")
    hostile = NamedDataset(images, tmp_path / "images", HOSTILE + "{}")
    expected = written(scored_run(tmp_path / "run", harmless, worn(scenes())), harmless, tmp_path / "a")
    page = written(scored_run(tmp_path / "evil", hostile, worn(images)), hostile, tmp_path / "b")
    assert [tag for tag, _ in page.tags if tag != "text"] == [tag for tag, _ in expected.tags if tag != "text"]
    assert page.raw == expected.raw
    assert any(f"{printable(HOSTILE)}1" in text for text in page.text)
    assert any(printable(HOSTILE) in (image["alt"] or "") for image in page.all("img"))
    markdown = (tmp_path / "b" / "report.md").read_text(encoding="utf-8")
    assert "<img" not in markdown.replace("\\<", "") and "\\<img" in markdown


def test_every_link_and_every_reference_leads_to_one_element(two_runs):
    page = Page((two_runs / "index.html").read_text(encoding="utf-8"))
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = [value for _, attributes in page.tags for name, value in attributes.items() if name.endswith("href")]
    clips = [each["clip-path"] for _, each in page.tags if "clip-path" in each]
    assert "#comparison-1" in targets and clips
    assert {target[1:] for target in targets} | {clip[5:-1] for clip in clips} <= set(ids)


def test_the_page_can_be_used_without_seeing_it(tmp_path, dataset):
    page = written(scored_run(tmp_path / "run", dataset, worn(scenes())), dataset, tmp_path / "out")
    assert page.all("html") == [{"lang": "en"}]
    assert len(page.all("h1")) == 1
    headings = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert all(after - before <= 1 for before, after in itertools.pairwise(headings))
    assert all(heading.get("scope") in ("col", "row") for heading in page.all("th"))
    assert all(image["alt"] and image["width"] and image["height"] for image in page.all("img"))
    assert all(svg.get("aria-hidden") == "true" or svg.get("aria-label") for svg in page.all("svg"))


def test_numbers_are_those_of_metrics_json(tmp_path, dataset):
    run = make_run(tmp_path / "run", dataset, worn(scenes()))
    metrics = evaluate(run, dataset).metrics
    page = written(run, dataset, tmp_path / "out")
    text = " ".join(page.text)
    for name in ("pq", "sq", "rq"):
        assert f"{100 * metrics['panoptic']['all'][name]:.1f}" in text
    content = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))["runs"][0]
    assert content["main"]["value"] == metrics["panoptic"]["all"]["pq"]
    by_id = {str(row["category_id"]): row["values"]["pq"] for row in content["categories"]}
    assert by_id == {key: row["pq"] for key, row in metrics["panoptic"]["per_category"].items() if key in by_id}
    curve = content["curves"]["precision"]["0.5"]
    assert np.mean(curve) == pytest.approx(metrics["instance"]["segm"]["AP50"], abs=1e-12)


def test_a_run_without_evaluation_is_evaluated_with_intervals(tmp_path, dataset):
    run = make_run(tmp_path / "run", dataset, worn(scenes()))
    content = report([run], tmp_path / "out", dataset).contents[0]
    assert run.metrics()["intervals"]["confidence"] == content.confidence == 0.95
    assert content.main.low <= content.main.value <= content.main.high
    assert content.absent == ()


def test_commands_repeat_the_options_of_the_evaluation(tmp_path, dataset):
    run = make_run(tmp_path / "run", dataset, worn(scenes()))
    table = tmp_path / "weather.csv"
    table.write_text("image_id,weather\n0,sun\n1,rain\n")
    evaluate(run, dataset, corrected=True, boundary=True, by=["area", f"{table}:weather"])
    content = report([run], tmp_path / "out", dataset, tiles=0).contents[0]
    assert (
        content.commands[1] == "workbench evaluate runs/run --corrected --boundary --by area --by weather.csv:weather"
    )
    assert content.facts["Scored"] == "corrected"
    assert [each.name for each in content.slices["weather.csv:weather"]] == ["rain", "sun", "(none)"]
    assert {number.name for number in content.numbers} >= {"boundary_pq", "boundary_AP"}


def test_what_an_evaluation_lacks_is_said_with_the_command_that_gives_it(tmp_path, dataset):
    run = make_run(tmp_path / "run", dataset, worn(scenes()))
    metrics = evaluate(run, dataset).metrics
    older = {key: value for key, value in metrics.items() if key not in ("errors", "calibration", "slices")}
    (run.path / "metrics.json").write_text(json.dumps(older))
    (run.path / "confusion.parquet").unlink()
    content = report([run], tmp_path / "out", dataset).contents[0]
    assert {each.what: each.how for each in content.absent} == {
        "Confidence intervals": "workbench evaluate runs/run --confidence",
        "Error types": "workbench evaluate runs/run",
        "Calibration of scores": "workbench evaluate runs/run",
        "Confusion between categories": "workbench evaluate runs/run",
    }
    text = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert "workbench evaluate runs/run --confidence" in text


@pytest.mark.parametrize("task", ["panoptic", "instance", "semantic"])
def test_every_task_has_a_report_with_pictures(tmp_path, dataset, task):
    run = scored_run(tmp_path / "run", dataset, worn(scenes()), task=task)
    page = written(run, dataset, tmp_path / "out")
    assert len(page.all("img")) > 4
    assert any("Worst images" in text for text in page.text)


@pytest.mark.parametrize(("task", "main"), [("instance", "AP"), ("semantic", "miou")])
def test_a_panoptic_run_without_panoptic_ground_truth_shows_what_was_scored(tmp_path, task, main):
    dataset = NamedDataset(scenes(), tmp_path / "images", tasks=(task,))
    content = report(
        [scored_run(tmp_path / "run", dataset, worn(scenes()))], tmp_path / "out", dataset, tiles=1
    ).contents[0]
    assert (content.task, content.main.name) == ("panoptic", main)
    assert bool(content.errors) == (task == "instance")


def test_pictures_are_as_many_as_asked_for(tmp_path, dataset):
    run = scored_run(tmp_path / "run", dataset, worn(scenes()))
    one = report([run], tmp_path / "one", dataset, tiles=1)
    found = json.loads((tmp_path / "one" / "report.json").read_text(encoding="utf-8"))["runs"][0]["galleries"]
    assert [len(gallery["tiles"]) for gallery in found] == [1] * len(found)
    assert found[0]["total"] == 4
    assert not Page(report([run], tmp_path / "none", dataset, tiles=0).html.read_text()).all("img")
    assert one.html.stat().st_size > (tmp_path / "none" / "index.html").stat().st_size
    with pytest.raises(OptionError, match="tiles is -1"):
        report([run], tmp_path / "out", dataset, tiles=-1)


def test_perfect_and_empty_runs_have_reports(tmp_path, dataset):
    perfect = report([scored_run(tmp_path / "perfect", dataset, scenes())], tmp_path / "a", dataset).contents[0]
    assert (perfect.main.value, perfect.errors) == (1.0, ())
    nothing = [replace(scene, listed=(), label_map=np.zeros_like(scene.label_map)) for scene in scenes()]
    empty = report([scored_run(tmp_path / "empty", dataset, nothing)], tmp_path / "b", dataset).contents[0]
    assert empty.main.value == 0.0
    assert {row.name: row.ground_truth for row in empty.errors} == {"missed": 12}


def test_lost_image_files_do_not_lose_the_report(tmp_path, dataset):
    for file in dataset.folder.iterdir():
        file.unlink()
    page = written(scored_run(tmp_path / "run", dataset, worn(scenes())), dataset, tmp_path / "out")
    assert page.all("img")


def test_the_same_run_gives_the_same_bytes(tmp_path, dataset):
    run = scored_run(tmp_path / "run", dataset, worn(scenes()))
    first, second = (report([run], tmp_path / name, dataset).folder for name in ("a", "b"))
    for name in ("index.html", "report.md", "report.json"):
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_several_runs_are_compared_with_the_first(two_runs):
    page = Page((two_runs / "index.html").read_text(encoding="utf-8"))
    content = json.loads((two_runs / "report.json").read_text(encoding="utf-8"))
    (pair,) = content["comparisons"]
    a, b = (run["main"]["value"] for run in content["runs"])
    assert a < b == 1.0
    assert pair["headlines"]["pq"]["difference"] == pytest.approx(b - a)
    assert "after against before" in page.text
    assert f"{100 * (b - a):+.1f}" in page.text
    assert any("Images that changed most" in text for text in page.text)


def test_no_folder_of_this_machine_is_named(two_runs):
    for file in two_runs.iterdir():
        assert str(two_runs.parent) not in file.read_text(encoding="utf-8"), file.name
    assert "--model mine" in (two_runs / "index.html").read_text(encoding="utf-8")


def test_a_folder_that_cannot_be_written_is_one_message(tmp_path, dataset):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"cannot be written .* --out"):
        report([scored_run(tmp_path / "run", dataset, scenes())], tmp_path / "file", dataset)


def test_the_command_writes_below_reports_and_prints_the_page(in_empty_folder, tmp_path, dataset, monkeypatch):
    run = make_run(Path("runs/mine"), dataset, worn(scenes()))
    evaluate(run, dataset)
    for module in ("report.api", "evaluation.compare"):
        monkeypatch.setattr(f"workbench.{module}.open_dataset", lambda definition: dataset)
    monkeypatch.setattr(Run, "dataset", dataset.definition)
    result = CliRunner().invoke(main, ["report"])
    assert (result.exit_code, result.stdout) == (0, "reports/mine/index.html\n")
    result = CliRunner().invoke(main, ["report", "runs/mine", "--out", "here", "--tiles", "0", "--json"])
    assert json.loads(result.stdout)["runs"][0]["name"] == "mine"
    assert sorted(path.name for path in Path("here").iterdir()) == ["index.html", "report.json", "report.md"]


def test_the_committed_report_is_of_the_bundled_checkpoint_small_and_names_no_folder():
    folder = REPOSITORY / "reports" / "demo"
    assert (folder / "index.html").stat().st_size < 3_000_000
    for file in folder.iterdir():
        assert not re.search(r"/(home|root|tmp|usr|work|Users)/", file.read_text(encoding="utf-8")), file.name
    content = json.loads((folder / "report.json").read_text(encoding="utf-8"))["runs"][0]
    weights = hashlib.sha256((BUNDLED / "model.safetensors").read_bytes()).hexdigest()
    assert content["facts"]["Weights, SHA-256"] == weights
    assert content["commands"][0].startswith("workbench predict --dataset scenes_val --model eomt_scenes_panoptic ")
