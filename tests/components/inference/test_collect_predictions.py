from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kfp import dsl
from kfp.dsl import Dataset, Input, Model

from components import classify_text, collect_predictions, plan_shards
from components.datasets import DatasetWriter, part_files
from components.errors import InputError
from components.inference.collect_predictions.collect import collect
from tests.local_run import run_pipeline
from tests.tiny_model import build_tiny_model

FIELDS = [("id", pa.string()), ("text", pa.string()), ("label", pa.string()), ("prediction", pa.string())]
SCHEMA = pa.schema([*FIELDS, ("score", pa.float32())])


def write_shard(folder: Path, start: int, stop: int, rows: int = 10, schema: pa.Schema = SCHEMA, **metadata):
    with DatasetWriter(folder, schema) as writer:
        records = [
            {"id": str(n), "text": f"text {n}", "label": None, "prediction": "ab"[n % 2], "score": n / 10, "more": n}
            for n in range(start, stop)
        ]
        writer.write(pa.RecordBatch.from_pylist(records, schema=schema))
    # As kfp.local hands it over: numbers as floats.
    given_ = {"shard": f"{start}:{stop}", "dataset_rows": float(rows), "labels": ["a", "b"], "dataset_digest": "d"}
    return folder, {**given_, "model_digest": "m", "device": "cpu", "precision": "fp32", **metadata}


def ids(folder: Path) -> list[str]:
    return pa.concat_tables(pq.read_table(part) for part in part_files(folder))["id"].to_pylist()


@settings(max_examples=20, deadline=None)
@given(cuts=st.lists(st.integers(0, 10), max_size=4), order=st.randoms())
def test_shards_in_any_order_become_the_whole(tmp_path_factory, cuts, order):
    folder = tmp_path_factory.mktemp("collect")
    cuts = [0, *sorted(cuts), 10]
    shards = [write_shard(folder / str(n), *pair) for n, pair in enumerate(zip(cuts, cuts[1:], strict=False))]
    order.shuffle(shards)
    metadata = collect(shards, folder / "whole")
    assert ids(folder / "whole") == [str(n) for n in range(10)]
    assert (metadata["rows"], metadata["shard"], metadata["shards"]) == (10, "0:10", len(shards))
    assert metadata["labels"] == ["a", "b"] and metadata["columns"] == SCHEMA.names


def test_an_empty_dataset_has_one_empty_shard(tmp_path):
    metadata = collect([write_shard(tmp_path / "0", 0, 0, rows=0)], tmp_path / "whole")
    assert metadata["rows"] == 0 and ids(tmp_path / "whole") == []


def test_cards_of_different_kinds_are_all_named(tmp_path):
    shards = [write_shard(tmp_path / "0", 0, 4, precision="bf16"), write_shard(tmp_path / "1", 4, 10, precision="fp16")]
    assert collect(shards, tmp_path / "whole")["precision"] == "bf16, fp16"


@pytest.mark.parametrize(
    ("ranges", "message"),
    [
        ([(0, 4), (5, 10)], "Rows 4:5 are missing, before the shard 5:10"),
        ([(0, 6), (5, 10)], "Rows 5:6 are there twice, before the shard 5:10"),
        ([(0, 10), (0, 10)], "Rows 0:10 are there twice"),
        ([(1, 10)], "Rows 0:1 are missing"),
        ([(0, 9)], "Rows 9:10 are missing, after the last shard"),
        ([], "There are no shards"),
    ],
)
def test_rows_missing_or_twice_are_an_error(tmp_path, ranges, message):
    shards = [write_shard(tmp_path / str(n), *pair) for n, pair in enumerate(ranges)]
    with pytest.raises(InputError, match=message):
        collect(shards, tmp_path / "whole")
    assert not (tmp_path / "whole").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": ["b", "a"]}, "labels of the shard 4:10"),
        ({"model_digest": "other"}, "model_digest of the shard 4:10"),
        ({"dataset_digest": "other"}, "dataset_digest of the shard 4:10"),
        ({"dataset_rows": 20.0}, "dataset_rows of the shard 4:10"),
        ({"schema": pa.schema([*FIELDS, ("score", pa.float64())])}, "columns of the shard 4:10"),
        ({"schema": SCHEMA.append(pa.field("more", pa.int64()))}, "columns of the shard 4:10"),
        ({"shard": ""}, "does not say which rows"),
        ({"shard": "4:9"}, "shard 4:9 holds 6 rows"),
    ],
)
def test_shards_that_do_not_belong_together_are_an_error(tmp_path, change, message):
    shards = [write_shard(tmp_path / "0", 0, 4), write_shard(tmp_path / "1", 4, 10, **change)]
    with pytest.raises(InputError, match=message):
        collect(shards, tmp_path / "whole")


@dsl.pipeline
def in_shards(dataset: Input[Dataset], model: Input[Model], num_shards: int) -> Dataset:
    with dsl.ParallelFor(plan_shards(dataset=dataset, num_shards=num_shards).output) as shard:
        classified = classify_text(dataset=dataset, model=model, shard=shard)
    return collect_predictions(shards=dsl.Collected(classified.outputs["predictions"])).outputs["predictions"]


@dsl.pipeline
def collect_pipeline(dataset_uri: str, model_uri: str, num_shards: int = 2):
    data = dsl.importer(artifact_uri=dataset_uri, artifact_class=dsl.Dataset)
    model = dsl.importer(artifact_uri=model_uri, artifact_class=dsl.Model)
    in_shards(dataset=data.output, model=model.output, num_shards=num_shards)


def test_the_component_runs_after_a_loop(tmp_path):
    texts = [f"text number {n}" for n in range(11)]
    model = build_tiny_model(tmp_path / "model", ["a", "b"], texts)
    with DatasetWriter(tmp_path / "data", pa.schema(FIELDS[:3])) as writer:
        rows = [{"id": str(n), "text": text, "label": None} for n, text in enumerate(texts)]
        writer.write(pa.RecordBatch.from_pylist(rows, schema=pa.schema(FIELDS[:3])))
    run = run_pipeline(collect_pipeline, tmp_path, dataset_uri=str(tmp_path / "data"), model_uri=str(model))
    path, metadata = run.artifact("collect-predictions", "predictions")
    assert ids(path) == [str(n) for n in range(11)]
    assert (metadata["rows"], metadata["shards"], metadata["labels"]) == (11, 2, ["a", "b"])
