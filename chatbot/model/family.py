"""The model that a config describes."""

from __future__ import annotations

from chatbot.model.base import EncoderDecoder
from chatbot.model.config import ModelConfig
from chatbot.model.seq2seq import Seq2Seq
from chatbot.model.transformer import Transformer

ARCHITECTURES: dict[str, type[EncoderDecoder]] = {"recurrent": Seq2Seq, "transformer": Transformer}


def build_model(config: ModelConfig) -> EncoderDecoder:
    """A model with fresh weights; UsageError if its parts do not go together."""
    return ARCHITECTURES[config.architecture](config)
