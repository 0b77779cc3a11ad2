"""How much memory of a GPU a transformer needs, to train or to infer, from a handful of numbers.

With P parameters, n layers of width h, and T = batch size x sequence length tokens on a GPU at once, in bytes:

| | train, 32 bits | train, 16 bits (autocast) | infer, 32 bits | infer, 16 bits |
|---|---|---|---|---|
| weights | 4 P | 4 P, and 2 x 12 n h² of copies | 4 P | 2 P |
| gradients | 4 P | 4 P | | |
| AdamW's two states | 8 P | 8 P | | |
| kept for the backward pass | T h (72 n + 13) | T h (44 n + 8) | | |
| what is computed at the moment | | | 12 x 4 T h | 12 x 2 T h |

plus a tenth, for what the allocator cannot use, and 1 GiB for CUDA's own; of the GPU's memory, 93 % can be had. Each
GPU holds all of it: several share the data, not the model. What an encoder keeps is 72 bytes per token, layer and
unit of width: 16 to 18 tensors of width h (attention's input, queries, keys, values, output; the inputs of both layer
norms; the feed-forward part, 4 h wide, twice), and dropout's masks. Attention is taken to be PyTorch's fused kernel,
which keeps no matrix of tokens by tokens.

Weights, gradients, states and what is kept are checked against PyTorch on a CPU, within a twentieth
(tests/pipelines/test_machine_memory.py). The tenth, the GiB and the 93 % are rules of thumb, not measured on a GPU.
"""

from dataclasses import dataclass, field
from enum import StrEnum

from pipelines.machines import MachineProfile

GIB = 2**30
# Bytes kept for the backward pass per token and unit of width: for each layer, and once.
_KEPT = {32: (72, 13), 16: (44, 8)}
_AT_THE_MOMENT = 12
_FRAGMENTATION, _CUDA_GIB, _USABLE = 0.1, 1.0, 0.93
_BERT_VOCABULARY, _WIDTH_PER_LAYER = 30_522, 64


class Purpose(StrEnum):
    """What a model is loaded for."""

    TRAIN = "train"
    INFER = "infer"


@dataclass(frozen=True)
class Model:
    """A transformer encoder, or a decoder of the same shape.

    Attributes:
        parameters: How many.
        layers: How many; 0 derives it, and the width, from the parameters as in BERT base: one layer per 64 of width.
        width: The hidden size; 0 derives it.
    """

    parameters: float
    layers: int = 0
    width: int = 0

    def __post_init__(self) -> None:
        if self.parameters <= 0 or self.layers < 0 or self.width < 0 or bool(self.layers) != bool(self.width):
            raise ValueError("A model has parameters, and layers together with a width or neither of them.")
        if not self.width:
            width = self._derived_width()
            object.__setattr__(self, "width", round(width))
            object.__setattr__(self, "layers", max(1, round(width / _WIDTH_PER_LAYER)))

    def _derived_width(self) -> float:
        """Returns h with 12 n h² + vocabulary x h = parameters and n = h / 64, by halving."""
        low, high = 1.0, 1e6
        for _ in range(60):
            width = (low + high) / 2
            parameters = 12 * width**3 / _WIDTH_PER_LAYER + _BERT_VOCABULARY * width
            low, high = (width, high) if parameters < self.parameters else (low, width)
        return low


@dataclass(frozen=True)
class Estimate:
    """Bytes on one GPU, by what they are for.

    Attributes:
        parts: Bytes by name, exact but for the model's shape.
    """

    parts: dict[str, float] = field(default_factory=dict)

    @property
    def tensors(self) -> float:
        """Bytes of tensors, as PyTorch counts them."""
        return sum(self.parts.values())

    @property
    def total(self) -> float:
        """Bytes that are taken on a GPU."""
        return self.tensors * (1 + _FRAGMENTATION) + _CUDA_GIB * GIB

    def fits(self, gpu_memory_gib: float) -> bool:
        """Returns whether a GPU has so much."""
        return self.total <= gpu_memory_gib * _USABLE * GIB


def estimate(model: Model, purpose: Purpose, sequence_length: int, batch_size: int, bits: int) -> Estimate:
    """Estimates what a model needs on a GPU.

    Args:
        model: The model.
        purpose: Whether it is trained, with AdamW, or only used.
        sequence_length: Tokens of one text.
        batch_size: Texts on one GPU at once.
        bits: 32, or 16 for bfloat16 and float16.
    """
    p, n, h = model.parameters, model.layers, model.width
    tokens = sequence_length * batch_size
    if purpose is Purpose.INFER:
        size = bits // 8
        return Estimate({"weights": size * p, "activations": _AT_THE_MOMENT * size * tokens * h})
    per_layer, once = _KEPT[bits]
    copies = 2 * 12 * n * h**2 if bits == 16 else 0
    return Estimate(
        {
            "weights": 4 * p + copies,
            "gradients": 4 * p,
            "AdamW": 8 * p,
            "activations": tokens * h * (per_layer * n + once),
        }
    )


def largest_batch(model: Model, purpose: Purpose, sequence_length: int, gpu_memory_gib: float) -> int:
    """Returns the largest power of two of texts that fit on a GPU at once, at most 1024; 0 when not even one does."""
    sizes = [2**power for power in range(11)]
    fitting = [b for b in sizes if estimate(model, purpose, sequence_length, b, 16).fits(gpu_memory_gib)]
    return max(fitting, default=0)


def spare_gib(needs: Estimate, gpu_memory_gib: float) -> float:
    """Returns how many GiB of a GPU stay free; negative when so many are missing."""
    return gpu_memory_gib * _USABLE - needs.total / GIB


def precision_of(profile: MachineProfile) -> str:
    """Returns the 16-bit type that a profile's GPU computes in: float16 where there is no bfloat16."""
    return "bf16" if profile.bf16 else "fp16"
