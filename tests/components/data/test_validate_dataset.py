import json
import math

import pyarrow as pa
import pytest

from components.data.profile_dataset.profile import describe
from components.data.schema import Schema
from components.data.validate_dataset.validate import find_anomalies, validate
from components.datasets import DatasetWriter
from components.errors import InputError
from tests.local_run import run_pipeline
from tests.readme_example import readme_pipeline

LABELS = ["a", "b"] * 5
TEXTS = [f"text number {number}" for number in range(10)]


def write_dataset(path, texts=TEXTS, labels=LABELS, **columns):
    arrays = {
        "id": pa.array([f"row-{number}" for number in range(len(texts))], pa.string()),
        "text": pa.array(texts, pa.string()),
        "label": pa.array(labels, pa.string()),
        **columns,
    }
    batch = pa.RecordBatch.from_pydict(arrays)
    with DatasetWriter(path, batch.schema) as writer:
        writer.write(batch)
    return path


def anomalies_of(path, **rules):
    return find_anomalies(path, describe(path), Schema.model_validate({"version": 1, "columns": {}, **rules}))


def run(folder, schema, **more):
    (folder / "statistics.json").write_text(describe(folder / "ds").model_dump_json())
    (folder / "schema.json").write_text(json.dumps({"version": 1, "columns": {}, **schema}))
    names = ["ds", "statistics.json", "schema.json", "anomalies.json", "metrics.json", "report.html"]
    return validate(*(folder / name for name in names), **more)


DUPLICATES = [*TEXTS[:7], "Text  NUMBER 0", "text number 0", "text number 1"]


@pytest.mark.parametrize(
    ("rows", "columns", "rules", "kind", "found", "count"),
    [
        ({}, {}, {"rows": {"minimum": 11}}, "too_few_rows", "10 rows", 0),
        ({"texts": DUPLICATES}, {}, {"rows": {"maximum_duplicate_share": 0.2}}, "duplicates", "3 rows (30 %)", 3),
        ({"texts": DUPLICATES}, {}, {"rows": {"maximum_conflicting_share": 0}}, "conflicting_labels", "3 rows", 3),
        ({}, {}, {"columns": {"year": {}}}, "missing_column", "none of that name", 0),
        ({}, {"year": pa.nulls(10)}, {}, "unexpected_column", "null", 0),
        ({}, {"year": pa.array(["1"] * 10)}, {"columns": {"year": {"type": "integer"}}}, "wrong_type", "string", 0),
        ({}, {"year": pa.array([1.5] * 10)}, {"columns": {"year": {"type": "integer"}}}, "wrong_type", "number", 0),
        (
            {},
            {"year": pa.array([1.0, math.nan, None] + [2.0] * 7)},
            {"columns": {"year": {"type": "number", "maximum_missing_share": 0.1}}},
            "missing_values",
            "2 rows (20 %)",
            2,
        ),
        (
            {"labels": [None, None, *LABELS[2:]]},
            {},
            {"label": {"maximum_missing_share": 0.1}},
            "missing_values",
            "2 rows",
            2,
        ),
        ({}, {}, {"label": {"values": ["a", "c"]}}, "unknown_value", "5 rows (50 %): 'b'", 5),
        ({"labels": ["a"] * 9 + [None]}, {}, {"label": {"values": []}}, "unknown_value", "9 rows (90 %): 'a'", 9),
        (
            {},
            {"channel": pa.array(["mail"] * 9 + ["fax"]).dictionary_encode()},
            {"columns": {"channel": {"type": "string", "values": ["mail"]}}},
            "unknown_value",
            "1 row (10 %): 'fax'",
            1,
        ),
        (
            {},
            {"year": pa.array([1989, None, *range(1990, 1998)])},
            {"columns": {"year": {"type": "integer", "minimum": 1990, "maximum": 1996}}},
            "out_of_range",
            "2 rows",
            2,
        ),
        ({"texts": ["", " \n", *TEXTS[2:]]}, {}, {"text": {"maximum_blank_share": 0.1}}, "blank_texts", "2 rows", 2),
        ({"texts": ["", "ab", *TEXTS[2:]]}, {}, {"text": {"minimum_characters": 3}}, "short_texts", "1 row", 1),
        ({"texts": ["é" * 20, *TEXTS[1:]]}, {}, {"text": {"maximum_characters": 15}}, "long_texts", "1 row", 1),
        ({}, {}, {"label": {"minimum_rows": 6, "values": ["a", "b"]}}, "rare_label", "5 rows of 'a'", 5),
        ({"labels": ["a"] * 9 + ["b"]}, {}, {"label": {"maximum_imbalance": 8}}, "imbalanced_labels", "9 times", 0),
    ],
)
def test_an_anomaly_says_what_was_expected_and_found(tmp_path, rows, columns, rules, kind, found, count):
    path = write_dataset(tmp_path / "ds", **rows, **columns)
    anomaly = next(one for one in anomalies_of(path, **rules) if one.kind == kind)
    assert found in anomaly.found and anomaly.expected
    assert anomaly.rows == count and anomaly.share == count / 10
    if count and kind != "rare_label":
        assert 1 <= len(anomaly.examples) <= 5 and all(one.id.startswith("row-") for one in anomaly.examples)
    ignoring = {"unexpected_columns": "ignore"} if kind == "unexpected_column" else {"severities": {kind: "ignore"}}
    assert all(one.kind != kind for one in anomalies_of(path, **rules, **ignoring))


