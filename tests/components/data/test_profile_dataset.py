import datetime
import json
import math
import statistics as python_statistics
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from google.protobuf import json_format
from hypothesis import given, settings
from hypothesis import strategies as st
from kfp import dsl

from components.data.hashing import normalize_text
from components.data.profile_dataset.columns import DistinctCount, kind_of
from components.data.profile_dataset.component import profile_dataset
from components.data.profile_dataset.lengths import LengthCounts
from components.data.profile_dataset.profile import describe, profile
from components.data.profile_dataset.words import Vocabulary, compare, split_words, thin
from components.data.statistics import read_statistics
from components.datasets import DatasetWriter, read_schema
from components.errors import InputError
from components.models import write_absent
from tests.local_run import run_pipeline
from tests.readme_example import readme_pipeline
from tests.tiny_model import train_tokenizer

BASE = {"id": pa.string(), "text": pa.string(), "label": pa.string()}


def write_dataset(path, texts, labels=None, **columns):
    arrays = {
        "id": pa.array([f"row-{number}" for number in range(len(texts))], pa.string()),
        "text": pa.array(texts, pa.string()),
        "label": pa.array(labels or [None] * len(texts), pa.string()),
        **columns,
    }
    batch = pa.RecordBatch.from_pydict(arrays)
    with DatasetWriter(path, batch.schema) as writer:
        writer.write(batch)
    return path


def run(folder, name="ds", reference="", model="", **more):
    return profile(
        folder / name,
        folder / f"{name}.json",
        folder / f"{name}-metrics.json",
        folder / f"{name}.html",
        reference,
        model,
        **more,
    )


texts = st.lists(st.one_of(st.text(max_size=30), st.sampled_from(["", " ", "a b", "A  b", "ç", "漢字"])), max_size=25)


@settings(max_examples=40, deadline=None)
@given(texts, st.data(), st.integers(1, 10))
def test_statistics_do_not_depend_on_where_a_batch_ends(values, data, batch_rows):
    size = len(values)
    labels = data.draw(st.lists(st.sampled_from(["x", "y", None]), min_size=size, max_size=size))
    numbers = data.draw(st.lists(st.one_of(st.none(), st.floats()), min_size=size, max_size=size))
    with tempfile.TemporaryDirectory() as folder:
        path = write_dataset(Path(folder) / "ds", values, labels, number=pa.array(numbers, pa.float64()))
        whole = describe(path)
        assert describe(path, batch_rows=batch_rows) == whole
    assert type(whole).model_validate_json(whole.model_dump_json()) == whole


@settings(max_examples=40, deadline=None)
@given(texts, st.data())
def test_statistics_are_those_that_plain_python_counts(values, data):
    size = len(values)
    labels = data.draw(st.lists(st.sampled_from(["x", "y", None]), min_size=size, max_size=size))
    with tempfile.TemporaryDirectory() as folder:
        found = describe(write_dataset(Path(folder) / "ds", values, labels))
    filled = [value for value in values if value.strip()]
    groups = Counter(normalize_text(value) for value in filled)
    lengths = [len(value) for value in filled]
    assert found.rows == size and found.column("text").missing == size - len(filled)
    assert found.labels.counts == Counter(label for label in labels if label)
    assert found.labels.unlabelled == found.column("label").missing == labels.count(None)
    assert found.column("text").distinct == len(set(filled))
    assert found.duplicates.rows == len(filled) - len(groups)
    assert found.duplicates.texts == sum(count > 1 for count in groups.values())
    of_text = {}
    for value, label in zip(values, labels, strict=True):
        if value.strip() and label:
            of_text.setdefault(normalize_text(value), set()).add(label)
    assert found.duplicates.conflicting_texts == sum(len(several) > 1 for several in of_text.values())
    assert sum(found.scripts.rows.values()) == size
    if filled:
        assert (found.characters.minimum, found.characters.maximum) == (min(lengths), max(lengths))
        assert found.characters.mean == pytest.approx(python_statistics.mean(lengths))
        assert found.characters.standard_deviation == pytest.approx(python_statistics.pstdev(lengths), abs=1e-9)


