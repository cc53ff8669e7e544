"""What the loop asks of a training set, of talk or of pairs, and what it gets.

In: nothing. Out: types, and the one rule by which rows are cut into batches.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from chatbot.tokenizer import Tokenizer

Ids = NDArray[np.int64]
EXACT_FROM = 50_000  # examples from which batches of one exact source length are still full


@dataclass(frozen=True, slots=True)
class Batch:
    """One step's worth; `source_BS` is padded behind `lengths_B`, `target_BT` with -1 behind each end mark."""

    source_BS: Ids | NDArray[np.float32]
    lengths_B: Ids
    input_BT: Ids  # <s> and the target without its end mark
    target_BT: Ids
    taught_B: NDArray[np.bool_]  # rows from the log: what is to change; the others are rehearsal
    weight_B: NDArray[np.float32] | None = None  # how much each row counts, where they do not count alike

    @property
    def target_tokens(self) -> int:
        """Tokens that count towards the loss."""
        return int((self.target_BT >= 0).sum())


class Examples(Protocol):
    """What the loop and the scoring ask of a training set, of talk or of pairs."""

    def __len__(self) -> int: ...

    def frequencies(self) -> Ids:
        """How often each token of the vocabulary is a target: (vocabulary,)."""

    def epoch(self, epoch: int, batch_tokens: int) -> list[Ids]:
        """The batches of one epoch, each the positions of its examples, in the order of training."""

    def batch(self, examples: Ids, epoch: int, *, clean: bool = False) -> Batch:
        """The arrays of `examples`; `clean` for evaluation."""

    def in_order(self, batch_tokens: int) -> Iterator[tuple[Ids, Batch]]:
        """Every example once, near lengths together: for evaluation."""


@dataclass(frozen=True, slots=True)
class PreparedData:
    """What the loop needs; `facts` goes into `data.json` and the model's provenance."""

    training: Examples
    validation: Examples
    tokenizer: Tokenizer
    facts: Mapping[str, Any]


def cuts(widths: Ids, batch_tokens: int, groups: Ids) -> list[int]:
    """Where to cut rows of `widths` so that no batch is over `batch_tokens` padded tokens or mixes two `groups`."""
    found: list[int] = []
    first, widest = 0, 0
    for place, (width, group) in enumerate(zip(widths.tolist(), groups.tolist(), strict=True)):
        widest = max(widest, width)
        if place > first and (group != groups[first] or (place - first + 1) * widest > batch_tokens):
            found.append(place)
            first, widest = place, width
    return found
