import json
import math
import re
import textwrap
import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kfp import dsl
from scipy.stats import chi2_contingency

import components.data.split_dataset.split as split_module
from components.data.hashing import hash_keys, normalize_text
from components.data.split_dataset.assign import SPLITS, Bounds
from components.data.split_dataset.balance import MOST_LABELS, measure_balance
from components.data.split_dataset.component import split_dataset
from components.data.split_dataset.split import split
from components.datasets import DatasetWriter, count_rows, read_batches, read_schema
from components.errors import InputError
from tests.local_run import run_pipeline


def write(folder, rows, batch_rows=1000, **columns):
    """Writes rows of (id, text, label), and further columns as pyarrow arrays."""
    ids, texts, labels = zip(*rows, strict=True) if rows else ((), (), ())
    arrays = {"id": pa.array(ids, pa.string()), "text": pa.array(texts, pa.string())}
    table = pa.table({**arrays, "label": pa.array(labels, pa.string()), **columns})
    with DatasetWriter(folder, table.schema) as writer:
        for batch in table.to_batches(max_chunksize=batch_rows):
            writer.write(batch)
    return folder


def read(folder):
    return [row for batch in read_batches(folder) for row in batch.to_pylist()]


def run(tmp_path, dataset, **options):
    paths = [tmp_path / name for name in (*SPLITS, "report.html", "metrics")]
    return split(dataset, *paths, **options)


def sides(tmp_path):
    """The split of each id, and that there is exactly one."""
    found = [(row["id"], name) for name in SPLITS for row in read(tmp_path / name)]
    assert len(found) == len(dict(found))
    return dict(found)


def numbered(count, labels=("a", "b")):
    return [(f"r{number}", f"text {number}", labels[number % len(labels)]) for number in range(count)]


ROWS = st.lists(
    st.tuples(st.text(max_size=6), st.sampled_from(["a", "b", "c", None]), st.integers(0, 5)), min_size=1, max_size=60
)
FRACTIONS = st.sampled_from([0.0, 0.1, 0.25, 0.4])


@settings(max_examples=15, deadline=None)
@given(ROWS, FRACTIONS, FRACTIONS, st.sampled_from(["text", "id", "group"]), st.integers(0, 3))
def test_every_row_is_on_exactly_one_side_whole_and_in_order(tmp_path_factory, rows, validation, test, by, seed):
    folder = tmp_path_factory.mktemp("split")
    triples = [(f"r{number}", text, label) for number, (text, label, _) in enumerate(rows)]
    dataset = write(folder / "d", triples, group=pa.array([group for *_, group in rows]))
    run(folder, dataset, validation_fraction=validation, test_fraction=test, split_by=by, seed=seed)
    source, parts = read(dataset), [read(folder / name) for name in SPLITS]
    assert sorted((row for part in parts for row in part), key=lambda row: int(row["id"][1:])) == source
    for part, fraction in zip(parts, (1, validation, test), strict=True):
        assert part == [row for row in source if row in part]
        assert fraction or not part
    if by == "text":
        keys = [{normalize_text(row["text"]) for row in part} for part in parts]
    else:
        keys = [{row[by] for row in part} for part in parts]
    assert not (keys[0] & keys[1] or keys[0] & keys[2] or keys[1] & keys[2])


@settings(max_examples=15, deadline=None)
@given(ROWS, ROWS, st.randoms(use_true_random=False), st.integers(1, 7))
def test_rows_stay_when_others_are_added_reordered_or_batched_otherwise(
    tmp_path_factory, rows, more, random, batch_rows
):
    folder = tmp_path_factory.mktemp("split")
    options = {"validation_fraction": 0.3, "test_fraction": 0.3}
    first = [(f"r{number}", text, label) for number, (text, label, _) in enumerate(rows)]
    run(folder, write(folder / "d", first), **options)
    before = sides(folder)
    grown = first + [(f"m{number}", text, label) for number, (text, label, _) in enumerate(more)]
    random.shuffle(grown)
    run(folder, write(folder / "d", grown, batch_rows), **options)
    after = sides(folder)
    assert all(after[name] == side for name, side in before.items()) and len(after) == len(grown)


