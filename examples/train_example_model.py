"""Trains the example's text classifier from nothing: a small transformer and its tokenizer, on 794 support tickets.

Nothing is downloaded, so what it knows of English is what the tickets teach it. Run it with

    python -m examples.train_example_model [--output out/example-model] [--seed 0] [--epochs 16] [--force]

A fifth of the tickets, chosen by a digest of their text, is held out: it is written to `example-data/held_out.csv`
beside the model's folder, and the model never sees it.
"""

import argparse
import csv
import hashlib
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast, Trainer, TrainerCallback, TrainingArguments

from components.storage import move_into_place

DATA = Path(__file__).parent / "support_tickets.csv"
DEFAULT_OUTPUT = Path(__file__).parent.parent / "out" / "example-model"
RECORD = "training.json"
SPECIAL_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
PAD, CLS, SEP, MASK = 0, 2, 3, 4


@dataclass(frozen=True)
class Settings:
    """What a training run depends on, besides the tickets and this file.

    Attributes:
        seed: Seeds weights, order and masking: the same seed on the same machine gives the same model.
        epochs: Passes over the training tickets.
        learning_rate: The highest rate; it rises for a tenth of the steps and then falls to 0.
        batch_size: Tickets per step.
        mask_share: Share of a ticket's tokens hidden at each pass. With a few hundred tickets a model otherwise learns
            them by heart, each by its rarest word.
        join_share: Share of the tickets read with another one of the same label behind them, for the same reason.
        vocabulary: Tokens. Few, so that most of them are seen often enough to learn what they say.
        width: Size of a token's vector.
        layers: Transformer layers.
        longest: Tokens after which a text is cut.
    """

    seed: int = 0
    epochs: int = 16
    learning_rate: float = 1e-3
    batch_size: int = 16
    mask_share: float = 0.3
    join_share: float = 0.5
    vocabulary: int = 1000
    width: int = 128
    layers: int = 2
    longest: int = 256


@dataclass(frozen=True)
class Ticket:
    """A labelled text."""

    id: str
    text: str
    label: str


class TicketDataset(torch.utils.data.Dataset):
    """Encoded tickets; with `settings`, joined and masked anew each time a ticket is read."""

    def __init__(
        self, tickets: Sequence[Ticket], labels: Sequence[str], tokenizer: Any, settings: Settings | None = None
    ):
        self._tokens = [tokenizer(ticket.text, truncation=True)["input_ids"] for ticket in tickets]
        self._labels = [labels.index(ticket.label) for ticket in tickets]
        self._alike = {label: [n for n, one in enumerate(self._labels) if one == label] for label in range(len(labels))}
        self._settings = settings

    def __len__(self) -> int:
        return len(self._tokens)

    def __getitem__(self, number: int) -> dict[str, Any]:
        tokens, label = self._tokens[number], self._labels[number]
        if self._settings:
            if torch.rand(()) < self._settings.join_share:
                alike = self._alike[label]
                other = alike[int(torch.randint(len(alike), ()))]
                tokens = (tokens[:-1] + self._tokens[other][1:])[: self._settings.longest]
            hide = torch.rand(len(tokens)) < self._settings.mask_share
            tokens = [MASK if h and token > MASK else token for token, h in zip(tokens, hide.tolist(), strict=True)]
        return {"input_ids": tokens, "labels": label}


class PrintProgress(TrainerCallback):
    """Prints a line per epoch, which reads well in a log."""

    def on_evaluate(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        """Prints how far the training is."""
        metrics = rest["metrics"]
        loss = next((entry["loss"] for entry in reversed(state.log_history) if "loss" in entry), float("nan"))
        epoch = f"epoch {state.epoch:.0f}/{args.num_train_epochs:.0f}"
        print(f"{epoch}: loss {loss:.3f}, held-out accuracy {metrics['eval_accuracy']:.3f}", flush=True)


def read_tickets(path: Path = DATA) -> list[Ticket]:
    """Reads the labelled tickets."""
    with path.open(newline="", encoding="utf-8") as stream:
        return [Ticket(**row) for row in csv.DictReader(stream)]


def split_tickets(tickets: Sequence[Ticket]) -> tuple[list[Ticket], list[Ticket]]:
    """Splits tickets into those to learn from and a fifth to hold out.

    The text's digest decides, so that a ticket stays on its side when others are added or the order changes.
    """
    parts: tuple[list[Ticket], list[Ticket]] = ([], [])
    for ticket in tickets:
        held_out = int(hashlib.sha256(ticket.text.encode()).hexdigest(), 16) % 5 == 0
        parts[held_out].append(ticket)
    return parts


def train_tokenizer(texts: Sequence[str], settings: Settings) -> PreTrainedTokenizerFast:
    """Trains a lower-casing subword tokenizer.

    Byte-pair encoding rather than WordPiece: the trainer of the latter numbers its tokens differently in each process,
    and the same seed would not give the same model.
    """
    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]"))  # noqa: S106
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(vocab_size=settings.vocabulary, special_tokens=SPECIAL_TOKENS, show_progress=False),
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", CLS), ("[SEP]", SEP)]
    )
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), SPECIAL_TOKENS, strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=settings.longest, **names)


def build_model(labels: Sequence[str], tokens: int, settings: Settings) -> transformers.PreTrainedModel:
    """Builds the classifier with random weights."""
    config = transformers.DistilBertConfig(
        vocab_size=tokens,
        dim=settings.width,
        n_layers=settings.layers,
        n_heads=4,
        hidden_dim=4 * settings.width,
        max_position_embeddings=settings.longest,
        pad_token_id=PAD,
        # Pretrained models start from 0.02; without pretraining the larger start learns in half the epochs.
        initializer_range=0.05,
        id2label=dict(enumerate(labels)),
        label2id={label: number for number, label in enumerate(labels)},
    )
    return transformers.DistilBertForSequenceClassification(config)


