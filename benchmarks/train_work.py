"""The work of a training benchmark: sizes, made-up pairs, what a token costs, and our own trainer as a contender.

In: sizes and numbers. Out: examples, operations a token, and functions that train for some steps.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.train_textbook import Run
from chatbot.model import ModelConfig, Seq2Seq
from chatbot.sides import SIDES, PairTokenizer
from training.pairset import PairCorpus, PairSet
from training.recipe import ModelRecipe, OptimiserRecipe, Recipe
from training.trainer import StepReport, Trainer

Precision = Literal["fp32", "bf16"]
_NEVER = 1_000_000_000
_FIRST_CHARACTER = 0x20000  # of a plane of the alphabet that is large enough for any vocabulary here
_PEAK_TRIES = 5


def bench_recipe(size: ModelConfig, batch_tokens: int) -> Recipe:
    """A run of pairs with this size and the optimiser of the shipped model; no dropout, evaluation, checkpoints."""
    return Recipe(
        "bench",
        task="pairs",
        model=ModelRecipe(**{**asdict(size), "dropout": 0.0}),
        optimiser=OptimiserRecipe(
            steps=_NEVER,
            evaluate_every=_NEVER,
            checkpoint_every=_NEVER,
            label_smoothing=0.0,
            batch_tokens=batch_tokens,
        ),
    )


def made_up(recipe: Recipe, pairs: int, read: int, said: int) -> PairSet:
    """Pairs of made-up tokens, `read` in and `said` out on average, the end mark counted."""
    rng = np.random.default_rng(2)
    size = recipe.model.vocabulary_size
    side = SIDES["characters"].learn([chr(_FIRST_CHARACTER + number) for number in range(size)], size)
    tokens = PairTokenizer("characters", side, side)
    first = 1 + max(side.marker_ids)
    shares = 1 / (10 + np.arange(len(tokens) - first))  # Zipf's law, nearly
    sizes = [_lengths(rng, mean, pairs) for mean in (read, said - 1)]
    drawn = [(first + rng.choice(len(shares), part.sum(), p=shares / shares.sum())).astype(np.uint16) for part in sizes]
    starts = [np.concatenate(([0], np.cumsum(part))).astype(np.int64) for part in sizes]
    return PairSet(PairCorpus(drawn[0], drawn[1], starts[0], starts[1], np.ones(pairs, np.float32)), tokens, recipe)


def _lengths(rng: np.random.Generator, mean: int, count: int) -> NDArray[np.int64]:
    """Positive lengths of this mean, with the long tail of chat: a negative binomial, shifted by one."""
    return 1 + rng.poisson(rng.gamma(2, (mean - 1) / 2, count))


def flops(size: ModelConfig, read: float, said: float, words: float) -> float:
    """Floating-point operations that one target token costs in training, padding excluded.

    Two a number that is multiplied, forward, and twice as many backward, of an LSTM whose attention reads what the
    decoder said: `read` tokens in, `said` out on average, scores for `words` words of the vocabulary.
    """
    encoder, memory, units = size.encoder_units, size.memory_units, size.decoder_units
    widths = [size.embedding_size, *[memory] * (size.encoder_layers - 1)]
    reading = sum(4 * memory * (width + encoder) for width in widths) + memory * units
    widths = [size.embedding_size, *[units] * (size.decoder_layers - 1)]
    saying = sum(4 * units * (width + units) for width in widths) + (units + memory) * size.embedding_size
    attending = read * (units + memory)
    return 3 * 2 * (read / said * reading + saying + attending + words * size.embedding_size)


def drawn_words(examples: PairSet, draws: int) -> float:
    """How many words of the vocabulary a step scores: all, or those that `draws` draws hit, in the mean."""
    counts = examples.frequencies()
    if not draws:
        return float(len(counts))
    odds = 0.5 * counts / counts.sum() + 0.5 / len(counts)  # as `training.loss.SoftmaxSampler` draws
    return float(-np.expm1(draws * np.log1p(-odds)).sum())


def gemm_peak(precision: Precision, side: int) -> float:
    """The most operations a second of a product of two square matrices, of some tries."""
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    left, right = (torch.rand(side, side).to(kind) for _ in range(2))
    torch.mm(left, right)
    best = 0.0
    for _ in range(_PEAK_TRIES):
        begin = time.perf_counter()
        torch.mm(left, right)
        best = max(best, 2 * side**3 / (time.perf_counter() - begin))
    return best


class _EnoughSteps(Exception):
    """Stops the trainer between two steps; it goes on from there when it is called again."""


def ours(recipe: Recipe, examples: PairSet, folder: Path, draws: int, precision: Precision) -> Run:
    """The trainer of `chatbot train` on the CPU, with its averaged weights and its metrics file."""
    torch.manual_seed(1)
    folder.mkdir(parents=True)
    chosen = replace(recipe, precision=precision, optimiser=replace(recipe.optimiser, softmax_draws=draws))
    trainer = Trainer(
        chosen, Seq2Seq(chosen.model), examples, lambda _: 0.0, folder, device="cpu", save_model=lambda _: None
    )
    return steps_of(trainer)


def steps_of(trainer: Trainer) -> Run:
    """A function that trains for some steps and says how many target tokens a second it made."""

    def run(steps: int) -> float:
        heard: list[tuple[float, int]] = []

        def hear(report: StepReport) -> None:
            heard.append((time.perf_counter(), report.tokens))
            if len(heard) > steps:
                raise _EnoughSteps

        with suppress(_EnoughSteps):
            trainer.train(hear)
        # The first step cuts the batches of the epoch, which a real run does once in thousands of steps.
        return sum(tokens for _, tokens in heard[1:]) / (heard[-1][0] - heard[0][0])

    return run
