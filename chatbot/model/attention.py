"""Attention: from what the decoder asks and what the encoder remembers, a context for every step.

An attention is a class here and a line in `ATTENTIONS`. Shape letters: B rows, T steps of the decoder, S positions of
the source, Q units of the query, M of the memory, H of the keys, C of the context, A heads, D units of a head.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from chatbot.errors import UsageError


class Attention(nn.Module):
    """A way to score source positions; `read` makes the context of the scores, the same for all but `MultiHead`.

    `query_units` and `memory_units` are the sizes of what asks and of what is read, `heads` and `positions` those of
    `chatbot.model.config.ModelConfig`. UsageError, in the words of a recipe, if they do not go together.
    """

    def __init__(self, query_units: int, memory_units: int, heads: int = 1, positions: int = 0) -> None:
        super().__init__()

    @staticmethod
    def context(query_units: int, memory_units: int) -> int:
        """Units of the context: known before anything is made, since cells may read it."""
        return memory_units

    def keys(self, memory_BSM: Tensor) -> Tensor:
        """What of the memory the scores need, once a request: (B, S, H)."""
        return memory_BSM

    def forward(self, query_BTQ: Tensor, keys_BSH: Tensor) -> Tensor:
        """Scores (B, T, S)."""
        raise NotImplementedError

    def read(self, query_BTQ: Tensor, memory_BSM: Tensor, keys_BSH: Tensor, mask_BS: Tensor) -> tuple[Tensor, Tensor]:
        """The context (B, T, C) of each step and the weights (B, T, S) that it was read with."""
        scores_BTS = self(query_BTQ, keys_BSH)
        scores_BTS = scores_BTS.masked_fill(~mask_BS.unsqueeze(1), float("-inf"))
        weights_BTS = torch.softmax(scores_BTS.float(), dim=2).to(query_BTQ.dtype)
        return weights_BTS @ memory_BSM, weights_BTS


class NoAttention(Attention):
    """None: the forms without attention do not ask."""

    def keys(self, memory_BSM: Tensor) -> Tensor:
        """Nothing, (B, S, 0)."""
        return memory_BSM[:, :, :0]


class GeneralAttention(Attention):
    """score(h_t, m_s) = h_t^T W m_s / sqrt(H): "general" of Luong, Pham, Manning 2015 (arXiv 1508.04025), equation 8.

    Scaled as in Vaswani et al. 2017 (arXiv 1706.03762), section 3.2.1: without it the weights of a decoder of 512 units
    froze on single tokens, and the replies no longer depended on what was said.
    """

    def __init__(self, query_units: int, memory_units: int, heads: int = 1, positions: int = 0) -> None:
        super().__init__(query_units, memory_units)
        self.project = nn.Linear(memory_units, query_units, bias=False)

    def keys(self, memory_BSM: Tensor) -> Tensor:
        """W m_s for all source positions: (B, S, M) -> (B, S, Q), once a request."""
        keys_BSH: Tensor = self.project(memory_BSM)
        return keys_BSH

    def forward(self, query_BTQ: Tensor, keys_BSH: Tensor) -> Tensor:
        """Scores (B, T, S)."""
        return query_BTQ @ keys_BSH.transpose(1, 2) / math.sqrt(keys_BSH.shape[2])


class DotAttention(GeneralAttention):
    """score(h_t, m_s) = h_t^T m_s / sqrt(H): "dot" of Luong et al. 2015, equation 8, scaled as above; no weights."""

    def __init__(self, query_units: int, memory_units: int, heads: int = 1, positions: int = 0) -> None:
        Attention.__init__(self, query_units, memory_units)
        if query_units != memory_units:
            raise UsageError(
                f"model.attention dot wants as many units in the query ({query_units}) as in the memory "
                f"({memory_units}); set decoder_units to all that the encoder has, or attention=general"
            )

    def keys(self, memory_BSM: Tensor) -> Tensor:
        """The memory itself."""
        return memory_BSM


class AdditiveAttention(Attention):
    """score(h_t, m_s) = v^T tanh(W h_t + U m_s): Bahdanau, Cho, Bengio 2015 (arXiv 1409.0473), appendix A.1.2."""

    def __init__(self, query_units: int, memory_units: int, heads: int = 1, positions: int = 0) -> None:
        super().__init__(query_units, memory_units)
        self.project = nn.Linear(memory_units, query_units, bias=False)
        self.query = nn.Linear(query_units, query_units, bias=False)
        self.energy = nn.Linear(query_units, 1, bias=False)

    def keys(self, memory_BSM: Tensor) -> Tensor:
        """U m_s for all source positions: (B, S, M) -> (B, S, Q), once a request."""
        keys_BSH: Tensor = self.project(memory_BSM)
        return keys_BSH

    def forward(self, query_BTQ: Tensor, keys_BSH: Tensor) -> Tensor:
        """Scores (B, T, S)."""
        joint_BTSH = torch.tanh(self.query(query_BTQ).unsqueeze(2) + keys_BSH.unsqueeze(1))
        scores_BTS: Tensor = self.energy(joint_BTSH).squeeze(3)
        return scores_BTS


class LocationAttention(Attention):
    """a_t = softmax(W h_t): Luong et al. 2015, equation 9. Positions are scored, whatever stands there."""

    def __init__(self, query_units: int, memory_units: int, heads: int = 1, positions: int = 0) -> None:
        super().__init__(query_units, memory_units)
        if positions < 1:
            raise UsageError(
                "model.attention location scores a fixed number of positions; set model.positions to the longest source"
            )
        self.score = nn.Linear(query_units, positions)

    def forward(self, query_BTQ: Tensor, keys_BSH: Tensor) -> Tensor:
        """Scores (B, T, S); UsageError for a source with more positions than there are."""
        scores_BTP: Tensor = self.score(query_BTQ)
        if keys_BSH.shape[1] > scores_BTP.shape[2]:
            raise UsageError(
                f"a source of {keys_BSH.shape[1]} tokens is longer than the model's {scores_BTP.shape[2]} positions; "
                "shorten it, or train with a larger model.positions"
            )
        return scores_BTP[:, :, : keys_BSH.shape[1]]


class MultiHeadAttention(Attention):
    """Vaswani et al. 2017 (arXiv 1706.03762), section 3.2.2, of `heads` heads. Keys and values lie side by side."""

    def __init__(self, query_units: int, memory_units: int, heads: int = 1, positions: int = 0) -> None:
        super().__init__(query_units, memory_units)
        if query_units % heads:
            raise UsageError(f"model.heads is {heads}; it must divide the {query_units} units of the query")
        self._heads = heads
        self.query = nn.Linear(query_units, query_units, bias=False)
        self.project = nn.Linear(memory_units, 2 * query_units, bias=False)
        self.output = nn.Linear(query_units, query_units, bias=False)

    @staticmethod
    def context(query_units: int, memory_units: int) -> int:
        """As many as the query has."""
        return query_units

    def keys(self, memory_BSM: Tensor) -> Tensor:
        """Keys and values of all heads: (B, S, 2 Q)."""
        keys_BSH: Tensor = self.project(memory_BSM)
        return keys_BSH

    def read(self, query_BTQ: Tensor, memory_BSM: Tensor, keys_BSH: Tensor, mask_BS: Tensor) -> tuple[Tensor, Tensor]:
        """The heads' contexts, mixed (B, T, Q), and the mean of their weights (B, T, S)."""
        keys_BASD, values_BASD = (split(part, self._heads) for part in keys_BSH.chunk(2, dim=2))
        query_BATD = split(self.query(query_BTQ), self._heads)
        scores_BATS = query_BATD @ keys_BASD.transpose(2, 3) / math.sqrt(query_BATD.shape[3])
        scores_BATS = scores_BATS.masked_fill(~mask_BS[:, None, None], float("-inf"))
        weights_BATS = torch.softmax(scores_BATS.float(), dim=3).to(query_BTQ.dtype)
        context_BTQ: Tensor = self.output(joined(weights_BATS @ values_BASD))
        return context_BTQ, weights_BATS.mean(dim=1)


def split(x_BTQ: Tensor, heads: int) -> Tensor:
    """(B, T, A D) as (B, A, T, D)."""
    return x_BTQ.view(*x_BTQ.shape[:2], heads, -1).transpose(1, 2)


def joined(x_BATD: Tensor) -> Tensor:
    """The inverse of `split`."""
    return x_BATD.transpose(1, 2).flatten(2)


ATTENTIONS: dict[str, type[Attention]] = {
    "general": GeneralAttention,
    "additive": AdditiveAttention,
    "dot": DotAttention,
    "location": LocationAttention,
    "multi-head": MultiHeadAttention,
    "none": NoAttention,
}
