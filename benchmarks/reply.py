"""How long a reply takes, from a new process and from a warm one, to one user and to many, beside other programs.

Out: a section of Markdown. All nets have the same size and read the same 10 tokens and say 12; ours, its graphs and the
textbook loop hold the same weights. Each of the 12 words costs what it costs in a trained model, since no end mark is
allowed before. Each window gives every contender its turn, so that what the machine does else hits them alike.
"""

from __future__ import annotations

import asyncio
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from benchmarks.remembered import remembered
from benchmarks.rivals import Rival, rivals
from benchmarks.start import peak_mb
from chatbot.checkpoint import load_model_folder, save_model_folder
from chatbot.decoding import decode, options_from
from chatbot.exporting import add_graphs
from chatbot.model import ModelConfig, Seq2Seq
from chatbot.runtime import TorchRuntime
from chatbot.runtime_onnx import OnnxRuntime, OnnxState
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
_OURS, _OURS_BEAM = "ours, graphs in 8 bits, greedy", "ours, graphs in 8 bits, beam 5"

Windows = dict[str, list[NDArray[np.float64]]]


def section(quick: bool) -> str:
    """The tables of this file; `quick` proves only that it runs, and asks no other program."""
    windows, replies = (2, 3) if quick else (7, 30)
    with TemporaryDirectory() as temporary:
        folders = {kind: Path(temporary) / kind for kind in ("int8", "fine")}
        size = QUICK_SIZE if quick else FULL_SIZE
        save_random_model(folders["int8"], size)
        shutil.copytree(folders["int8"], folders["fine"])
        for kind, folder in folders.items():
            add_graphs(folder, [[5, 3, 300, 301]], kind)
        peers = [] if quick else rivals()
        try:
            parts = [_head(folders["int8"], windows, replies), *_replies(folders, peers, windows, replies)]
            parts += [*_starts(folders["int8"], peers, 1 if quick else 7)]
            return "\n".join([*parts, *remembered(folders["int8"], quick)])
        finally:
            for peer in peers:
                peer.close()


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
    save_model_folder(
        folder, Seq2Seq(size), tokenizer, provenance={}, source="other", decoding=_GREEDY, context=context
    )


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


def _head(folder: Path, windows: int, replies: int) -> str:
    model = load_model_folder(folder).model
    stored = sum(weight.numel() for weight in model.parameters())
    untied = stored + 2 * model.embedding.weight.numel()
    return (
        f"### Reply\n\n{stored / 1e6:.1f} M weights ({untied / 1e6:.1f} M where source, target and output have a "
        f"matrix each, as most toolkits count; ours share one), random; {_TOKENS_IN} tokens in, {_TOKENS_OUT} out and "
        f"the end mark. Medians of {windows} windows of {replies} replies, in turn."
    )


def _replies(folders: Mapping[str, Path], peers: Sequence[Rival], windows: int, replies: int) -> Iterable[str]:
    """The tables of one reply at a time, and of many users."""
    runtimes = {kind: OnnxRuntime(folder) for kind, folder in folders.items()}
    served = TorchRuntime(folders["int8"], "cpu")
    engine = Seq2SeqEngine(runtimes["int8"])
    try:
        contenders = _contenders(folders["int8"], runtimes, served, engine)
        for peer in peers:
            contenders[f"{peer.name}, greedy"] = partial(peer.milliseconds, "greedy")
            contenders[f"{peer.name}, beam 5"] = partial(peer.milliseconds, "beam")
        found: Windows = {name: [] for name in contenders}
        crowds: list[tuple[float, NDArray[np.float64]]] = []
        batches: dict[str, list[float]] = {peer.name: [] for peer in peers}
        for _ in range(windows):
            for name, measure in contenders.items():
                found[name].append(measure(replies))
            crowds.append(asyncio.run(_crowd(engine, _question(served.tokenizer), replies)))
            for peer in peers:
                batches[peer.name].append(float(peer.milliseconds("batch", 3).min()))
    finally:
        engine.close()
    return [*_table(found), *_crowd_table(crowds, batches)]


def _contenders(
    folder: Path, runtimes: Mapping[str, OnnxRuntime], served: TorchRuntime, engine: Seq2SeqEngine[OnnxState]
) -> dict[str, Callable[[int], NDArray[np.float64]]]:
    """What is measured in this process, by name: each gives the milliseconds of so many replies."""
    model = load_model_folder(folder).model
    assert isinstance(model, Seq2Seq)  # `save_random_model` makes no other
    text = _question(served.tokenizer)
    source = served.tokenizer.encode_context([], text, "other", 64)
    banned = [*served.never_ids, served.eos_id]
    expected = textbook_reply(model, source, served.bos_id, banned)
    greedy, beam = options_from(_GREEDY), options_from(_BEAM_5)
    said = [decode(served, [source], [greedy])[0].tokens, decode(runtimes["int8"], [source], [greedy])[0].tokens]
    # Random weights make near ties, which 8 bits may turn; a race counts only if all run as far.
    if list(said[0]) != expected or len(said[1]) != _TOKENS_OUT:
        raise RuntimeError(f"the contenders disagree: {said} and {expected}")
    calls: dict[str, Callable[[], object]] = {
        _TEXTBOOK: lambda: textbook_reply(model, source, served.bos_id, banned),
        "ours, torch, greedy": lambda: decode(served, [source], [greedy]),
        _OURS: lambda: decode(runtimes["int8"], [source], [greedy]),
        "ours, text in and out, greedy": lambda: engine.reply_sync([], text, options=_GREEDY),
        "ours, graphs in `fine`, greedy": lambda: decode(runtimes["fine"], [source], [greedy]),
        "ours, torch, beam 5": lambda: decode(served, [source], [beam]),
        _OURS_BEAM: lambda: decode(runtimes["int8"], [source], [beam]),
    }
    return {name: partial(_milliseconds, call) for name, call in calls.items()}


