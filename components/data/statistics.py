"""What `profile_dataset` says of a Dataset, version 1, and what `infer_schema` and `validate_dataset` read."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from components.errors import InputError

# What a column holds, however wide its numbers are: int32 and int64 are both integers.
Kind = Literal["string", "integer", "number", "boolean", "date", "timestamp", "list", "other", "null"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Histogram(_Part):
    """How many texts have a length within each bin.

    Attributes:
        edges: The bins' edges, one more than bins; a bin holds its lower edge.
        counts: The texts in each bin.
        beyond: Texts longer than the last edge, of a tail too long to draw.
    """

    edges: list[int]
    counts: list[int]
    beyond: int


class Lengths(_Part):
    """Lengths of the texts that are not blank.

    Attributes:
        texts: How many there are. Where there are none, everything else is 0.
        minimum: The shortest.
        maximum: The longest.
        mean: Their mean.
        standard_deviation: Their standard deviation, over all texts (not a sample's).
        percentiles: By percent (`1`, `5`, `25`, `50`, `75`, `95`, `99`): the least length that so many do not exceed.
            Lengths from 4,096 on are rounded down to 12 binary digits here, which is at most 0.05 % less.
        histogram: What is drawn.
    """

    texts: int
    minimum: int
    maximum: int
    mean: float
    standard_deviation: float
    percentiles: dict[str, int]
    histogram: Histogram


class ColumnStatistics(_Part):
    """One column.

    Attributes:
        name: Its name.
        type: Its Arrow type.
        kind: What it holds.
        missing: Rows where it is null or NaN; for `text`, where it is blank.
        distinct: How many different values there are; None for lists, objects and bytes.
        distinct_exact: Whether that is exact and not an estimate.
        minimum: The least value of numbers; of dates and times as ISO 8601; for strings the fewest characters.
        maximum: The greatest likewise.
    """

    name: str
    type: str
    kind: Kind
    missing: int
    distinct: int | None
    distinct_exact: bool
    minimum: int | float | str | None
    maximum: int | float | str | None


class Tokens(_Part):
    """Lengths in tokens.

    Attributes:
        unit: `words` without a model, `tokens` with one.
        limit: The most tokens that the model's tokenizer says it can read; 0 when it is not known.
        beyond_limit: Texts with more.
        lengths: The lengths; with a model they count its special tokens.
    """

    unit: Literal["words", "tokens"]
    limit: int
    beyond_limit: int
    lengths: Lengths


class Duplicate(_Part):
    """A text that occurs more than once: its rows, ids and labels of some, and how the first is written."""

    rows: int
    ids: list[str]
    labels: list[str | None]
    text: str


class Duplicates(_Part):
    """Texts that are equal when they are normalized (Unicode NFKC, case folded, white space joined) and not blank.

    Attributes:
        texts: Different texts that occur more than once.
        rows: Rows that repeat an earlier one.
        conflicting_texts: Texts that occur with more than one label.
        conflicting_rows: The rows of those.
        examples: The most frequent ones.
        conflicting_examples: Likewise of those with more than one label.
    """

    texts: int
    rows: int
    conflicting_texts: int
    conflicting_rows: int
    examples: list[Duplicate]
    conflicting_examples: list[Duplicate]


class Labels(_Part):
    """Labels.

    Attributes:
        counts: Rows by label; empty where there are too many labels to be classes.
        unlabelled: Rows without one.
        complete: Whether `counts` holds all labels.
    """

    counts: dict[str, int]
    unlabelled: int
    complete: bool


class Scripts(_Part):
    """Writing systems, by the Unicode property Script.

    Attributes:
        letters: Letters by script.
        rows: Rows by the script of most of their letters; `none` for texts without letters.
    """

    letters: dict[str, int]
    rows: dict[str, int]


class WordSample(_Part):
    """Words that are sampled by their hash, so that samples of two datasets hold the same words.

    Attributes:
        level: A sample has a word with probability 1 / 2 ** level; at 0 it has every word.
        words: How often each word occurs, which is exact.
    """

    level: int
    words: dict[str, int]


class VocabularyStatistics(_Part):
    """Words.

    Attributes:
        occurrences: All words, counted as often as they occur.
        distinct: Different words.
        distinct_exact: Whether that is exact and not an estimate.
        most_frequent: Words with their occurrences, the most frequent first.
        sample: All words, or a sample of a large vocabulary.
    """

    occurrences: int
    distinct: int
    distinct_exact: bool
    most_frequent: list[tuple[str, int]]
    sample: WordSample


class Overlap(_Part):
    """How the vocabulary compares with that of a reference.

    Attributes:
        reference_rows: The reference's rows.
        reference_digest: Its content digest.
        known_words: Share of the different words here that the reference has too.
        known_occurrences: The same, a word counted as often as it occurs here.
        found_words: Share of the reference's different words that occur here.
        exact: Whether these are exact, and not estimates from samples.
        most_frequent_new: The most frequent words (of the sample) that the reference does not have.
    """

    reference_rows: int
    reference_digest: str
    known_words: float
    known_occurrences: float
    found_words: float
    exact: bool
    most_frequent_new: list[tuple[str, int]]


class Statistics(_Part):
    """A Dataset's statistics, version 1.

    Attributes:
        version: 1.
        digest: The Dataset's content digest; empty when its metadata has none.
        source_uri: Where it was read from, likewise.
        rows: Its rows.
        columns: Its columns in order.
        characters: The texts' lengths in characters.
        tokens: The texts' lengths in words or tokens.
        duplicates: Equal texts.
        labels: Labels.
        scripts: Writing systems.
        vocabulary: Words.
        reference: How the vocabulary compares with a reference's, where one was given.
    """

    version: Literal[1] = 1
    digest: str
    source_uri: str
    rows: int
    columns: list[ColumnStatistics]
    characters: Lengths
    tokens: Tokens
    duplicates: Duplicates
    labels: Labels
    scripts: Scripts
    vocabulary: VocabularyStatistics
    reference: Overlap | None = None

    def column(self, name: str) -> ColumnStatistics:
        """Returns a column's statistics."""
        return next(column for column in self.columns if column.name == name)


def read_statistics(path: str | Path) -> Statistics:
    """Reads the statistics that `profile_dataset` wrote.

    Raises:
        InputError: The file holds something else.
    """
    try:
        return Statistics.model_validate_json(Path(path).read_bytes())
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"])) or "the file"
        raise InputError(
            f"{str(path)!r} does not hold statistics of version 1 ({where}: {problem['msg']}).",
            "Give the statistics of profile_dataset.",
        ) from error
