"""An encoder, ready to turn texts into vectors."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from components.inference.engine import TextModel
from components.inference.engine.loading import load_model
from components.inference.engine.networks import EmbeddingNetwork
from components.inference.engine.settings import EngineSettings


class TextEmbedder(TextModel):
    """An encoder, ready to turn texts into vectors.

    Args:
        folder: The Model's folder. A head in it, such as a classifier's, is left out.
        batch_size: The most texts that go through the model at once; 0 leaves it to the device.
        max_length: The most tokens of a text that are read, special tokens included; 0 reads as many as the model can.
        device: A torch device; by default the GPU when there is one, else the CPU.
        pooling: `mean` of the vectors of all tokens, or `cls`, the first token's.
        normalize: Whether vectors get the length 1, so that their product is their cosine.
        backend: `auto`, `torch` or `openvino`; see `EngineSettings`.
        precision: `auto`, `fp32`, `bf16` or `fp16`; see `EngineSettings`.
        tolerance: Not used: there are no labels.
        compiled: On a GPU, whether full batches go through graphs that torch.compile makes, which takes minutes.

    Attributes:
        dimension: How many numbers a vector has.

    Raises:
        InputError: A setting is out of range.
    """

    def __init__(
        self,
        folder: str | Path,
        batch_size: int = 0,
        max_length: int = 0,
        device: str = "",
        pooling: str = "mean",
        normalize: bool = True,
        backend: str = "auto",
        precision: str = "auto",
        tolerance: float = 0.02,
        compiled: bool = False,
    ):
        settings = EngineSettings(batch_size, max_length, backend, precision, tolerance, device, compiled)
        loaded = load_model(folder, max_length, head=False)
        self.dimension = int(loaded.model.config.hidden_size)
        super().__init__(EmbeddingNetwork(loaded, pooling, normalize), loaded, settings, labelled=False)

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Returns a vector for each text: float32, (texts, dimension), in the texts' order.

        All texts and vectors are in memory at once; `stream` takes any number of texts.

        Raises:
            InputError: One text alone does not fit into memory, or the vectors are not those of fp32.
        """
        answers = self.answer(texts)
        return np.empty((0, self.dimension), dtype=np.float32) if answers is None else answers
