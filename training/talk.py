"""How a model talks, in figures: diversity, commonplaces, repetition, echoes, copies and safety over fixed prompts.

In: an engine and prompts, each the turns of a talk that ends with what the person says. Out: `Answer` values and a
`Report`. What each figure means: docs/training.md#talk. It prints nothing.
"""

from __future__ import annotations

import asyncio
import json
import math
import random
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

from rapidfuzz import fuzz

from chatbot.checkpoint import KNOWN_FILE
from chatbot.engine import Engine
from chatbot.errors import UsageError
from chatbot.generic import is_generic
from chatbot.known import dialogues
from chatbot.matching import compared
from chatbot.messages import Reply
from chatbot.text import clean, is_chinese

T = TypeVar("T")
_AT_ONCE = 16  # requests that an engine may batch
_ALIKE = 90  # per cent: of two lines that are the same but for a slip
_ECHO = 80  # the same, of a reply and what it answers
_LONG_ENOUGH = 4  # words of a reply whose copy is no coincidence
_FOLLOW_UPS = {
    "en": ("tell me more", "why?", "haha", "and you?", "what else?", "i don't know"),
    "zh": ("再多说点", "为什么", "哈哈", "你呢", "还有呢", "我不知道"),
}
_EVERY = 5  # prompt of one line begins a talk with all the follow-ups
_WORD = re.compile("[\u3400-\u4dbf\u4e00-\u9fff]|[^\\W_\u3400-\u4dbf\u4e00-\u9fff]+(?:['\u2019][^\\W_]+)*")


@dataclass(frozen=True, slots=True)
class Prompt:
    """A talk up to what the person says last."""

    turns: tuple[str, ...]

    @property
    def language(self) -> str:
        """ "zh" or "en", which stands for all but Chinese."""
        return "zh" if is_chinese(self.turns[-1]) else "en"


@dataclass(frozen=True, slots=True)
class Answer:
    """What an engine said to a prompt."""

    prompt: Prompt
    reply: Reply


@dataclass(frozen=True, slots=True)
class Report:
    """Shares from 0 to 1 over `replies` answers, but for `unsafe` and `needless`, which count lines."""

    replies: int
    distinct_1: float
    distinct_2: float
    generic: float
    repetition: float
    echo: float
    copy: float
    empty: float
    words: float  # of a reply, on average
    unsafe: int  # lines of the red team that a rule has to answer, and the net did
    unsafe_of: int
    needless: int  # harmless lines that a rule answered
    needless_of: int
    engines: Mapping[str, float]


def shipped_prompts() -> list[Prompt]:
    """The prompts that travel with the project."""
    return read_prompts(sorted(Path(str(files("training") / "data")).glob("prompts.*.jsonl")))


def read_prompts(paths: Iterable[Path]) -> list[Prompt]:
    """Prompts from JSONL, `{"turns": [...]}` with an odd number of turns; UsageError names the line at fault."""
    prompts = []
    for path in paths:
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{path} cannot be read as UTF-8 text ({error}); check the path") from error
        for number, line in enumerate(lines, start=1):
            if line.strip():
                prompts.append(_prompt(line, f"{path} line {number}"))
    if not prompts:
        raise UsageError('there are no prompts; each line must be JSON like {"turns": ["hi"]}')
    return prompts


def _prompt(line: str, where: str) -> Prompt:
    try:
        turns = json.loads(line)["turns"]
        cleaned = tuple(clean(turn) for turn in turns if isinstance(turn, str))
        sound = isinstance(turns, list) and len(cleaned) == len(turns) and len(cleaned) % 2 == 1 and all(cleaned)
    except (ValueError, TypeError, KeyError, RecursionError):
        sound = False
    if not sound:
        raise UsageError(f'{where} is no prompt; it must be JSON like {{"turns": ["hi"]}}, the person first and last')
    return Prompt(cleaned)


def red_team() -> list[tuple[str, bool]]:
    """Lines that probe the safety rules, and whether they have to be answered by one."""
    here = Path(str(files("training")))
    # In a wheel it lies beside the prompts; in the repository, with the tests that hold the rules to it.
    places = (here / "data" / "red_team.jsonl", here.parent / "tests" / "data" / "red_team.jsonl")
    path = next(place for place in places if place.is_file())
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [(str(record["text"]), record["expect"] is not None) for record in records]


def answers(engine: Engine, prompts: Sequence[Prompt], seed: int) -> list[Answer]:
    """What `engine` says to each prompt, always the same for one seed."""

    async def ask(prompt: Prompt) -> Answer:
        return Answer(prompt, await engine.reply(prompt.turns[:-1], prompt.turns[-1], seed=seed))

    return asyncio.run(_gathered(ask, prompts))


def talks(engine: Engine, prompts: Sequence[Prompt], seed: int) -> list[Answer]:
    """Talks that go on from every fifth prompt of one line, the person saying little: where a bot repeats itself."""

    async def talk(first: Prompt) -> list[Answer]:
        said: list[Answer] = []
        turns: tuple[str, ...] = ()
        for line in (first.turns[0], *_FOLLOW_UPS[first.language]):
            reply = await engine.reply(turns, line, seed=seed)
            said.append(Answer(Prompt((*turns, line)), reply))
            turns = (*turns, line, reply.text)
        return said

    single = [prompt for prompt in prompts if len(prompt.turns) == 1]
    return [answer for said in asyncio.run(_gathered(talk, single[::_EVERY])) for answer in said]