@pytest.mark.parametrize(
    ("columns", "rules"),
    [
        ({"year": pa.array([1, 2] * 5, pa.int16())}, {"year": {"type": "integer"}}),
        ({"year": pa.array([1, 2] * 5)}, {"year": {"type": "number"}}),
        ({"year": pa.nulls(10)}, {"year": {"type": "integer", "minimum": 3}}),
        ({"year": pa.array([[1]] * 10)}, {"year": {}}),
        ({}, {"year": {"required": False}}),
    ],
)
def test_what_fits_a_schema_is_no_anomaly(tmp_path, columns, rules):
    path = write_dataset(tmp_path / "ds", **columns)
    everything = {"text": {"minimum_characters": 1, "maximum_characters": 13}, "label": {"values": ["a", "b"]}}
    assert anomalies_of(path, columns=rules, **everything) == []


def test_a_label_that_is_gone_is_rare(tmp_path):
    path = write_dataset(tmp_path / "ds", labels=["a"] * 10)
    (anomaly,) = anomalies_of(path, label={"values": ["a", "b"], "minimum_rows": 1})
    assert anomaly.kind == "rare_label" and anomaly.found == "0 rows of 'b'"


def test_examples_are_the_first_rows_with_their_texts_cut(tmp_path):
    texts = ["long " * 100, *TEXTS[1:]]
    path = write_dataset(tmp_path / "ds", texts, ["x"] * 10)
    (anomaly,) = anomalies_of(path, label={"values": ["a"]})
    assert [one.id for one in anomaly.examples] == [f"row-{number}" for number in range(5)]
    assert anomaly.examples[0].value == "x" and anomaly.examples[1].text == TEXTS[1]
    assert len(anomaly.examples[0].text) <= 200 and anomaly.examples[0].text.endswith("…")


