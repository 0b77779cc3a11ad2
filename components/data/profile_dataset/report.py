"""Shows statistics as a page."""

from components.charts import bar_chart, histogram_chart
from components.data.statistics import ColumnStatistics, Duplicate, Lengths, Statistics
from components.datasets import TEXT
from components.reports import Cell, Chart, Column, Page, Table, Tile, Value, unique_names

BARS = 30


def build_page(statistics: Statistics, title: str = "") -> Page:
    """Returns the report.

    Args:
        statistics: What it shows.
        title: The heading; "Profile of a dataset" by default.
    """
    page = Page(
        title or "Profile of a dataset",
        f"{statistics.rows:,} rows, {len(statistics.columns)} columns"
        + (f", read from {statistics.source_uri}" if statistics.source_uri else ""),
        notes=_notes(statistics),
        tiles=_tiles(statistics),
        charts=_charts(statistics),
        tables=[_column_table(statistics)],
        footer=_footer(statistics),
    )
    if statistics.duplicates.conflicting_examples:
        page.tables.append(
            _duplicate_table("Equal texts with different labels", statistics.duplicates.conflicting_examples)
        )
    if statistics.duplicates.examples:
        page.tables.append(_duplicate_table("The most frequent duplicates", statistics.duplicates.examples))
    page.tables.append(_word_table("The most frequent words", statistics.vocabulary.most_frequent))
    if statistics.reference:
        page.tables.append(
            _word_table("The most frequent words that the reference lacks", statistics.reference.most_frequent_new)
        )
    return page


def _notes(statistics: Statistics) -> list[str]:
    rows, duplicates, labels = statistics.rows, statistics.duplicates, statistics.labels
    notes = []
    blank = statistics.column(TEXT).missing
    if blank:
        notes.append(f"{blank:,} texts ({_percent(blank, rows)}) are blank.")
    if duplicates.conflicting_texts:
        notes.append(
            f"{duplicates.conflicting_rows:,} rows have a text that occurs with another label too: "
            "no model gets all of them right."
        )
    if statistics.tokens.beyond_limit:
        notes.append(
            f"{statistics.tokens.beyond_limit:,} texts ({_percent(statistics.tokens.beyond_limit, rows)}) have more "
            f"than the {statistics.tokens.limit:,} tokens that the model reads."
        )
    if not labels.complete:
        notes.append("The column of labels holds too many different values to be classes.")
    elif labels.counts and labels.unlabelled:
        notes.append(f"{labels.unlabelled:,} rows ({_percent(labels.unlabelled, rows)}) have no label.")
    return notes


def _tiles(statistics: Statistics) -> list[Tile]:
    tokens, rows = statistics.tokens, statistics.rows
    tiles = [
        Tile("rows", f"{rows:,}"),
        Tile("labels", f"{len(statistics.labels.counts):,}" if statistics.labels.complete else "too many"),
        Tile("median characters", f"{statistics.characters.percentiles['50']:,}"),
        Tile(f"median {tokens.unit}", f"{tokens.lengths.percentiles['50']:,}"),
        Tile("rows repeat a text", _percent(statistics.duplicates.rows, rows)),
        Tile("different words", _count(statistics.vocabulary.distinct, statistics.vocabulary.distinct_exact)),
    ]
    if statistics.reference:
        tiles.append(Tile("of the words are known", _share(statistics.reference.known_occurrences)))
    return tiles


def _charts(statistics: Statistics) -> list[Chart]:
    if not statistics.rows:
        return []
    tokens = statistics.tokens
    charts = [_length_chart("Length in characters", "characters", statistics.characters)]
    counts = sorted(statistics.labels.counts.items(), key=lambda entry: (-entry[1], entry[0]))
    if counts:
        caption = f"Rows per label; the most frequent has {counts[0][1] / max(counts[-1][1], 1):.3g} times the rarest."
        if len(counts) > BARS:
            caption += f" The {BARS} largest of {len(counts):,}."
        charts.append(_bars("Labels", counts, caption))
    charts.append(_length_chart(f"Length in {tokens.unit}", tokens.unit, tokens.lengths))
    scripts = list(statistics.scripts.rows.items())
    charts.append(_bars("Scripts", scripts, "Rows by the writing system of most of their letters."))
    if statistics.reference:
        overlap = statistics.reference
        svg = bar_chart(
            "Vocabulary overlap",
            ["different words", "words of the texts", "the reference's words"],
            [("shared", [overlap.known_words, overlap.known_occurrences, overlap.found_words])],
            "share",
        )
        caption = (
            "Which share of the different words, and of all words in the texts, a reference of "
            f"{overlap.reference_rows:,} rows has too; and which share of its words occurs here."
            + ("" if overlap.exact else " Estimated from samples of both vocabularies.")
        )
        charts.append(Chart("Vocabulary overlap", svg, caption))
    return charts


def _length_chart(heading: str, unit: str, lengths: Lengths) -> Chart:
    marks = [("median", lengths.percentiles["50"]), ("95 % are up to", lengths.percentiles["95"])]
    svg = histogram_chart(heading, lengths.histogram.edges, lengths.histogram.counts, unit, marks)
    caption = f"From {lengths.minimum:,} to {lengths.maximum:,} {unit}, {lengths.mean:.1f} on average."
    if lengths.histogram.beyond:
        caption += f" {lengths.histogram.beyond:,} longer texts are not drawn."
    return Chart(heading, svg, caption)


def _bars(heading: str, counts: list[tuple[str, int]], caption: str) -> Chart:
    names = unique_names([name for name, _ in counts[:BARS]])
    return Chart(heading, bar_chart(heading, names, [("rows", [rows for _, rows in counts[:BARS]])], "rows"), caption)


def _column_table(statistics: Statistics) -> Table:
    columns = [
        Column("column"),
        Column("type"),
        Column("missing", "number"),
        Column("different values", "number"),
        Column("least", "number"),
        Column("greatest", "number"),
    ]
    caption = "Of strings, the least and greatest number of characters. A blank text counts as missing."
    return Table("Columns", columns, [_column_row(column, statistics.rows) for column in statistics.columns], caption)


def _column_row(column: ColumnStatistics, rows: int) -> list[Value]:
    distinct = None if column.distinct is None else _count(column.distinct, column.distinct_exact)
    missing = Cell(_percent(column.missing, rows), share=column.missing / rows if rows else 0.0)
    return [column.name, column.type, missing, distinct, _bound(column.minimum), _bound(column.maximum)]


def _duplicate_table(heading: str, examples: list[Duplicate]) -> Table:
    columns = [Column("rows", "number"), Column("text", "text"), Column("labels"), Column("ids")]
    rows = [
        [
            one.rows,
            one.text,
            ", ".join(unique_names(sorted({label for label in one.labels if label is not None}))) or None,
            ", ".join(one.ids) + (", …" if len(one.ids) < one.rows else ""),
        ]
        for one in examples
    ]
    return Table(heading, columns, rows)


def _word_table(heading: str, words: list[tuple[str, int]]) -> Table:
    line = ",  ".join(f"{word} ({count:,})" for word, count in words)
    return Table(heading, [Column("word (how often)", "text")], [[line]] if words else [])


def _footer(statistics: Statistics) -> list[str]:
    sentences = [
        "Texts count as equal when they are equal in Unicode's NFKC form, with case folded and white space joined; "
        "blank ones do not count. Lengths are of the texts that are not blank.",
        "A word is a run of letters, digits and marks in lower case; in scripts without spaces every character is one.",
    ]
    if statistics.tokens.unit == "tokens":
        sentences.append("Tokens are those of the model, its special tokens included.")
    if not statistics.vocabulary.distinct_exact or not all(column.distinct_exact for column in statistics.columns):
        sentences.append("Numbers with ≈ are estimates from a sample by hash.")
    return sentences


def _bound(value: int | float | str | None) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return f"{value:,}" if isinstance(value, int) else f"{value:,.6g}"


def _count(count: int, exact: bool) -> str:
    return f"{count:,}" if exact else f"≈ {count:,}"


def _percent(part: int, whole: int) -> str:
    return _share(part / whole if whole else 0.0)


def _share(share: float) -> str:
    return f"{100 * share:.1f} %"
