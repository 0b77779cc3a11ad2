"""What the speed benchmarks work on: texts of a stated length, and models of a stated size with random weights."""

import os
import platform
import random
import string
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

WORDS = 20_000
LABELS = ["billing", "error", "praise", "question", "spam"]
# Of the words that are drawn, so many stand in the tokenizer's vocabulary; the rest is made of several pieces.
VOCABULARY = 6_000
LARGER_WEIGHTS = 2.5


@dataclass(frozen=True)
class Size:
    """The size of a model, by the name that people know it by."""

    layers: int
    width: int
    heads: int
    feed_forward: int


SIZES = {
    "MiniLM": Size(layers=6, width=384, heads=12, feed_forward=1536),
    "BERT-base": Size(layers=12, width=768, heads=12, feed_forward=3072),
}


class Language:
    """Words that are drawn as in a natural language: few of them often, most of them rarely (Zipf's law).

    Args:
        seed: Of the texts. The words are the same for every seed, so that one tokenizer knows all of them.
    """

    def __init__(self, seed: int = 0):
        self._rng = random.Random(0)
        # The most frequent words are the short ones, as in every language.
        self.words = [self._word(number) for number in range(WORDS)]
        self._rng = random.Random(seed)
        self._weights = list(accumulate(1 / (rank + 10) for rank in range(WORDS)))

    def short(self, rows: int) -> list[str]:
        """Makes texts like headlines: 24 tokens on average, 95 % at most 36."""
        return [self._text(max(3, round(self._rng.gauss(14.2, 2.9)))) for _ in range(rows)]

    def long(self, rows: int) -> list[str]:
        """Makes texts of mixed length: log-normal, median 124 tokens, mean 166 where 512 are read, 5 % beyond that."""
        return [self._text(max(3, round(self._rng.lognormvariate(4.37, 0.84)))) for _ in range(rows)]

    def _text(self, words: int) -> str:
        text = " ".join(self._rng.choices(self.words, cum_weights=self._weights, k=words))
        return text.capitalize() + self._rng.choice(["", ".", "?", "!"])

    def _word(self, rank: int) -> str:
        length = self._rng.randint(2, 4) if rank < 200 else self._rng.randint(4, 10)
        return "".join(self._rng.choices(string.ascii_lowercase, k=length))


def build_model(folder: Path, size: str, language: Language, head: bool = True) -> Path:
    """Writes a BERT model with random weights, and a tokenizer with the language's frequent words.

    Args:
        folder: The folder that the model becomes.
        size: A name in `SIZES`.
        language: The language of the texts.
        head: Whether it has a head that chooses one of five labels; without one it makes embeddings.
    """
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertModel
    from transformers.utils import logging

    logging.disable_progress_bar()
    shape = SIZES[size]
    config = BertConfig(
        # As many as bert-base-uncased has, though fewer are used: the table's size is part of a model's memory.
        vocab_size=30_522,
        hidden_size=shape.width,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=shape.feed_forward,
        id2label=dict(enumerate(LABELS)),
        label2id={label: number for number, label in enumerate(LABELS)},
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model: Any = BertForSequenceClassification(config) if head else BertModel(config)
        if head:
            # With the default of 0.02 all classes are nearly equally probable, and labels would differ by chance.
            torch.nn.init.normal_(model.classifier.weight, std=0.3)
    model.save_pretrained(folder)
    build_tokenizer(language).save_pretrained(folder)
    return folder


def spread_labels(folder: Path) -> None:
    """Gives a model of random weights answers that differ from text to text, so that equal labels say something.

    With the usual weights it tells texts apart so little that all get one label. Here they are larger, and the head
    looks at what differs: each label is some texts' best, with logits that vary by about 1.
    """
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model: Any = AutoModelForSequenceClassification.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    texts = [text for each in zip(Language(2).short(32), Language(2).long(32), strict=True) for text in each]
    with torch.random.fork_rng(), torch.inference_mode():
        torch.manual_seed(0)
        for module in model.modules():
            if isinstance(module, torch.nn.Linear):
                module.weight *= LARGER_WEIGHTS
        encoded = (tokenizer(text, truncation=True, return_tensors="pt") for text in texts)
        pooled = torch.cat([model.bert(**each).pooler_output for each in encoded])
        head = torch.randn_like(model.classifier.weight)
        head /= ((pooled - pooled.mean(dim=0)) @ head.T).std()
        model.classifier.weight.copy_(head)
        model.classifier.bias.copy_(-head @ pooled.mean(dim=0))
    model.save_pretrained(folder)


def build_tokenizer(language: Language) -> Any:
    """Returns a WordPiece tokenizer that knows the language's frequent words whole, and pieces of the others."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = [*string.ascii_lowercase, *".?!"]
    pairs = [a + b for a in string.ascii_lowercase for b in string.ascii_lowercase]
    tokens = [*special, *letters, *(f"##{piece}" for piece in [*letters, *pairs]), *language.words[:VOCABULARY]]
    vocabulary = {token: number for number, token in enumerate(dict.fromkeys(tokens))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=512,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        **{f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")},
    )


def cpu_name() -> str:
    """Returns the processor's name, as Linux knows it, and which of its instructions matter here."""
    name, flags = platform.processor() or platform.machine(), ""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            name = line.split(":", 1)[1].strip()
        if line.startswith("flags"):
            flags = line
    known = ["avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8"]
    return f"{name}, {os.cpu_count()} CPUs ({', '.join(flag for flag in known if flag in flags.split())})"


def gpu_name() -> str:
    """Returns the graphics card's name; "" without one."""
    import torch

    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else ""


def warn_of_load() -> str:
    """Says that other programs are at work, when they are: what is measured beside them is measured badly."""
    load = os.getloadavg()[0]
    if load < 0.5:
        return ""
    return f"Other programs keep {load:.1f} of {os.cpu_count()} CPUs busy: trust ratios, not rows/s."