def test_the_rows_of_many_row_groups_and_small_batches_fall_the_same(tmp_path, monkeypatch):
    rows = numbered(500)
    run(tmp_path, write(tmp_path / "d", rows))
    whole = sides(tmp_path)
    monkeypatch.setattr("components.datasets.ROW_GROUP_ROWS", 7)
    monkeypatch.setattr("components.datasets.PART_ROWS", 50)
    run(tmp_path, write(tmp_path / "d", rows, batch_rows=3))
    assert len(list((tmp_path / "d").glob("*.parquet"))) > 5
    assert sides(tmp_path) == whole


def test_a_row_falls_where_it_fell_in_the_first_release():
    """Changing the hash or the normalization would move rows of test into train for everyone who has a split."""
    hashes = hash_keys(["", "text", "ação", "数据"], 0)
    expected = [int(value) for value in GOLDEN]
    assert hashes.tolist() == expected
    assert hash_keys(["text"], 1).tolist() != expected[1:2]


GOLDEN = [7218554834331689347, 14910636350585107332, 5693055956430857124, 12184942287864766716]


@pytest.mark.parametrize(
    "texts",
    [
        ("Hello  World", "hello world", "\tHELLO\u00a0\nworld "),
        ("ação", "a\u0063\u0327a\u0303o", "AÇÃO"),
        ("ﬁne １２", "FINE 12"),
        ("Straße", "STRASSE", "strasse"),
        ("ΌΔΟΣ", "όδος"),
    ],
)
def test_texts_that_a_reader_takes_for_the_same_have_one_form(texts):
    assert len({normalize_text(text) for text in texts}) == 1
    assert len(set(texts)) == len(texts)


@given(st.text())
def test_normalization_is_settled_and_blind_to_composition_and_white_space(text):
    once = normalize_text(text)
    assert normalize_text(unicodedata.normalize("NFC", text)) == normalize_text(unicodedata.normalize("NFD", text))
    assert normalize_text(f"  {text}\n") == once and once == once.strip() and "  " not in once


@given(st.sampled_from([0.0, 0.05, 0.1, 0.3, 0.6]), st.sampled_from([0.0, 0.05, 0.1, 0.35]))
def test_fractions_are_near_what_was_asked_and_bounds_are_nested(validation, test):
    hashes = hash_keys((f"text {number}" for number in range(4000)), 0)
    found = np.bincount(Bounds(validation, test).sides(hashes), minlength=3) / len(hashes)
    for share, asked in zip(found, (1 - validation - test, validation, test), strict=True):
        assert abs(share - asked) <= 4 * math.sqrt(asked * (1 - asked) / len(hashes))
    points = hashes / 2.0**64
    expected = np.where(points < test, 2, np.where(points < test + validation, 1, 0))
    assert (Bounds(validation, test).sides(hashes) == expected).all()


def test_a_changed_fraction_moves_only_what_lies_between_the_bounds():
    hashes = hash_keys((f"text {number}" for number in range(4000)), 0)
    before = Bounds(0.1, 0.1).sides(hashes)

    def moves(bounds):
        after = bounds.sides(hashes)
        pairs = zip(before[before != after].tolist(), after[before != after].tolist(), strict=True)
        return {(SPLITS[old], SPLITS[new]) for old, new in pairs}

    assert moves(Bounds(0.2, 0.1)) == {("train", "validation")}
    assert moves(Bounds(0.05, 0.1)) == {("validation", "train")}
    assert moves(Bounds(0.1, 0.2)) == {("validation", "test"), ("train", "validation")}
    assert moves(Bounds(0.1, 0.05)) == {("test", "validation"), ("validation", "train")}


def test_another_seed_draws_another_split(tmp_path):
    dataset = write(tmp_path / "d", numbered(300))
    drawn = []
    for seed in (0, 1, 1):
        run(tmp_path, dataset, validation_fraction=0.5, test_fraction=0, seed=seed)
        drawn.append(sides(tmp_path))
    assert drawn[1] == drawn[2]
    assert 0.3 < sum(drawn[0][name] == drawn[1][name] for name in drawn[0]) / 300 < 0.7


