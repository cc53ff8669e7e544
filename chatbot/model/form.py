"""What a form of a recurrent decoder says: what its cells read, when it attends, what the output layer sees.

The forms themselves are in `chatbot.model.forms` and `chatbot.model.stepped`. Shape letters as in
`chatbot.model.base`; X what is fed back, C the attention's context, F the features before the output layer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from chatbot.model.cells import States

if TYPE_CHECKING:
    from chatbot.model.base import DecoderState
    from chatbot.model.seq2seq import Seq2Seq


class Sizes(NamedTuple):
    """Units of a word's embedding, of the decoder, of the encoder's memory and of the attention's context."""

    word: int
    decoder: int
    memory: int
    context: int


class Decoded(NamedTuple):
    """What the output layer sees (B, T, F), the states after it, and the attention's weights (B, T, S) if there are."""

    features_BTF: Tensor
    hidden: States
    weights_BTS: Tensor | None


class Form(nn.Module):
    """What all forms have. The sizes are asked for before anything is made: `inputs` of a cell, `features` put out."""

    attends = True

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()

    @staticmethod
    def inputs(sizes: Sizes) -> int:
        """Units that the first cell reads."""
        return sizes.word

    @staticmethod
    def query(sizes: Sizes) -> int:
        """Units of what the attention is asked with."""
        return sizes.decoder

    @staticmethod
    def features(sizes: Sizes) -> int:
        """Units that the output layer reads."""
        return sizes.word

    def remember(self, memory_BSM: Tensor, summary_BM: Tensor) -> Tensor:
        """What is kept of the source, (B, S, M); `summary_BM` is the encoder's last state."""
        return memory_BSM

    def first(self, net: Seq2Seq, state: DecoderState) -> States:
        """What is fed back before there was a step, (1, B, X): it goes behind the cells' states."""
        return ()

    def run(self, net: Seq2Seq, embedded_BTE: Tensor, state: DecoderState) -> Decoded:
        """Decode `embedded_BTE`, (B, T, E), from `state`."""
        raise NotImplementedError


class Maxout(nn.Module):
    """The larger of each two neighbours of a linear map of all its inputs: Goodfellow et al. 2013, arXiv 1302.4389."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, 2 * outputs)

    def forward(self, *parts: Tensor) -> Tensor:
        """(..., inputs), in parts, to (..., outputs)."""
        both: Tensor = self.linear(torch.cat(parts, dim=-1))
        return both.view(*both.shape[:-1], -1, 2).amax(dim=-1)
