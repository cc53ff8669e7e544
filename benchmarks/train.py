"""How fast we train: our loop beside the loop that tutorials write, on the same examples.

Out: a section of Markdown. The textbook takes shuffled examples, pads them to the longest of the batch, and steps its
decoder token by token, with attention and a full softmax in each step. It is also given our batches, which hardly need
padding, to show what comes from them. Ours is the real `training.trainer.Trainer` on the batches that the starter's
recipe would cut: one fused call for all steps, then attention and softmax for all of them at once. Same sizes, same
mathematics (a test compares the losses), same clipping, no dropout; padding counts for nobody.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from benchmarks.reply import FULL_SIZE, QUICK_SIZE, save_random_model
from chatbot.model import ModelConfig, Seq2Seq
from chatbot.tokenizer import Tokenizer
from training.dataset import ExampleSet, TokenisedCorpus
from training.processes import bf16_pays
from training.recipe import ModelRecipe, Recipe, load_recipe
from training.trainer import StepReport, Trainer

_TEXTBOOK = "textbook PyTorch loop, full softmax, fp32"
_TEXTBOOK_OUR_BATCHES = "the same loop on our batches"
Precision = Literal["fp32", "bf16"]
_NEVER = 1_000_000_000


class TextbookSeq2Seq(nn.Module):
    """The model of `chatbot.model.Seq2Seq` (general attention, LSTM) as tutorials write it: a loop over steps."""

    def __init__(self, size: ModelConfig) -> None:
        super().__init__()
        memory_units, units = 2 * size.encoder_units, size.decoder_units
        self.embedding = nn.Embedding(size.vocabulary_size, size.embedding_size)
        self.encoder = nn.LSTM(
            size.embedding_size, size.encoder_units, size.encoder_layers, batch_first=True, bidirectional=True
        )
        self.bridges = nn.ModuleList(nn.Linear(memory_units, size.decoder_layers * units, bias=False) for _ in "hc")
        inputs = [size.embedding_size, *[units] * (size.decoder_layers - 1)]
        self.cells = nn.ModuleList(nn.LSTMCell(width, units) for width in inputs)
        self.keys = nn.Linear(memory_units, units, bias=False)
        self.combine = nn.Linear(units + memory_units, size.embedding_size)
        self.output = nn.Linear(size.embedding_size, size.vocabulary_size)
        self.output.weight = self.embedding.weight

    def forward(self, source_BS: Tensor, lengths_B: Tensor, input_BT: Tensor, target_BT: Tensor) -> Tensor:
        """Mean loss a target token, in nats; targets of -1 do not count."""
        scale = math.sqrt(self.embedding.embedding_dim)
        embedded_BSE = self.embedding(source_BS) * scale
        if int(lengths_B.min()) == source_BS.shape[1]:  # spared what packing costs where there is nothing to pack
            memory_BSM, last = self.encoder(embedded_BSE)
        else:
            packed = pack_padded_sequence(embedded_BSE, lengths_B, batch_first=True, enforce_sorted=False)
            packed_memory, last = self.encoder(packed)
            memory_BSM, _ = pad_packed_sequence(packed_memory, batch_first=True)
        keys_BSH = self.keys(memory_BSM)
        padding_BS = torch.arange(source_BS.shape[1]) >= lengths_B.unsqueeze(1)
        h, c = (
            bridge(torch.cat((part[-2], part[-1]), dim=1)).chunk(len(self.cells), dim=1)
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


def section(quick: bool) -> str:
    """The table of this file; `quick` proves only that it runs."""
    size = QUICK_SIZE if quick else FULL_SIZE
    recipe = _recipe(size, quick)
    with TemporaryDirectory() as temporary:
        save_random_model(Path(temporary) / "random", size)
        tokenizer = Tokenizer.load(Path(temporary) / "random" / "tokenizer.json")
        examples = ExampleSet(_short_chat(tokenizer, 400 if quick else 60_000), tokenizer, recipe.data, recipe.seed)
        contenders: dict[str, Callable[[int], float]] = {
            _TEXTBOOK: _textbook(size, recipe, examples, _shuffled(examples, recipe.optimiser.batch_tokens)),
            _TEXTBOOK_OUR_BATCHES: _textbook(size, recipe, examples, examples.epoch(0, recipe.optimiser.batch_tokens)),
        }
        precisions: list[Precision] = ["fp32", "bf16"] if bf16_pays(torch.device("cpu")) else ["fp32"]
        for precision, draws in itertools.product(precisions, (0, recipe.optimiser.softmax_draws)):
            softmax = "sampled softmax" if draws else "full softmax"
            folder = Path(temporary) / f"{precision}-{draws}"
            folder.mkdir()
            trainer = _trainer(size, recipe, examples, folder, draws, precision)
            contenders[f"ours, {softmax}, {precision}"] = _steps_of(trainer)
        rates: dict[str, list[float]] = {name: [] for name in contenders}
        windows, steps = (2, 1) if quick else (7, 3)
        for _ in range(windows):
            for name, run in contenders.items():
                rates[name].append(run(steps))
    return _table(size, recipe, rates, steps)


def _recipe(size: ModelConfig, quick: bool) -> Recipe:
    """The starter's recipe with this size, without dropout, evaluation and checkpoints."""
    starter = load_recipe("starter")
    optimiser = replace(
        starter.optimiser,
        steps=_NEVER,
        evaluate_every=_NEVER,
        checkpoint_every=_NEVER,
        label_smoothing=0.0,
        softmax_draws=2000,
    )
    if quick:
        optimiser = replace(optimiser, batch_tokens=200, softmax_draws=100)
    return replace(starter, model=ModelRecipe(**{**asdict(size), "dropout": 0.0}), optimiser=optimiser)