@pytest.mark.parametrize("kind", ["string", "dictionary", "integer", "float", "date", "boolean"])
def test_groups_of_any_plain_type_stay_together(tmp_path, kind):
    numbers = [number % 40 for number in range(400)]
    column = {
        "string": pa.array([f"g{number}" for number in numbers]),
        "dictionary": pa.array([f"g{number}" for number in numbers]).dictionary_encode(),
        "integer": pa.array(numbers),
        "float": pa.array(numbers, pa.float64()),
        "date": pa.array(numbers, pa.int32()).cast(pa.date32()),
        "boolean": pa.array([number % 2 == 0 for number in numbers]),
    }[kind]
    dataset = write(tmp_path / "d", numbered(400), group=column)
    result = run(tmp_path, dataset, split_by="group", validation_fraction=0.3, test_fraction=0.2)
    groups = [{row["group"] for row in read(tmp_path / name)} for name in SPLITS]
    assert (
        sum(map(len, groups)) == len(set.union(*groups)) == result.metrics["keys"] == (2 if kind == "boolean" else 40)
    )
    assert result.metrics["largest_key_rows"] == (200 if kind == "boolean" else 10)
    assert read_schema(tmp_path / "train") == read_schema(dataset)


def test_whole_numbers_name_the_same_groups_as_floats(tmp_path):
    drawn = []
    for column in (pa.array(range(100), pa.int64()), pa.array(range(100), pa.float64())):
        run(tmp_path, write(tmp_path / "d", numbered(100), group=column), split_by="group", validation_fraction=0.4)
        drawn.append(sides(tmp_path))
    assert drawn[0] == drawn[1]


@pytest.mark.parametrize("missing", [pa.nulls(200, pa.string()), pa.array([math.nan] * 200), pa.array([""] * 200)])
def test_rows_without_a_group_go_by_their_text(tmp_path, missing):
    rows = numbered(200)
    run(tmp_path, write(tmp_path / "d", rows))
    by_text = sides(tmp_path)
    result = run(tmp_path, write(tmp_path / "d", rows, group=missing), split_by="group")
    assert sides(tmp_path) == by_text
    assert any("200 rows have no group; they were split by their text." in warning for warning in result.warnings)


def test_texts_on_two_sides_are_counted_and_shown(tmp_path):
    rows = [(f"r{number}", f"{'Text' if number % 2 else 'text'}  {number // 2}", "a") for number in range(400)]
    result = run(tmp_path, write(tmp_path / "d", rows), split_by="id", validation_fraction=0.2, test_fraction=0.2)
    texts = {name: [normalize_text(row["text"]) for row in read(tmp_path / name)] for name in SPLITS}
    for split_name, other in (("validation", "train"), ("test", "train"), ("test", "validation")):
        expected = sum(text in set(texts[other]) for text in texts[split_name])
        assert expected > 0 and result.metrics[f"leaked_{split_name}_in_{other}"] == expected
        assert any(f"{expected:,} rows of {split_name}" in warning for warning in result.warnings)
    page = (tmp_path / "report.html").read_text()
    first = next(row for row in read(tmp_path / "validation") if normalize_text(row["text"]) in texts["train"])
    twin = next(row for row in read(tmp_path / "train") if normalize_text(row["text"]) == normalize_text(first["text"]))
    assert f'<td class="name">{first["id"]}</td>' in page and f'<td class="name">{twin["id"]}</td>' in page


def test_split_by_text_has_no_leaks_to_report(tmp_path):
    rows = [(f"r{number}", f"text {number % 50}", "a") for number in range(400)]
    result = run(tmp_path, write(tmp_path / "d", rows), validation_fraction=0.3, test_fraction=0.3)
    assert result.metrics["keys"] == 50 and result.metrics["largest_key_rows"] == 8
    assert all(value == 0 for name, value in result.metrics.items() if name.startswith("leaked"))


@pytest.mark.parametrize(("validation", "test"), [(0, 0), (0, 0.2), (0.2, 0)])
def test_a_fraction_of_zero_gives_a_valid_empty_dataset(tmp_path, validation, test):
    result = run(tmp_path, write(tmp_path / "d", numbered(100)), validation_fraction=validation, test_fraction=test)
    for name, fraction in (("validation", validation), ("test", test)):
        assert (count_rows(tmp_path / name) == 0) == (fraction == 0) == (result.metadata[name]["rows"] == 0)
        assert read_schema(tmp_path / name).names == ["id", "text", "label"]
    assert not any("is empty" in warning for warning in result.warnings)


