"""Makes Predictions of what a program of any language answered, and trusts none of it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pv
import pyarrow.parquet as pq

from components.datasets import ID, DatasetWriter, count_rows, metadata_of, read_batches, read_schema
from components.errors import InputError
from components.inference.classify_text.classify import PREDICTION, PROBABILITIES, SCORE, predictions_schema
from components.models import digest_of_model, is_absent, labels_of_model

CSV, PARQUET = "predictions.csv", "predictions.parquet"
# A column with the probability of one label: `p:` and the label.
PROBABILITY = "p:"
_BATCH_ROWS = 4096
_SUM_TOLERANCE = 0.01


def read(
    dataset: str | Path,
    model: str | Path,
    answers: str | Path,
    predictions: str | Path,
    dataset_digest: str = "",
    reference: str = "",
) -> dict[str, Any]:
    """Joins a program's answers with the rows that it was given, in memory that does not grow with them.

    Args:
        dataset: The Dataset's folder.
        model: The Model's folder.
        answers: The folder with the program's answers: `id` and `prediction`, and where it has them `score` and a
            column `p:<label>` for each label; the rows in the Dataset's order.
        predictions: The folder that the Predictions become.
        dataset_digest: The Dataset's digest, where it is known.
        reference: The model's reference, where it is known.

    Returns:
        The Predictions' metadata.

    Raises:
        InputError: Rows are missing or in another order, a label is none of the model's, or a number cannot be.
    """
    rows = count_rows(dataset)
    about = {"dataset_rows": rows, "dataset_digest": dataset_digest}
    if is_absent(model):
        with DatasetWriter(predictions, predictions_schema(read_schema(dataset), True)) as writer:
            pass
        return metadata_of(writer, absent=True, reference=reference, labels=[], **about)
    labels = labels_of_model(Path(model))
    answered = _Answers(Path(answers), labels)
    schema = predictions_schema(read_schema(dataset), answered.has_probabilities)
    with DatasetWriter(predictions, schema) as writer:
        for batch in read_batches(dataset, batch_rows=_BATCH_ROWS):
            writer.write(_join(batch, answered.take(batch.num_rows), schema, labels))
        answered.check_end()
    return metadata_of(writer, labels=labels, model_digest=digest_of_model(Path(model)), **about)


class _Answers:
    """A program's answers, read a few at a time."""

    def __init__(self, folder: Path, labels: list[str]):
        self._columns = [PROBABILITY + label for label in labels]
        self._batches, names = _open(folder)
        missing = sorted({ID, PREDICTION} - set(names))
        if missing:
            raise InputError(f"The answers have no column {missing[0]!r}.", "Write id and prediction for each row.")
        given = [name for name in names if name.startswith(PROBABILITY)]
        if given and set(given) != set(self._columns):
            raise InputError(
                f"The answers have the columns {', '.join(sorted(given))}, and the model's labels are "
                f"{', '.join(labels)}.",
                "Write one column p:<label> for each label in container.json, or none at all.",
            )
        self.has_probabilities = bool(given)
        self._read = [ID, PREDICTION, *([SCORE] if SCORE in names else []), *(self._columns if given else [])]
        self._left: pa.Table | None = None

    def take(self, rows: int) -> pa.Table:
        """Returns the next answers, fewer when there are no more."""
        held = self._left.num_rows if self._left is not None else 0
        while held < rows and (batch := next(self._batches, None)) is not None:
            part = pa.Table.from_batches([batch]).select(self._read)
            self._left = part if self._left is None else pa.concat_tables([self._left, part])
            held += batch.num_rows
        if self._left is None:
            raise _wrong_rows("The program answered for no row.")
        taken, self._left = self._left.slice(0, rows), self._left.slice(rows)
        return taken

    def check_end(self) -> None:
        """Refuses answers after the last row."""
        more = any(batch.num_rows for batch in self._batches)
        if more or (self._left is not None and self._left.num_rows):
            raise _wrong_rows("The program answered for more rows than it was given.")


