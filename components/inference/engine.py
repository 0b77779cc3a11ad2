"""Classifies texts with a transformer: texts in, probabilities out, in the same order and in bounded memory."""

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils import logging as transformers_logging

from components.errors import InputError

# Tokenizers answer "no limit" with a number of 30 digits, and a model without positions has no limit at all.
NO_LIMIT = 100_000
LIMIT_WITHOUT_POSITIONS = 512
# The tokenizer holds some hundred bytes a token until a call returns, also of tokens that it cuts off.
TOKENIZE_ROWS, TOKENIZE_CHARACTERS = 512, 1_000_000


class TextClassifier:
    """A sequence-classification model, ready to answer.

    Args:
        folder: The Model's folder. Nothing is downloaded, no code in it is run, and no pickle is opened.
        batch_size: The most texts that go through the model at once. It is halved when they do not fit into memory.
        max_length: The most tokens of a text that are read, special tokens included; 0 reads as many as the model can.
        device: A torch device; by default the GPU when there is one, else the CPU.

    Attributes:
        labels: The names of the classes, in the order of their ids.
        device: The device's name, such as `cpu` or `NVIDIA L4`.
        precision: `fp32` on a CPU; on a GPU `bf16` where the card computes in it, else `fp16`.
        max_length: The most tokens of a text that are read.
        batch_size: The most texts that go through the model at once, by now.

    Raises:
        InputError: The model does not choose one of several classes, or a setting is out of range.
    """

    def __init__(self, folder: str | Path, batch_size: int = 32, max_length: int = 0, device: str = ""):
        if batch_size < 1:
            raise InputError(f"batch_size is {batch_size}.", "Give 1 or more.")
        transformers_logging.disable_progress_bar()
        self._device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        dtype, self.precision = choose_precision(self._device)
        self.device = torch.cuda.get_device_name(self._device) if self._device.type == "cuda" else self._device.type
        local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        self._model = AutoModelForSequenceClassification.from_pretrained(
            folder, use_safetensors=True, dtype=dtype, **local
        )
        self._model.to(self._device).eval()
        self._tokenizer = AutoTokenizer.from_pretrained(folder, **local)
        self.labels = single_choice_labels(self._model.config)
        # A tokenizer may make inputs that the model does not take, such as token_type_ids for DistilBERT.
        self._inputs = set(inspect.signature(self._model.forward).parameters)
        # Classifying decoders would keep keys and values of every layer for a next token that never comes.
        self._options = {"use_cache": False} if "use_cache" in self._inputs else {}
        self._set_padding()
        self.max_length = choose_max_length(self._model, self._tokenizer, max_length)
        self.batch_size = batch_size

    def classify(self, texts: list[str]) -> np.ndarray:
        """Returns the probability of every class for every text: float32, (texts, labels), in the texts' order.

        A row is NaN where the model's answer is no number. Memory grows with the number of texts: give a few thousand
        at once, which is enough to sort them by length and waste little on padding.

        Raises:
            InputError: One text alone does not fit into memory.
        """
        probabilities = np.empty((len(texts), len(self.labels)), dtype=np.float32)
        rows = self._tokenize(texts)
        # The longest first: what does not fit into memory fails at once.
        order = sorted(range(len(rows)), key=lambda index: len(rows[index]["input_ids"]), reverse=True)
        start = 0
        while start < len(order):
            indices = order[start : start + self.batch_size]
            try:
                answer = self._forward([rows[index] for index in indices])
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                if len(indices) == 1:
                    raise InputError(
                        f"One text of {len(rows[indices[0]]['input_ids'])} tokens does not fit into the memory of "
                        f"{self.device}.",
                        "Give a smaller max_length, or a machine with more memory.",
                    ) from error
                answer = None
            # Outside of the except clause, which keeps the failed batch's tensors alive.
            if answer is None:
                self._halve_batch(len(indices))
                continue
            probabilities[indices] = answer
            start += len(indices)
        return probabilities

    def _tokenize(self, texts: list[str]) -> list[dict[str, np.ndarray]]:
        rows: list[dict[str, np.ndarray]] = []
        for part in _parts(texts):
            encoded = self._tokenizer(
                part, truncation=True, max_length=self.max_length, padding=False, return_attention_mask=True
            )
            names = [name for name in encoded if name in self._inputs]
            for number in range(len(part)):
                row = {name: np.asarray(encoded[name][number], dtype=np.int32) for name in names}
                # A tokenizer without special tokens makes nothing of "", which no model can read.
                if not len(row["input_ids"]):
                    row = {name: np.zeros(1, dtype=np.int32) for name in names}
                    row["input_ids"][0] = self._tokenizer.pad_token_id
                    row["attention_mask"][0] = 1
                rows.append(row)
        return rows

    @torch.inference_mode()
    def _forward(self, rows: list[dict[str, np.ndarray]]) -> np.ndarray:
        inputs = {
            name: torch.from_numpy(self._pad(name, [row[name] for row in rows])).to(self._device) for name in rows[0]
        }
        logits = self._model(**inputs, **self._options).logits
        return torch.softmax(logits.float(), dim=-1).cpu().numpy()

    def _pad(self, name: str, values: list[np.ndarray]) -> np.ndarray:
        padding = {"input_ids": self._tokenizer.pad_token_id, "token_type_ids": self._tokenizer.pad_token_type_id}
        width = max(len(value) for value in values)
        padded = np.full((len(values), width), padding.get(name, 0), dtype=np.int64)
        for line, value in zip(padded, values, strict=True):
            if self._pad_left:
                line[width - len(value) :] = value
            else:
                line[: len(value)] = value
        return padded

    def _set_padding(self) -> None:
        if self._tokenizer.pad_token_id is None:
            if self._tokenizer.eos_token_id is None:
                raise InputError(
                    "The model's tokenizer has neither a padding nor an end-of-text token.",
                    "Set tokenizer.pad_token and save the tokenizer again.",
                )
            self._tokenizer.pad_token = self._tokenizer.eos_token
        # Decoders look for the last token that is not padding, and refuse batches when they do not know it.
        if self._model.config.pad_token_id is None:
            self._model.config.pad_token_id = self._tokenizer.pad_token_id
        # Padding on the left moves the text to later positions, and its answer would depend on its neighbours in the
        # batch. Only models without positions of that kind may have it; XLNet reads its answer from the last place.
        self._pad_left = self._tokenizer.padding_side == "left" and "position_ids" not in self._inputs

    def _halve_batch(self, tried: int) -> None:
        self.batch_size = tried // 2
        print(f"{tried} texts at once do not fit into the memory of {self.device}: going on with {self.batch_size}.")
        if self._device.type == "cuda":
            torch.cuda.empty_cache()


