"""Whether training slows down, or needs more memory, with longer sentences and with more pairs.

Out: two tables. The pairs are dialogues in a file, prepared and trained on by what `chatbot train` calls, in processes
of their own: one that reads and tokenises, and one that finds that done and trains.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from dataclasses import asdict, replace
from itertools import accumulate
from pathlib import Path
from statistics import median

import torch

from benchmarks.reply import FULL_SIZE, QUICK_SIZE
from benchmarks.start import peak_mb
from benchmarks.train_work import Precision, bench_recipe, drawn_words, flops, made_up, ours, steps_of
from chatbot.model import Seq2Seq
from training.chattask import fitted, prepare
from training.recipe import DataRecipe, ModelRecipe, load_recipe
from training.trainer import Trainer

_LENGTHS = (10, 40, 100)
_DRAWS = 1000
_TOKENS = 1536  # of a batch
_PAIRS = (10_000, 100_000)
_STEPS = 15
_PATIENCE_S = 3600


def growth(folder: Path, precision: Precision, peak: float, *, quick: bool, million: bool) -> list[str]:
    """Lines of Markdown: by length, and by the number of pairs."""
    return [*_by_length(folder, precision, peak, quick), "", *_by_pairs(folder, quick, million)]


def _by_length(folder: Path, precision: Precision, peak: float, quick: bool) -> list[str]:
    size, windows, steps, draws = (QUICK_SIZE, 1, 1, 50) if quick else (FULL_SIZE, 3, 3, _DRAWS)
    runs, costs = [], []
    for length in _LENGTHS:
        recipe = bench_recipe(size, _TOKENS)
        examples = made_up(recipe, 60 if quick else 60_000, length, length)
        runs.append(ours(recipe, examples, folder / f"length-{length}", draws, precision))
        costs.append(flops(size, length, length, drawn_words(examples, draws)))
    rates = list(zip(*[[run(steps) for run in runs] for _ in range(windows)], strict=True))
    lines = [
        f"| ours, 2x512, sampled softmax, {precision}: tokens a side | target tokens/s | times that of {_LENGTHS[0]} "
        "| share of the peak |",
        "|---|--:|--:|--:|",
    ]
    for length, cost, speeds in zip(_LENGTHS, costs, rates, strict=True):
        ratio = median(speed / base for speed, base in zip(speeds, rates[0], strict=True))
        share = median(speeds) * cost / peak
        lines.append(f"| {length} tokens a sentence | {median(speeds):.0f} | {ratio:.3g} | {share:.3g} |")
    return lines


def _by_pairs(folder: Path, quick: bool, million: bool) -> list[str]:
    counts = (100,) if quick else (*_PAIRS, 1_000_000) if million else _PAIRS
    lines = [
        "| pairs in a file, through the starter's recipe | preparing, s | µs a pair | peak MB of preparing "
        "| training, target tokens/s | peak MB of training |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for count in counts:
        place = folder / f"pairs-{count}"
        place.mkdir()
        write_pairs(place / "pairs.jsonl", count)
        (seconds, preparing), (rate, training) = (_measured(place, step, quick) for step in ("prepare", "train"))
        lines.append(
            f"| {count:,} pairs | {seconds:.3g} | {1e6 * seconds / count:.0f} | {preparing:.0f} | {rate:.0f} "
            f"| {training:.0f} |"
        )
    return lines


def write_pairs(path: Path, count: int) -> None:
    """A dialogue file of made-up questions and answers, of about 8 words and 10."""
    dice = random.Random(7)
    syllables = [consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiou"]
    words = ["".join(dice.choices(syllables, k=dice.randrange(1, 4))) for _ in range(6000)]
    shares = list(accumulate(1 / (10 + place) for place in range(len(words))))  # Zipf's law, nearly
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            turns = [" ".join(dice.choices(words, cum_weights=shares, k=dice.randrange(2, 2 * n))) for n in (8, 10)]
            file.write(json.dumps({"id": str(number), "source": "other", "license": "CC0-1.0", "turns": turns}) + "\n")


def _measured(folder: Path, step: str, quick: bool) -> tuple[float, float]:
    """What `measure` finds in a process of its own: seconds or tokens a second, and its peak in MB."""
    code = f"from benchmarks.train_growth import measure; measure({str(folder)!r}, {step!r}, {quick})"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "OMP_NUM_THREADS": "1"} if quick else None,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        timeout=_PATIENCE_S,
    )
    figure, peak = json.loads(done.stdout)
    return figure, peak


def measure(folder: str, step: str, quick: bool) -> None:
    """In a process of its own: prepare the pairs of `folder`, or train on what was prepared; JSON on stdout."""
    place, size = Path(folder), QUICK_SIZE if quick else FULL_SIZE
    starter = load_recipe("starter")
    recipe = replace(
        starter,
        data=DataRecipe(paths=(str(place / "pairs.jsonl"),), max_source_tokens=40),
        model=ModelRecipe(**{**asdict(size), "dropout": 0.0}),
        optimiser=replace(bench_recipe(size, _TOKENS).optimiser, softmax_draws=50 if quick else _DRAWS),
    )
    begin = time.perf_counter()
    data = prepare(recipe, place, None)
    figure = time.perf_counter() - begin
    if step == "train":
        torch.manual_seed(1)
        model = Seq2Seq(fitted(recipe.model, data.tokenizer))
        trainer = Trainer(recipe, model, data.training, lambda _: 0.0, place, device="cpu", save_model=lambda _: None)
        figure = steps_of(trainer)(1 if quick else _STEPS)
    print(json.dumps([figure, peak_mb(os.getpid())]))
