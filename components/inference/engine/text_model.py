"""Models as others use the engine: a folder in, and something that answers texts out."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from components.inference.engine.check import softmax
from components.inference.engine.loading import LoadedModel, load_model, single_choice_labels
from components.inference.engine.networks import ClassifierNetwork, Network
from components.inference.engine.settings import EngineSettings
from components.inference.engine.streaming import Engine
from components.inference.engine.tokenization import WindowTokenizer
from components.inference.engine.usage import Usage
from components.inference.engine.windows import cut_texts


class TextModel:
    """A model, ready to answer texts.

    Args:
        network: What is computed.
        loaded: The model's tokenizer, and how much it reads.
        settings: What the user chose.
        labelled: Whether the network's numbers are the logits of labels.

    Attributes:
        max_length: The most tokens of a text that are read.
        engine: What computes the answers.
    """

    def __init__(self, network: Network, loaded: LoadedModel, settings: EngineSettings, labelled: bool):
        self.max_length = loaded.max_length
        self.engine = Engine(network, WindowTokenizer(loaded), settings, loaded.max_length, labelled)

    @property
    def device(self) -> str:
        """The device's name, such as `cpu` or `NVIDIA L4`."""
        return self.engine.device

    @property
    def backend(self) -> str:
        """`torch` or `openvino`. What the first texts show can still change it."""
        return self.engine.backend

    @property
    def precision(self) -> str:
        """`fp32`, `bf16`, `fp16` or `int8`. What the first texts show can still change it."""
        return self.engine.precision

    @property
    def usage(self) -> Usage:
        """What was done so far."""
        return self.engine.usage

    @property
    def on_batch(self) -> Callable[[int], None]:
        """Called with the number of texts that a batch answered."""
        return self.engine.on_batch

    @on_batch.setter
    def on_batch(self, called: Callable[[int], None]) -> None:
        self.engine.on_batch = called

    def facts(self) -> dict[str, Any]:
        """Returns what the artifacts' metadata says of it."""
        return self.engine.facts()

    def stream(self, windows: Iterable[Sequence[str]], ahead: int = 2) -> Iterator[np.ndarray]:
        """Answers windows of texts, one after the other; see `Engine.stream`."""
        yield from self.engine.stream(windows, ahead)

    def answer(self, texts: Sequence[str]) -> np.ndarray | None:
        """Returns the answers to texts that are in memory: float32, (texts, numbers); None to no texts."""
        windows = list(cut_texts(texts))
        answers = list(self.stream(windows, ahead=2 if len(windows) > 1 else 0))
        return np.concatenate(answers) if answers else None


class TextClassifier(TextModel):
    """A sequence-classification model, ready to answer.

    Args:
        folder: The Model's folder. Nothing is downloaded, no code in it is run, and no pickle is opened.
        batch_size: The most texts that go through the model at once; 0 leaves it to the device.
        max_length: The most tokens of a text that are read, special tokens included; 0 reads as many as the model can.
        device: A torch device; by default the GPU when there is one, else the CPU.
        backend: `auto`, `torch` or `openvino`; see `EngineSettings`.
        precision: `auto`, `fp32`, `bf16`, `fp16` or `int8`; see `EngineSettings`.
        tolerance: With int8, the largest share of checked rows whose label may differ from fp32's.
        compiled: On a GPU, whether full batches go through graphs that torch.compile makes, which takes minutes.

    Attributes:
        labels: The names of the classes, in the order of their ids.

    Raises:
        InputError: The model does not choose one of several classes, or a setting is out of range.
    """

    def __init__(
        self,
        folder: str | Path,
        batch_size: int = 0,
        max_length: int = 0,
        device: str = "",
        backend: str = "auto",
        precision: str = "auto",
        tolerance: float = 0.02,
        compiled: bool = False,
    ):
        settings = EngineSettings(batch_size, max_length, backend, precision, tolerance, device, compiled)
        loaded = load_model(folder, max_length)
        self.labels = single_choice_labels(loaded.model.config)
        super().__init__(ClassifierNetwork(loaded), loaded, settings, labelled=True)

    def classify(self, texts: Sequence[str]) -> np.ndarray:
        """Returns the probability of every class for every text: float32, (texts, labels), in the texts' order.

        A row is NaN where the model's answer is no number. All texts and answers are in memory at once; `stream` takes
        any number of texts.

        Raises:
            InputError: One text alone does not fit into memory, or the answers are not those of fp32.
        """
        answers = self.answer(texts)
        return np.empty((0, len(self.labels)), dtype=np.float32) if answers is None else answers

    def facts(self) -> dict[str, Any]:
        """Returns what the artifacts' metadata says of it."""
        return {"labels": self.labels, **super().facts()}

    def stream(self, windows: Iterable[Sequence[str]], ahead: int = 2) -> Iterator[np.ndarray]:
        """Classifies windows of texts, one after the other; see `Engine.stream`.

        Yields:
            The probabilities of each window: float32, (texts, labels), in the texts' order.
        """
        for logits in super().stream(windows, ahead):
            yield softmax(logits)