def choose_precision(device: torch.device) -> tuple[torch.dtype, str]:
    """Returns the fastest type that a device computes in, and its short name.

    T4 and V100 only emulate bf16, slowly: they get fp16. A CPU gets fp32, whose answers everyone else's agree with.
    """
    if device.type != "cuda":
        return torch.float32, "fp32"
    if torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.bfloat16, "bf16"
    return torch.float16, "fp16"


def choose_max_length(model: Any, tokenizer: Any, wanted: int) -> int:
    """Returns the most tokens of a text that are read: what is wanted, or less where the model ends earlier.

    Raises:
        InputError: What is wanted leaves no room for text beside the special tokens.
    """
    special = tokenizer.num_special_tokens_to_add()
    if wanted and wanted <= special:
        raise InputError(f"max_length is {wanted}.", f"Give more than {special}, or 0 for as much as the model reads.")
    limits = [tokenizer.model_max_length, getattr(model.config, "max_position_embeddings", None)]
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Embedding) and name.endswith("position_embeddings"):
            # RoBERTa and its kin count positions from behind the padding index.
            limits.append(module.num_embeddings - (0 if module.padding_idx is None else module.padding_idx + 1))
    known = [limit for limit in limits if isinstance(limit, int) and 0 < limit < NO_LIMIT]
    limit = min(known, default=LIMIT_WITHOUT_POSITIONS)
    return min(limit, wanted) if wanted else limit


def single_choice_labels(config: Any) -> list[str]:
    """Returns the names of a model's classes, in the order of their ids.

    Raises:
        InputError: The model does not choose one of several classes.
    """
    if config.problem_type == "multi_label_classification":
        raise InputError(
            "The model gives a text any number of labels (problem_type multi_label_classification).",
            "Take a model that chooses one label.",
        )
    if config.problem_type == "regression" or config.num_labels < 2:
        raise InputError("The model answers with a number, not a label.", "Take a model with two or more labels.")
    return [config.id2label[number] for number in range(config.num_labels)]


def is_out_of_memory(error: RuntimeError) -> bool:
    """Tells whether torch found no memory, on a GPU, for its matrix library, or for the CPU's allocator."""
    told = ("can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in told)


def _parts(texts: list[str]) -> Iterator[list[str]]:
    part: list[str] = []
    characters = 0
    for text in texts:
        if part and (len(part) == TOKENIZE_ROWS or characters + len(text) > TOKENIZE_CHARACTERS):
            yield part
            part, characters = [], 0
        part.append(text)
        characters += len(text)
    if part:
        yield part
