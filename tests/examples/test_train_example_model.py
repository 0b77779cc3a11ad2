import csv
import json
from collections import Counter

import pytest
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from components.storage import list_files
from examples.train_example_model import DATA, RECORD, Settings, make_example, read_tickets, split_tickets

TINY = Settings(epochs=1, width=16, layers=1, vocabulary=300)


def digests(folder):
    names = ("model.safetensors", "tokenizer.json", "config.json")
    return [(folder / name).read_bytes() for name in names]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("with a space")
    return folder / "model", make_example(folder / "model", TINY)


def test_the_tickets_are_many_different_and_balanced():
    tickets = read_tickets()
    assert len(tickets) >= 640
    assert len({ticket.id for ticket in tickets}) == len(tickets)
    assert len({" ".join(ticket.text.casefold().split()) for ticket in tickets}) == len(tickets)
    counts = Counter(ticket.label for ticket in tickets)
    assert 4 <= len(counts) <= 6 and max(counts.values()) < 1.2 * min(counts.values())
    lengths = [len(ticket.text.split()) for ticket in tickets]
    assert min(lengths) <= 3 and max(lengths) >= 50
    assert any("\n" in ticket.text for ticket in tickets) and any('"' in ticket.text for ticket in tickets)


def test_a_fifth_is_held_out_and_stays_so_when_tickets_are_added():
    tickets = read_tickets()
    learn, held_out = split_tickets(tickets)
    assert 0.15 < len(held_out) / len(tickets) < 0.25
    assert set(learn).isdisjoint(held_out) and len(learn) + len(held_out) == len(tickets)
    assert {ticket.label for ticket in held_out} == {ticket.label for ticket in tickets}
    assert split_tickets(tickets[::-2])[1] == [ticket for ticket in tickets[::-2] if ticket in held_out]


def test_the_model_is_a_hugging_face_folder(trained):
    folder, _ = trained
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert sorted(model.config.id2label.values()) == sorted({ticket.label for ticket in read_tickets()})
    logits = model(**tokenizer(["Where is my parcel?", "héllo 🙂"], padding=True, return_tensors="pt")).logits
    assert logits.shape == (2, 6)
    assert tokenizer("word " * 1000, truncation=True)["input_ids"][-1] == tokenizer.sep_token_id


def test_the_held_out_tickets_are_written_beside_the_model(trained):
    _, held_out = trained
    assert held_out.parent.name == "example-data"
    with held_out.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["text"] for row in rows] == [ticket.text for ticket in split_tickets(read_tickets())[1]]


def test_the_same_seed_gives_the_same_model_and_another_seed_another(trained, tmp_path):
    make_example(tmp_path / "same", TINY)
    make_example(tmp_path / "other", Settings(**{**TINY.__dict__, "seed": 1}))
    assert digests(tmp_path / "same") == digests(trained[0])
    assert digests(tmp_path / "other") != digests(trained[0])


def test_a_finished_model_is_kept_until_something_changes(tmp_path, capsys):
    data = tmp_path / "tickets.csv"
    lines = DATA.read_text().splitlines(keepends=True)
    data.write_text("".join(line for line in lines if line.startswith(("id,", "ticket-00"))))
    make_example(tmp_path / "model", TINY, data)
    first = list_files(str(tmp_path / "model"))
    make_example(tmp_path / "model", TINY, data)
    assert "Kept" in capsys.readouterr().out and list_files(str(tmp_path / "model")) == first
    make_example(tmp_path / "model", Settings(**{**TINY.__dict__, "width": 32}), data)
    assert "Wrote" in capsys.readouterr().out
    assert json.loads((tmp_path / "model" / "config.json").read_text())["dim"] == 32
    make_example(tmp_path / "model", Settings(**{**TINY.__dict__, "width": 32}), data, force=True)
    assert "Wrote" in capsys.readouterr().out


def test_a_training_that_fails_leaves_what_was_there(tmp_path, monkeypatch):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / RECORD).write_text('{"digest": "old", "held_out_accuracy": 0}')
    data = tmp_path / "tickets.csv"
    data.write_text("id,text\n1,no label\n")
    with pytest.raises(TypeError):
        make_example(tmp_path / "model", TINY, data)
    assert [path.name for path in (tmp_path / "model").iterdir()] == [RECORD]