@given(st.lists(st.integers(0, 4000), min_size=1, max_size=60), st.integers(1, 60))
def test_percentiles_and_histograms_are_exact(lengths, cut):
    counts = LengthCounts()
    counts.add(np.array(lengths[:cut], np.int32))
    counts.add(np.array(lengths[cut:], np.int64))
    found = counts.statistics()
    for percent, value in found.percentiles.items():
        assert value == np.percentile(lengths, int(percent), method="inverted_cdf")
    assert sum(found.histogram.counts) + found.histogram.beyond == len(lengths)
    assert len(found.histogram.edges) == len(found.histogram.counts) + 1
    assert counts.beyond(100) == sum(length > 100 for length in lengths)


def test_the_length_of_an_enormous_text_is_rounded_a_little():
    counts = LengthCounts()
    counts.add(np.array([50_000_001, 10]))
    found = counts.statistics()
    assert found.maximum == 50_000_001 and found.mean == 25_000_005.5
    assert 0.9995 * 50_000_001 < found.percentiles["99"] <= 50_000_001


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Olá, Mundo! É 2x", ["olá", "mundo", "é", "2x"]),
        ("漢字かな abc", ["漢", "字", "か", "な", "abc"]),
        ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),
        ("한국어 문장", ["한국어", "문장"]),
        ("ﬁne — don't", ["fine", "don", "t"]),
        ("x" * 100, ["x" * 64]),
        (" \n…", []),
        ("", []),
    ],
)
def test_words(text, words):
    found, counts = split_words(pa.array(["a", text, "b"]))
    assert found.to_pylist() == ["a", *words, "b"] and counts.tolist() == [1, len(words), 1]


@settings(max_examples=60)
@given(st.lists(st.text("abcdef", min_size=1, max_size=3), max_size=80), st.randoms(), st.integers(1, 40))
def test_a_sampled_vocabulary_depends_neither_on_order_nor_on_batches(words, random, batch):
    shuffled = random.sample(words, len(words))
    one, other = Vocabulary(most=5), Vocabulary(most=5)
    one.add(pa.array(words, pa.string()))
    for start in range(0, len(shuffled), batch):
        other.add(pa.array(shuffled[start : start + batch], pa.string()))
    assert one.statistics() == other.statistics()
    counts = Counter(words)
    sample = one.statistics().sample
    assert len(sample.words) <= 5 and sample.words == {word: counts[word] for word in sample.words}
    assert sample.words == thin(dict(counts), 0, sample.level)


def test_a_sample_estimates_how_many_words_and_values_there_are():
    vocabulary, distinct = Vocabulary(most=2000), DistinctCount(most=2000)
    vocabulary.add(pa.array([f"word{number % 30_000}" for number in range(40_000)]))
    random = np.random.default_rng(0)
    hashes = random.integers(0, 2**64, 30_000, dtype=np.uint64)
    for piece in np.array_split(np.concatenate([hashes, hashes[:7000]]), 9):
        distinct.add(piece)
    assert vocabulary.statistics().distinct == pytest.approx(30_000, rel=0.1)
    assert not vocabulary.statistics().distinct_exact and not distinct.exact
    assert distinct.count == pytest.approx(30_000, rel=0.1)


def test_an_overlap_of_samples_is_near_the_exact_one(tmp_path):
    def vocabulary(numbers, most):
        words = Vocabulary(most)
        words.add(pa.array([f"word{number}" for number in numbers]))
        return words.statistics()

    reference = describe(write_dataset(tmp_path / "ds", ["a"])).model_copy(
        update={"vocabulary": vocabulary(range(20_000), 4000)}
    )
    overlap = compare(vocabulary(range(10_000, 40_000), 3000), reference)
    assert overlap.known_words == pytest.approx(1 / 3, abs=0.03) and not overlap.exact
    assert overlap.found_words == pytest.approx(1 / 2, abs=0.04)


