import numpy as np
import pyarrow as pa
import pytest
from kfp import dsl
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

from components.datasets import DatasetWriter
from components.errors import InputError
from components.inference.embed_text.embed import add_embeddings, embed
from components.inference.embed_text.embedder import TextEmbedder
from tests.components.inference.test_classify_text import LABELS, SCHEMA, make_texts, read, write_dataset
from tests.local_run import run_pipeline
from tests.tiny_model import build_tiny_model


@pytest.fixture(scope="module")
def texts():
    return [*make_texts(60), "", "🙂 ação", "word " * 1000]


@pytest.fixture(scope="module")
def model(tmp_path_factory, texts):
    """A classifier: its head is left out."""
    return build_tiny_model(tmp_path_factory.mktemp("embed") / "model", LABELS, texts)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory, texts):
    return write_dataset(tmp_path_factory.mktemp("embed") / "dataset", texts)


@pytest.fixture(scope="module")
def expected(model, texts):
    """What a user who knows only sentence-transformers computes, by pooling."""
    encoder = Transformer(str(model))

    def encode(pooling):
        modules = [encoder, Pooling(encoder.get_embedding_dimension(), pooling_mode=pooling), Normalize()]
        return SentenceTransformer(modules=modules, device="cpu").encode(texts, show_progress_bar=False)

    return {pooling: encode(pooling) for pooling in ("mean", "cls")}


def vectors(folder) -> np.ndarray:
    return np.array(read(folder)["embedding"].to_pylist())


@pytest.mark.parametrize(
    ("pooling", "backend"), [("mean", "auto"), ("cls", "auto"), ("mean", "torch"), ("cls", "torch")]
)
def test_embeddings_are_those_of_sentence_transformers(tmp_path, model, dataset, texts, expected, pooling, backend):
    metadata = embed(dataset, model, tmp_path / "out", pooling=pooling, backend=backend)
    table = read(tmp_path / "out")
    assert table.schema.field("embedding").type == pa.list_(pa.float32(), 32)
    assert table["text"].to_pylist() == texts and table["stars"].to_pylist() == list(range(len(texts)))
    np.testing.assert_allclose(vectors(tmp_path / "out"), expected[pooling], atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(vectors(tmp_path / "out"), axis=1), 1, atol=1e-5)
    assert (metadata["dimension"], metadata["pooling"], metadata["normalized"]) == (32, pooling, True)
    assert metadata["columns"] == [*SCHEMA.names, "embedding"] and metadata["shard"] == f"0:{len(texts)}"


def test_half_of_the_space(tmp_path, model, dataset, expected):
    embed(dataset, model, tmp_path / "out", dtype="float16")
    assert read(tmp_path / "out").schema.field("embedding").type == pa.list_(pa.float16(), 32)
    np.testing.assert_allclose(vectors(tmp_path / "out"), expected["mean"], atol=2e-3)


def test_a_shard_and_vectors_of_any_length(tmp_path, model, dataset, texts):
    embed(dataset, model, tmp_path / "out", shard="10:20", normalize=False)
    found = vectors(tmp_path / "out")
    np.testing.assert_allclose(found, TextEmbedder(model, normalize=False).embed(texts)[10:20], atol=1e-5)
    assert np.abs(np.linalg.norm(found, axis=1) - 1).min() > 0.01


def test_no_rows_give_no_embeddings(tmp_path, model):
    assert embed(write_dataset(tmp_path / "dataset", []), model, tmp_path / "out")["rows"] == 0
    assert TextEmbedder(model).embed([]).shape == (0, 32)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"pooling": "max"}, "no pooling 'max'"),
        ({"dtype": "float64"}, "no dtype 'float64'"),
        ({"precision": "int8"}, "int8 is for classification"),
        ({"shard": "0:999"}, "not within"),
    ],
)
def test_a_setting_that_cannot_be_is_refused(tmp_path, model, dataset, setting, message):
    with pytest.raises(InputError, match=message):
        embed(dataset, model, tmp_path / "out", **setting)
    assert not (tmp_path / "out").exists()


def test_a_dataset_that_has_embeddings_is_refused(tmp_path, model):
    with DatasetWriter(tmp_path / "dataset", SCHEMA.append(pa.field("embedding", pa.int64()))):
        pass
    with pytest.raises(InputError, match="already has a column 'embedding'"):
        embed(tmp_path / "dataset", model, tmp_path / "out")


def test_what_float16_cannot_hold_is_refused():
    batch = pa.RecordBatch.from_pylist([{"id": "a"}, {"id": "b"}])
    schema = batch.schema.append(pa.field("embedding", pa.list_(pa.float16(), 2)))
    with pytest.raises(InputError, match="1 of 2 rows .* 'b'"):
        add_embeddings(batch, np.array([[1, 2], [3, 1e6]], dtype=np.float32), schema)


@dsl.pipeline
def embed_pipeline(dataset_uri: str, model_uri: str):
    from components.inference.embed_text.component import embed_text

    data = dsl.importer(artifact_uri=dataset_uri, artifact_class=dsl.Dataset, metadata={"digest": "d1"})
    model_ = dsl.importer(artifact_uri=model_uri, artifact_class=dsl.Model, metadata={"digest": "m1"})
    embed_text(dataset=data.output, model=model_.output, shard="10:60", dtype="float16")


def test_the_component_runs(tmp_path, model, dataset, expected):
    run = run_pipeline(embed_pipeline, tmp_path, dataset_uri=str(dataset), model_uri=str(model))
    path, metadata = run.artifact("embed-text", "embeddings")
    np.testing.assert_allclose(vectors(path), expected["mean"][10:60], atol=2e-3)
    assert (metadata["dataset_digest"], metadata["model_digest"]) == ("d1", "m1")
    assert "embed_text: 50 of 50 rows (100 %)" in run.log
