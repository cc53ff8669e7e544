"""The sizes and kinds of a model, checked together before anything is built."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, fields

from chatbot.errors import UsageError
from chatbot.model.attention import ATTENTIONS
from chatbot.model.cells import CELLS
from chatbot.model.forms import FORMS

_BRIDGES = ("linear", "copy")
_ORDERS = ("rotary", "learned")
_MAY_BE_ZERO = frozenset(("source_vocabulary_size", "source_features", "positions"))


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Sizes and kinds. With sizes alone it is the default model: all else has the default's values.

    `encoder_units` counts one direction. A Transformer is `embedding_size` wide; its feed-forward layers have
    `encoder_units` and `decoder_units`, and what is said of cells, forms and bridges does not concern it.
    """

    vocabulary_size: int
    embedding_size: int = 256
    encoder_units: int = 256
    decoder_units: int = 512
    encoder_layers: int = 1
    decoder_layers: int = 1
    cell: str = "lstm"  # of `chatbot.model.cells.CELLS`
    attention: str = "general"  # of `chatbot.model.attention.ATTENTIONS`
    dropout: float = 0.1
    architecture: str = "recurrent"  # or transformer
    form: str = "luong"  # of `chatbot.model.forms.FORMS`
    bidirectional: bool = True  # the encoder reads both ways
    bridge: str = (
        "linear"  # the decoder's first states: a linear map of the encoder's last one, or copies of its layers
    )
    tied_cells: bool = False  # the decoder's cells are the encoder's
    tied_output: bool = True  # the output layer's matrix is the target's embedding
    source_vocabulary_size: int = 0  # tokens of a source with an embedding of its own; 0: both sides share one
    source_features: int = 0  # numbers in each vector of a source that is no text; 0: it is text
    heads: int = 1  # of multi-head attention
    positions: int = 0  # of location attention and of learned positions: the longest source
    start_attention: bool = False  # what is fed back at first: attention from the initial state, not zeros
    order: str = "rotary"  # how a Transformer knows the order of the words: rotary or learned positions

    def __post_init__(self) -> None:
        for item in fields(self):
            value, least = getattr(self, item.name), 0 if item.name in _MAY_BE_ZERO else 1
            if item.type == "int" and (type(value) is not int or value < least):
                raise UsageError(f"model.{item.name} is {value!r}; it must be a whole number of at least {least}")
            if item.type == "bool" and type(value) is not bool:
                raise UsageError(f"model.{item.name} is {value!r}; it must be true or false")
        for name, known in _CHOICES.items():
            if getattr(self, name) not in known:
                raise UsageError(f"model.{name} is {getattr(self, name)!r}; known: {', '.join(known)}")
        if not isinstance(self.dropout, int | float) or not 0 <= self.dropout < 1:
            raise UsageError(f"model.dropout is {self.dropout!r}; it must be from 0 to below 1")
        if self.source_vocabulary_size and self.source_features:
            raise UsageError(
                "model.source_vocabulary_size and model.source_features exclude each other: text or vectors"
            )
        _CHECKS[self.architecture](self)

    @property
    def memory_units(self) -> int:
        """Numbers that a recurrent encoder remembers of each position."""
        return self.encoder_units * (2 if self.bidirectional else 1)


def _check_recurrent(config: ModelConfig) -> None:
    form = FORMS[config.form]
    if form.attends and config.attention == "none":
        without = ", ".join(name for name, other in FORMS.items() if not other.attends)
        raise UsageError(f"model.form {config.form} attends; give it an attention, or set form to one of {without}")
    if not form.attends and config.attention != "none":
        raise UsageError(f"model.form {config.form} has no attention; set attention=none, not {config.attention}")
    same = (config.encoder_units, config.encoder_layers) == (config.decoder_units, config.decoder_layers)
    for wish in ("tied_cells", "bridge copy"):
        asked = config.tied_cells if wish == "tied_cells" else config.bridge == "copy"
        if asked and (config.bidirectional or not same):
            raise UsageError(
                f"model.{wish} wants an encoder and a decoder of one shape; set bidirectional=false, and units and "
                "layers the same on both sides"
            )


def _check_transformer(config: ModelConfig) -> None:
    width = config.embedding_size
    if width % config.heads or (config.order == "rotary" and width // config.heads % 2):
        raise UsageError(
            f"model.embedding_size is {width}, heads {config.heads}; each head needs the same number of units, an even "
            "one for rotary positions"
        )
    if config.order == "learned" and not config.positions:
        raise UsageError("model.order is learned; set model.positions to the longest source and target")


_CHECKS: dict[str, Callable[[ModelConfig], None]] = {"recurrent": _check_recurrent, "transformer": _check_transformer}
_CHOICES: dict[str, Collection[str]] = {
    "architecture": _CHECKS,
    "cell": CELLS,
    "attention": ATTENTIONS,
    "form": FORMS,
    "bridge": _BRIDGES,
    "order": _ORDERS,
}