def test_scripts_are_counted_by_letter_and_by_row(tmp_path):
    rows = ["Olá mundo", "привет мир abc", "漢字", "日本のことば", "العربية", "123 !", "", "ªµ"]
    found = describe(write_dataset(tmp_path / "ds", rows)).scripts
    assert found.rows == {"Latin": 2, "none": 2, "Cyrillic": 1, "Han": 1, "Hiragana": 1, "Arabic": 1}
    assert found.letters["Cyrillic"] == 9 and found.letters["Latin"] == 8 + 3 + 1
    assert found.letters["Han"] == 4


def test_other_columns_of_any_type(tmp_path):
    day, moment = datetime.date(2026, 1, 31), datetime.datetime(2026, 1, 31, 12, 30, 0, 5)
    columns = {
        "integer": pa.array([3, None, -7], pa.int16()),
        "number": pa.array([math.nan, math.inf, 0.5], pa.float32()),
        "boolean": pa.array([True, None, True]),
        "day": pa.array([day, None, datetime.date(1969, 7, 20)]),
        "moment": pa.array([moment, None, moment], pa.timestamp("us", tz="Mars/Olympus")),
        "exact": pa.array([1_700_000_000_000_000_001, None, None], pa.int64()).view(pa.timestamp("ns")),
        "category": pa.array(["b", "b", None]).dictionary_encode(),
        "tags": pa.array([["x"], [], None]),
        "object": pa.array([{"a": 1}, None, None]),
        "bytes": pa.array([b"\xff", None, None]),
        "nothing": pa.nulls(3),
    }
    path = write_dataset(tmp_path / "ds", ["a", "b", "c"], **columns)
    found = {column.name: column for column in describe(path).columns}
    assert [found[name].missing for name in columns] == [1, 1, 1, 1, 1, 2, 1, 1, 2, 2, 3]
    assert [found[name].kind for name in columns] == [
        "integer", "number", "boolean", "date", "timestamp", "timestamp", "string", "list", "other", "other", "null",
    ]  # fmt: skip
    assert [found[name].distinct for name in columns] == [2, 2, 1, 2, 1, 1, 1, None, None, None, 0]
    bounds = {name: (found[name].minimum, found[name].maximum) for name in columns}
    assert bounds["integer"] == (-7, 3) and bounds["number"] == (0.5, 0.5)
    assert bounds["day"] == ("1969-07-20", "2026-01-31")
    assert bounds["moment"][0] == "2026-01-31T12:30:00.000005Z"
    assert bounds["exact"][0] == "2023-11-14T22:13:20.000000001"
    assert bounds["category"] == (1, 1) and bounds["tags"] == bounds["boolean"] == (None, None)
    assert [kind_of(field.type) for field in read_schema(path)][:3] == ["string"] * 3


def test_a_dataset_without_rows_has_a_page_and_finite_numbers(tmp_path):
    write_dataset(tmp_path / "ds", [])
    metrics = run(tmp_path)
    assert metrics["rows"] == 0 and all(math.isfinite(value) for value in metrics.values())
    assert "0 rows" in (tmp_path / "ds.html").read_text()


def test_more_labels_than_classes_are_not_listed(tmp_path):
    write_dataset(tmp_path / "ds", ["t"] * 1200, [f"label {number}" for number in range(1200)])
    assert run(tmp_path)["labels"] == 0
    assert not read_statistics(tmp_path / "ds.json").labels.complete
    assert "too many different values" in (tmp_path / "ds.html").read_text()