def _open(folder: Path) -> tuple[Iterator[pa.RecordBatch], list[str]]:
    """Returns the answers in batches, and the names of their columns."""
    try:
        if (folder / PARQUET).is_file():
            file = pq.ParquetFile(folder / PARQUET)
            return file.iter_batches(_BATCH_ROWS), file.schema_arrow.names
        if (folder / CSV).is_file():
            with pv.open_csv(folder / CSV) as reader:
                names = reader.schema.names
            # What looks like a number or a missing value is still the id or the label that it is.
            numbers = {name: pa.float64() for name in names if name == SCORE or name.startswith(PROBABILITY)}
            types = numbers | {ID: pa.string(), PREDICTION: pa.string()}
            convert = pv.ConvertOptions(column_types=types, include_columns=names, strings_can_be_null=False)
            parse = pv.ParseOptions(newlines_in_values=True)
            return iter(pv.open_csv(folder / CSV, parse_options=parse, convert_options=convert)), names
    except pa.ArrowInvalid as error:
        raise InputError(
            f"The answers cannot be read: {error}.", f"Write {CSV} with a header, or {PARQUET}."
        ) from error
    raise InputError(f"The program wrote neither {CSV} nor {PARQUET}.", "Write one of them into --predictions.")


def _join(batch: pa.RecordBatch, answers: pa.Table, schema: pa.Schema, labels: list[str]) -> pa.RecordBatch:
    ids, given = batch.column(ID).to_pylist(), answers[ID].cast(pa.string()).to_pylist()
    for expected, found in zip(ids, given, strict=False):
        if expected != found:
            raise _wrong_rows(f"The program answered for the row {found!r} where {expected!r} was expected.")
    if len(given) < len(ids):
        raise _wrong_rows(f"The program answered for no row after {given[-1]!r}." if given else "Rows have no answer.")
    predicted = answers[PREDICTION].cast(pa.string()).combine_chunks()
    unknown = set(predicted.to_pylist()) - set(labels)
    if unknown:
        raise InputError(
            f"The program predicted {sorted(map(str, unknown))[0]!r}, which is none of the model's labels: "
            f"{', '.join(labels)}.",
            "Name all labels in container.json.",
        )
    probabilities = _probabilities(answers, labels) if PROBABILITIES in schema.names else None
    columns = [*batch.columns, predicted, _scores(answers, probabilities, predicted, labels)]
    if probabilities is not None:
        offsets = np.arange(0, probabilities.size + 1, len(labels), dtype=np.int32)
        columns.append(pa.ListArray.from_arrays(pa.array(offsets), pa.array(probabilities.ravel())))
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _probabilities(answers: pa.Table, labels: list[str]) -> np.ndarray:
    columns = [answers[PROBABILITY + label].cast(pa.float64()).to_numpy() for label in labels]
    values = np.stack(columns, axis=1).astype(np.float32)
    with np.errstate(invalid="ignore"):
        wrong = ~((values >= 0) & (values <= 1)).all(axis=1) | ~(np.abs(values.sum(axis=1) - 1) <= _SUM_TOLERANCE)
    if wrong.any():
        row = answers[ID][int(np.flatnonzero(wrong)[0])].as_py()
        raise InputError(
            f"The probabilities of the row {row!r} are not between 0 and 1 with the sum 1.", "Correct the program."
        )
    return values


def _scores(answers: pa.Table, probabilities: np.ndarray | None, predicted: pa.Array, labels: list[str]) -> pa.Array:
    if SCORE in answers.column_names:
        return answers[SCORE].cast(pa.float32()).combine_chunks()
    if probabilities is None:
        return pa.nulls(answers.num_rows, pa.float32())
    places = {label: number for number, label in enumerate(labels)}
    chosen = [places[label] for label in predicted.to_pylist()]
    return pa.array(probabilities[np.arange(len(chosen)), chosen], pa.float32())


def _unreadable(error: Exception) -> InputError:
    return InputError(f"The answers cannot be read: {error}.", f"Write {CSV} with a header, or {PARQUET}.")


def _wrong_rows(headline: str) -> InputError:
    return InputError(headline, "Write one answer for each row of the dataset, in its order, with its id.")
