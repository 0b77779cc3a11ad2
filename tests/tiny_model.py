"""A sequence classifier small enough to build in a second: random weights, and a tokenizer trained on a few texts."""

import json
import shutil
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

SPECIAL_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]

_built: dict[str, TemporaryDirectory] = {}


def build_tiny_model(folder: Path, labels: list[str], texts: list[str]) -> Path:
    """Writes a BERT sequence classifier with one layer to a folder, which must be empty or missing.

    The same labels and texts give the same files: within one session they are built once and then copied.

    Args:
        folder: The folder that the model becomes.
        labels: The names of its classes, in the order of their ids.
        texts: What the tokenizer is trained on.

    Returns:
        The folder: config.json, model.safetensors and the tokenizer's files.
    """
    key = json.dumps([labels, texts])
    if key not in _built:
        _built[key] = TemporaryDirectory(prefix="tiny-model-")
        _build(Path(_built[key].name), labels, texts)
    shutil.copytree(_built[key].name, folder, dirs_exist_ok=True)
    return folder


def _build(folder: Path, labels: list[str], texts: list[str]) -> None:
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    tokenizer = train_tokenizer(texts)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=128,
        id2label=dict(enumerate(labels)),
        label2id={label: number for number, label in enumerate(labels)},
        # The default of 0.02 leaves all classes equally probable, and a test could not tell texts apart.
        initializer_range=0.5,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = BertForSequenceClassification(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def train_tokenizer(texts: list[str], size: int = 400):  # type: ignore[no-untyped-def]
    """Makes a WordPiece tokenizer for BERT of the words of texts, at most 128 tokens long.

    The vocabulary is counted here, because the library's own training breaks ties differently in each process.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    normalizer, splitter = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    words = Counter(word for text in texts for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text)))
    letters = sorted(set("".join(words)))
    tokens = SPECIAL_TOKENS + letters + [f"##{letter}" for letter in letters]
    tokens += [word for word, _ in sorted(words.items(), key=lambda item: (-item[1], item[0])) if len(word) > 1]
    vocabulary = {token: number for number, token in enumerate(tokens[: max(size, len(letters) * 2 + 5)])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, splitter
    ids = {token: tokenizer.token_to_id(token) for token in SPECIAL_TOKENS}
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=128,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )
