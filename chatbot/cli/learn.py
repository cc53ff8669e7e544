"""chatbot train, evaluate, retrain: from dialogues, or the log, to a model and its figures."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chatbot.cli import judge
from chatbot.cli.opening import open_registry, open_store, read_through, tell_left_out, tell_of
from chatbot.errors import UsageError

if TYPE_CHECKING:
    from training.trainer import StepReport


def add_commands(commands: Any) -> None:
    """Add this group's parsers."""
    train = commands.add_parser(
        "train",
        help="train a model from a recipe",
        description="Train a model from a recipe: a name shipped with the project, or the path of a YAML file.",
        epilog="Example: chatbot train small --data talk.jsonl --out runs/mine --set optimiser.steps=500",
    )
    train.add_argument("recipe", help="a shipped recipe's name or a YAML path")
    train.add_argument("--data", nargs="+", metavar="PATH", help="dialogue files (.jsonl, .jsonl.zst)")
    train.add_argument("--out", metavar="DIR", help="the run folder (default: runs/ in CHATBOT_HOME, by name and time)")
    train.add_argument("--resume", action="store_true", help="go on from the newest checkpoint in --out")
    train.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change one key of the recipe")
    train.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto")
    train.add_argument("--threads", type=_threads, metavar="N", help="CPU threads (default: what PyTorch finds)")
    train.set_defaults(run=run_train)
    evaluate = commands.add_parser(
        "evaluate",
        help="how well a model predicts dialogues, or how it talks",
        description="With --data: loss and perplexity per token, per word and per character, bits per character, by "
        "source. With --chat: it answers fixed prompts, and diversity, commonplaces, repetition, echoes, copies and "
        "safety of what it says are counted; with --against beside a second model, with --vote judged by you, blind.",
        epilog="Example: chatbot evaluate runs/mine/model --against starter --vote",
    )
    evaluate.add_argument("model", help="a model folder or registry id")
    evaluate.add_argument("--data", nargs="+", metavar="PATH", help="dialogue files it has not seen")
    judge.add_arguments(evaluate)
    evaluate.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    evaluate.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto")
    evaluate.set_defaults(run=run_evaluate)
    retrain = commands.add_parser(
        "retrain",
        help="learn from the log and promote the model if it is better",
        description="Log -> data set -> short training with rehearsal -> comparison with the serving model -> gate -> "
        "promote or keep. What may be learnt: replies taught with /teach, replies liked with /good, imported talk "
        "under a declaration. A running chat picks the promoted model up at its next message.",
        epilog="Undo: chatbot models rollback",
    )
    retrain.add_argument("--out", metavar="DIR", help="the run folder (default: runs/ in CHATBOT_HOME, by time)")
    retrain.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change the retrain recipe")
    retrain.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto")
    retrain.set_defaults(run=run_retrain)


def _threads(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) <= 4096:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a number of threads")
    return int(text)


def run_train(arguments: argparse.Namespace) -> int:
    """`chatbot train`."""
    import torch

    from chatbot.config import home
    from training.recipe import load_recipe
    from training.run import train

    recipe = load_recipe(arguments.recipe, arguments.set)
    if arguments.data:
        recipe = replace(recipe, data=replace(recipe.data, paths=tuple(arguments.data)))
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    out = Path(arguments.out) if arguments.out else home() / "runs" / f"{recipe.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    _note_tokens(recipe.data.paths, out)
    progress = _Progress(recipe.optimiser.steps)
    state = train(
        recipe,
        out,
        resume=arguments.resume,
        device=arguments.device,
        heard=progress.heard,
        began=progress.began,
    )
    progress.close()
    print(f"{out / 'model'}: held-out loss {state.best_loss:.3g} nats a token after {state.step} steps")
    if recipe.task == "pairs":
        _print_result(out)
    return 0


def _print_result(folder: Path) -> None:
    """What a run of pairs has learnt, as `training.pairtask.score` wrote it down."""
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    for name in ("training", "held_out"):
        if row := result[name]:
            bleu = "" if row["bleu"] is None else f", BLEU {row['bleu']:.1f}"
            print(
                f"{name}: {row['exact']} of {row['asked']} exact, loss {row['loss_per_token']:.3g}, "
                f"perplexity {row['perplexity']:.4g} a token{bleu}"
            )
    for question, answer in result["asked"].items():
        print(f"{question} -> {answer}")


def _note_tokens(paths: Sequence[str], out: Path) -> None:
    """What is made of an export of ours goes with it, when somebody's words are erased there."""
    from chatbot.config import home
    from chatbot.copies import Copies

    copies = Copies(home())
    for path in map(Path, paths):
        if copies.knows(path):
            copies.remember(out / "tokens", of=path)


