"""What our training is compared with: the loop that textbooks write, and that of tutorials, on the same examples.

In: sizes, examples, batches. Out: functions that train for some steps and say how many target tokens a second that was.
Both compute the loss of `chatbot.model.Seq2Seq` with general attention, a linear bridge and LSTM cells.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from chatbot.model import ModelConfig
from training.batches import Examples, Ids
from training.recipe import OptimiserRecipe

Run = Callable[[int], float]


class TextbookSeq2Seq(nn.Module):
    """One call for the encoder, then a loop over the decoder's steps, with attention and a full softmax in each."""

    def __init__(self, size: ModelConfig) -> None:
        super().__init__()
        memory_units, units = size.memory_units, size.decoder_units
        self.embedding = nn.Embedding(size.vocabulary_size, size.embedding_size)
        self.encoder = nn.LSTM(
            size.embedding_size,
            size.encoder_units,
            size.encoder_layers,
            batch_first=True,
            bidirectional=size.bidirectional,
        )
        self.bridges = nn.ModuleList(nn.Linear(memory_units, size.decoder_layers * units, bias=False) for _ in "hc")
        inputs = [size.embedding_size, *[units] * (size.decoder_layers - 1)]
        self.cells = nn.ModuleList(nn.LSTMCell(width, units) for width in inputs)
        self.keys = nn.Linear(memory_units, units, bias=False)
        self.combine = nn.Linear(units + memory_units, size.embedding_size)
        self.output = nn.Linear(size.embedding_size, size.vocabulary_size)
        self.output.weight = self.embedding.weight

    def read(self, embedded_BSE: Tensor, lengths_B: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """The memory of the sources, and the encoder's last states."""
        if int(lengths_B.min()) == embedded_BSE.shape[1]:  # spared what packing costs where there is nothing to pack
            memory_BSM, last = self.encoder(embedded_BSE)
        else:
            packed = pack_padded_sequence(embedded_BSE, lengths_B, batch_first=True, enforce_sorted=False)
            packed_memory, last = self.encoder(packed)
            memory_BSM, _ = pad_packed_sequence(packed_memory, batch_first=True)
        return memory_BSM, last

    def forward(self, source_BS: Tensor, lengths_B: Tensor, input_BT: Tensor, target_BT: Tensor) -> Tensor:
        """Mean loss a target token, in nats; targets of -1 do not count."""
        scale = math.sqrt(self.embedding.embedding_dim)
        memory_BSM, last = self.read(self.embedding(source_BS) * scale, lengths_B)
        keys_BSH = self.keys(memory_BSM)
        padding_BS = torch.arange(source_BS.shape[1]) >= lengths_B.unsqueeze(1)
        ends = 2 if self.encoder.bidirectional else 1
        h, c = (
            bridge(torch.cat(tuple(part[-ends:]), dim=1)).chunk(len(self.cells), dim=1)
            for bridge, part in zip(self.bridges, last, strict=True)
        )
        states = list(zip(h, c, strict=True))
        loss = torch.zeros(())
        for t in range(input_BT.shape[1]):
            x = self.embedding(input_BT[:, t]) * scale
            for layer, cell in enumerate(self.cells):
                states[layer] = cell(x, states[layer])
                x = states[layer][0]
            scores_BS = torch.bmm(keys_BSH, x.unsqueeze(2)).squeeze(2) / math.sqrt(x.shape[1])
            weights_BS = torch.softmax(scores_BS.masked_fill(padding_BS, float("-inf")), dim=1)
            context_BM = torch.bmm(weights_BS.unsqueeze(1), memory_BSM).squeeze(1)
            logits_BV = self.output(torch.tanh(self.combine(torch.cat((context_BM, x), dim=1))))
            loss = loss + F.cross_entropy(logits_BV, target_BT[:, t], ignore_index=-1, reduction="sum")
        return loss / (target_BT >= 0).sum()


class TutorialSeq2Seq(TextbookSeq2Seq):
    """The same, with the encoder called token by token too: for one pair at a time, and one direction."""

    def read(self, embedded_BSE: Tensor, lengths_B: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """The memory of one source, and the encoder's last states."""
        outputs, last = [], None
        for t in range(embedded_BSE.shape[1]):
            output, last = self.encoder(embedded_BSE[:, t : t + 1], last)
            outputs.append(output)
        assert last is not None
        return torch.cat(outputs, dim=1), last


def shuffled(examples: Examples, batch_tokens: int) -> list[Ids]:
    """Batches of a fixed number of rows in random order, of `batch_tokens` target tokens on average."""
    order = np.random.default_rng(3).permutation(len(examples))
    sample = examples.batch(order[:1000], 0)
    rows = max(1, round(batch_tokens * len(sample.target_BT) / sample.target_tokens))
    return np.split(order, range(rows, len(order), rows))


def textbook(size: ModelConfig, recipe: OptimiserRecipe, examples: Examples, batches: Sequence[Ids]) -> Run:
    """The textbook's training, with Adam."""
    torch.manual_seed(1)
    model = TextbookSeq2Seq(size)
    return _training(
        model, torch.optim.Adam(model.parameters(), lr=recipe.learning_rate), recipe.clip, examples, batches
    )


def tutorial(size: ModelConfig, recipe: OptimiserRecipe, examples: Examples) -> Run:
    """The tutorial's, one pair after another, with plain gradient descent."""
    torch.manual_seed(1)
    model = TutorialSeq2Seq(size)
    pairs = np.random.default_rng(3).permutation(len(examples))[:1000]
    return _training(
        model, torch.optim.SGD(model.parameters(), lr=0.01), recipe.clip, examples, np.split(pairs, len(pairs))
    )


def _training(
    model: TextbookSeq2Seq,
    optimiser: torch.optim.Optimizer,
    clip: float,
    examples: Examples,
    batches: Sequence[Ids],
) -> Run:
    epoch = itertools.cycle(batches)

    def run(steps: int) -> float:
        tokens, begin = 0, 0.0
        for number, positions in enumerate(itertools.islice(epoch, steps + 1)):
            if number == 1:  # as with ours, the first step does not count
                tokens, begin = 0, time.perf_counter()
            batch = examples.batch(positions, 0)
            arrays = (batch.source_BS, batch.lengths_B, batch.input_BT, batch.target_BT)
            loss = model(*(torch.from_numpy(array) for array in arrays))
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), clip)
            optimiser.step()
            tokens += batch.target_tokens
        return tokens / (time.perf_counter() - begin)

    return run
