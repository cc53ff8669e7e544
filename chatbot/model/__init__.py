"""The models: an encoder, a decoder, and what lies between them, chosen by a `ModelConfig`.

In: token ids. Out: scores over the vocabulary. It knows no text, no search and no training loop. Modules hold
weights only; the state of a request is an argument and a return value (`DecoderState`). `build_model` makes any of the
family; `Seq2Seq` with nothing but sizes is the default model of the project.
"""

from chatbot.model.attention import AdditiveAttention, GeneralAttention
from chatbot.model.base import DecoderState, EncoderDecoder
from chatbot.model.config import ModelConfig
from chatbot.model.family import build_model
from chatbot.model.seq2seq import Seq2Seq
from chatbot.model.transformer import Transformer

__all__ = [
    "AdditiveAttention",
    "DecoderState",
    "EncoderDecoder",
    "GeneralAttention",
    "ModelConfig",
    "Seq2Seq",
    "Transformer",
    "build_model",
]
