"""chatbot evaluate --chat: how a model talks, in figures and side by side, and a blind vote between two."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chatbot.cli.opening import open_registry
from chatbot.errors import UsageError

if TYPE_CHECKING:
    from chatbot.engine import Engine
    from training.talk import Answer, Prompt, Report

_ROWS = ("distinct_1", "distinct_2", "generic", "repetition", "echo", "copy", "empty")


def add_arguments(evaluate: Any) -> None:
    """What `chatbot evaluate` takes for this half of it."""
    evaluate.add_argument("--chat", action="store_true", help="let it talk: diversity, repetition, safety and answers")
    evaluate.add_argument("--against", metavar="MODEL", help="with --chat: a second model, its answers side by side")
    evaluate.add_argument(
        "--vote", action="store_true", help="with --against: read both, blind, and say which is better"
    )
    evaluate.add_argument("--prompts", nargs="+", metavar="PATH", help="with --chat: prompts of your own, as JSONL")
    evaluate.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="decode settings of MODEL")
    evaluate.add_argument(
        "--against-set", action="append", default=[], metavar="KEY=VALUE", help="decode settings of the second model"
    )
    evaluate.add_argument("--seed", type=int, default=0, metavar="N", help="of all that is drawn (default: 0)")


def run_chat(arguments: argparse.Namespace) -> int:
    """`chatbot evaluate --chat`, `--against` and `--vote`."""
    from training.talk import answers, read_prompts, shipped_prompts

    prompts = read_prompts(map(Path, arguments.prompts)) if arguments.prompts else shipped_prompts()
    named = [(arguments.model, arguments.set)]
    if arguments.against:
        named.append((arguments.against, arguments.against_set))
    elif arguments.vote or arguments.against_set:
        raise UsageError("there is nothing to compare with: name a second model with --against MODEL")
    engines = [_open(model, settings, arguments.device) for model, settings in named]
    try:
        said = [answers(engine, prompts, arguments.seed) for engine in engines]
        if arguments.vote:
            return _vote(said[0], said[1], [model for model, _ in named], arguments.seed)
        return _figures(arguments, prompts, engines, said, [model for model, _ in named])
    finally:
        for engine in engines:
            engine.close()


def _open(model: str, settings: Sequence[str], device: str) -> Engine:
    from chatbot.config import parse_assignments
    from chatbot.engine import load_engine

    return load_engine(model, device=device, settings=parse_assignments(settings))


def _figures(
    arguments: argparse.Namespace,
    prompts: Sequence[Prompt],
    engines: Sequence[Engine],
    said: Sequence[Sequence[Answer]],
    models: Sequence[str],
) -> int:
    from training.talk import known_replies, reports

    tables = [
        reports(engine, prompts, each, known_replies(_folder(model)), arguments.seed)
        for engine, each, model in zip(engines, said, models, strict=True)
    ]
    if arguments.json:
        print(json.dumps(_as_json(models, tables, prompts, said), ensure_ascii=False))
        return 0
    for model, table in zip(models, tables, strict=True):
        _show(model, table)
    for place, prompt in enumerate(prompts):
        print("\n" + " / ".join(prompt.turns))
        for each in said:
            print(f"  [{each[place].reply.engine}] {each[place].reply.text}")
    return 0


def _folder(model: str) -> Path:
    """Where a model's known exchanges would be; nowhere for an engine without a folder."""
    from chatbot.errors import ModelFolderError

    named = Path(os.path.expanduser(model))
    try:
        return named if named.is_dir() else open_registry().path(model)
    except ModelFolderError:
        return named


def _show(model: str, table: Mapping[str, Report]) -> None:
    print(f"{model:16}" + "".join(f"{language:>12}" for language in table))
    for name in _ROWS:
        values = (getattr(report, name) for report in table.values())
        shown = (f"{value:12.3f}" if name.startswith("distinct") else f"{value:12.1%}" for value in values)
        print(f"{name.replace('_', '-'):16}" + "".join(shown))
    print(f"{'unsafe':16}" + "".join(f"{f'{r.unsafe} of {r.unsafe_of}':>12}" for r in table.values()))
    print(f"{'needless':16}" + "".join(f"{f'{r.needless} of {r.needless_of}':>12}" for r in table.values()))
    print(f"{'words a reply':16}" + "".join(f"{r.words:12.1f}" for r in table.values()))
    for engine in sorted({name for report in table.values() for name in report.engines}):
        print(f"{f'by {engine}':16}" + "".join(f"{r.engines.get(engine, 0.0):12.1%}" for r in table.values()))
    print(f"{'replies':16}" + "".join(f"{r.replies:12}" for r in table.values()) + "\n")


def _as_json(
    models: Sequence[str],
    tables: Sequence[Mapping[str, Report]],
    prompts: Sequence[Prompt],
    said: Sequence[Sequence[Answer]],
) -> dict[str, object]:
    return {
        "models": [
            {"model": model, "figures": {language: asdict(report) for language, report in table.items()}}
            for model, table in zip(models, tables, strict=True)
        ],
        "answers": [
            {
                "turns": prompt.turns,
                "replies": [
                    {
                        "text": each[place].reply.text,
                        "engine": each[place].reply.engine,
                        "detail": each[place].reply.detail,
                    }
                    for each in said
                ],
            }
            for place, prompt in enumerate(prompts)
        ],
    }


def _vote(first: Sequence[Answer], second: Sequence[Answer], models: Sequence[str], seed: int) -> int:
    """Show pairs, take votes, and tell afterwards who said what; ends with the prompts or with "q"."""
    from training.talk import blind_pairs, sign_test

    pairs = blind_pairs(first, second, seed)
    print(
        f"{len(pairs)} of {len(first)} prompts have two answers. Which one makes more sense, and is more about what "
        "was said?\nType 1 or 2, = if both are as good or as bad, q to stop.",
        file=sys.stderr,
    )
    wins, ties = [0, 0], 0
    for one, other, swapped in pairs:
        for turn, line in enumerate(one.prompt.turns):
            print(f"{'> ' if turn % 2 == 0 else '  '}{line}")
        print(f"  1: {one.reply.text}\n  2: {other.reply.text}", flush=True)
        vote = _read_vote()
        if vote == "q":
            break
        if vote == "=":
            ties += 1
        else:
            wins[(vote == "2") != swapped] += 1
    for model, count in zip(models, wins, strict=True):
        print(f"{model}: preferred {count} times")
    print(f"as good: {ties}")
    print(f"sign test: p = {sign_test(*wins):.3f}, the chance of this if both were as good")
    return 0


def _read_vote() -> str:
    """1, 2, = or q; the end of the input is q."""
    while True:
        print("1/2/=/q? ", end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline()
        if not line or line.strip() in ("1", "2", "=", "q"):
            return line.strip() or "q"
