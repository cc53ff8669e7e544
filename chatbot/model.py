"""The model: a bidirectional recurrent encoder, a recurrent decoder, attention over the source after it.

In: token ids. Out: scores over the vocabulary. It knows no text, no search and no training loop. Modules hold
weights only; the state of a request is an argument and a return value (`DecoderState`).

Shape letters: B rows of a batch, S source tokens, T target tokens, E embedding, H decoder units, M memory units
(both encoder directions), V vocabulary, L layers, N states of a cell (h; of an LSTM h and c).
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from chatbot.errors import UsageError


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Sizes and kinds; `encoder_units` counts one direction."""

    vocabulary_size: int
    embedding_size: int = 256
    encoder_units: int = 256
    decoder_units: int = 512
    encoder_layers: int = 1
    decoder_layers: int = 1
    cell: Literal["lstm", "gru"] = "lstm"
    attention: Literal["general", "additive"] = "general"
    dropout: float = 0.1

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if name not in {"cell", "attention", "dropout"} and (type(value) is not int or value < 1):
                raise UsageError(f"model.{name} is {value!r}; it must be a whole number of at least 1")
        if self.cell not in _CELLS:
            raise UsageError(f"model.cell is {self.cell!r}; known: {', '.join(_CELLS)}")
        if self.attention not in _ATTENTIONS:
            raise UsageError(f"model.attention is {self.attention!r}; known: {', '.join(_ATTENTIONS)}")
        if not isinstance(self.dropout, int | float) or not 0 <= self.dropout < 1:
            raise UsageError(f"model.dropout is {self.dropout!r}; it must be from 0 to below 1")


class DecoderState(NamedTuple):
    """All that a request carries from step to step. `hidden` is h for a GRU, (h, c) for an LSTM."""

    memory_BSM: Tensor
    keys_BSH: Tensor
    mask_BS: Tensor  # True where there is a source token
    hidden: tuple[Tensor, ...]  # each (L, B, H)

    def select(self, rows: Tensor) -> DecoderState:
        """The state of `rows` (N,), in that order, repeats allowed: beams and early leaving."""
        return DecoderState(
            self.memory_BSM[rows],
            self.keys_BSH[rows],
            self.mask_BS[rows],
            tuple(part.index_select(1, rows) for part in self.hidden),
        )


class GeneralAttention(nn.Module):
    """score(h_t, m_s) = h_t^T W m_s / sqrt(H): "general" of Luong, Pham, Manning 2015 (arXiv 1508.04025), equation 8.

    Scaled as in Vaswani et al. 2017 (arXiv 1706.03762), section 3.2.1: without it the weights of a decoder of 512 units
    froze on single tokens, and the replies no longer depended on what was said.
    """

    def __init__(self, decoder_units: int, memory_units: int) -> None:
        super().__init__()
        self.project = nn.Linear(memory_units, decoder_units, bias=False)

    def keys(self, memory_BSM: Tensor) -> Tensor:
        """W m_s for all source positions: (B, S, M) -> (B, S, H), once a request."""
        keys_BSH: Tensor = self.project(memory_BSM)
        return keys_BSH

    def forward(self, query_BTH: Tensor, keys_BSH: Tensor) -> Tensor:
        """Scores (B, T, S)."""
        return query_BTH @ keys_BSH.transpose(1, 2) / math.sqrt(keys_BSH.shape[2])


class AdditiveAttention(nn.Module):
    """score(h_t, m_s) = v^T tanh(W h_t + U m_s): Bahdanau, Cho, Bengio 2015 (arXiv 1409.0473), appendix A.1.2."""

    def __init__(self, decoder_units: int, memory_units: int) -> None:
        super().__init__()
        self.project = nn.Linear(memory_units, decoder_units, bias=False)
        self.query = nn.Linear(decoder_units, decoder_units, bias=False)
        self.energy = nn.Linear(decoder_units, 1, bias=False)

    def keys(self, memory_BSM: Tensor) -> Tensor:
        """U m_s for all source positions: (B, S, M) -> (B, S, H), once a request."""
        keys_BSH: Tensor = self.project(memory_BSM)
        return keys_BSH

    def forward(self, query_BTH: Tensor, keys_BSH: Tensor) -> Tensor:
        """Scores (B, T, S)."""
        joint_BTSH = torch.tanh(self.query(query_BTH).unsqueeze(2) + keys_BSH.unsqueeze(1))
        scores_BTS: Tensor = self.energy(joint_BTSH).squeeze(3)
        return scores_BTS


_CELLS: dict[str, type[nn.LSTM] | type[nn.GRU]] = {"lstm": nn.LSTM, "gru": nn.GRU}
_ATTENTIONS: dict[str, type[GeneralAttention] | type[AdditiveAttention]] = {
    "general": GeneralAttention,
    "additive": AdditiveAttention,
}


