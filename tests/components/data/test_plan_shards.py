import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kfp import dsl

from components import plan_shards
from components.data.plan_shards.plan import divide, plan
from components.datasets import DatasetWriter, parse_shard
from components.errors import InputError
from tests.local_run import run_pipeline

SCHEMA = pa.schema([("id", pa.string()), ("text", pa.string()), ("label", pa.string())])


def write_dataset(path, rows):
    with DatasetWriter(path, SCHEMA) as writer:
        writer.write(
            pa.RecordBatch.from_pylist([{"id": str(n), "text": "t", "label": None} for n in range(rows)], SCHEMA)
        )
    return path


@settings(max_examples=300)
@given(rows=st.integers(0, 10**7), wanted=st.integers(1, 400))
def test_shards_cover_all_rows_in_order_and_are_even(rows, wanted):
    shards = [parse_shard(shard, rows) for shard in divide(rows, wanted)]
    sizes = [stop - start for start, stop in shards]
    assert len(shards) == max(1, min(wanted, rows)) and max(sizes) - min(sizes) <= 1
    assert shards[0][0] == 0 and shards[-1][1] == rows
    assert all(before[1] == after[0] for before, after in zip(shards, shards[1:], strict=False))


@pytest.mark.parametrize(
    ("rows", "wanted", "expected"),
    [(0, 4, ["0:0"]), (2, 4, ["0:1", "1:2"]), (10, 1, ["0:10"]), (10, 3, ["0:3", "3:6", "6:10"])],
)
def test_shards_of_a_dataset(tmp_path, rows, wanted, expected):
    assert plan(write_dataset(tmp_path / "in", rows), wanted) == expected


@pytest.mark.parametrize("wanted", [0, -1])
def test_less_than_one_shard_is_refused(tmp_path, wanted):
    with pytest.raises(InputError, match="1 or more"):
        plan(write_dataset(tmp_path / "in", 2), wanted)


@dsl.component(base_image="python", install_kfp_package=False)
def show(shard: str):
    print(f"shard {shard};")


@dsl.pipeline
def loop(path: str, num_shards: int):
    data = dsl.importer(artifact_uri=path, artifact_class=dsl.Dataset)
    with dsl.ParallelFor(plan_shards(dataset=data.output, num_shards=num_shards).output) as shard:
        show(shard=shard)


def test_component_feeds_a_loop(tmp_path):
    run = run_pipeline(loop, tmp_path, path=str(write_dataset(tmp_path / "in", 5)), num_shards=2)
    assert run.parameter("plan-shards") == ["0:2", "2:5"]
    assert "shard 0:2;" in run.log and "shard 2:5;" in run.log
