"""Shows the anomalies as a page."""

from components.data.schema import Schema
from components.data.statistics import Statistics
from components.data.validate_dataset.anomalies import EXAMPLES, Anomaly
from components.reports import Cell, Column, Page, Table, Tile, Value


def build_page(statistics: Statistics, schema: Schema, anomalies: list[Anomaly], title: str = "") -> Page:
    """Returns the report.

    Args:
        statistics: The Dataset's.
        schema: What it was validated against.
        anomalies: What was found.
        title: The heading; "Validation of a dataset" by default.
    """
    errors = sum(anomaly.severity == "error" for anomaly in anomalies)
    page = Page(
        title or "Validation of a dataset",
        f"{statistics.rows:,} rows, {len(statistics.columns)} columns"
        + (f". Schema: {schema.note}" if schema.note else ""),
        tiles=[
            Tile("result", "not valid" if errors else "valid"),
            Tile("errors", f"{errors:,}"),
            Tile("warnings", f"{len(anomalies) - errors:,}"),
            Tile("rows", f"{statistics.rows:,}"),
        ],
    )
    columns = [
        Column("severity"),
        Column("column"),
        Column("anomaly"),
        Column("expected", "name"),
        Column("found", "name"),
        Column("share of rows", "number"),
    ]
    rows = [_row(anomaly) for anomaly in anomalies]
    page.tables.append(Table("Anomalies", columns, rows, empty="There are none: the dataset satisfies its schema."))
    if any(anomaly.examples for anomaly in anomalies):
        page.tables.append(_example_table(anomalies))
    page.footer = ["An error ends the run where that is asked for; a warning does not."]
    return page


def _row(anomaly: Anomaly) -> list[Value]:
    share = Cell(f"{100 * anomaly.share:.3g} %", share=min(1.0, anomaly.share)) if anomaly.rows else None
    kind = anomaly.kind.replace("_", " ")
    return [anomaly.severity, anomaly.column or "all rows", kind, anomaly.expected, anomaly.found, share]


def _example_table(anomalies: list[Anomaly]) -> Table:
    rows: list[list[Value]] = []
    for anomaly in anomalies:
        for number, example in enumerate(anomaly.examples):
            name = "" if number else _name(anomaly)
            value = "" if example.value == example.text else example.value
            rows.append([name, value, example.text, example.id])
    caption = f"Up to {EXAMPLES} rows of each anomaly."
    return Table("Examples", [Column("anomaly"), Column("value"), Column("text", "text"), Column("id")], rows, caption)


def _name(anomaly: Anomaly) -> str:
    return f"{anomaly.column}: {anomaly.kind.replace('_', ' ')}" if anomaly.column else anomaly.kind.replace("_", " ")