def test_errors_end_the_run_after_everything_is_written(tmp_path):
    write_dataset(tmp_path / "ds", labels=["a", "<i>b</i>"] * 5)
    rules = {"label": {"values": ["a"]}, "rows": {"minimum": 100}, "text": {"maximum_characters": 1}}
    with pytest.raises(InputError) as caught:
        run(tmp_path, rules, report_uri="gs://bucket/report.html")
    message = str(caught.value)
    assert "label: unknown value (expected one of 'a'; found 5 rows (50 %): '<i>b</i>')" in message
    assert "too few rows (expected 100 rows or more; found 10 rows)" in message
    assert "gs://bucket/report.html" in message and "long texts" not in message
    listed = json.loads((tmp_path / "anomalies.json").read_text())
    assert (listed["version"], listed["rows"], listed["valid"]) == (1, 10, False)
    assert (listed["errors"], listed["warnings"]) == (2, 1)
    assert [one["severity"] for one in listed["anomalies"]] == ["error", "error", "warning"]
    assert listed["anomalies"][0]["examples"][0] == {"id": "row-1", "value": "<i>b</i>", "text": "text number 1"}
    assert json.loads((tmp_path / "metrics.json").read_text()) == {"rows": 10, "errors": 2, "warnings": 1}
    page = (tmp_path / "report.html").read_text()
    assert "not valid" in page and "<i>b" not in page
    assert run(tmp_path, rules, fail_on_anomalies=False).metrics["errors"] == 2


def test_warnings_never_end_the_run_unless_the_schema_says_so(tmp_path):
    write_dataset(tmp_path / "ds")
    rules = {"text": {"maximum_characters": 1}}
    assert run(tmp_path, rules).metrics == {"rows": 10, "errors": 0, "warnings": 1}
    with pytest.raises(InputError, match="long texts"):
        run(tmp_path, {**rules, "severities": {"long_texts": "error"}})


def test_a_valid_dataset_has_a_page_that_says_so(tmp_path):
    write_dataset(tmp_path / "ds")
    assert run(tmp_path, {}).anomalies == []
    assert "There are none: the dataset satisfies its schema." in (tmp_path / "report.html").read_text()


def test_statistics_of_another_dataset_are_refused(tmp_path):
    write_dataset(tmp_path / "ds", TEXTS[:9], LABELS[:9])
    other = describe(write_dataset(tmp_path / "other"), metadata={"digest": "abc"})
    (tmp_path / "other.json").write_text(other.model_dump_json())
    (tmp_path / "schema.json").write_text('{"version": 1, "columns": {}}')
    names = ["other.json", "schema.json", "anomalies.json", "metrics.json", "report.html"]
    with pytest.raises(InputError, match="another Dataset, of 10 rows; this one has 9"):
        validate(tmp_path / "ds", *(tmp_path / name for name in names))
    with pytest.raises(InputError, match="another Dataset"):
        validate(tmp_path / "other", *(tmp_path / name for name in names), metadata={"digest": "xyz"})
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize("fail", [False, True])
def test_the_pipeline_of_the_readme_fails_or_only_reports(tmp_path, fail):
    (tmp_path / "in.csv").write_text("text,team\na parcel,x\na login,z\n")
    (tmp_path / "schema.json").write_text('{"version": 1, "label": {"values": ["x", "y"]}, "columns": {}}')
    uris = {"input_uri": str(tmp_path / "in.csv"), "schema_uri": str(tmp_path / "schema.json")}
    local = run_pipeline(readme_pipeline("validate_dataset"), tmp_path, check=False, fail_on_anomalies=fail, **uris)
    assert local.code == int(fail), local.log
    _, metadata = local.artifact("infer-schema", "schema")
    assert metadata == {"reviewed": True, "schema_uri": uris["schema_uri"], "columns": 0}
    (report,) = (tmp_path / "job").rglob("validate-dataset/report.html")
    (listed,) = (tmp_path / "job").rglob("validate-dataset/anomalies.json")
    assert "unknown value" in report.read_text() and json.loads(listed.read_text())["errors"] == 1
    if fail:
        assert "The Dataset does not satisfy its schema: label: unknown value" in local.log
        assert str(report) in local.log
    else:
        _, metadata = local.artifact("validate-dataset", "metrics")
        assert metadata == {"rows": 2, "errors": 1, "warnings": 0}
