"""What the inference benchmark compares: what a user would write instead, and this library, behind one call each."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.workload import LABELS

# Texts to numbers: probabilities of the labels in their order, or embeddings.
Answer = Callable[[list[str]], np.ndarray]


def transformers_pipeline(folder: Path, device: str, dtype: torch.dtype = torch.float32) -> Callable[[int], Answer]:
    """Returns `transformers.pipeline` for any batch size, with its defaults otherwise; fp32 is what was saved."""
    from transformers import pipeline

    classify: Any = pipeline("text-classification", model=str(folder), device=device, dtype=dtype, top_k=None)

    def with_batches_of(batch_size: int) -> Answer:
        def answer(texts: list[str]) -> np.ndarray:
            rows = classify(texts, batch_size=batch_size, truncation=True)
            scores = [{each["label"]: each["score"] for each in row} for row in rows]
            return np.array([[row[label] for label in LABELS] for row in scores], dtype=np.float32)

        return answer

    return with_batches_of


def naive_loop(folder: Path, device: str) -> Answer:
    """Returns a loop over the texts: one after the other through tokenizer and model."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).to(device).eval()

    @torch.no_grad()
    def answer(texts: list[str]) -> np.ndarray:
        rows = []
        for text in texts:
            inputs = tokenizer(text, truncation=True, return_tensors="pt").to(device)
            rows.append(model(**inputs).logits.softmax(dim=-1)[0].cpu().numpy())
        return np.array(rows)

    return answer


def sentence_transformers_encode(folder: Path, device: str) -> Callable[[int], Answer]:
    """Returns sentence-transformers' `encode` for any batch size: mean pooling, vectors of length 1."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

    encoder = Transformer(str(folder))
    pooling = Pooling(encoder.get_embedding_dimension())
    model = SentenceTransformer(modules=[encoder, pooling, Normalize()], device=device)

    def with_batches_of(batch_size: int) -> Answer:
        return lambda texts: np.asarray(model.encode(texts, batch_size=batch_size, show_progress_bar=False))

    return with_batches_of


def this_library(folder: Path, device: str, head: bool = True, **settings: Any) -> tuple[Answer, Any]:
    """Returns this library's answer to texts, and the engine that gives it."""
    from components.inference.embed_text.embedder import TextEmbedder
    from components.inference.engine import TextClassifier

    if head:
        classifier = TextClassifier(folder, device=device, **settings)
        return classifier.classify, classifier
    embedder = TextEmbedder(folder, device=device, **settings)
    return embedder.embed, embedder