class Seq2Seq(nn.Module):
    """Encoder, decoder, attention, and one embedding matrix for source, target and output.

    The attention reads the decoder's output instead of feeding it (Luong et al. 2015, section 3, without input
    feeding), so that training runs the decoder as one fused call over all steps. Tied output: Press and Wolf 2017.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        cell = _CELLS[config.cell]
        memory_units = 2 * config.encoder_units
        states = 2 if config.cell == "lstm" else 1
        self.embedding = nn.Embedding(config.vocabulary_size, config.embedding_size)
        self.encoder = cell(
            config.embedding_size,
            config.encoder_units,
            config.encoder_layers,
            batch_first=True,
            bidirectional=True,
            dropout=config.dropout if config.encoder_layers > 1 else 0.0,
        )
        # The decoder's first state from the encoder's last one, h from h and c from c. No tanh: it froze at its limits.
        first_units = config.decoder_layers * config.decoder_units
        self.bridges = nn.ModuleList(nn.Linear(memory_units, first_units, bias=False) for _ in range(states))
        self.decoder = cell(
            config.embedding_size,
            config.decoder_units,
            config.decoder_layers,
            batch_first=True,
            dropout=config.dropout if config.decoder_layers > 1 else 0.0,
        )
        self.attention = _ATTENTIONS[config.attention](config.decoder_units, memory_units)
        self.combine = nn.Linear(config.decoder_units + memory_units, config.embedding_size)
        self.output_bias = nn.Parameter(torch.zeros(config.vocabulary_size))
        self.dropout = nn.Dropout(config.dropout)
        self._initialise()

    def _initialise(self) -> None:
        nn.init.normal_(self.embedding.weight, std=self.config.embedding_size**-0.5)
        for bridge in self.bridges.parameters():
            nn.init.orthogonal_(bridge)
        for name, weight in (*self.encoder.named_parameters(), *self.decoder.named_parameters()):
            if "weight_hh" in name:
                for gate in weight.chunk(weight.shape[0] // weight.shape[1]):
                    nn.init.orthogonal_(gate)
            elif "weight_ih" in name:
                nn.init.xavier_uniform_(weight)
            else:
                nn.init.zeros_(weight)
                if self.config.cell == "lstm" and "bias_ih" in name:  # forget gate open: Jozefowicz et al. 2015
                    units = weight.shape[0] // 4
                    nn.init.ones_(weight[units : 2 * units])

    def _embed(self, tokens: Tensor) -> Tensor:
        """What the cells read: (..., E), raised to the size of 1 that they want (Vaswani et al. 2017, section 3.4).

        The matrix itself stays small, since it is also the output layer's. Unscaled, the encoder's states were so weak
        that the decoder had learnt to do without them before they meant anything.
        """
        embedded: Tensor = self.dropout(self.embedding(tokens) * math.sqrt(self.config.embedding_size))
        return embedded

    def encode(self, source_BS: Tensor, lengths_B: Tensor) -> DecoderState:
        """Read the sources, ids (B, S) padded behind `lengths_B` (every length at least 1): the first state."""
        embedded_BSE = self._embed(source_BS)
        length = source_BS.shape[1]
        full = bool((lengths_B == length).all())
        if full:  # no packing: the fused kernels want plain tensors, and batches of one length are the common case
            memory_BSM, hidden = self.encoder(embedded_BSE)
        else:
            packed = pack_padded_sequence(embedded_BSE, lengths_B.cpu(), batch_first=True, enforce_sorted=False)
            packed_memory, hidden = self.encoder(packed)
            memory_BSM, _ = pad_packed_sequence(packed_memory, batch_first=True, total_length=length)
        shape = (len(source_BS), self.config.decoder_layers, self.config.decoder_units)
        states = tuple(
            bridge(torch.cat((last[-2], last[-1]), dim=1)).view(shape).transpose(0, 1).contiguous()  # both directions
            for bridge, last in zip(self.bridges, hidden if self.config.cell == "lstm" else (hidden,), strict=True)
        )
        mask_BS = torch.arange(length, device=source_BS.device) < lengths_B.to(source_BS.device).unsqueeze(1)
        return DecoderState(memory_BSM, self.attention.keys(memory_BSM), mask_BS, states)

    def _run(self, tokens_BT: Tensor, state: DecoderState) -> tuple[Tensor, DecoderState]:
        """Decode `tokens_BT` from `state`: features before the output layer (B, T, E), and the state after them."""
        hidden: Any = state.hidden if self.config.cell == "lstm" else state.hidden[0]
        output_BTH, after = self.decoder(self._embed(tokens_BT), hidden)
        scores_BTS = self.attention(output_BTH, state.keys_BSH)
        scores_BTS = scores_BTS.masked_fill(~state.mask_BS.unsqueeze(1), float("-inf"))
        context_BTM = torch.softmax(scores_BTS.float(), dim=2).to(output_BTH.dtype) @ state.memory_BSM
        features_BTE = torch.tanh(self.combine(torch.cat((context_BTM, output_BTH), dim=2)))
        return features_BTE, state._replace(hidden=tuple(after) if self.config.cell == "lstm" else (after,))

    def logits(self, features: Tensor) -> Tensor:
        """Unnormalised scores (..., V) of features (..., E)."""
        return F.linear(features, self.embedding.weight, self.output_bias)

    def forward(self, source_BS: Tensor, lengths_B: Tensor, target_BT: Tensor) -> Tensor:
        """Teacher forcing: features (B, T, E) behind each token of `target_BT`, which starts with `<s>`."""
        features_BTE, _ = self._run(target_BT, self.encode(source_BS, lengths_B))
        dropped_BTE: Tensor = self.dropout(features_BTE)
        return dropped_BTE

    def step(self, tokens_B: Tensor, state: DecoderState) -> tuple[Tensor, DecoderState]:
        """One token a row: scores (B, V) of the next token, and the state after it."""
        features_BTE, after = self._run(tokens_B.unsqueeze(1), state)
        return self.logits(features_BTE[:, 0]), after
