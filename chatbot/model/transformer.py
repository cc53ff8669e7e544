"""The Transformer: attention in place of recurrence, pre-norm, with cached keys and values in the decoder.

Vaswani et al. 2017 (arXiv 1706.03762) with the norm before each part (Xiong et al. 2020, arXiv 2002.04745) and either
rotary positions (Su et al. 2021, arXiv 2104.09864) or learned ones. Shape letters as in `chatbot.model.base`, and
A heads, D units of a head, P positions.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from chatbot.errors import UsageError
from chatbot.model.attention import joined, split
from chatbot.model.base import DecoderState, EncoderDecoder
from chatbot.model.config import ModelConfig

KeysValues = tuple[Tensor, Tensor]
Past = KeysValues | None


def rotate(x_BAPD: Tensor, first: int = 0) -> Tensor:
    """Turn each pair of units (i, i + D/2) of position p by p / 10000^(2i/D): Su et al. 2021, equation 34."""
    positions, units = x_BAPD.shape[2], x_BAPD.shape[3]
    turns = torch.arange(0, units, 2, device=x_BAPD.device) / units
    angles_PD = torch.arange(first, first + positions, device=x_BAPD.device).unsqueeze(1) * 10000.0**-turns
    cos_PD, sin_PD = angles_PD.cos().to(x_BAPD.dtype), angles_PD.sin().to(x_BAPD.dtype)
    left, right = x_BAPD.chunk(2, dim=3)
    return torch.cat((left * cos_PD - right * sin_PD, left * sin_PD + right * cos_PD), dim=3)


class Heads(nn.Module):
    """Queries against keys and values, `heads` at a time."""

    def __init__(self, width: int, heads: int, dropout: float, rotary: bool) -> None:
        super().__init__()
        self._heads, self._dropout, self._rotary = heads, dropout, rotary
        self.query = nn.Linear(width, width)
        self.remembered = nn.Linear(width, 2 * width)  # keys and values
        self.output = nn.Linear(width, width)

    def keys_and_values(self, x_BPE: Tensor, first: int = 0) -> tuple[Tensor, Tensor]:
        """Each (B, P, E), the keys turned by their places from `first` on if positions are rotary."""
        keys_BPE, values_BPE = self.remembered(x_BPE).chunk(2, dim=2)
        return self._placed(keys_BPE, first), values_BPE

    def _placed(self, x_BPE: Tensor, first: int) -> Tensor:
        return joined(rotate(split(x_BPE, self._heads), first)) if self._rotary else x_BPE

    def forward(self, x_BTE: Tensor, keys_BPE: Tensor, values_BPE: Tensor, mask: Tensor, first: int = 0) -> Tensor:
        """Attend from (B, T, E) to (B, P, E) where `mask`, (..., T, P), is True."""
        query, keys, values = (
            split(part, self._heads) for part in (self._placed(self.query(x_BTE), first), keys_BPE, values_BPE)
        )
        dropout = self._dropout if self.training else 0.0
        mixed: Tensor = self.output(
            joined(F.scaled_dot_product_attention(query, keys, values, attn_mask=mask, dropout_p=dropout))
        )
        return mixed


class EncoderLayer(nn.Module):
    """Self-attention and a feed-forward net, each x + f(norm(x))."""

    def __init__(self, config: ModelConfig, units: int) -> None:
        super().__init__()
        width = config.embedding_size
        self.itself = Heads(width, config.heads, config.dropout, rotary=config.order == "rotary")
        self.itself_norm, self.wide_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.wide, self.narrow = nn.Linear(width, units), nn.Linear(units, width)
        self.dropout = nn.Dropout(config.dropout)

    def attend_itself(
        self, x_BTE: Tensor, mask: Tensor, past: Past = None, first: int = 0
    ) -> tuple[Tensor, KeysValues]:
        """Attend to the words themselves, behind `past` ones if there are: the result, and all keys and values."""
        normed_BTE = self.itself_norm(x_BTE)
        keys, values = self.itself.keys_and_values(normed_BTE, first)
        if past is not None:
            keys, values = torch.cat((past[0], keys), dim=1), torch.cat((past[1], values), dim=1)
        return x_BTE + self.dropout(self.itself(normed_BTE, keys, values, mask, first)), (keys, values)

    def feed_forward(self, x_BTE: Tensor) -> Tensor:
        """max(0, x W + b) V + d: Vaswani et al. 2017, equation 2."""
        inner = self.dropout(torch.relu(self.wide(self.wide_norm(x_BTE))))
        wider_BTE: Tensor = x_BTE + self.dropout(self.narrow(inner))
        return wider_BTE

    def forward(self, x_BTE: Tensor, mask: Tensor) -> Tensor:
        """Both, on a source."""
        return self.feed_forward(self.attend_itself(x_BTE, mask)[0])


class DecoderLayer(EncoderLayer):
    """The same with attention to the source between the two."""

    def __init__(self, config: ModelConfig, units: int) -> None:
        super().__init__(config, units)
        self.source = Heads(config.embedding_size, config.heads, config.dropout, rotary=False)
        self.source_norm = nn.LayerNorm(config.embedding_size)

    def attend_source(self, x_BTE: Tensor, keys_BSE: Tensor, values_BSE: Tensor, mask: Tensor) -> Tensor:
        """Attend to the source."""
        attended_BTE: Tensor = x_BTE + self.dropout(self.source(self.source_norm(x_BTE), keys_BSE, values_BSE, mask))
        return attended_BTE


class Transformer(EncoderDecoder):
    """Encoder and decoder layers; a request's `hidden` is the keys and the values, (L, B, T, E), of what was said."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        width = config.embedding_size
        self.encoder = nn.ModuleList(EncoderLayer(config, config.encoder_units) for _ in range(config.encoder_layers))
        self.decoder = nn.ModuleList(DecoderLayer(config, config.decoder_units) for _ in range(config.decoder_layers))
        self.encoder_norm, self.decoder_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        learned = config.order == "learned"
        self.places = nn.Embedding(config.positions, width) if learned else None
        self._build_output(width)
        self._initialise_words()
        for layer in (*self.encoder, *self.decoder):
            for name, weight in layer.named_parameters():
                if weight.dim() > 1:
                    nn.init.xavier_uniform_(weight)
                elif name.endswith("bias"):
                    nn.init.zeros_(weight)
        if self.places is not None:
            nn.init.normal_(self.places.weight, std=0.02)
        self._initialise_own()

    def _place(self, embedded_BTE: Tensor, first: int = 0) -> Tensor:
        """With learned positions added; UsageError for more than there are."""
        if self.places is None:
            return embedded_BTE
        end = first + embedded_BTE.shape[1]
        if end > self.config.positions:
            raise UsageError(
                f"{end} tokens are more than the model's {self.config.positions} positions; shorten the text, or train "
                "with a larger model.positions"
            )
        return embedded_BTE + self.places.weight[first:end]

    def encode(self, source_BS: Tensor, lengths_B: Tensor) -> DecoderState:
        """Read the sources, ids (B, S) padded behind `lengths_B` (every length at least 1): the first state."""
        rows, length = source_BS.shape[:2]
        mask_BS = torch.arange(length, device=source_BS.device) < lengths_B.to(source_BS.device).unsqueeze(1)
        x_BSE = self._place(self._embed_source(source_BS))
        for layer in self.encoder:
            x_BSE = layer(x_BSE, mask_BS[:, None, None])
        memory_BSE: Tensor = self.encoder_norm(x_BSE)
        layers = cast(list[DecoderLayer], list(self.decoder))
        keys_BSH = torch.cat([part for layer in layers for part in layer.source.keys_and_values(memory_BSE)], dim=2)
        empty = memory_BSE.new_zeros(len(self.decoder), rows, 0, memory_BSE.shape[2])
        return DecoderState(memory_BSE, keys_BSH, mask_BS, (empty, empty))

    def decode(self, tokens_BT: Tensor, state: DecoderState) -> tuple[Tensor, DecoderState, Tensor | None]:
        """Read `tokens_BT` from `state`: features (B, T, E) and the state after them. Its weights are not told."""
        before_LBTE, values_LBTE = state.hidden
        first, steps = before_LBTE.shape[2], tokens_BT.shape[1]
        x_BTE = self._place(self._embed(tokens_BT), first)
        places = torch.arange(first + steps, device=tokens_BT.device)
        earlier_TP = places <= places[first:].unsqueeze(1)
        source = iter(state.keys_BSH.chunk(2 * len(self.decoder), dim=2))
        kept = []
        layers = cast(list[DecoderLayer], list(self.decoder))
        for layer, *past in zip(layers, before_LBTE, values_LBTE, strict=True):
            x_BTE, now = layer.attend_itself(x_BTE, earlier_TP, (past[0], past[1]), first)
            x_BTE = layer.attend_source(x_BTE, next(source), next(source), state.mask_BS[:, None, None])
            x_BTE = layer.feed_forward(x_BTE)
            kept.append(now)
        hidden = tuple(torch.stack(part) for part in zip(*kept, strict=True))
        return self.decoder_norm(x_BTE), state._replace(hidden=hidden), None
