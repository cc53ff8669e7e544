"""How well a model predicts dialogues it has not seen: perplexity by token, word and character, by source.

Words are counted as in ConvAI2 (Dinan et al. 2019): runs of letters and digits ("don't" is one) and single punctuation
marks, plus one end mark a reply; a Han character is a word of its own. ppl_word = exp(nats / (words + replies)). The
three figures share one numerator, so that models with different vocabularies can be compared.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from chatbot.config import build
from chatbot.model import EncoderDecoder
from chatbot.tokenizer import Tokenizer
from training.batches import Examples
from training.corpus import Dialogue, read_dialogues
from training.dataset import ExampleSet, tokenise
from training.recipe import DataRecipe

_HAN = "\u3400-\u4dbf\u4e00-\u9fff"
_WORD = re.compile(f"[{_HAN}]|[^\\W{_HAN}]+(?:['\u2019][^\\W{_HAN}]+)*|[^\\w\\s]")
_LONGEST_REPLY = 1024
_PROMPTS, _PROMPT_TOKENS = 200, 2000


@dataclass(frozen=True, slots=True)
class Likelihood:
    """Sums over replies: natural logarithms of probabilities, and what they are divided by."""

    nats: float = 0.0
    replies: int = 0
    tokens: int = 0
    words: int = 0
    characters: int = 0

    def __add__(self, other: Likelihood) -> Likelihood:
        return Likelihood(
            self.nats + other.nats,
            self.replies + other.replies,
            self.tokens + other.tokens,
            self.words + other.words,
            self.characters + other.characters,
        )

    @property
    def per_token(self) -> float:
        """Perplexity per token, end marks counted."""
        return _exp(self.nats / max(1, self.tokens))

    @property
    def per_word(self) -> float:
        """Perplexity per word, end marks counted."""
        return _exp(self.nats / max(1, self.words + self.replies))

    @property
    def per_character(self) -> float:
        """Perplexity per character (spaces left out), end marks counted."""
        return _exp(self.nats / max(1, self.characters + self.replies))

    @property
    def bits_per_character(self) -> float:
        """Bits per character, end marks counted."""
        return self.nats / math.log(2) / max(1, self.characters + self.replies)


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf


def count_words(text: str) -> int:
    """Words and punctuation marks of `text`, Han characters one by one."""
    return len(_WORD.findall(text))


@torch.inference_mode()
def score_replies(
    model: EncoderDecoder, examples: Examples, batch_tokens: int = 4000
) -> tuple[np.ndarray[tuple[int], np.dtype[np.float64]], np.ndarray[tuple[int], np.dtype[np.int64]]]:
    """Nats and tokens of each example's reply, in the set's order, without dropout or label smoothing."""
    device = next(model.parameters()).device
    model.eval()
    nats, tokens = np.zeros(len(examples)), np.zeros(len(examples), dtype=np.int64)
    for rows, batch in examples.in_order(batch_tokens):
        target = torch.from_numpy(batch.target_BT).to(device)
        features = model(
            torch.from_numpy(batch.source_BS).to(device),
            torch.from_numpy(batch.lengths_B),
            torch.from_numpy(batch.input_BT).to(device),
        )
        wanted = target >= 0
        losses = F.cross_entropy(model.logits(features[wanted]).float(), target[wanted], reduction="none")
        table = torch.zeros(target.shape, device=device)
        table[wanted] = losses
        nats[rows] = table.sum(dim=1).double().cpu().numpy()
        tokens[rows] = wanted.sum(dim=1).cpu().numpy()
    return nats, tokens


def evaluation_set(dialogues: Sequence[Dialogue], tokenizer: Tokenizer, recipe: DataRecipe) -> ExampleSet:
    """All replies of `dialogues`, clean, with contexts as the model was trained to read them.

    A reply is scored whole, or up to its first 1023 tokens: one of a megabyte must not take the memory.
    """
    plain = replace(
        recipe,
        weights={},
        noise=0.0,
        max_reply_copies=2**31,
        min_quality=-math.inf,
        max_target_tokens=_LONGEST_REPLY,
    )
    return ExampleSet(tokenise(dialogues, tokenizer, plain, 0), tokenizer, plain, 0)


def prompts(examples: Examples) -> list[list[int]]:
    """What the encoder reads before replies of the set, as token ids: every so many of them, some two hundred."""
    read = [
        row[:length].tolist()
        for _, batch in examples.in_order(_PROMPT_TOKENS)
        for row, length in zip(batch.source_BS, batch.lengths_B, strict=True)
    ]
    return read[:: max(1, len(read) // _PROMPTS)]


def likelihood_by_source(
    model: EncoderDecoder, tokenizer: Tokenizer, dialogues: Iterable[Dialogue], recipe: DataRecipe
) -> Mapping[str, Likelihood]:
    """`Likelihood` of the replies of each source, and of all under "all"."""
    kept = list(dialogues)
    nats, tokens = score_replies(model, evaluation_set(kept, tokenizer, recipe))
    sums: dict[str, Likelihood] = defaultdict(Likelihood)
    place = 0
    for dialogue in kept:
        for turn in dialogue.turns[-1 if dialogue.last_only else 1 :]:
            characters = sum(not c.isspace() for c in turn)
            sums[dialogue.source] += Likelihood(
                float(nats[place]), 1, int(tokens[place]), count_words(turn), characters
            )
            place += 1
    total = sum(sums.values(), Likelihood())
    return {"all": total, **dict(sorted(sums.items()))}


def evaluate_model(folder: Path, data: Sequence[Path], device: str = "auto") -> Mapping[str, Likelihood]:
    """`likelihood_by_source` of a model folder on dialogue files; raises what loading and reading raise."""
    from chatbot.checkpoint import load_model_folder
    from training.processes import pick_device

    loaded = load_model_folder(folder)
    recipe = build(DataRecipe, loaded.config.get("context"), f"{folder / 'config.json'}: context")
    return likelihood_by_source(loaded.model.to(pick_device(device)), loaded.tokenizer, read_dialogues(data), recipe)
