"""The page that every report is: one HTML file that opens without a network, in light and dark.

    page = Page("Splits of a dataset", f"{rows:,} rows", tiles=[Tile("rows", f"{rows:,}")])
    page.charts.append(Chart("Labels", bar_chart(...), "Rows per label."))       # components.charts draws them
    page.tables.append(Table("Labels", [Column("label"), Column("rows", "number")], [["good", 30], ["bad", 12]]))
    Path(report_path).write_text(page.render(), encoding="utf-8", errors="backslashreplace")

Notes stand in a coloured box on top, then tiles, wide charts, charts in two columns, tables, and the footer. All text
is escaped, so other people's texts and labels may be put in as they are.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from jinja2 import Environment, FileSystemLoader, StrictUndefined

NAME_CHARACTERS = 60
# What is shown of a text that serves as an example.
TEXT_CHARACTERS = 200


@dataclass(frozen=True)
class Tile:
    """A number in large type, the first of them in colour: `Tile("macro F1", "0.812")`."""

    name: str
    value: str


@dataclass(frozen=True)
class Chart:
    """A plot: its SVG as `components.charts` draws it, and one or two sentences below; `wide` takes the whole width."""

    heading: str
    svg: str
    caption: str = ""
    wide: bool = False


@dataclass(frozen=True)
class Column:
    """A table's column: of short names, of numbers (to the right), or of long texts."""

    name: str
    kind: Literal["name", "number", "text"] = "name"


@dataclass(frozen=True)
class Cell:
    """A cell with more than a text: a bar for a share from 0 to 1 before it, a small remark after it."""

    text: str
    share: float | None = None
    tag: str = ""


Value = str | int | Cell | None


@dataclass
class Table:
    """A table; integers are written with thousands separators, None as a dash.

    Attributes:
        heading: What stands above it.
        columns: Its columns.
        rows: A value per column each.
        caption: What stands below it.
        empty: What stands in its place when there are no rows.
    """

    heading: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Value]]
    caption: str = ""
    empty: str = "There are none."


@dataclass
class Page:
    """A report.

    Attributes:
        title: The heading.
        subtitle: A line below it.
        notes: What a reader must not miss, a sentence or two each.
        tiles: The few numbers that matter most.
        charts: Plots.
        tables: Tables, below the plots.
        footer: How the numbers are meant, a sentence each.
    """

    title: str
    subtitle: str = ""
    notes: list[str] = field(default_factory=list)
    tiles: list[Tile] = field(default_factory=list)
    charts: list[Chart] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    footer: list[str] = field(default_factory=list)

    def render(self) -> str:
        """Returns the page as HTML."""
        environment = Environment(
            loader=FileSystemLoader(Path(__file__).parent),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        return environment.get_template("report.html").render(page=self)


def shorten(text: str, characters: int = TEXT_CHARACTERS) -> str:
    """Returns a text of at most `characters` characters, which ends in … where more was cut off."""
    return text if len(text) <= characters else text[: characters - 1].rstrip() + "…"


def unique_names(labels: Sequence[str], characters: int = NAME_CHARACTERS) -> list[str]:
    """Shortens labels to one line of at most `characters` printable characters, and keeps them distinct."""
    names: list[str] = []
    taken: set[str] = set()
    for label in labels:
        line = "".join(c if c.isprintable() else " " for c in label[: characters * 4])
        line = " ".join(line.split()) or "(empty)"
        name = line if len(line) <= characters else line[: characters - 1] + "…"
        number = 2
        while name in taken:
            suffix = f" #{number}"
            name = line[: characters - len(suffix)] + suffix
            number += 1
        taken.add(name)
        names.append(name)
    return names