class _Progress:
    """A bar with tokens a second and the time left, on a terminal; one line an evaluation elsewhere."""

    def __init__(self, steps: int) -> None:
        from tqdm import tqdm

        quiet = int(os.environ.get("RANK", "0")) != 0
        self._bar = tqdm(total=steps, unit="step", disable=True if quiet else None, dynamic_ncols=True, smoothing=0.05)
        self._say = not quiet
        self._smooth = 0.0

    def began(self, trainer: Any, data: Any) -> None:
        """Say what is about to run and where the bar starts."""
        if self._say:
            weights = sum(p.numel() for p in trainer.model.parameters())
            print(
                f"{weights / 1e6:.1f} M weights, {len(data.training):,} replies to learn from, "
                f"{trainer.device.type} {trainer.precision}",
                file=sys.stderr,
            )
            tell_left_out(data.facts["problems"], data.facts["left_out"])
        self._bar.update(trainer.state.step)

    def heard(self, report: StepReport) -> None:
        """Move the bar."""
        self._smooth = report.tokens_per_s if not self._smooth else 0.95 * self._smooth + 0.05 * report.tokens_per_s
        self._bar.set_postfix_str(f"loss {report.loss:.2f}, {self._smooth:,.0f} tokens/s", refresh=False)
        self._bar.update(1)
        if report.valid_loss is not None and self._say:
            self._bar.write(
                f"step {report.step}: held-out loss {report.valid_loss:.3f}, {self._smooth:,.0f} tokens/s",
                sys.stderr,
            )

    def close(self) -> None:
        """Finish the bar."""
        self._bar.close()


def run_evaluate(arguments: argparse.Namespace) -> int:
    """`chatbot evaluate`."""
    if arguments.chat or arguments.against or arguments.vote:
        return judge.run_chat(arguments)
    if not arguments.data:
        raise UsageError(
            "there is nothing to evaluate on: give dialogue files to --data PATH..., or let it talk: --chat"
        )
    from training.evaluate import evaluate_model

    paths = [Path(path) for path in arguments.data]
    report = read_through(paths)
    tell_left_out(report.problems, report.skipped)
    named = Path(os.path.expanduser(arguments.model))
    folder = named if named.is_dir() else open_registry().path(arguments.model)
    table = evaluate_model(folder, paths, arguments.device)
    if arguments.json:
        rows = {
            name: {
                "replies": row.replies,
                "loss_per_token": row.nats / max(1, row.tokens),
                "perplexity_per_token": row.per_token,
                "perplexity_per_word": row.per_word,
                "perplexity_per_character": row.per_character,
                "bits_per_character": row.bits_per_character,
            }
            for name, row in table.items()
        }
        print(json.dumps({"model": str(arguments.model), "sources": rows}, ensure_ascii=False))
        return 0
    print(f"{'source':24} {'replies':>8} {'ppl/token':>10} {'ppl/word':>10} {'ppl/char':>9} {'bits/char':>9}")
    for name, row in table.items():
        print(
            f"{name:24} {row.replies:8} {row.per_token:10.2f} {row.per_word:10.2f} "
            f"{row.per_character:9.2f} {row.bits_per_character:9.3f}"
        )
    return 0


def run_retrain(arguments: argparse.Namespace) -> int:
    """`chatbot retrain`; exit code 1 if the gate kept the candidate out."""
    from chatbot.config import home, load_settings
    from training.pipeline import retrain
    from training.recipe import load_recipe

    recipe = load_recipe("retrain", arguments.set)
    out = Path(arguments.out) if arguments.out else home() / "runs" / f"retrain-{time.strftime('%Y%m%d-%H%M%S')}"
    progress = _Progress(recipe.optimiser.steps)
    verdict = retrain(
        open_store(),
        open_registry(),
        load_settings().learn,
        recipe,
        out,
        device=arguments.device,
        heard=progress.heard,
    )
    progress.close()
    tell_of(verdict.snapshot)
    result = verdict.comparison
    print(f"learnt from {verdict.snapshot.pairs} pairs; {result.reproduced} of {result.asked} reproduced")
    print(f"perplexity per word, frozen set: {result.frozen_before:.2f} -> {result.frozen_after:.2f}")
    print(f"perplexity per word, recent talk: {result.recent_before:.2f} -> {result.recent_after:.2f}")
    print(f"{verdict.model_id}: {'promoted' if verdict.promoted else 'kept out'}, {verdict.reason}")
    print(f"report: {verdict.run / 'report.md'}")
    return 0 if verdict.promoted else 1
