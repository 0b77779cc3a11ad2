"""Trains a tokenizer on the texts that a model built from nothing will learn from."""

from collections.abc import Iterable

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

PAD, UNKNOWN, CLS, SEP, MASK = SPECIAL_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def train_tokenizer(texts: Iterable[str], vocabulary: int, longest: int) -> PreTrainedTokenizerFast:
    """Trains a lower-casing byte-pair encoding of words.

    Byte pairs rather than WordPiece, whose trainer numbers its tokens differently in each process: the same texts would
    not give the same model.

    Args:
        texts: The texts to train on; one is held at a time, and all their different words.
        vocabulary: The most tokens, special ones included.
        longest: The most tokens of a text that the model reads.
    """
    tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN))
    # Accents stay: in most languages they tell words apart.
    tokenizer.normalizer = normalizers.BertNormalizer(strip_accents=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=SPECIAL_TOKENS,
        # Half of a vocabulary at most goes to single characters, which Chinese has thousands of.
        limit_alphabet=max(vocabulary // 2, 1),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    ids = {token: tokenizer.token_to_id(token) for token in (CLS, SEP)}
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{CLS} $A {SEP}", pair=f"{CLS} $A {SEP} $B:1 {SEP}:1", special_tokens=list(ids.items())
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=longest,
        model_input_names=["input_ids", "attention_mask"],
        pad_token=PAD,
        unk_token=UNKNOWN,
        cls_token=CLS,
        sep_token=SEP,
        mask_token=MASK,
    )
