"""Renders what there is to say about a split as a page."""

from components.charts import bar_chart
from components.data.split_dataset.assign import SPLITS
from components.data.split_dataset.leakage import EXAMPLES
from components.data.split_dataset.summary import Summary
from components.datasets import TEXT
from components.reports import Chart, Column, Page, Table, Tile, Value, unique_names

BARS = 30
TABLE_LABELS = 500


def render_report(summary: Summary) -> str:
    """Returns the page."""
    total = sum(summary.rows)
    keys = "normalized text" if summary.split_by == TEXT else summary.split_by
    page = Page("Train, validation and test", f"{total:,} rows, split by a hash of {keys}", list(summary.warnings))
    page.tiles = [Tile(name, f"{rows:,}") for name, rows in zip(SPLITS, summary.rows, strict=True)]
    page.tiles.append(Tile(f"different {summary.key_name}", f"{summary.keys:,}"))
    if summary.leaks:
        leaked = sum(leak.rows for leak in summary.leaks if leak.other == "train")
        page.tiles.append(Tile("rows whose text is in train", f"{leaked:,}"))
    order = sorted(range(len(summary.labels)), key=lambda place: -summary.table[place].sum())
    page.charts = _charts(summary, order)
    page.tables = [_sizes(summary), *_labels(summary, order), *_leaks(summary)]
    page.footer = [
        "Equal texts are those whose letters are the same after Unicode's NFKC, without case, with white space as one"
        " space.",
        "The distance is the total variation distance between a split's label shares and those of all labelled rows:"
        " the share of its rows that would need another label to make them equal.",
    ]
    if summary.balance:
        page.footer.append(
            f"Rows split at random would differ as much with probability {summary.balance.p_value:.3g} (chi-square,"
            " which is only rough where labels are rare or rows come in groups)."
        )
    return page.render()


def _charts(summary: Summary, order: list[int]) -> list[Chart]:
    total = max(1, sum(summary.rows))
    series = [
        ("rows", [100 * rows / total for rows in summary.rows]),
        ("asked for", [100 * summary.shares[name] for name in SPLITS]),
    ]
    caption = f"The shares asked for are those of the {summary.keys:,} different {summary.key_name}."
    charts = [Chart("Rows of each split", bar_chart("Rows", SPLITS, series, "% of all rows"), caption)]
    filled = [place for place in range(len(SPLITS)) if summary.table[:, place].any()]
    if not filled:
        return charts
    shown = order[:BARS]
    names = unique_names([summary.labels[place] for place in shown])
    shares = summary.table / summary.table.sum(axis=0).clip(1) * 100
    series = [(SPLITS[split], [float(shares[place, split]) for place in shown]) for split in filled]
    caption = "Bars of equal length say that a split has the same labels as the others."
    if len(shown) < len(order):
        caption += f" The {BARS} most frequent of {len(order):,} labels."
    return [*charts, Chart("Labels of each split", bar_chart("Labels", names, series, "% of labelled rows"), caption)]


def _sizes(summary: Summary) -> Table:
    total = max(1, sum(summary.rows))
    rows: list[list[Value]] = []
    for place, name in enumerate(SPLITS):
        distance = (summary.balance.distances if summary.balance else {}).get(name)
        rows.append(
            [
                name,
                summary.rows[place],
                f"{summary.shares[name]:.3f}",
                f"{summary.rows[place] / total:.3f}",
                int(summary.unlabelled[place]),
                None if distance is None else f"{distance:.4f}",
            ]
        )
    columns = ["rows", "share asked for", "share", "rows without a label", "distance of labels"]
    return Table("Splits", [Column("split"), *(Column(name, "number") for name in columns)], rows)


def _labels(summary: Summary, order: list[int]) -> list[Table]:
    if not order:
        return []
    totals = summary.table.sum(axis=0).clip(1)
    rows: list[list[Value]] = []
    for place in order[:TABLE_LABELS]:
        cells: list[Value] = [summary.labels[place]]
        for split in range(len(SPLITS)):
            cells += [int(summary.table[place, split]), f"{summary.table[place, split] / totals[split]:.3f}"]
        rows.append(cells)
    columns = [Column("label")] + [Column(name, "number") for split in SPLITS for name in (split, "share")]
    caption = f"The {len(rows):,} most frequent of {len(order):,} labels." if len(rows) < len(order) else ""
    return [Table("Labels", columns, rows, caption)]


def _leaks(summary: Summary) -> list[Table]:
    tables = []
    for leak in summary.leaks:
        rows: list[list[Value]] = [
            [row.text, row.id, row.label, row.other_id, row.other_label] for row in leak.examples
        ]
        columns = [Column("text", "text"), Column("id"), Column("label")]
        columns += [Column(f"id in {leak.other}"), Column("label there")]
        caption = f"The first {EXAMPLES} of {leak.rows:,}." if leak.rows > EXAMPLES else ""
        heading = f"Rows of {leak.split} whose text is also in {leak.other}"
        tables.append(Table(heading, columns, rows, caption))
    return tables