def test_an_empty_dataset_is_split_into_empty_datasets(tmp_path):
    result = run(tmp_path, write(tmp_path / "d", []))
    assert [count_rows(tmp_path / name) for name in SPLITS] == [0, 0, 0]
    assert sum("is empty, although" in warning for warning in result.warnings) == 3
    assert result.metadata["train"]["labels"] == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"validation_fraction": 0.5, "test_fraction": 0.5}, "nothing to train on"),
        ({"validation_fraction": -0.1}, "validation_fraction is -0.1"),
        ({"test_fraction": math.nan}, "test_fraction is nan"),
        ({"test_fraction": 10}, "nothing to train on"),
        ({"split_by": "customer"}, "no column 'customer'.*id, text, label"),
        ({"split_by": "tags"}, "names no groups"),
    ],
)
def test_what_cannot_be_split_is_refused_and_leaves_nothing(tmp_path, options, message):
    dataset = write(tmp_path / "d", numbered(10), tags=pa.array([["x"]] * 10))
    with pytest.raises(InputError, match=message):
        run(tmp_path, dataset, **options)
    assert [path.name for path in tmp_path.iterdir()] == ["d"]


def test_rows_without_a_label_are_left_out_when_asked_and_move_nothing(tmp_path):
    rows = numbered(300, labels=("a", "b", None))
    dataset = write(tmp_path / "d", rows)
    everything = run(tmp_path, dataset)
    before = sides(tmp_path)
    assert sum(everything.metadata[name]["unlabelled"] for name in SPLITS) == 100
    assert any("100 rows have no label" in warning for warning in everything.warnings)
    result = run(tmp_path, dataset, require_labels=True)
    after = sides(tmp_path)
    assert len(after) == 200 and all(before[name] == side for name, side in after.items())
    assert result.metrics["left_out_rows"] == 100 and result.metrics["rows"] == 200
    assert any("100 rows have no label and are in no split" in warning for warning in result.warnings)


def test_rows_without_any_label_are_refused_where_labels_are_required(tmp_path):
    dataset = write(tmp_path / "d", numbered(10, labels=(None,)))
    with pytest.raises(InputError, match="No row has a label: 10 rows have none.*label_column"):
        run(tmp_path, dataset, require_labels=True)
    assert [path.name for path in tmp_path.iterdir()] == ["d"]


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 30), st.integers(1, 30)), min_size=2, max_size=6))
def test_the_balance_is_what_scipy_says(counts):
    table = np.array(counts)
    balance = measure_balance([str(number) for number in range(len(counts))], table)
    filled = table[:, table.sum(axis=0) > 0]
    expected = chi2_contingency(filled, correction=False)
    assert balance.chi_square == pytest.approx(expected.statistic) and balance.p_value == pytest.approx(expected.pvalue)
    shares = filled / filled.sum(axis=0)
    differences = np.abs(shares - (filled.sum(axis=1) / filled.sum())[:, None])
    assert balance.deviation == pytest.approx(differences.max())
    assert list(balance.distances.values()) == pytest.approx((differences.sum(axis=0) / 2).tolist())
    assert all(0 <= value <= 1 for value in balance.distances.values())


def test_labels_that_a_split_lacks_are_said(tmp_path):
    rows = [(f"r{number}", f"text {number}", "common") for number in range(200)]
    run(tmp_path, write(tmp_path / "d", rows))
    before = sides(tmp_path)
    rare = next(name for name, side in before.items() if side == "test")
    rows = [(name, text, "rare" if name == rare else label) for name, text, label in rows]
    result = run(tmp_path, write(tmp_path / "d", rows))
    said = " ".join(result.warnings)
    assert "1 label has no row in train, so a model cannot learn them: “rare”." in said
    assert "no row in validation" in said and "no row in test" not in said
    assert result.metadata["train"]["labels"] == ["common"] and result.metadata["test"]["labels"] == ["common", "rare"]
    assert said.split(".")[0] in (tmp_path / "report.html").read_text()


def test_labels_that_go_with_the_groups_are_said_to_differ(tmp_path):
    rows = numbered(400)
    dataset = write(tmp_path / "d", rows, group=pa.array([label for *_, label in rows]))
    result = run(tmp_path, dataset, split_by="group", validation_fraction=0.3, test_fraction=0.3, seed=2)
    assert result.metrics["label_p_value"] < 1e-6 and result.metrics["largest_label_deviation"] == 0.5
    assert any("differ by more than chance" in warning for warning in result.warnings)
    assert any("of the rows instead of" in warning for warning in result.warnings)


def test_why_a_share_is_another_one_than_was_asked_for(tmp_path):
    few = run(tmp_path, write(tmp_path / "few", numbered(12)))
    assert any("instead of 0.800: hashes divide so few texts unevenly." in warning for warning in few.warnings)
    rows = [(f"r{number}", "the same" if number < 9 else f"text {number}", "a") for number in range(12)]
    one = run(tmp_path, write(tmp_path / "one", rows))
    assert any(
        "the 4 different texts are divided, not the rows, and one of them has 9 rows." in w for w in one.warnings
    )


