"""Known exchanges: dialogues whose questions, asked again nearly word for word, get the reply that stands there.

In: a dialogue file, a history and a text. Out: the known reply, or None, and then a net may answer. Small generative
models are at their weakest where a line was written by hand for the very question (Weston et al. 2018, arXiv
1808.04776, refine retrieved replies for the same reason).
"""

from __future__ import annotations

import json
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from zlib import crc32

import zstandard
from rapidfuzz import fuzz, process

from chatbot.errors import UsageError
from chatbot.text import clean

_LONGEST_QUESTION = 300  # characters that are compared: a longer line is nobody's known question
_NEARLY_THE_SAME = 0.95  # similarity: a slip of the pen in a line of usual length; a short one has to be exact
_APOSTROPHES = str.maketrans("", "", "'\u2019")


@dataclass(frozen=True, slots=True)
class KnownReply:
    """A reply as it stands in dialogue `dialogue`; `similarity` of the question from 0 to 1."""

    text: str
    dialogue: str
    similarity: float = 1.0


class KnownExchanges:
    """The exchanges of a dialogue file; UsageError names the line at fault.

    The first line of a dialogue is known wherever it comes up. Not so if the dialogue is marked as an `opening`, for
    the same words later in a talk lean on what was said ("yes", "why?"): it, and what follows a first exchange, is
    known only where the bot has just said what stands before it, which at the start is nothing.
    """

    def __init__(self, path: Path) -> None:
        # What the bot said before ("" at the start, None anywhere) -> question as compared -> replies.
        self._after = defaultdict[str | None, dict[str, list[KnownReply]]](lambda: defaultdict(list))
        for name, turns, opening in dialogues(path):
            for before, question, reply in zip(["", *turns[1::2]], turns[::2], turns[1::2], strict=False):
                place = compared(before) if before or opening else None
                self._after[place][compared(question)].append(KnownReply(reply, name))

    def answer(self, history: Sequence[str], text: str, seed: int | None = None) -> KnownReply | None:
        """The known reply to `text`; of several, one that this history does not hold, chosen by `seed`."""
        if len(text) > _LONGEST_QUESTION:
            return None
        question = compared(text)
        given = {compared(turn) for turn in history[-1::-2]}
        for place in (compared(history[-1]) if history else "", None):
            known = self._after.get(place, {})
            found = nearest(question, known.keys(), _NEARLY_THE_SAME)
            if found is not None:
                fresh = [reply for reply in known[found[0]] if compared(reply.text) not in given]
                if fresh:
                    draw = (seed or 0) + crc32("\n".join(history).encode())
                    return replace(fresh[draw % len(fresh)], similarity=found[1])
        return None

    def neighbours(self, history: Sequence[str], text: str, count: int) -> list[KnownReply]:
        """Replies to the `count` first lines most similar to `text`, the nearest first, none that was given before."""
        given = {compared(turn) for turn in history[-1::-2]}
        known = self._after.get(None, {})
        found = process.extract(compared(text[:_LONGEST_QUESTION]), known.keys(), scorer=fuzz.ratio, limit=count)
        replies = [replace(known[question][0], similarity=similarity / 100) for question, similarity, _ in found]
        return [reply for reply in replies if compared(reply.text) not in given]


def nearest(question: str, known: Set[str], least: float = 0.0) -> tuple[str, float] | None:
    """The most similar of the `known` questions and its similarity, from `least` to 1; None if none comes near.

    The similarity is of whole texts (Levenshtein's without substitution): scorers that match parts or sets of words
    would find "how old are you" in any question that holds those words.
    """
    if question in known:
        return question, 1.0
    found = process.extractOne(question, known, scorer=fuzz.ratio, score_cutoff=100 * least)
    return None if found is None else (found[0], found[1] / 100)


def near(question: str, known: Set[str]) -> list[str]:
    """All `known` questions for which `question` would be taken."""
    found = process.extract(question, known, scorer=fuzz.ratio, score_cutoff=100 * _NEARLY_THE_SAME, limit=None)
    return [text for text, *_ in found]


def compared(text: str) -> str:
    """What of a question is compared: no case, no full-width forms, no punctuation unless there is nothing else."""
    folded = unicodedata.normalize("NFKC", clean(text[-_LONGEST_QUESTION:])).casefold().translate(_APOSTROPHES)
    words = "".join(" " if unicodedata.category(c).startswith("P") else c for c in folded)
    return " ".join(words.split()) or folded


def dialogues(path: Path) -> Iterator[tuple[str, list[str], bool]]:
    """(id, turns, whether it is an `opening`) of each line of a JSONL file, plain or .zst."""
    number = 0
    try:
        packed = path.suffix == ".zst"
        with zstandard.open(path, "rt", encoding="utf-8-sig") if packed else path.open(encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield _dialogue(line, f"{path} line {number}")
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}; check the path and its permissions") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 text after line {number}; save it as UTF-8") from error
    except zstandard.ZstdError as error:
        raise UsageError(f"{path} is damaged or not zstd: {error}; fetch or compress it again") from error


def _dialogue(line: str, where: str) -> tuple[str, list[str], bool]:
    try:
        record: Any = json.loads(line)
        turns = [clean(turn) for turn in record["turns"] if isinstance(turn, str)]
        sound = len(turns) == len(record["turns"]) and len(turns) > 1 and all(turns)
    except (ValueError, TypeError, KeyError, RecursionError):
        sound = False
    if not sound:
        raise UsageError(f'{where} is no dialogue; it must be JSON like {{"turns": ["hi", "hello"]}}, no turn empty')
    return str(record.get("id", where)), turns, record.get("opening") is True