def _short_chat(tokenizer: Tokenizer, dialogues: int) -> TokenisedCorpus:
    """Questions and answers of made-up tokens: about 10 in and 12 out, most shorter, a few several times as long."""
    rng = np.random.default_rng(2)
    first = 1 + max(tokenizer.marker_ids)
    shares = 1 / (10 + np.arange(len(tokenizer) - first))  # Zipf's law, nearly
    # Markers and end mark come on top: 8 and 11 tokens of text.
    sizes = np.stack([_lengths(rng, mean, dialogues) for mean in (8, 11)], axis=1).ravel()
    tokens = (first + rng.choice(len(shares), sizes.sum(), p=shares / shares.sum())).astype(np.uint16)
    starts = np.concatenate(([0], np.cumsum(sizes))).astype(np.int64)
    return TokenisedCorpus(
        tokens=tokens,
        noisy_tokens=tokens,
        turn_starts=starts,
        noisy_starts=starts,
        dialogue_starts=np.arange(0, 2 * dialogues + 1, 2, dtype=np.int64),
        sources=np.full(dialogues, tokenizer.source_id("other"), dtype=np.int64),
        shares=np.ones(dialogues, dtype=np.float32),
        taught=np.zeros(dialogues, dtype=np.bool_),
        kept=np.tile([False, True], dialogues),
    )


def _lengths(rng: np.random.Generator, mean: int, count: int) -> NDArray[np.int64]:
    """Positive lengths of this mean, with the long tail of chat: a negative binomial, shifted by one."""
    return 1 + rng.poisson(rng.gamma(2, (mean - 1) / 2, count))


def _shuffled(examples: ExampleSet, batch_tokens: int) -> list[NDArray[np.int64]]:
    """Batches of a fixed number of rows in random order, of `batch_tokens` target tokens on average."""
    order = np.random.default_rng(3).permutation(len(examples))
    sample = examples.batch(order[:1000], 0)
    rows = max(1, round(batch_tokens * len(sample.target_BT) / sample.target_tokens))
    return np.split(order, range(rows, len(order), rows))


def _textbook(
    size: ModelConfig, recipe: Recipe, examples: ExampleSet, batches: list[NDArray[np.int64]]
) -> Callable[[int], float]:
    """A function that trains for some steps and says how many target tokens a second it made."""
    torch.manual_seed(1)
    model = TextbookSeq2Seq(size)
    optimiser = torch.optim.Adam(model.parameters(), lr=recipe.optimiser.learning_rate)
    epoch = itertools.cycle(batches)

    def run(steps: int) -> float:
        tokens, begin = 0, 0.0
        for number, positions in enumerate(itertools.islice(epoch, steps + 1)):
            if number == 1:  # as below, the first step does not count
                tokens, begin = 0, time.perf_counter()
            batch = examples.batch(positions, 0)
            arrays = (batch.source_BS, batch.lengths_B, batch.input_BT, batch.target_BT)
            loss = model(*(torch.from_numpy(array) for array in arrays))
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), recipe.optimiser.clip)
            optimiser.step()
            tokens += batch.target_tokens
        return tokens / (time.perf_counter() - begin)

    return run


def _trainer(
    size: ModelConfig, recipe: Recipe, examples: ExampleSet, folder: Path, draws: int, precision: Precision
) -> Trainer:
    """The trainer of `chatbot train`, on the CPU."""
    torch.manual_seed(1)
    chosen = replace(recipe, precision=precision, optimiser=replace(recipe.optimiser, softmax_draws=draws))
    return Trainer(
        chosen,
        Seq2Seq(replace(size, dropout=0.0)),
        examples,
        lambda _: 0.0,
        folder,
        device="cpu",
        save_model=lambda _: None,
    )


class _EnoughSteps(Exception):
    """Stops the trainer between two steps; it goes on from there when it is called again."""


def _steps_of(trainer: Trainer) -> Callable[[int], float]:
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


def _table(size: ModelConfig, recipe: Recipe, rates: dict[str, list[float]], steps: int) -> str:
    lines = [
        "### Training",
        "",
        f"{sum(weight.numel() for weight in TextbookSeq2Seq(size).parameters()) / 1e6:.1f} M weights, batches of "
        f"{recipe.optimiser.batch_tokens} target tokens, ours of one source length each, "
        f"{recipe.optimiser.softmax_draws} draws where sampled. Medians of {len(rates[_TEXTBOOK])} windows of {steps} "
        "steps, in turn.",
        "",
        "| loop | target tokens/s | times the textbook [least..most] |",
        "|---|--:|--:|",
    ]
    for name, speeds in rates.items():
        ratios = [speed / base for speed, base in zip(speeds, rates[_TEXTBOOK], strict=True)]
        lines.append(f"| {name} | {median(speeds):.0f} | {median(ratios):.3g} [{min(ratios):.3g}..{max(ratios):.3g}] |")
    return "\n".join(lines)
