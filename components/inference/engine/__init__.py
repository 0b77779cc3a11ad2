"""The inference engine: a model's folder in, and something that answers texts out."""

from components.inference.engine.text_model import TextClassifier, TextModel

__all__ = ["TextClassifier", "TextModel"]
