import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kfp import dsl

from components import plan_shards
from components.data.plan_shards import plan as plan_module
from components.data.plan_shards.plan import BYTES_PER_TOKEN, ROW_TOKENS, plan
from components.datasets import DatasetWriter, parse_shard
from components.errors import InputError
from tests.local_run import run_pipeline

SCHEMA = pa.schema([("id", pa.string()), ("text", pa.string()), ("label", pa.string())])


def write_dataset(path, rows):
    return write_texts(path, ["t"] * rows)


def write_texts(path, texts):
    with DatasetWriter(path / "dataset", SCHEMA) as writer:
        rows = [{"id": str(number), "text": text, "label": None} for number, text in enumerate(texts)]
        writer.write(pa.RecordBatch.from_pylist(rows, SCHEMA))
    return path / "dataset"


@settings(max_examples=25, deadline=None)
@given(lengths=st.lists(st.integers(0, 3000), min_size=2, max_size=300), wanted=st.integers(2, 12))
def test_shards_cover_all_rows_in_order_and_are_even_in_tokens(tmp_path_factory, lengths, wanted):
    path = write_texts(tmp_path_factory.mktemp("plan"), ["x" * length for length in lengths])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan_module, "BLOCK_ROWS", 16)
        shards = [parse_shard(shard, len(lengths)) for shard in plan(path, wanted, max_length=100)]
    assert len(shards) == min(wanted, len(lengths))
    assert shards[0][0] == 0 and shards[-1][1] == len(lengths) and all(start < stop for start, stop in shards)
    assert all(before[1] == after[0] for before, after in zip(shards, shards[1:], strict=False))
    costs = ROW_TOKENS + np.minimum(np.array(lengths) / BYTES_PER_TOKEN, 100)
    tokens = [costs[start:stop].sum() for start, stop in shards]
    # No shard is further from its share than a row at each end.
    if len(lengths) > 3 * wanted:
        assert max(tokens) <= costs.sum() / len(shards) + 2 * costs.max()


def test_what_is_not_read_of_a_long_text_is_no_work(tmp_path):
    path = write_texts(tmp_path, ["x" * 100_000] * 10 + ["x" * 450] * 90)
    assert plan(path, 2, max_length=100) == ["0:50", "50:100"]
    assert plan(path, 2, max_length=100_000) == ["0:5", "5:100"]


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
