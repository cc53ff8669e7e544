"""The tokens of a run: learnt from its data, or those of the model it starts from with the markers it needs besides.

In: a recipe and dialogue files, or a tokenizer and the weights that belong to it. Out: the same for the run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch

from chatbot.tokenizer import REVERSED, Tokenizer
from training.corpus import read_dialogues
from training.recipe import Recipe

_TOKENIZER_SAMPLE = 60_000  # dialogues: more text hardly moves the merges


def train_tokenizer(recipe: Recipe, paths: Sequence[Path]) -> Tokenizer:
    """Learn the vocabulary from an even sample of every file; markers for every source that occurs."""
    markers: set[str] = set()
    share = max(1, _TOKENIZER_SAMPLE // len(paths))

    def texts() -> Iterator[str]:
        for path in paths:
            for number, dialogue in enumerate(read_dialogues([path])):
                markers.add(recipe.data.rename.get(dialogue.source, dialogue.source))
                if number < share:
                    yield from dialogue.turns

    sample = list(texts())
    names = {*markers, *recipe.data.rename.values(), recipe.answer.source, "other", *_extra_markers(recipe)}
    return Tokenizer.train(sample, recipe.model.vocabulary_size, sorted(names))


def _extra_markers(recipe: Recipe) -> list[str]:
    return [REVERSED] if recipe.data.reversed else []


def with_markers(tokenizer: Tokenizer, recipe: Recipe) -> Tokenizer:
    """`tokenizer`, which a run starts from, with the markers that the recipe needs besides."""
    missing = [name for name in _extra_markers(recipe) if name not in tokenizer.sources]
    return tokenizer.with_sources(missing) if missing else tokenizer


def grown(weights: Mapping[str, torch.Tensor], tokenizer: Tokenizer) -> dict[str, torch.Tensor]:
    """`weights` with a row for each marker that `tokenizer` has more; it begins as that of "other"."""
    grown = dict(weights)
    for name in ("embedding.weight", "output_bias"):
        missing = len(tokenizer) - len(grown[name])
        row = grown[name][tokenizer.source_id("other")]
        grown[name] = torch.cat((grown[name], *[row.unsqueeze(0)] * missing))
    return grown
