"""Text-to-text pairs: files of any pairs, or pairs of our own making, cleaned and split as a recipe says.

In: a recipe. Out: `Pair` values, those to learn from and those held out, and a count of what was left out and why. It
knows no tokens. A source is held out by the hash of its text, with all its pairs, the same in every run.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from chatbot.errors import UsageError
from chatbot.importers.files import text_lines
from chatbot.importers.pairs import read_conv, read_tsv
from chatbot.importers.records import Exchange, Item, Skipped, Source
from chatbot.text import clean
from training.makers import MAKERS, Made
from training.recipe import PairsRecipe, Recipe

_CHINESE = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\s，。！？、；：…—～,.!?;:~]+")
_SHOWN_PROBLEMS = 5


class Pair(NamedTuple):
    """A source, its target, and how much it counts in the loss."""

    source: str
    target: str
    weight: float = 1.0


@dataclass(slots=True)
class PairReport:
    """What a reading met; complete when all pairs are read."""

    read: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def skip(self, reason: str, where: str = "") -> None:
        """Count a pair or line that was left out; the first mistakes in files are kept with their lines."""
        self.left_out[reason] += 1
        if where and len(self.problems) < _SHOWN_PROBLEMS:
            self.problems.append(f"{where}: {reason}")


def _jsonl(source: Source) -> Iterator[Item | Pair]:
    """Objects with "source", "target" and perhaps "weight", or with "turns" of which every two are a pair."""
    for number, line in text_lines(source.path):
        if isinstance(line, Skipped):
            yield line
            continue
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            if isinstance(record.get("turns"), list):
                yield Exchange(tuple(record["turns"]), (), number)
            else:
                yield Pair(record["source"], record["target"], float(record.get("weight", 1.0)))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            yield Skipped(number, 'no JSON with "source" and "target", or "turns"')


_READERS: dict[str, Callable[[Source], Iterator[Item | Pair]]] = {".conv": read_conv, ".jsonl": _jsonl}


def read_pairs(paths: Iterable[Path], report: PairReport) -> Iterator[Pair]:
    """Stream the pairs of files: `.conv`, `.jsonl`, all else as TSV; also compressed. UsageError if one has none."""
    for path in paths:
        plain = Path(path.name.removesuffix(".zst").removesuffix(".gz"))
        found = 0
        for item in _READERS.get(plain.suffix, read_tsv)(Source(path)):
            if isinstance(item, Skipped):
                report.skip(item.reason, f"{path.name} line {item.line}")
                continue
            for pair in _two_by_two(item):
                if all(isinstance(text, str) for text in pair[:2]) and math.isfinite(pair.weight) and pair.weight >= 0:
                    found += 1
                    yield pair
                else:
                    report.skip("a side that is no text, or a weight below 0", path.name)
        if not found:
            detail = f" ({report.problems[0]})" if report.problems else ""
            raise UsageError(
                f"{path} holds no pair{detail}; give lines of source, tab, target, JSON with both, or an E/M .conv file"
            )


def _two_by_two(item: Item | Pair) -> Iterator[Pair]:
    """The pairs of a dialogue: first and second turn, third and fourth."""
    if isinstance(item, Pair):
        yield item
    elif isinstance(item, Exchange):
        for place in range(0, len(item.turns) - 1, 2):  # an odd one out is no pair: Tatoeba's third column, say
            yield Pair(item.turns[place], item.turns[place + 1])


def _fits(pair: Pair, recipe: PairsRecipe) -> str:
    """Why a pair is left out; "" if it is not."""
    if not pair.source or not pair.target:
        return "an empty side"
    if recipe.only_chinese and not all(_CHINESE.fullmatch(text) for text in pair[:2]):
        return "not Chinese alone"
    return ""


@dataclass(frozen=True, slots=True)
class PairSplit:
    """The pairs of a run."""

    training: list[Pair]
    held_out: list[Pair]
    report: PairReport


def split_pairs(recipe: Recipe) -> PairSplit:
    """Read or make, clean and split. UsageError if nothing, or too little to hold out what shall be, is left."""
    pairs, report = recipe.pairs, PairReport()
    kept: list[Pair] = []
    seen: set[str] = set()
    for raw in _raw(recipe, report):
        report.read += 1
        sides = (raw.target, raw.source) if pairs.swap else (raw.source, raw.target)
        pair = Pair(clean(sides[0]), clean(sides[1]), raw.weight)
        reason = _fits(pair, pairs)
        key = pair.source if pairs.one_answer else "\t".join(pair[:2])
        if not reason and key in seen:
            reason = "there already"
        if reason:
            report.skip(reason)
            continue
        seen.add(key)
        kept.append(pair)
        if pairs.count and len(kept) == pairs.count:
            break
    if not kept:
        raise UsageError(f"recipe {recipe.name}: the data leaves no pair to train on: {dict(report.left_out)}")
    wanted = round(len(kept) * recipe.data.held_out_per_mille / 1000)
    order = sorted({pair.source for pair in kept}, key=lambda text: hashlib.sha256(text.encode()).digest())
    counts = Counter(pair.source for pair in kept)
    apart: set[str] = set()
    for text in order:
        if wanted <= 0:
            break
        apart.add(text)
        wanted -= counts[text]
    training = [pair for pair in kept if pair.source not in apart]
    if not training:
        raise UsageError(
            f"recipe {recipe.name}: all {len(kept)} pairs would be held out; lower data.held_out_per_mille, now "
            f"{recipe.data.held_out_per_mille}, or give more pairs"
        )
    return PairSplit(training, [pair for pair in kept if pair.source in apart], report)


def _raw(recipe: Recipe, report: PairReport) -> Iterator[Pair]:
    if recipe.data.paths:
        yield from read_pairs([Path(path).expanduser() for path in recipe.data.paths], report)
    else:
        made: Iterable[Made] = MAKERS[recipe.pairs.maker](recipe.pairs.count, recipe.seed)
        yield from (Pair(source, target) for source, target in made)