def test_duplicates_are_shown_with_their_ids_and_labels(tmp_path):
    rows = ["Late parcel", "login fails", "late  PARCEL", "<b>nasty</b>", "late parcel", " ", ""]
    write_dataset(tmp_path / "ds", rows, ["delivery", "login", "billing", "login", None, None, None])
    run(tmp_path)
    found = read_statistics(tmp_path / "ds.json").duplicates
    assert (found.texts, found.rows, found.conflicting_texts, found.conflicting_rows) == (1, 2, 1, 3)
    (example,) = found.examples
    assert example.rows == 3 and example.text == "Late parcel"
    assert example.ids == ["row-0", "row-2", "row-4"] and example.labels == ["delivery", "billing", None]
    page = (tmp_path / "ds.html").read_text()
    assert "no model gets all of them right" in page and "2 texts (28.6 %) are blank" in page
    assert "<b>nasty" not in page and "login" in page


def test_the_page_is_the_same_bytes_again(tmp_path):
    write_dataset(tmp_path / "ds", ["one text", "another text"], ["a", "b"])
    pages = []
    for _ in range(2):
        run(tmp_path)
        pages.append((tmp_path / "ds.html").read_bytes() + (tmp_path / "ds.json").read_bytes())
    assert pages[0] == pages[1]


def test_a_reference_that_is_none_is_refused_and_nothing_is_written(tmp_path):
    write_dataset(tmp_path / "ds", ["one"])
    (tmp_path / "wrong.json").write_text('{"version": 2}')
    with pytest.raises(InputError, match="does not hold statistics"):
        run(tmp_path, reference=tmp_path / "wrong.json")
    assert not list(tmp_path.glob("ds*.*"))


def test_an_absent_model_counts_words(tmp_path):
    write_dataset(tmp_path / "ds", ["two words"])
    write_absent(tmp_path / "model", "store/name@champion")
    assert run(tmp_path, model=tmp_path / "model")["median_words"] == 2


@dsl.pipeline
def profiles(old_uri: str, uri: str, model_uri: str):
    old = dsl.importer(artifact_uri=old_uri, artifact_class=dsl.Dataset)
    data = dsl.importer(artifact_uri=uri, artifact_class=dsl.Dataset, metadata={"digest": "abc"})
    model = dsl.importer(artifact_uri=model_uri, artifact_class=dsl.Model)
    before = profile_dataset(dataset=old.output)
    profile_dataset(
        dataset=data.output, reference=before.outputs["statistics"], model=model.output, title="Tickets"
    ).set_display_name("now")


def test_the_component_profiles_with_and_without_a_model_and_a_reference(tmp_path):
    words = ["parcel", "late", "login", "fails"]
    write_dataset(tmp_path / "old", ["parcel late", "login fails"], ["a", "b"])
    write_dataset(tmp_path / "new", ["late login", "login again " * 100], ["a", "b"])
    train_tokenizer(words).save_pretrained(tmp_path / "model")
    local = run_pipeline(
        profiles,
        tmp_path,
        old_uri=str(tmp_path / "old"),
        uri=str(tmp_path / "new"),
        model_uri=str(tmp_path / "model"),
    )
    _, before = local.artifact("profile-dataset", "metrics")
    path, now = local.artifact("profile-dataset-2", "metrics")
    assert before["median_words"] == 2 and "known_words" not in before
    assert now["median_tokens"] == 4 and now["rows_beyond_token_limit"] == 1
    assert now["known_words"] == pytest.approx(2 / 3) and json.loads(path.read_text()) == now
    path, _ = local.artifact("profile-dataset-2", "statistics")
    assert path.name == "statistics.json" and read_statistics(path).digest == "abc"
    path, _ = local.artifact("profile-dataset-2", "report")
    assert path.name == "report.html" and "<h1>Tickets</h1>" in path.read_text()


def test_the_pipeline_of_the_readme_compares_with_a_reference():
    tasks = json_format.MessageToDict(readme_pipeline("profile_dataset").pipeline_spec)["root"]["dag"]["tasks"]
    assert "reference" in tasks["profile-dataset-2"]["inputs"]["artifacts"]
