"""How fast we train: our loop beside the loops that textbooks and tutorials write, on the same examples.

Out: a section of Markdown. The textbook takes shuffled examples, pads them to the longest of the batch, and steps its
decoder token by token, with attention and a full softmax in each step. It is also given our batches, which hardly need
padding, to show what comes from them. The tutorial takes one pair at a time. Ours is the real
`training.trainer.Trainer`: one fused call for all steps, then attention and softmax for all of them at once, on batches
of one source length. Same sizes, same mathematics (a test compares the losses), same clipping, no dropout; padding
counts for nobody.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch

from benchmarks.reply import FULL_SIZE, QUICK_SIZE
from benchmarks.train_growth import growth
from benchmarks.train_textbook import Run, shuffled, textbook, tutorial
from benchmarks.train_work import Precision, bench_recipe, drawn_words, flops, gemm_peak, made_up, ours
from chatbot.model import ModelConfig
from training.batches import Ids
from training.processes import bf16_pays

_CLASSIC_SIZE = ModelConfig(
    vocabulary_size=5000,
    embedding_size=256,
    encoder_units=256,
    decoder_units=256,
    encoder_layers=3,
    decoder_layers=3,
    bidirectional=False,
)
_READ, _SAID = 10, 12  # tokens of a pair, the end mark counted
_QUICK_PAIRS = 300
_PAIRS = 60_000  # enough for batches of one exact source length
_OWN_FORM = "ours, attention fed into the cells"


@dataclass(frozen=True, slots=True)
class Work:
    """A group of rows: the same examples for all. `tokens` is the mean of target tokens in a batch."""

    name: str
    size: ModelConfig
    tokens: int
    draws: int
    windows: int
    tutorial: bool = False  # with the tutorial's row, and ours with attention inside the recurrence
    thorough: bool = False  # with the textbook on our batches, and ours in fp32 too


_FULL = (
    Work("chat-classic, 50 pairs", _CLASSIC_SIZE, 50 * _SAID, 512, 5, tutorial=True),
    Work("chat-classic, 250 pairs", _CLASSIC_SIZE, 250 * _SAID, 512, 3),
    Work("2x512, 128 pairs", FULL_SIZE, 128 * _SAID, 1000, 5, thorough=True),
    Work("2x512, 32k words, 128 pairs", replace(FULL_SIZE, vocabulary_size=32_000), 128 * _SAID, 1000, 3),
)
_CLASSIC_QUICK = replace(QUICK_SIZE, bidirectional=False, encoder_layers=2, decoder_layers=2)
_QUICK = (
    Work("chat-classic, 50 pairs", _CLASSIC_QUICK, 100, 50, 2, tutorial=True),
    Work("chat-classic, 250 pairs", _CLASSIC_QUICK, 200, 50, 2),
    Work("2x512, 128 pairs", QUICK_SIZE, 200, 50, 2, thorough=True),
    Work("2x512, 32k words, 128 pairs", QUICK_SIZE, 200, 50, 2),
)


@dataclass(frozen=True, slots=True)
class _Contender:
    name: str
    run: Run
    steps: int  # of a window
    flops: float  # a target token
    precision: Precision


def section(quick: bool, million: bool = False) -> str:
    """The tables of this file; `quick` proves only that it runs. `million` lets the data grow to a million pairs."""
    if quick:  # with more, threads that wait for one another on a busy machine take minutes over nothing
        torch.set_num_threads(1)
    precisions: list[Precision] = ["fp32", "bf16"] if bf16_pays(torch.device("cpu")) else ["fp32"]
    side = 256 if quick else 2048
    peaks = {precision: gemm_peak(precision, side) for precision in precisions}
    rows: list[str] = []
    with TemporaryDirectory() as temporary:
        for number, work in enumerate(_QUICK if quick else _FULL):
            print(f"  {work.name}", file=sys.stderr)
            contenders = _contenders(work, Path(temporary) / str(number), precisions, quick)
            rates: dict[str, list[float]] = {contender.name: [] for contender in contenders}
            for _ in range(work.windows):
                for contender in contenders:
                    rates[contender.name].append(contender.run(contender.steps))
                peaks = {precision: max(peak, gemm_peak(precision, side)) for precision, peak in peaks.items()}
            rows += [_row(work, contender, rates, peaks) for contender in contenders]
        said = ", ".join(f"{peak / 1e9:.0f} GFLOP/s in {precision}" for precision, peak in peaks.items())
        return "\n".join(
            [
                "### Training",
                "",
                f"About {_READ} tokens in and {_SAID} out. The batches have so many pairs on average, ours of one "
                f"source length each. Medians of windows, in turn. The machine's peak, a product of two matrices of "
                f"{side} by {side}, was {said} in this run; a share of the peak is that of the row's own number type.",
                "",
                "| work: loop | target tokens/s | times the textbook [least..most] | share of the peak |",
                "|---|--:|--:|--:|",
                *rows,
                "",
                *growth(Path(temporary), precisions[-1], peaks[precisions[-1]], quick=quick, million=million),
            ]
        )


def _contenders(work: Work, folder: Path, precisions: Sequence[Precision], quick: bool) -> list[_Contender]:
    """Everybody at one work, the textbook first."""
    recipe = bench_recipe(work.size, work.tokens)
    examples = made_up(recipe, _QUICK_PAIRS if quick else _PAIRS, _READ, _SAID)
    full = flops(work.size, _READ, _SAID, work.size.vocabulary_size)
    sampled = flops(work.size, _READ, _SAID, drawn_words(examples, work.draws))
    steps = 1 if quick else 3

    def loop(batches: Sequence[Ids]) -> Run:
        return textbook(work.size, recipe.optimiser, examples, batches)

    found = [
        _Contender("textbook loop", loop(shuffled(examples, work.tokens)), 1, full, "fp32"),
    ]
    if work.thorough:
        run = loop(examples.epoch(0, work.tokens))
        found.append(_Contender("the same loop on our batches", run, 1, full, "fp32"))
    if work.tutorial:
        run = tutorial(work.size, recipe.optimiser, examples)
        found.append(_Contender("tutorial, one pair at a time", run, 4 * steps, full, "fp32"))
        fed = replace(recipe, model=replace(recipe.model, form="grammar", attention="additive", tied_output=False))
        run = ours(fed, examples, folder / "fed", work.draws, "fp32")
        found.append(_Contender(f"{_OWN_FORM}, sampled softmax, fp32", run, steps, sampled, "fp32"))
    for precision in precisions if work.thorough else precisions[-1:]:
        for draws, cost, softmax in ((0, full, "full softmax"), (work.draws, sampled, "sampled softmax")):
            run = ours(recipe, examples, folder / f"{precision}-{draws}", draws, precision)
            found.append(_Contender(f"ours, {softmax}, {precision}", run, steps, cost, precision))
    return found


def _row(work: Work, contender: _Contender, rates: dict[str, list[float]], peaks: dict[Precision, float]) -> str:
    speeds = rates[contender.name]
    ratios = [speed / base for speed, base in zip(speeds, rates["textbook loop"], strict=True)]
    share = median(speeds) * contender.flops / peaks[contender.precision]
    return (
        f"| {work.name}: {contender.name} | {median(speeds):.0f} | {median(ratios):.3g} "
        f"[{min(ratios):.3g}..{max(ratios):.3g}] | {share:.3g} |"
    )
