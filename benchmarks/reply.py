"""How long a reply takes: our search over a model folder beside the loop that anyone would write in PyTorch.

Out: a section of Markdown. All contenders hold the same random weights, read the same 10 tokens and say the same 12,
which is checked. The model is the size that toolkits are compared at; each of its words costs what it costs in a
trained model, since no end mark is allowed before the twelfth.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from chatbot.checkpoint import load_model_folder, save_model_folder
from chatbot.decoding import decode, options_from
from chatbot.model import DecoderState, ModelConfig, Seq2Seq
from chatbot.runtime import TorchRuntime
from chatbot.seq2seq import Seq2SeqEngine
from chatbot.tokenizer import Tokenizer

FULL_SIZE = ModelConfig(
    vocabulary_size=8192, embedding_size=512, encoder_units=256, decoder_units=512, encoder_layers=2, decoder_layers=2
)
QUICK_SIZE = ModelConfig(vocabulary_size=512, embedding_size=32, encoder_units=16, decoder_units=32)
_TOKENS_IN = 10
_TOKENS_OUT = 12
_USERS = 32
# Three-word repeats are allowed here: random weights make them, and the textbook loop does not forbid them.
_GREEDY: dict[str, object] = {"min_tokens": _TOKENS_OUT, "max_tokens": _TOKENS_OUT, "no_repeat_ngram": 0}
_BEAM_5: dict[str, object] = {**_GREEDY, "beam_size": 5}
_TEXTBOOK = "textbook PyTorch loop, greedy"


def section(quick: bool) -> str:
    """The tables of this file; `quick` proves only that it runs."""
    with TemporaryDirectory() as temporary:
        folder = Path(temporary) / "random"
        save_random_model(folder, QUICK_SIZE if quick else FULL_SIZE)
        runtime = TorchRuntime(folder, "cpu")
        engine = Seq2SeqEngine(runtime)
        try:
            return _measure(folder, runtime, engine, windows=2 if quick else 7, replies=3 if quick else 30)
        finally:
            engine.close()


def save_random_model(folder: Path, size: ModelConfig) -> None:
    """A model folder with random weights and a tokenizer of exactly `size.vocabulary_size` made-up words."""
    rng = np.random.default_rng(1)
    syllables = [consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiou"]
    words = ["".join(rng.choice(syllables, rng.integers(2, 5))) for _ in range(size.vocabulary_size)]
    tokenizer = Tokenizer.train(words * 2, size.vocabulary_size, ["other"])
    if len(tokenizer) != size.vocabulary_size:
        raise RuntimeError(f"the tokenizer holds {len(tokenizer)} tokens instead of {size.vocabulary_size}")
    torch.manual_seed(1)
    context = {"context_turns": 3, "max_source_tokens": 64, "rename": {}}
    save_model_folder(folder, Seq2Seq(size), tokenizer, provenance={}, source="other", decoding={}, context=context)


def _question(tokenizer: Tokenizer) -> str:
    """A line that the engine reads as exactly 10 tokens, the markers of source and speaker among them."""
    line = " ".join(f"{consonant}{vowel}" for consonant in "bdfgklmn" for vowel in "aeiou")
    return next(
        line[:end]
        for end in range(1, len(line))
        if line[end - 1] != " " and len(tokenizer.encode_context([], line[:end], "other", 64)) == _TOKENS_IN
    )


@torch.no_grad()
def textbook_reply(model: Seq2Seq, source: Sequence[int], bos_id: int, banned: Sequence[int]) -> list[int]:
    """Greedy search as tutorials write it: eager `nn.LSTM` calls, attention, argmax, 12 times; no end mark."""
    scale = math.sqrt(model.config.embedding_size)
    memory, last = model.encoder(model.embedding(torch.tensor([source])) * scale)
    shape = (model.config.decoder_layers, 1, -1)
    h, c = (bridge(part[-2:].flatten()).view(shape) for bridge, part in zip(model.bridges, last, strict=True))
    hidden: tuple[Tensor, Tensor] = (h, c)
    keys = model.attention.keys(memory)
    token, reply = bos_id, []
    for _ in range(_TOKENS_OUT):
        output, hidden = model.decoder(model.embedding(torch.tensor([[token]])) * scale, hidden)
        weights = torch.softmax(output @ keys.transpose(1, 2) / math.sqrt(keys.shape[2]), dim=2)
        features = torch.tanh(model.combine(torch.cat((weights @ memory, output), dim=2)))
        scores = F.linear(features[0, 0], model.embedding.weight, model.output_bias)
        scores[banned] = float("-inf")
        token = int(scores.argmax())
        reply.append(token)
    return reply


def _measure(
    folder: Path, runtime: TorchRuntime, engine: Seq2SeqEngine[DecoderState], windows: int, replies: int
) -> str:
    """Each window gives every contender its turn, so that what the machine does else hits them alike."""
    model = load_model_folder(folder).model
    assert isinstance(model, Seq2Seq)  # `save_random_model` makes no other
    text = _question(runtime.tokenizer)
    source = runtime.tokenizer.encode_context([], text, "other", 64)
    banned = [*runtime.never_ids, runtime.eos_id]
    contenders: dict[str, Callable[[], object]] = {
        _TEXTBOOK: lambda: textbook_reply(model, source, runtime.bos_id, banned),
        "`decode` over `TorchRuntime`, greedy": lambda: decode(runtime, [source], [options_from(_GREEDY)]),
        "`Seq2SeqEngine.reply_sync`, greedy": lambda: engine.reply_sync([], text, options=_GREEDY),
        "`decode` over `TorchRuntime`, beam 5": lambda: decode(runtime, [source], [options_from(_BEAM_5)]),
    }
    _check_same_words(textbook_reply(model, source, runtime.bos_id, banned), runtime, source)
    durations: dict[str, list[NDArray[np.float64]]] = {name: [] for name in contenders}
    rates: list[float] = []
    for _ in range(windows):
        for name, say in contenders.items():
            durations[name].append(_milliseconds(say, replies))
        rates.append(asyncio.run(_replies_per_s(engine, text, replies)))
    return _tables(model, durations, rates)


def _check_same_words(expected: list[int], runtime: TorchRuntime, source: Sequence[int]) -> None:
    """A race counts only if all run the same way."""
    actual = list(decode(runtime, [source], [options_from(_GREEDY)])[0].tokens)
    if actual != expected or len(actual) != _TOKENS_OUT:
        raise RuntimeError(f"the contenders disagree: {actual} and {expected}")


def _milliseconds(say: Callable[[], object], replies: int) -> NDArray[np.float64]:
    """The duration of each of `replies` replies, after two that do not count."""
    durations = []
    for _ in range(replies + 2):
        begin = time.perf_counter()
        say()
        durations.append((time.perf_counter() - begin) * 1000)
    return np.array(durations[2:])


async def _replies_per_s(engine: Seq2SeqEngine[DecoderState], text: str, replies: int) -> float:
    """Users who all ask at once, and again as soon as they have their reply."""

    async def user() -> None:
        for _ in range(max(2, replies // 10)):
            reply = await engine.reply([], text, options=_GREEDY)
            if reply.engine != "seq2seq":
                raise RuntimeError(f"a user was turned away: {reply.engine}")

    begin = time.perf_counter()
    await asyncio.gather(*(user() for _ in range(_USERS)))
    return _USERS * max(2, replies // 10) / (time.perf_counter() - begin)


def _tables(model: Seq2Seq, durations: dict[str, list[NDArray[np.float64]]], rates: list[float]) -> str:
    textbook = [float(np.median(window)) for window in durations[_TEXTBOOK]]
    stored = sum(weight.numel() for weight in model.parameters())
    untied = stored + 2 * model.embedding.weight.numel()
    lines = [
        "### Reply",
        "",
        f"{stored / 1e6:.1f} M weights ({untied / 1e6:.1f} M where source, target and output have a matrix each, as "
        f"most toolkits count; ours share one), random; {_TOKENS_IN} tokens in, {_TOKENS_OUT} out and the end mark, "
        f"one request at a time. Medians of {len(rates)} windows of {len(durations[_TEXTBOOK][0])} replies, in turn.",
        "",
        "| one reply | p50 ms | p95 ms | times as fast as the textbook [least..most] |",
        "|---|--:|--:|--:|",
    ]
    for name, windows in durations.items():
        p50, p95 = (median(float(np.percentile(window, share)) for window in windows) for share in (50, 95))
        ratios = [base / float(np.median(window)) for base, window in zip(textbook, windows, strict=True)]
        lines.append(
            f"| {name} | {p50:.2f} | {p95:.2f} | {median(ratios):.3g} [{min(ratios):.3g}..{max(ratios):.3g}] |"
        )
    ratios = [rate * base / 1000 for rate, base in zip(rates, textbook, strict=True)]
    return "\n".join(
        [
            *lines,
            "",
            f"| {_USERS} users at once | replies/s | times the textbook, one after another [least..most] |",
            "|---|--:|--:|",
            f"| `Seq2SeqEngine.reply`, greedy, batching what waits | {median(rates):.1f} "
            f"| {median(ratios):.3g} [{min(ratios):.3g}..{max(ratios):.3g}] |",
        ]
    )