def test_a_label_column_of_free_text_stays_bounded(tmp_path):
    rows = [(f"r{number}", f"text {number}", f"label {number}") for number in range(MOST_LABELS + 500)]
    result = run(tmp_path, write(tmp_path / "d", rows))
    assert any("more than 1,000 labels" in warning for warning in result.warnings)
    assert result.metadata["train"]["labels"] == [] and "label_p_value" not in result.metrics


@pytest.mark.parametrize("name", ["意图 {}", "{} with a name of some length, as people give them"])
def test_the_metadata_stays_within_the_limit_of_vertex(tmp_path, name):
    rows = numbered(MOST_LABELS * 6, labels=[name.format(number) for number in range(MOST_LABELS)])
    result = run(tmp_path, write(tmp_path / "d", rows), validation_fraction=0.3, test_fraction=0.3)
    assert len(json.dumps([result.metadata, result.metrics])) < 100_000


def test_the_metrics_are_finite_and_their_file_has_the_labels_too(tmp_path):
    rows = numbered(200, labels=("a", "b", "b", None))
    result = run(tmp_path, write(tmp_path / "d", rows), source={"source_uri": "gs://bucket/in.csv", "digest": "abc"})
    content = json.loads((tmp_path / "metrics").read_text())
    assert content.items() >= result.metrics.items() and content["warnings"] == result.warnings
    assert all(math.isfinite(value) for value in result.metrics.values())
    counted = Counter(label for *_, label in rows if label)
    assert {label: sum(counts.values()) for label, counts in content["label_counts"].items()} == dict(counted)
    train = result.metadata["train"]
    assert train["source_uri"] == "gs://bucket/in.csv" and train["dataset_digest"] == "abc"
    assert train["fractions"] == {"train": 0.8, "validation": 0.1, "test": 0.1} and len(train["digest"]) == 64


def test_the_report_escapes_what_users_wrote_and_is_the_same_every_time(tmp_path):
    evil = "<script>alert(1)</script>"
    rows = [(f"r{number}", f"{evil} {number // 4}", evil) for number in range(80)]
    dataset = write(tmp_path / "d", rows)
    pages = []
    for _ in range(2):
        run(tmp_path, dataset, split_by="id", validation_fraction=0.3)
        pages.append((tmp_path / "report.html").read_text())
    assert pages[0] == pages[1] and "<script" not in pages[0] and "&lt;script&gt;" in pages[0]


@dsl.pipeline
def splitting(uri: str, by: str, test_fraction: float):
    data = dsl.importer(artifact_uri=uri, artifact_class=dsl.Dataset, metadata={"digest": "abc"})
    split_dataset(dataset=data.output, split_by=by, test_fraction=test_fraction)


def test_the_component_writes_three_datasets_metrics_and_a_report(tmp_path):
    write(tmp_path / "d", numbered(200))
    local = run_pipeline(splitting, tmp_path, uri=str(tmp_path / "d"), by="id", test_fraction=0.0)
    rows = {}
    for name in SPLITS:
        path, metadata = local.artifact("split-dataset", name)
        rows[name] = count_rows(path)
        assert metadata["rows"] == rows[name] and metadata["split"] == name and metadata["dataset_digest"] == "abc"
    assert sum(rows.values()) == 200 and rows["test"] == 0 and rows["validation"] > 5
    path, metadata = local.artifact("split-dataset", "metrics")
    assert json.loads(path.read_text())["train_rows"] == metadata["train_rows"] == rows["train"]
    path, _ = local.artifact("split-dataset", "report")
    assert path.name == "report.html" and "<h1>Train, validation and test</h1>" in path.read_text()


def test_the_example_of_the_readme_runs(tmp_path):
    text = (Path(split_module.__file__).parent / "README.md").read_text()
    example = textwrap.dedent(re.search(r"^    .*\n(?:    .*\n|\n)*", text, re.MULTILINE)[0])
    names: dict = {}
    exec(example, names)
    source = tmp_path / "tickets.csv"
    source.write_text("text,queue\n" + "".join(f"text {number},billing\n" for number in range(50)))
    local = run_pipeline(names["split_tickets"], tmp_path, uri=str(source))
    assert local.artifact("split-dataset", "metrics")[1]["rows"] == 50
