"""What is printed of a run."""

import io

from rich.console import Console

from emulator.watch import metrics_table


def test_metrics_have_as_many_digits_as_they_are_read_with():
    stream = io.StringIO()
    metrics = {"accuracy": 0.77273, "rows": 1066.0, "rows_per_second": 1739.1, "latency_p50_ms": 4.823, "note": "text"}
    Console(file=stream, width=60).print(metrics_table(metrics))
    shown = {
        line.split("│")[1].strip(): line.split("│")[2].strip() for line in stream.getvalue().splitlines() if "│" in line
    }
    assert shown == {
        "accuracy": "0.7727",
        "latency_p50_ms": "4.8230",
        "rows": "1,066",
        "rows_per_second": "1,739.1",
    }
