import csv
from collections import Counter
from pathlib import Path

import pytest

from components.data.hashing import normalize_text

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def read(name):
    with (EXAMPLES / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("name", "text", "label", "rows", "labels"),
    [
        ("support_tickets.csv", "text", "label", 600, 6),
        ("new_tickets.csv", "text", "label", 150, 6),
        ("headline_sentiment/headlines.csv", "headline", "sentiment", 600, 3),
    ],
)
def test_the_rows_are_many_and_different(name, text, label, rows, labels):
    found = read(name)
    assert len(found) >= rows
    assert len({row["id"] for row in found}) == len({normalize_text(row[text]) for row in found}) == len(found)
    assert len(Counter(row[label] for row in found)) == labels


def test_the_new_tickets_are_new():
    known = {normalize_text(row["text"]) for row in read("support_tickets.csv")}
    assert known.isdisjoint(normalize_text(row["text"]) for row in read("new_tickets.csv"))