def train(tickets: Sequence[Ticket], settings: Settings, folder: Path) -> float:
    """Trains on the tickets that are not held out and saves the model.

    Args:
        tickets: All tickets.
        settings: How to train.
        folder: An empty folder that becomes a Hugging Face model folder.

    Returns:
        The accuracy on the held-out tickets after the last epoch; no epoch is picked by it.
    """
    learn, held_out = split_tickets(tickets)
    labels = sorted({ticket.label for ticket in tickets})
    transformers.set_seed(settings.seed)
    # So small a model gains little from a second thread, and one adds up in the same order on every machine.
    torch.set_num_threads(1)
    tokenizer = train_tokenizer([ticket.text for ticket in learn], settings)
    model = build_model(labels, len(tokenizer), settings)
    print(f"{len(learn)} tickets to learn from, {len(held_out)} held out, {len(labels)} labels", flush=True)
    with tempfile.TemporaryDirectory(prefix="trainer-") as scratch:
        trainer = Trainer(
            model=model,
            args=training_arguments(settings, scratch),
            train_dataset=TicketDataset(learn, labels, tokenizer, settings),
            eval_dataset=TicketDataset(held_out, labels, tokenizer),
            data_collator=transformers.DataCollatorWithPadding(tokenizer),
            compute_metrics=lambda seen: {"accuracy": float(np.mean(np.argmax(seen[0], axis=-1) == seen[1]))},
            callbacks=[PrintProgress()],
        )
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.train()
        history = trainer.state.log_history
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return next(float(entry["eval_accuracy"]) for entry in reversed(history) if "eval_accuracy" in entry)


def training_arguments(settings: Settings, scratch: str) -> TrainingArguments:
    """Returns the Trainer's arguments: nothing is saved on the way, nothing is reported to a service."""
    return TrainingArguments(
        output_dir=scratch,
        num_train_epochs=settings.epochs,
        learning_rate=settings.learning_rate,
        warmup_steps=0.1,
        weight_decay=0.01,
        label_smoothing_factor=0.1,
        per_device_train_batch_size=settings.batch_size,
        per_device_eval_batch_size=64,
        train_sampling_strategy="group_by_length",
        logging_strategy="epoch",
        eval_strategy="epoch",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        seed=settings.seed,
        dataloader_pin_memory=False,
    )


def digest_of_run(data: Path, settings: Settings) -> str:
    """Digests what the model follows from: tickets, settings, this file, and the libraries that train."""
    sha = hashlib.sha256(data.read_bytes() + Path(__file__).read_bytes())
    sha.update(json.dumps([asdict(settings), torch.__version__, transformers.__version__]).encode())
    return sha.hexdigest()


def write_held_out(tickets: Sequence[Ticket], path: Path) -> None:
    """Writes the held-out tickets as CSV with the columns `id`, `text` and `label`."""
    with tempfile.TemporaryDirectory(prefix="held-out-") as folder:
        file = Path(folder) / path.name
        with file.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(["id", "text", "label"])
            writer.writerows([ticket.id, ticket.text, ticket.label] for ticket in split_tickets(tickets)[1])
        # An unchanged file keeps its time, so that a run over it finds its steps in the cache.
        if not path.exists() or path.read_bytes() != file.read_bytes():
            move_into_place(file, path)


def make_example(output: Path, settings: Settings, data: Path = DATA, force: bool = False) -> Path:
    """Trains the model and writes the held-out tickets, unless the same model is already there.

    Args:
        output: The model's folder. It appears, or is replaced, only when the training is finished.
        settings: How to train.
        data: A CSV file of tickets.
        force: Train even when the model is there.

    Returns:
        Where the held-out tickets are: `example-data/held_out.csv` beside the model's folder.
    """
    tickets, digest = read_tickets(data), digest_of_run(data, settings)
    held_out = output.parent / "example-data" / "held_out.csv"
    write_held_out(tickets, held_out)
    record = json.loads((output / RECORD).read_text()) if (output / RECORD).exists() else {}
    if not force and record.get("digest") == digest:
        print(f"Kept {output}: it is up to date, held-out accuracy {record['held_out_accuracy']:.3f}")
        return held_out
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="example-model-") as folder:
        finished = Path(folder) / "model"
        finished.mkdir()
        accuracy = train(tickets, settings, finished)
        written = {"digest": digest, "held_out_accuracy": accuracy, "settings": asdict(settings)}
        (finished / RECORD).write_text(json.dumps(written, indent=1) + "\n")
        move_into_place(finished, output)
    print(f"Wrote {output} after {time.monotonic() - start:.0f} s, held-out accuracy {accuracy:.3f}")
    return held_out


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.train_example_model", description="Trains the example's text classifier from nothing."
    )
    parser.add_argument("--output", type=Path, default=DEFAULT_OUTPUT, help="the model's folder (%(default)s)")
    parser.add_argument(
        "--seed", type=int, default=Settings.seed, help="the same seed gives the same model (%(default)s)"
    )
    parser.add_argument("--epochs", type=int, default=Settings.epochs, help="passes over the tickets (%(default)s)")
    parser.add_argument("--force", action="store_true", help="train even when the same model is already there")
    given = parser.parse_args(arguments)
    if given.epochs < 1:
        parser.error("--epochs must be at least 1")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    held_out = make_example(given.output.absolute(), Settings(seed=given.seed, epochs=given.epochs), force=given.force)
    print(f"Tickets that the model never saw: {held_out}")


if __name__ == "__main__":
    main()
