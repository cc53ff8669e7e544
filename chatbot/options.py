"""The settings of one reply: how it is searched for, and how it is chosen among candidates. It knows no model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields

from chatbot.config import build
from chatbot.errors import UsageError

_RANGES: dict[str, tuple[float, float]] = {
    "beam_size": (1, 64),
    "candidates": (1, 64),
    "temperature": (0, 10),
    "top_k": (0, 1_000_000),
    "top_p": (1e-9, 1),
    "min_tokens": (1, 512),
    "max_tokens": (1, 512),
    "no_repeat_ngram": (0, 16),
    "length_penalty": (0, 5),
    "seed": (0, 2**63 - 1),
    "reverse_weight": (0, 10),
    "prior_weight": (0, 1),
    "neighbours": (0, 16),
}


@dataclass(frozen=True, slots=True)
class DecodingOptions:
    """How one reply is searched for; checked as a whole when made, UsageError in plain words."""

    beam_size: int = 1  # hypotheses kept a step; 1: no beam search
    temperature: float = 0.0  # logits are divided by it before drawing; 0: always the likeliest token
    top_k: int = 0  # draw among the k likeliest tokens (Fan et al. 2018, arXiv 1805.04833); 0: all
    top_p: float = 1.0  # draw among the likeliest with this share (nucleus, Holtzman et al. 2020, arXiv 1904.09751)
    candidates: int = 1  # independent samples, of which the best score wins (Adiwardana et al. 2020, arXiv 2001.09977)
    min_tokens: int = 1  # tokens before the reply may end
    max_tokens: int = 40  # tokens at which it must
    no_repeat_ngram: int = 3  # no sequence of this many tokens twice (Paulus et al. 2018, arXiv 1705.04304); 0: off
    length_penalty: float = 0.7  # alpha of Wu et al. 2016 (GNMT, arXiv 1609.08144), equation 14; 0: none
    banned: tuple[int, ...] = ()  # token ids that must not be said
    seed: int | None = None  # of the draws; None: from the operating system
    known: bool = True  # a question that the model folder knows nearly word for word gets its reply undecoded
    recall: bool = True  # a question about what the person told in the talk is answered from there, undecoded
    rank: bool = False  # choose among all candidates, of draws and of the beam, by `chatbot.ranking`
    reverse_weight: float = 0.4  # in ranking, of how well the reply leads back to what was said; 0: not asked
    prior_weight: float = 0.15  # in ranking, of what is taken off for a reply that is likely anywhere; 0: not asked
    neighbours: int = 0  # in ranking, known replies to similar questions that join as candidates

    def __post_init__(self) -> None:
        for item in fields(self):
            low, high = _RANGES.get(item.name, (-math.inf, math.inf))
            value = getattr(self, item.name)
            if item.name != "banned" and value is not None and not low <= value <= high:
                raise UsageError(f"{item.name} is {value}; it must be from {low:g} to {high:g}")
        if any(token < 0 for token in self.banned):
            raise UsageError(f"banned holds {min(self.banned)}; token ids start at 0")
        if self.min_tokens > self.max_tokens:
            raise UsageError(
                f"min_tokens {self.min_tokens} is above max_tokens {self.max_tokens}; lower one or raise the other"
            )
        if self.beam_size > 1 and (self.temperature > 0 or self.candidates > 1) and not self.rank:
            raise UsageError(
                f"beam_size {self.beam_size} does not go with temperature {self.temperature:g} and candidates "
                f"{self.candidates}: a beam does not draw; set beam_size=1, or temperature=0 and "
                "candidates=1, or rank=true to have both"
            )
        if self.candidates > 1 and self.temperature == 0:
            raise UsageError(
                f"candidates {self.candidates} would all be the same at temperature 0; "
                "set temperature=0.7 or candidates=1"
            )


def options_from(settings: Mapping[str, object]) -> DecodingOptions:
    """Options from plain keys and values; UsageError names a key that is unknown and its nearest, or a wrong type."""
    return build(DecodingOptions, settings, "decode settings")
