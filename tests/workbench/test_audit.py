"""`audit`: which labels are doubted, how each kind is weighed, what is kept, printed and drawn."""

import csv
import json
import re
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

import workbench
from tests.reference.labelled_pets import (
    CAT,
    DOG,
    Pets,
    write_pets,
    write_pets_instances,
    write_pets_semantic,
    write_run,
)
from workbench import ground_truth
from workbench.auditing.api import audit
from workbench.auditing.keeping import keep, kept
from workbench.auditing.page import audit_page, next_commands, write_page
from workbench.auditing.ranking import AUDIT_SCHEMA, IMAGE_SCHEMA
from workbench.auditing.records import SIMILAR, median_of_similar, share_of_similar
from workbench.cli import main
from workbench.errors import EvaluationError, OptionError, RunError
from workbench.evaluation.evaluation import evaluate


@pytest.fixture
def pets(tmp_path: Path) -> Pets:
    return write_pets(tmp_path)


def by_label(rows: list[dict[str, Any]]) -> dict[tuple[str, str, int], dict[str, Any]]:
    return {(row["image_id"], row["kind"], row["segment_id"] or row["pred_segment_id"]): row for row in rows}


def test_each_kind_is_found_where_the_run_contradicts_the_label(pets):
    """Image 1: a dog is predicted as a cat, the cat lacks a column. Image 2: no cat is predicted, but a dog is."""
    rows = by_label(audit(pets.run).top())
    assert set(rows) == {
        ("1", "wrong_class", 2),
        ("1", "outline", 1),
        ("2", "spurious", 1),
        ("2", "missing", 1),
        ("2", "outline", 2),  # the sky, out of which the dog is cut
    }
    confused = rows["1", "wrong_class", 2]
    assert (confused["category_id"], confused["suggested_category_id"], confused["iou"]) == (DOG, CAT, 1.0)
    assert (confused["pred_segment_id"], confused["score"], confused["source_id"]) == (2, 0.75, 2)
    assert confused["why"].startswith("labelled dog, predicted cat with score 0.75 and IoU 1.00")
    spurious = rows["2", "spurious", 1]
    assert (spurious["category_id"], spurious["suggested_name"], spurious["area"]) == (CAT, None, 16)
    assert "finds no cat here, but sky, and says what 100\u00a0% of the place is" in spurious["why"]


def test_a_run_that_agrees_with_every_label_doubts_none(pets, tmp_path):
    truth = ground_truth.load(pets.dataset, "panoptic").segments().to_pylist()
    left_out = ("declared_area", "source_id")
    rows = [{key: row[key] for key in row if key not in left_out} | {"score": 0.9} for row in truth]
    run = write_run(tmp_path / "perfect", pets.dataset, "panoptic", [row for row in rows if row["segment_id"]])
    found = audit(run, pets.dataset)
    assert len(found.table) == len(found.images) == 0
    assert found.summary["labels"] == 6
    assert "No label has any suspicion" in audit_page(found)


def test_crowds_void_and_predictions_on_them_are_not_doubted(tmp_path):
    """The third detection lies on a crowd; both labelled animals are found."""
    pets = write_pets_instances(tmp_path)
    found = audit(pets.run)
    assert found.task == "instance"
    assert found.summary["labels"] == 2
    assert {row["kind"] for row in found.top()} <= {"outline"}
    assert all(row["category_id"] == DOG for row in found.top())  # whose detection lacks a column


def test_a_run_of_boxes_is_said_to_know_no_outlines(tmp_path):
    boxes = write_pets_instances(tmp_path).run
    assert not any("boxes" in note for note in audit(boxes).summary["notes"])
    notes = audit(boxes.updated(iou_types=["bbox"])).summary["notes"]
    assert "boxes count as filled, so their IoU with a label says little of its outline" in notes


def test_semantic_runs_are_refused_with_what_to_do_instead(tmp_path):
    with pytest.raises(EvaluationError, match="--task panoptic or instance"):
        audit(write_pets_semantic(tmp_path).run)


def test_a_run_without_evaluation_is_evaluated_first(tmp_path):
    pets = write_pets(tmp_path, evaluated=False)
    assert workbench.audit(pets.run).summary["evaluated"] == pets.run.metrics()["provenance"]["evaluated"]


