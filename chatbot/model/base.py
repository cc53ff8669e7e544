"""What every encoder-decoder of the family has: embeddings, an output layer, and one interface to train and decode.

Shape letters: B rows of a batch, S source tokens, T target tokens, E embedding, F features before the output layer,
H decoder units, M memory units, V vocabulary, L layers, N states of a cell (h; of an LSTM h and c).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from chatbot.model.config import ModelConfig


class DecoderState(NamedTuple):
    """All that a request carries from step to step.

    `hidden` is h for a GRU, (h, c) for an LSTM, and behind them what the form feeds back; of a Transformer it is the
    keys and values of the words before. All have their rows in the second dimension.
    """

    memory_BSM: Tensor
    keys_BSH: Tensor
    mask_BS: Tensor  # True where there is a source token
    hidden: tuple[Tensor, ...]  # each (L, B, ...)

    def select(self, rows: Tensor) -> DecoderState:
        """The state of `rows` (N,), in that order, repeats allowed: beams and early leaving."""
        return DecoderState(
            self.memory_BSM[rows],
            self.keys_BSH[rows],
            self.mask_BS[rows],
            tuple(part.index_select(1, rows) for part in self.hidden),
        )


class EncoderDecoder(nn.Module):
    """Embeddings and output layer around an encoder and a decoder, which are for the classes below to say.

    One matrix is source embedding, target embedding and output layer (Press and Wolf 2017), or each has its own.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocabulary_size, config.embedding_size)

    def _build_output(self, features: int) -> None:
        """The output layer, and what else the target's embedding cannot do; after the parts of the classes below."""
        config = self.config
        self.output_bias = nn.Parameter(torch.zeros(config.vocabulary_size))
        self.dropout = nn.Dropout(config.dropout)
        self.own_output = None if config.tied_output else nn.Parameter(torch.empty(config.vocabulary_size, features))
        self.source: nn.Embedding | nn.Linear | None = None
        if config.source_vocabulary_size:
            self.source = nn.Embedding(config.source_vocabulary_size, config.embedding_size)
        elif config.source_features:
            self.source = nn.Linear(config.source_features, config.embedding_size)

    def _initialise_words(self) -> None:
        nn.init.normal_(self.embedding.weight, std=self.config.embedding_size**-0.5)

    def _initialise_own(self) -> None:
        """The matrices that only some models have, last: the others keep the numbers that they have always had."""
        if self.own_output is not None:
            nn.init.xavier_uniform_(self.own_output)
        if self.source is not None:
            nn.init.normal_(self.source.weight, std=self.config.embedding_size**-0.5)

    @property
    def output_weight(self) -> Tensor:
        """The output layer's matrix (V, F)."""
        return self.embedding.weight if self.own_output is None else self.own_output

    def _embed(self, tokens: Tensor) -> Tensor:
        """What the decoder reads: (..., E), raised to the size of 1 that it wants (Vaswani et al. 2017, section 3.4).

        The matrix itself stays small, since it is also the output layer's. Unscaled, the encoder's states were so weak
        that the decoder had learnt to do without them before they meant anything.
        """
        embedded: Tensor = self.dropout(self.embedding(tokens) * math.sqrt(self.config.embedding_size))
        return embedded

    def _embed_source(self, source: Tensor) -> Tensor:
        """What the encoder reads: (B, S, E) of ids (B, S), or of vectors (B, S, `source_features`)."""
        if self.source is None:
            return self._embed(source)
        embedded: Tensor = self.dropout(self.source(source) * math.sqrt(self.config.embedding_size))
        return embedded

    def encode(self, source_BS: Tensor, lengths_B: Tensor) -> DecoderState:
        """Read the sources, ids (B, S) padded behind `lengths_B` (every length at least 1): the first state."""
        raise NotImplementedError

    def decode(self, tokens_BT: Tensor, state: DecoderState) -> tuple[Tensor, DecoderState, Tensor | None]:
        """Read `tokens_BT` from `state`: features before the output layer (B, T, F), the state after them, and the
        attention's weights (B, T, S), if there are."""
        raise NotImplementedError

    def logits(self, features: Tensor) -> Tensor:
        """Unnormalised scores (..., V) of features (..., F)."""
        return F.linear(features, self.output_weight, self.output_bias)

    def forward(self, source_BS: Tensor, lengths_B: Tensor, target_BT: Tensor) -> Tensor:
        """Teacher forcing: features (B, T, F) behind each token of `target_BT`, which starts with `<s>`."""
        features_BTF, _, _ = self.decode(target_BT, self.encode(source_BS, lengths_B))
        dropped_BTF: Tensor = self.dropout(features_BTF)
        return dropped_BTF

    def step(self, tokens_B: Tensor, state: DecoderState) -> tuple[Tensor, DecoderState]:
        """One token a row: scores (B, V) of the next token, and the state after it."""
        features_B1F, after, _ = self.decode(tokens_B.unsqueeze(1), state)
        return self.logits(features_B1F[:, 0]), after

    def unroll(self, source_BS: Tensor, lengths_B: Tensor, target_BT: Tensor, own: float) -> Tensor:
        """`forward` with a share `own` of the inputs, but the first, replaced by the likeliest token so far.

        Scheduled sampling: Bengio et al. 2015 (arXiv 1506.03099), section 2.4; 1 is decoding from its own outputs.
        """
        state, token_B = self.encode(source_BS, lengths_B), target_BT[:, 0]
        steps: list[Tensor] = []
        for place in range(target_BT.shape[1]):
            if place:
                said_B = self.logits(steps[-1][:, 0]).detach().argmax(dim=1)
                mine_B = torch.rand(len(said_B), device=said_B.device) < own
                token_B = torch.where(mine_B, said_B, target_BT[:, place])
            features_B1F, state, _ = self.decode(token_B.unsqueeze(1), state)
            steps.append(self.dropout(features_B1F))
        return torch.cat(steps, dim=1)
