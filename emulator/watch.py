"""Shows a run in a terminal, or in a log file: its tasks as they end, and what they made."""

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from datetime import datetime
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.markup import escape
from rich.status import Status
from rich.table import Table

_STYLES = {"SUCCEEDED": "green", "FAILED": "red", "CANCELLED": "yellow", "NOT_TRIGGERED": "dim", "SKIPPED": "green"}
# SKIPPED is how Vertex AI calls a task whose outputs come from the cache.
_WORDS = {"SUCCEEDED": "done", "NOT_TRIGGERED": "not needed", "SKIPPED": "cached"}


class Watch(AbstractContextManager["Watch"]):
    """Prints one line for each task that has ended; on a terminal, a spinner names those that run.

    Args:
        console: Where to print.
    """

    def __init__(self, console: Console):
        self._console, self._status = console, Status("waiting", console=console)
        self._ended: set[str] = set()
        self._running: dict[str, str] = {}

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._status.stop()

    def show(self, path: str, name: str, state: str, start: str = "", end: str = "", note: str = "") -> None:
        """Takes the news of one task; the same news twice is shown once.

        Args:
            path: What identifies the task within its run.
            name: What it is called.
            state: PENDING, RUNNING, SUCCEEDED, FAILED, CANCELLED, SKIPPED or NOT_TRIGGERED.
            start: When it started, RFC 3339.
            end: When it ended, RFC 3339.
            note: What else to say of it, such as the end of its error.
        """
        if path in self._ended:
            return
        if state not in _STYLES:
            self._running[path] = name
        else:
            self._running.pop(path, None)
            self._ended.add(path)
            style = _STYLES[state]
            word = _WORDS.get(state, state.lower().replace("_", " "))
            line = f"  [{style}]{word:<10}[/] {escape(name):<24} {seconds_between(start, end):>7}"
            self._console.print(f"{line}  {escape(note)}".rstrip(), highlight=False, soft_wrap=True)
        self._status.update(", ".join(self._running.values()) or "waiting")


def seconds_between(start: str, end: str) -> str:
    """Returns the time between two RFC 3339 times as `1.2 s`; "" when one is not known."""
    if not start or not end:
        return ""
    return f"{(datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds():.1f} s"


def metrics_table(metrics: Mapping[str, Any]) -> Table:
    """Returns the scalar metrics of a Metrics artifact as a table."""
    table = Table("metric", "value", title="Metrics", title_justify="left")
    for name, value in sorted(metrics.items()):
        if isinstance(value, int | float):
            table.add_row(name, _format(value))
    return table


def _format(value: float) -> str:
    """Returns counts whole, scores with four decimals, and what is large, such as a speed, with one."""
    if float(value).is_integer() and abs(value) > 1:
        return f"{value:,.0f}"
    return f"{value:,.1f}" if abs(value) >= 100 else f"{value:.4f}"


def rows_table(title: str, columns: Iterable[str], rows: Iterable[Mapping[str, Any]], width: int) -> Table:
    """Returns rows as a table, a line each; numbers have three decimals.

    Args:
        title: What stands above the table.
        columns: The columns to show; the first is cut to the room that the others leave.
        rows: The rows.
        width: The width of the whole table in characters.
    """
    first, *others = columns
    cells = [{column: _cell(row[column]) for column in (first, *others)} for row in rows]
    taken = sum(max(len(column), *(len(row[column]) for row in cells)) + 3 for column in others) + 4
    table = Table(title=title, title_justify="left")
    table.add_column(first, no_wrap=True, overflow="ellipsis", max_width=max(width - taken, 10))
    for column in others:
        table.add_column(column, no_wrap=True)
    for row in cells:
        table.add_row(*(escape(row[column]) for column in (first, *others)))
    return table


def _cell(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else " ".join(str("" if value is None else value).split())