def test_what_is_kept_can_be_read_without_us_and_is_the_ranking(pets):
    found = audit(pets.run)
    folder = pets.run.path
    assert pq.read_table(folder / "audit.parquet").equals(found.table)
    assert pq.read_table(folder / "audit_images.parquet").equals(found.images)
    assert found.table.schema.equals(AUDIT_SCHEMA) and found.images.schema.equals(IMAGE_SCHEMA)
    assert json.loads((folder / "audit.json").read_text()) == found.summary
    with (folder / "audit.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["rank"]) for row in rows] == list(range(1, len(found.table) + 1))
    assert [row["why"] for row in rows] == found.table["why"].to_pylist()
    assert [float(rows[0][key]) for key in "xywh"] == found.table["bbox"][0].as_py()


def test_an_audit_counts_only_for_the_evaluation_that_it_was_made_of(pets):
    audit(pets.run)
    assert kept(pets.run) is not None
    metrics = json.loads((pets.run.path / "metrics.json").read_text())
    metrics["provenance"]["evaluated"] = "2999-01-01T00:00:00+00:00"
    (pets.run.path / "metrics.json").write_text(json.dumps(metrics))
    assert kept(pets.run) is None


@pytest.mark.parametrize("content", ["{", "[]", '{"version": 1}', "\x00"])
def test_a_damaged_audit_is_told_with_the_command_that_makes_it_anew(content, pets):
    audit(pets.run)
    (pets.run.path / "audit.json").write_text(content)
    with pytest.raises(RunError, match=r"audit\.json: this audit.*workbench audit"):
        kept(pets.run)
    audit(pets.run)
    (pets.run.path / "audit.parquet").write_bytes(b"PAR1")
    with pytest.raises(RunError, match=r"audit\.parquet beside it, cannot be read.*workbench audit"):
        kept(pets.run)


def test_an_audit_of_a_run_whose_evaluation_is_gone_does_not_count(pets):
    audit(pets.run)
    (pets.run.path / "metrics.json").unlink()
    assert kept(pets.run) is None


def test_a_spreadsheet_runs_no_name_as_a_formula(pets):
    found = audit(pets.run)
    rows = found.table.to_pylist()
    rows[0] |= {"name": "=HYPERLINK(A1)", "suggested_name": "@SUM(A1)", "image_id": "-1"}
    keep(pets.run.path, pa.Table.from_pylist(rows, AUDIT_SCHEMA), found.images, found.summary)
    with (pets.run.path / "audit.csv").open(newline="") as file:
        first = next(csv.DictReader(file))
    assert (first["name"], first["suggested_name"], first["image_id"]) == ("'=HYPERLINK(A1)", "'@SUM(A1)", "'-1")
    exact = pq.read_table(pets.run.path / "audit.parquet").to_pylist()[0]
    assert (exact["name"], exact["image_id"]) == ("=HYPERLINK(A1)", "-1")


def test_images_are_ranked_by_the_sum_of_suspicion(pets):
    found = audit(pets.run)
    sums: dict[str, float] = {}
    for row in found.top():
        sums[row["image_id"]] = sums.get(row["image_id"], 0.0) + row["suspicion"]
    assert {row["image_id"]: pytest.approx(row["suspicion"]) for row in found.images.to_pylist()} == sums
    assert found.images["suspicion"].to_pylist() == sorted(sums.values(), reverse=True)


def test_images_that_the_run_lacks_are_not_held_against_their_labels(tmp_path):
    pets = write_pets(tmp_path, evaluated=False)
    images = pets.run.path / "images" / "part-00000.parquet"
    table = pq.read_table(images)
    status = ["failed" if image_id == "2" else "ok" for image_id in table["image_id"].to_pylist()]
    place = table.schema.get_field_index("status")
    pq.write_table(table.set_column(place, table.schema.field(place), [status]), images)
    found = audit(pets.run)
    assert "2" not in found.table["image_id"].to_pylist()
    assert "1 of 3 images are left out: the run lacks them, or could not read them" in found.summary["notes"]
    assert not any("count as images without predictions" in note for note in found.summary["notes"])


def slow_share(group: Any, key: Any, hit: Any, counted: Any, i: int) -> float:
    """The same by its definition: the nearest of the group in rank, without the case itself."""
    overall = hit[counted].mean() if counted.any() else 0.0
    order = [j for j in np.lexsort((key, group)) if group[j] == group[i]]
    place, size = order.index(i), min(SIMILAR + 1, len(order))
    begin = min(max(place - size // 2, 0), len(order) - size)
    others = [j for j in order if j != i and counted[j]]
    near = [j for j in order[begin : begin + size] if j != i and counted[j]]
    of_group = (sum(hit[j] for j in others) + 2 * overall) / (len(others) + 2)
    return (sum(hit[j] for j in near) + 2 * of_group) / (len(near) + 2)


@pytest.mark.parametrize("size", [1, 5, 200])
def test_the_record_of_similar_cases_leaves_the_case_itself_out(size):
    rng = np.random.default_rng(size)
    group, key = rng.integers(0, 3, size), rng.random(size)
    hit, counted = rng.random(size) < 0.3, rng.random(size) < 0.8
    shares = share_of_similar(group, key, hit, counted)
    expected = [slow_share(group, key, hit, counted, i) for i in range(size)]
    np.testing.assert_allclose(shares, expected)


def test_the_usual_value_is_the_median_of_similar_cases_and_of_all_where_there_are_few():
    group = np.array([0] * 100 + [1])
    value = np.concatenate([np.linspace(0.5, 0.9, 100), [0.1]])
    usual = median_of_similar(group, np.arange(101.0), value, np.ones(101, dtype=np.bool_))
    assert usual[50] == pytest.approx(value[50], abs=0.02)
    assert usual[0] < usual[50] < usual[99]
    assert usual[100] == pytest.approx(np.median(value))
    none = median_of_similar(group, np.arange(101.0), value, np.zeros(101, dtype=np.bool_))
    assert np.isnan(none).all()


def test_rows_can_be_chosen_by_kind_and_unknown_kinds_are_named(pets):
    found = audit(pets.run)
    assert {row["kind"] for row in found.top(kinds=["spurious"])} == {"spurious"}
    assert len(found.top(1)) == 1
    with pytest.raises(OptionError, match="Did you mean 'outline'"):
        found.top(kinds=["outlines"])  # type: ignore[list-item]


def test_the_command_prints_the_first_and_the_next_step_and_writes_the_page(pets, in_empty_folder):
    result = CliRunner().invoke(main, ["audit", str(pets.run.path)])
    assert result.exit_code == 0, result.output
    assert re.search(r"1 Nothing there +0\.\d\d +2 +cat|1 Wrong class +\d\.\d\d +1 +dog +cat +1\.00", result.stdout)
    assert f"workbench audit {pets.run.path} --view" in result.stderr
    assert f"workbench pull --dataset {pets.definition} --field ground_truth --out pets_fixed.toml" in result.stderr
    page = in_empty_folder / result.stdout.splitlines()[-1]
    assert page == in_empty_folder / "reports" / "pets-first-audit" / "index.html"
    assert page.read_text().count("<figure>") == len(pq.read_table(pets.run.path / "audit.parquet"))


def test_json_has_the_summary_the_suspects_and_the_images(pets, in_empty_folder):
    arguments = ["audit", str(pets.run.path), "--json", "--top", "2", "--kind", "spurious", "--out", "page"]
    result = CliRunner().invoke(main, arguments)
    content = json.loads(result.stdout)
    assert [row["kind"] for row in content["suspects"]] == ["spurious"]
    assert content["view"] is None and content["page"] == "page/index.html"
    assert content["worst_images"] == audit(pets.run).images.slice(0, 2).to_pylist()
    assert set(content["kinds"]) == {"missing", "spurious", "wrong_class", "outline"}


def test_the_page_lets_nothing_in_and_escapes_names(pets, tmp_path):
    found = audit(pets.run)
    rows = found.table.to_pylist()
    rows[0] |= {key: f'"><script>alert(1)</script>{key}' for key in ("name", "suggested_name", "why")}
    images = [{**row, "image_id": "<script>alert(2)</script>.jpg"} for row in found.images.to_pylist()]
    tables = {"table": pa.Table.from_pylist(rows, AUDIT_SCHEMA), "images": pa.Table.from_pylist(images, IMAGE_SCHEMA)}
    hostile = replace(found, **tables)
    html = write_page(hostile, tmp_path / "page").read_text()
    assert "<script>alert" not in html and '"><script' not in html
    assert html.count("&lt;script&gt;alert(1)") >= 3 and "&lt;script&gt;alert(2)" in html
    assert "default-src 'none'" in unescape(html)
    assert set(re.findall(r'(?:src|href)="([^"#][^:"]*)', html)) == {"data"}


def test_the_next_commands_name_the_run_and_the_dataset(pets):
    first, _, last = next_commands(audit(pets.run))
    assert first == "workbench audit runs/pets-first --view"
    assert last == "workbench pull --dataset pets --field ground_truth --out pets_fixed.toml"


def test_the_next_commands_name_the_dataset_that_fiftyone_has(pets):
    view, launch, home = next_commands(audit(pets.run), pushed_as="my pets")
    assert view == "workbench audit runs/pets-first --view --name 'my pets'"
    assert launch == "fiftyone app launch 'my pets'"
    assert home == "workbench pull --dataset pets --field ground_truth --out pets_fixed.toml --name 'my pets'"


def test_evaluating_again_and_auditing_again_gives_the_same_ranking(pets):
    before = audit(pets.run).table
    evaluate(pets.run)
    assert audit(pets.run).table.equals(before)
