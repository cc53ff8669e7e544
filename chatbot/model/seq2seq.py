"""The recurrent models: an encoder that reads the source, a decoder in one of the forms of `chatbot.model.forms`.

With sizes alone it is the default model: a bidirectional encoder, a decoder, attention over the source after it, and
one embedding matrix for source, target and output. Shape letters as in `chatbot.model.base`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from chatbot.errors import UsageError
from chatbot.model.attention import ATTENTIONS
from chatbot.model.base import DecoderState, EncoderDecoder
from chatbot.model.cells import CELLS, States, Steps, initialise
from chatbot.model.config import ModelConfig
from chatbot.model.form import Sizes
from chatbot.model.forms import FORMS


class Seq2Seq(EncoderDecoder):
    """Encoder, bridge, decoder, attention, and the form that says how they work together (`combine`)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        form, attention = FORMS[config.form], ATTENTIONS[config.attention]
        memory = config.memory_units
        sizes = Sizes(config.embedding_size, config.decoder_units, memory, memory)
        query = form.query(sizes)
        sizes = sizes._replace(context=attention.context(query, memory))
        self._cell = CELLS[config.cell]()
        self.encoder = self._cells(
            config.embedding_size, config.encoder_units, config.encoder_layers, bidirectional=config.bidirectional
        )
        # The decoder's first state from the encoder's last one, h from h and c from c. No tanh: it froze at its limits.
        first_units = config.decoder_layers * config.decoder_units
        bridges = self._cell.states if config.bridge == "linear" else 0
        self.bridges = nn.ModuleList(nn.Linear(memory, first_units, bias=False) for _ in range(bridges))
        if not config.tied_cells:
            self.decoder = self._cells(form.inputs(sizes), config.decoder_units, config.decoder_layers)
        elif form.inputs(sizes) != config.embedding_size:
            raise UsageError(f"model.tied_cells: the encoder's cells cannot read what form {config.form} feeds back")
        self.attention = attention(query, memory, config.heads, config.positions)
        self.combine = form(sizes)
        if config.tied_output and form.features(sizes) != config.embedding_size:
            raise UsageError(
                f"model.tied_output: the output layer of form {config.form} reads {form.features(sizes)} units, the "
                f"embedding has {config.embedding_size}; make them the same, or set tied_output=false"
            )
        self._build_output(form.features(sizes))
        self._initialise()
        self.steps = Steps(self._cell, self._decoder)

    def _cells(self, inputs: int, units: int, layers: int, *, bidirectional: bool = False) -> nn.RNNBase:
        module: type[Any] = self._cell.module
        made: nn.RNNBase = module(
            inputs,
            units,
            layers,
            batch_first=True,
            bidirectional=bidirectional,
            dropout=self.config.dropout if layers > 1 else 0.0,
        )
        return made

    @property
    def _decoder(self) -> nn.RNNBase:
        return self.encoder if self.config.tied_cells else self.decoder

    def _initialise(self) -> None:
        self._initialise_words()
        for bridge in self.bridges.parameters():
            nn.init.orthogonal_(bridge)
        initialise(self._cell, self.encoder)
        if not self.config.tied_cells:
            initialise(self._cell, self.decoder)
        self._initialise_own()

    def encode(self, source_BS: Tensor, lengths_B: Tensor) -> DecoderState:
        """Read the sources, ids (B, S) padded behind `lengths_B` (every length at least 1): the first state."""
        embedded_BSE = self._embed_source(source_BS)
        length = source_BS.shape[1]
        full = bool((lengths_B == length).all())
        if full:  # no packing: the fused kernels want plain tensors, and batches of one length are the common case
            memory_BSM, last = self.encoder(embedded_BSE)
        else:
            packed = pack_padded_sequence(embedded_BSE, lengths_B.cpu(), batch_first=True, enforce_sorted=False)
            packed_memory, last = self.encoder(packed)
            memory_BSM, _ = pad_packed_sequence(packed_memory, batch_first=True, total_length=length)
        ends: States = last if self._cell.states > 1 else (last,)
        mask_BS = torch.arange(length, device=source_BS.device) < lengths_B.to(source_BS.device).unsqueeze(1)
        memory_BSM = self.combine.remember(memory_BSM, self._summary(ends[0]))
        state = DecoderState(memory_BSM, self.attention.keys(memory_BSM), mask_BS, self._bridge(ends))
        return state._replace(hidden=(*state.hidden, *self.combine.first(self, state)))

    def _summary(self, last_LBH: Tensor) -> Tensor:
        """The last state of the topmost layer, of both directions (B, M)."""
        return torch.cat((last_LBH[-2], last_LBH[-1]), dim=1) if self.config.bidirectional else last_LBH[-1]

    def _bridge(self, ends: States) -> States:
        """The decoder's first states."""
        if not self.bridges:
            return ends
        shape = (ends[0].shape[1], self.config.decoder_layers, self.config.decoder_units)
        return tuple(
            bridge(self._summary(last)).view(shape).transpose(0, 1).contiguous()
            for bridge, last in zip(self.bridges, ends, strict=True)
        )

    def fused(self, inputs_BTX: Tensor, hidden: States) -> tuple[Tensor, States]:
        """The decoder's cells over all steps at once: their output (B, T, H), and the states after them."""
        output_BTH, after = self._decoder(inputs_BTX, self._cell.hidden(hidden))
        return output_BTH, tuple(after) if self._cell.states > 1 else (after,)

    def attend(self, query_BQ: Tensor, state: DecoderState) -> tuple[Tensor, Tensor]:
        """The context (B, C) of one step, and the weights (B, S)."""
        query_B1Q = query_BQ.unsqueeze(1)
        context_B1C, weights_B1S = self.attention.read(query_B1Q, state.memory_BSM, state.keys_BSH, state.mask_BS)
        return context_B1C[:, 0], weights_B1S[:, 0]

    def decode(self, tokens_BT: Tensor, state: DecoderState) -> tuple[Tensor, DecoderState, Tensor | None]:
        """Read `tokens_BT` from `state`: features (B, T, F), the state after them, the attention's weights."""
        decoded = self.combine.run(self, self._embed(tokens_BT), state)
        return decoded.features_BTF, state._replace(hidden=decoded.hidden), decoded.weights_BTS
