import io

import pytest

from components.progress import Progress, format_duration


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_log_gets_a_line_every_few_seconds():
    log, clock = io.StringIO(), Clock()
    with Progress(1000, "classify_text", stream=log, every=5, clock=clock) as progress:
        for _ in range(10):
            clock.now += 2
            progress.update(100)
        assert progress.speed == 50
    assert log.getvalue().splitlines() == [
        "classify_text: 0 of 1,000 rows",
        "classify_text: 300 of 1,000 rows (30 %), 50 rows/s, 14 s left",
        "classify_text: 600 of 1,000 rows (60 %), 50 rows/s, 8 s left",
        "classify_text: 900 of 1,000 rows (90 %), 50 rows/s, 2 s left",
        "classify_text: 1,000 of 1,000 rows (100 %), 50 rows/s, 20 s",
    ]


def test_nothing_to_do_is_done():
    log = io.StringIO()
    with Progress(0, "read", unit="files", stream=log, clock=Clock()):
        pass
    assert log.getvalue().splitlines() == ["read: 0 of 0 files", "read: 0 of 0 files (100 %), 0 files/s, 0 s"]


def test_no_progress_yet_is_said_without_an_estimate():
    log, clock = io.StringIO(), Clock()
    with Progress(10, "read", stream=log, clock=clock) as progress:
        clock.now += 6
        progress.update(0)
        assert log.getvalue().splitlines()[-1] == "read: 0 of 10 rows (0 %), 0 rows/s"


def test_an_error_says_where_it_stopped():
    log = io.StringIO()
    with pytest.raises(KeyError), Progress(10, "read", stream=log, clock=Clock()) as progress:
        progress.update(4)
        raise KeyError
    assert log.getvalue().splitlines()[-1].startswith("read: stopped at 4 of 10 rows (40 %)")


def test_a_terminal_gets_a_bar():
    terminal = Terminal()
    with Progress(10, "read", stream=terminal) as progress:
        progress.update(10)
    assert "\r" in terminal.getvalue() and "10/10" in terminal.getvalue()


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (574, "9 min 34 s"), (7500, "2 h 5 min")]
)
def test_a_duration_reads_as_a_person_says_it(seconds, text):
    assert format_duration(seconds) == text
