"""Trainer, with steps that give the same result on any number of processes and in any size of memory."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch.nn.functional import cross_entropy
from transformers import Trainer

from components.errors import InputError
from components.inference.engine.backends import is_out_of_memory
from components.inference.engine.batching import Batch, BatchLimits
from components.training.finetune_classifier.batches import (
    EpochLoader,
    GlobalBatches,
    Padding,
    TrainingRows,
    make_loader,
    pad_rows,
    trim,
)
from components.training.finetune_classifier.data import EncodedRows

# Padded tokens in one forward: on a CPU more only leave its cache. A step goes through a GPU at once, if it fits.
TRAINING_TOKENS = {"cpu": 2048, "cuda": 1 << 30}
EVALUATION_TOKENS = {"cpu": 2048, "cuda": 32768}
BUCKET_NUMBERS = 32 * 1024 * 1024


@dataclass
class TrainingData:
    """What the trainer reads.

    Attributes:
        rows: The training rows, as inputs.
        batches: This process's shares of the steps.
        validation: The validation rows.
        padding: How validation rows are padded.
        labels: How many classes there are.
    """

    rows: TrainingRows
    batches: GlobalBatches
    validation: EncodedRows
    padding: Padding
    labels: int


class ClassifierTrainer(Trainer):
    """Trains a classifier.

    For Trainer a batch is this process's whole share of an optimizer step, and nothing is accumulated. In here a share
    goes through the model in as many parts as memory, or a CPU's cache, asks for, rows of one length together. When a
    part does not fit, the step is done again in smaller parts, so that neither the step nor the global batch is lost.
    Gradients are added up once per step, over all processes, when every process has succeeded: a process that runs out
    of memory within a backward pass that the others wait for would otherwise hang them all.

    Args:
        data: What is trained and evaluated on.
        label_smoothing: Share of the probability that is spread over all labels.
        arguments: What Trainer takes.

    Attributes:
        training_rows: The rows of an epoch.
        steps_per_epoch: Its optimizer steps.
        limits: How much of a step goes through the model at once, by now.
    """

    def __init__(self, data: TrainingData, label_smoothing: float, **arguments: Any):
        super().__init__(train_dataset=data.rows, eval_dataset=data.rows, **arguments)
        self._data, self._label_smoothing = data, label_smoothing
        kind = "cuda" if self.args.device.type == "cuda" else "cpu"
        self.limits = BatchLimits(TRAINING_TOKENS[kind])
        self.training_rows, self.steps_per_epoch = len(data.rows), len(data.batches)
        self._classifier: Any = self.model
        self._evaluation_tokens = EVALUATION_TOKENS[kind]
        # DistributedDataParallel adds gradients up during the backward pass, and keeps a second copy of them.
        prepare = self.accelerator.prepare_model
        self.accelerator.prepare_model = lambda model, **rest: prepare(model, **{**rest, "evaluation_mode": True})
        if self.args.world_size > 1:
            # NCCL takes memory of its own at its first sum, which must not be when a batch has just filled the card.
            dist.all_reduce(torch.zeros(BUCKET_NUMBERS if kind == "cuda" else 1, device=self.args.device))

    def get_train_dataloader(self) -> EpochLoader:
        """Returns this process's shares; Trainer's own loader would share them out a second time."""
        return make_loader(self._data.rows, self._data.batches)

    def training_step(
        self, model: Any, inputs: dict[str, torch.Tensor], num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """Computes the gradients of one optimizer step.

        Args:
            model: The model as accelerate wraps it.
            inputs: This process's share.
            num_items_in_batch: Trainer's count, not needed: the shares carry their scales.

        Returns:
            The share's loss, so scaled that the mean over all processes, which Trainer logs, is the step's loss.
        """
        self._classifier.train()
        lengths = inputs["attention_mask"].sum(dim=1)
        order = torch.argsort(lengths, descending=True, stable=True)
        inputs, lengths = {name: values[order] for name, values in inputs.items()}, lengths[order]
        while True:
            loss, failed = self._try_parts(inputs, self.limits.cut(lengths.numpy()))
            if failed and torch.cuda.is_available():
                torch.cuda.empty_cache()
            worst = self._largest_of_processes(0 if failed is None else 2 if failed.rows == 1 else 1)
            if not worst:
                break
            self._halve(alone=worst == 2, tried=self.limits.cut(lengths.numpy())[0])
        self._add_gradients_up()
        return loss * self.args.world_size

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Evaluates the validation rows: `loss` (without weights or smoothing), `accuracy` and `macro_f1`."""
        self._classifier.eval()
        counts = torch.zeros(4, self._data.labels, dtype=torch.float64)
        with torch.no_grad():
            for rows, logits in self._predict():
                labels = torch.from_numpy(self._data.validation.labels[rows].astype(np.int64))
                predicted = logits.argmax(dim=1)
                counts[0].index_add_(0, labels, cross_entropy(logits, labels, reduction="none").double())
                for line, classes in enumerate((labels, predicted, labels[labels == predicted]), start=1):
                    counts[line] += torch.bincount(classes, minlength=self._data.labels)
        if self.args.world_size > 1:
            shared = counts.to(self.args.device)
            dist.all_reduce(shared)
            counts = shared.cpu()
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in _metrics(counts.numpy()).items()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds the time to what Trainer logs, in seconds since 1970."""
        super().log({**logs, "time": time.time()}, start_time)

    def _try_parts(self, inputs: dict[str, torch.Tensor], parts: list[Batch]) -> tuple[torch.Tensor, Batch | None]:
        """Returns the loss of a share, and the part of it that did not fit into memory, if one did not."""
        loss = torch.zeros((), device=self.args.device)
        for part in parts:
            try:
                loss += self._learn({name: values[part.start : part.stop] for name, values in inputs.items()})
            except RuntimeError as error:
                if is_out_of_memory(error):
                    return loss, part
                if not _has_no_fixed_order(error):
                    raise
                torch.use_deterministic_algorithms(True, warn_only=True)
                print(
                    "finetune_classifier: the GPU adds up some of the model's numbers in any order, so that two runs "
                    f"differ in the last digits ({str(error).splitlines()[0][:100]})",
                    flush=True,
                )
                self._classifier.zero_grad()
                return self._try_parts(inputs, parts)
        return loss, None

    def _learn(self, part: dict[str, torch.Tensor]) -> torch.Tensor:
        part = trim(part, self._data.padding.left)
        if self.args.device.type == "cuda":
            # Out of memory that the GPU reads by itself, so that Python goes on with the next part.
            part = {name: values.pin_memory().to(self.args.device, non_blocking=True) for name, values in part.items()}
        labels, scales = part.pop("labels"), part.pop("scales")
        logits = self._classifier(**part).logits.float()
        losses = cross_entropy(logits, labels, reduction="none", label_smoothing=self._label_smoothing)
        loss = (losses * scales).sum()
        self.accelerator.backward(loss)
        return loss.detach()

    def _halve(self, alone: bool, tried: Batch) -> None:
        if alone:
            raise InputError(
                "The model and one text do not fit into the memory of the device.",
                "Give a smaller max_length, a smaller base model, or a machine with more memory.",
            )
        self._classifier.zero_grad()
        self.limits = self.limits.halved(tried)
        if self.is_world_process_zero():
            print(
                f"finetune_classifier: {tried.rows} rows at once do not fit into memory: each step now takes at most "
                f"{self.limits.tokens:,} tokens at a time; its rows and the result stay the same",
                flush=True,
            )

    def _largest_of_processes(self, here: int) -> int:
        if self.args.world_size == 1:
            return here
        number = torch.tensor(here, device=self.args.device)
        dist.all_reduce(number, op=dist.ReduceOp.MAX)
        return int(number)

    def _add_gradients_up(self) -> None:
        if self.args.world_size == 1:
            return
        for bucket in _buckets([weights.grad for weights in self._classifier.parameters() if weights.grad is not None]):
            flat = torch.cat([gradient.reshape(-1) for gradient in bucket])
            dist.all_reduce(flat)
            for gradient, part in zip(bucket, flat.split([one.numel() for one in bucket]), strict=True):
                gradient.copy_(part.view_as(gradient))

    def _predict(self) -> Iterator[tuple[np.ndarray, torch.Tensor]]:
        """Gives this process's validation rows, the longest first, and their logits."""
        lengths = self._data.validation.lengths
        order = np.argsort(-lengths, kind="stable")[self.args.process_index :: self.args.world_size]
        start = 0
        while start < len(order):
            rows = order[start : start + max(1, self._evaluation_tokens // int(lengths[order[start]]))]
            inputs = pad_rows(self._data.validation, rows, self._data.padding)
            logits = None
            try:
                tensors = self._prepare_inputs({name: torch.from_numpy(values) for name, values in inputs.items()})
                logits = self._classifier(**tensors).logits.float().cpu()
            except RuntimeError as error:
                if not is_out_of_memory(error) or len(rows) == 1:
                    raise
            if logits is None:
                self._evaluation_tokens //= 2
                continue
            yield rows, logits
            start += len(rows)


def _metrics(counts: np.ndarray) -> dict[str, float]:
    """Returns the metrics.

    Args:
        counts: Per class the summed losses, the rows, the predictions and the right predictions, (4, labels).

    Raises:
        InputError: The loss is no number.
    """
    losses, labelled, predicted, right = counts
    loss = float(losses.sum() / labelled.sum())
    if not math.isfinite(loss):
        raise no_number("validation")
    # As evaluate_predictions: over the classes that have rows or predictions.
    seen = labelled + predicted > 0
    f1 = 2 * right[seen] / (labelled[seen] + predicted[seen])
    return {"loss": loss, "accuracy": float(right.sum() / labelled.sum()), "macro_f1": float(f1.mean())}


def no_number(which: str) -> InputError:
    """Returns the error of a training run whose loss is NaN or infinite."""
    return InputError(
        f"The {which} loss is no number any more (NaN): the weights have grown out of all bounds.",
        "Give a lower learning_rate or a longer warmup_share; on a card without bf16, precision fp32 may help too.",
    )


def _has_no_fixed_order(error: RuntimeError) -> bool:
    strict = torch.are_deterministic_algorithms_enabled() and not torch.is_deterministic_algorithms_warn_only_enabled()
    return strict and "deterministic" in str(error).lower()


def _buckets(gradients: list[torch.Tensor]) -> Iterator[list[torch.Tensor]]:
    bucket: list[torch.Tensor] = []
    for gradient in gradients:
        if bucket and sum(one.numel() for one in bucket) + gradient.numel() > BUCKET_NUMBERS:
            yield bucket
            bucket = []
        bucket.append(gradient)
    if bucket:
        yield bucket
