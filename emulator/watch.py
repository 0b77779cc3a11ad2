"""Shows a run in a terminal, or in a log file: its tasks as they end, and what they made."""

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from datetime import datetime
from types import TracebackType
from typing import Any, Self

from rich.console import Console
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
            line = f"  [{style}]{word:<10}[/] {name:<24} {seconds_between(start, end):>7}"
            self._console.print(f"{line}  {note}".rstrip(), highlight=False, soft_wrap=True)
        self._status.update(", ".join(self._running.values()) or "waiting")


def seconds_between(start: str, end: str) -> str:
    """Returns the time between two RFC 3339 times as `1.2 s`; "" when one is not known."""
    if not start or not end:
        return ""
    return f"{(datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds():.1f} s"


def metrics_table(metrics: Mapping[str, Any]) -> Table:
    """Returns the scalar metrics of a Metrics artifact as a table."""
    table = Table("metric", "value", title="Metrics", title_justify="left")
    for name, value in metrics.items():
        if isinstance(value, int | float):
            table.add_row(name, f"{value:,.0f}" if float(value).is_integer() and abs(value) > 1 else f"{value:.4f}")
    return table


def rows_table(title: str, columns: Iterable[str], rows: Iterable[Mapping[str, Any]], width: int = 60) -> Table:
    """Returns rows as a table; a text longer than `width` characters is cut, numbers have three decimals."""
    columns = list(columns)
    table = Table(*columns, title=title, title_justify="left")
    for row in rows:
        table.add_row(*(_cell(row[column], width) for column in columns))
    return table


def _cell(value: Any, width: int) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    text = " ".join(str("" if value is None else value).split())
    return text if len(text) <= width else text[: width - 1] + "…"