async def _gathered(ask: Callable[[Prompt], Awaitable[T]], prompts: Sequence[Prompt]) -> list[T]:
    gate = asyncio.Semaphore(_AT_ONCE)

    async def one(prompt: Prompt) -> T:
        async with gate:
            return await ask(prompt)

    return await asyncio.gather(*map(one, prompts))


def reports(
    engine: Engine, prompts: Sequence[Prompt], said: Sequence[Answer], known: frozenset[str], seed: int
) -> dict[str, Report]:
    """A `Report` for each language that `prompts`, answered with `said`, are in, and for "all"."""
    going_on = talks(engine, prompts, seed)
    probed = answers(engine, [Prompt((clean(text),)) for text, _ in red_team()], seed)

    def of(language: str, part: Sequence[Answer]) -> list[Answer]:
        return [answer for answer in part if answer.prompt.language == language]

    languages = sorted({prompt.language for prompt in prompts})
    found = {name: report(of(name, said), of(name, going_on), of(name, probed), known) for name in languages}
    return found | {"all": report(said, going_on, probed, known)}


def report(
    said: Sequence[Answer], going_on: Sequence[Answer], probed: Sequence[Answer], known: frozenset[str]
) -> Report:
    """The figures for answers to prompts, for talks that go on, and for the lines of `red_team` in its order."""
    words = [_WORD.findall(answer.reply.text.casefold()) for answer in said]
    pairs = [pair for each in words for pair in pairwise(each)]
    flat = [word for each in words for word in each]
    must = {clean(text): unsafe for text, unsafe in red_team()}
    ruled = Counter((must[answer.prompt.turns[-1]], answer.reply.engine == "rules") for answer in probed)
    return Report(
        replies=len(said),
        distinct_1=len(set(flat)) / max(1, len(flat)),
        distinct_2=len(set(pairs)) / max(1, len(pairs)),
        generic=_share(is_generic(answer.reply.text) for answer in said),
        repetition=_share(repeats(answer) for answer in (*said, *going_on)),
        echo=_share(echoes(answer) for answer in said),
        copy=_share(answer.reply.engine == "seq2seq" and _copied(answer, known) for answer in said),
        empty=_share(not any(c.isalnum() for c in answer.reply.text) for answer in (*said, *going_on)),
        words=len(flat) / max(1, len(said)),
        unsafe=ruled[True, False],
        unsafe_of=ruled[True, False] + ruled[True, True],
        needless=ruled[False, True],
        needless_of=ruled[False, True] + ruled[False, False],
        engines={name: n / max(1, len(said)) for name, n in sorted(Counter(a.reply.engine for a in said).items())},
    )


def repeats(answer: Answer) -> bool:
    """Whether the bot says what it has said before in this talk, or four words twice in this reply."""
    line = compared(answer.reply.text)
    before = [compared(turn) for turn in answer.prompt.turns[-2::-2]]
    words = _WORD.findall(line)
    runs = [tuple(words[i : i + 4]) for i in range(len(words) - 3)]
    return len(runs) > len(set(runs)) or any(fuzz.ratio(line, turn) >= _ALIKE for turn in before)


def echoes(answer: Answer) -> bool:
    """Whether the reply is what the person said. A greeting is given back: one word is no echo."""
    line, asked = compared(answer.reply.text), compared(answer.prompt.turns[-1])
    return len(_WORD.findall(asked)) > 1 and fuzz.ratio(line, asked) >= _ECHO


def known_replies(folder: Path) -> frozenset[str]:
    """The replies that a model folder takes along, as compared; none if it takes none along."""
    path = folder / KNOWN_FILE
    found = dialogues(path) if path.is_file() else ()
    return frozenset(compared(reply) for dialogue in found for reply in dialogue.turns[1::2])


def _copied(answer: Answer, known: frozenset[str]) -> bool:
    line = compared(answer.reply.text)
    return len(_WORD.findall(line)) >= _LONG_ENOUGH and line in known


def _share(cases: Iterable[bool]) -> float:
    found = list(cases)
    return sum(found) / max(1, len(found))


def sign_test(first: int, second: int) -> float:
    """The chance of such a difference between wins if both were as good: two-sided, exact (Dixon & Mood 1946)."""
    total, fewer = first + second, min(first, second)
    tail = sum(math.comb(total, wins) for wins in range(fewer + 1))
    return float(min(1.0, 2 * tail / 2**total))


def blind_pairs(first: Sequence[Answer], second: Sequence[Answer], seed: int) -> list[tuple[Answer, Answer, bool]]:
    """Different answers to the same prompts in random order, and whether the two were swapped."""
    rng = random.Random(seed)
    pairs = [(a, b) for a, b in zip(first, second, strict=True) if a.reply.text != b.reply.text]
    rng.shuffle(pairs)
    swaps = [rng.random() < 0.5 for _ in pairs]
    return [(b, a, True) if swap else (a, b, False) for (a, b), swap in zip(pairs, swaps, strict=True)]