def _milliseconds(say: Callable[[], object], replies: int) -> NDArray[np.float64]:
    """The duration of each of `replies` replies, after two that do not count."""
    durations = []
    for _ in range(replies + 2):
        begin = time.perf_counter()
        say()
        durations.append((time.perf_counter() - begin) * 1000)
    return np.array(durations[2:])


async def _crowd(engine: Seq2SeqEngine[OnnxState], text: str, replies: int) -> tuple[float, NDArray[np.float64]]:
    """Users who all ask at once, and again as soon as they have their reply: replies a second, and ms of each."""
    durations: list[float] = []

    async def user() -> None:
        for _ in range(max(2, replies)):
            begin = time.perf_counter()
            reply = await engine.reply([], text, options=_GREEDY)
            durations.append((time.perf_counter() - begin) * 1000)
            if reply.engine != "seq2seq":
                raise RuntimeError(f"a user was turned away: {reply.engine}")

    begin = time.perf_counter()
    await asyncio.gather(*(user() for _ in range(_USERS)))
    return len(durations) / (time.perf_counter() - begin), np.array(durations)


def _table(found: Windows) -> list[str]:
    """p50 and p95, and how many times as long another takes as the quickest of ours at the same kind of search."""
    lines = ["", "| one reply | p50 ms | p95 ms | p95/p50 | times ours [least..most] |", "|---|--:|--:|--:|--:|"]
    for name, windows in found.items():
        p50, p95 = (median(float(np.percentile(window, share)) for window in windows) for share in (50, 95))
        base = found[_OURS_BEAM if name.endswith("beam 5") else _OURS]
        ratios = [float(np.median(one)) / float(np.median(ours)) for one, ours in zip(windows, base, strict=True)]
        lines.append(
            f"| {name} | {p50:.2f} | {p95:.2f} | {p95 / p50:.2f} "
            f"| {median(ratios):.3g} [{min(ratios):.3g}..{max(ratios):.3g}] |"
        )
    return lines


def _crowd_table(crowds: Sequence[tuple[float, NDArray[np.float64]]], batches: Mapping[str, list[float]]) -> list[str]:
    """Replies a second; of a peer, which has no way to serve users who come when they like, those of one call of 32."""
    rate = median(per_s for per_s, _ in crowds)
    p50, p95 = (median(float(np.percentile(ms, share)) for _, ms in crowds) for share in (50, 95))
    lines = ["", f"| {_USERS} users at once | replies/s | p50 ms | p95 ms | times ours |", "|---|--:|--:|--:|--:|"]
    lines.append(f"| ours, text in and out, greedy, batching what waits | {rate:.0f} | {p50:.1f} | {p95:.1f} | 1 |")
    for name, best in batches.items():
        per_s = _USERS * 1000 / median(best)
        lines.append(f"| {name}, one call of {_USERS} | {per_s:.0f} | - | - | {per_s / rate:.3g} |")
    return lines


def _starts(folder: Path, peers: Sequence[Rival], windows: int) -> list[str]:
    """From nothing to the first reply, and what the process holds at most then."""
    places: dict[str, Sequence[str]] = {
        "ours, this model": ("--model", str(folder)),
        "ours, the shipped model": ("--model", "starter", "--set", "known=false"),
    }
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in (*places, *(peer.name for peer in peers))}
    with TemporaryDirectory() as home:
        environment = {**os.environ, "CHATBOT_HOME": home}
        for _ in range(windows):
            for name, chosen in places.items():
                found[name].append((_seconds_to_reply(chosen, environment), _peak(chosen, environment)))
            for peer in peers:
                found[peer.name].append(peer.first_reply())
    lines = ["", "| a new process | s to its first reply [least..most] | peak MB |", "|---|--:|--:|"]
    for name, each in found.items():
        seconds, peaks = zip(*each, strict=True)
        low, high = min(seconds), max(seconds)
        lines.append(f"| {name} | {median(seconds):.3f} [{low:.3f}..{high:.3f}] | {median(peaks):.0f} |")
    return lines


def _seconds_to_reply(chosen: Sequence[str], environment: Mapping[str, str]) -> float:
    begin = time.perf_counter()
    reply = subprocess.run(
        [sys.executable, "-m", "chatbot", "reply", "hi", *chosen],
        env=environment,
        check=True,
        stdout=subprocess.PIPE,
        timeout=120,
    )
    seconds = time.perf_counter() - begin
    if not reply.stdout.strip():
        raise RuntimeError("`chatbot reply hi` said nothing; run it to see why")
    return seconds


def _peak(chosen: Sequence[str], environment: Mapping[str, str]) -> float:
    """Of a process that has just replied, and waits for more."""
    command = [sys.executable, "-m", "chatbot", "reply", "--jsonl", *chosen]
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write('{"id": 1, "turns": ["hi"]}\n')
        child.stdin.flush()
        child.stdout.readline()
        peak = peak_mb(child.pid)
        child.stdin.close()
    return peak
