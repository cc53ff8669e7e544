"""What is wrong with a dialogue file, line by line, and how balanced it is as a whole.

In: dialogue files, and others that they must not repeat. Out: `Finding` values, by file and line, and a `Balance`. It
reads files as a stream and keeps, of each dialogue, hashes of its word sequences; it mends nothing.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from chatbot.dialogue import Dialogue, parse_dialogue
from chatbot.errors import UsageError
from chatbot.matching import compared
from chatbot.text import is_chinese
from training.corpus import read_dialogues

LONGEST_TURN = 240  # characters: what a small model can read and say whole
MOST_TURNS = 12
# Of the word sequences of a dialogue, the share that another one holds too from which the two are nearly the same.
NEAR = 0.6
_FEWEST_SHINGLES = 6  # a dialogue of fewer is greetings, which everybody's are
_OFTEN = 0.005  # share of all replies that one reply may have
_WORD = re.compile("[\u3400-\u4dbf\u4e00-\u9fff]|[^\\W\u3400-\u4dbf\u4e00-\u9fff]+")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to mend; `line` counts from 1, 0 stands for the file as a whole."""

    path: Path
    line: int
    problem: str


@dataclass(slots=True)
class Balance:
    """Counts over all dialogues that could be read."""

    dialogues: Counter[str] = field(default_factory=Counter)  # by language: "en" stands for all but Chinese
    turns: Counter[int] = field(default_factory=Counter)
    replies: Counter[str] = field(default_factory=Counter)  # as compared
    beginnings: Counter[str] = field(default_factory=Counter)  # first words of replies
    questions: int = 0

    def count(self, dialogue: Dialogue) -> None:
        """Take one more dialogue in."""
        self.dialogues["zh" if is_chinese(" ".join(dialogue.turns)) else "en"] += 1
        self.turns[len(dialogue.turns)] += 1
        for reply in dialogue.turns[1::2]:
            self.replies[compared(reply)] += 1
            self.beginnings[" ".join(_words(reply)[:2])] += 1
            self.questions += "?" in reply or "\uff1f" in reply

    def rows(self) -> Iterator[tuple[str, str]]:
        """What a person wants to see of it: a name and a figure."""
        total, replies = max(1, self.turns.total()), max(1, self.replies.total())
        yield "dialogues", f"{self.turns.total():,}"
        for language, count in sorted(self.dialogues.items()):
            yield f"  in {'Chinese' if language == 'zh' else 'English and others'}", f"{count:,}"
        yield "more than one exchange", f"{sum(c for n, c in self.turns.items() if n > 2) / total:.0%}"
        yield "replies", f"{self.replies.total():,}"
        yield "different replies", f"{len(self.replies) / replies:.1%}"
        yield "replies that ask something", f"{self.questions / replies:.0%}"
        for words, count in self.beginnings.most_common(3):
            yield f"replies that begin with {words!r}", f"{count / replies:.1%}"


class _Near:
    """Finds a dialogue that shares most of its word sequences with one seen before."""

    def __init__(self) -> None:
        self._holders: defaultdict[int, list[int]] = defaultdict(list)  # hash of three words -> dialogues
        self._sizes: list[int] = []
        self._places: list[str] = []

    def add(self, dialogue: Dialogue, place: str) -> None:
        """Remember `dialogue`, which stands at `place`."""
        found = _shingles(dialogue.turns)
        for one in found:
            self._holders[one].append(len(self._places))
        self._sizes.append(len(found))
        self._places.append(place)

    def places_in(self, dialogue: Dialogue, *, whole: bool) -> list[str]:
        """Where the dialogues stand that `dialogue` holds nearly whole; if `whole`, they hold it, too."""
        mine = _shingles(dialogue.turns)
        shared = Counter(holder for one in mine for holder in self._holders.get(one, ()))
        return [
            self._places[holder]
            for holder, count in shared.items()
            if self._sizes[holder] >= _FEWEST_SHINGLES
            and count >= NEAR * (max(self._sizes[holder], len(mine)) if whole else self._sizes[holder])
        ]


def _words(text: str) -> list[str]:
    return _WORD.findall(compared(text))


def _shingles(turns: Sequence[str]) -> set[int]:
    """Hashes of all sequences of three words (Broder 1997, "On the resemblance and containment of documents")."""
    words = [_words(turn) for turn in turns]
    return {hash(tuple(line[at : at + 3])) for line in words for at in range(len(line) - 2)}


class Linter:
    """Reads files with `read`, and afterwards compares with others by `against`; `balance` is of what was read."""

    def __init__(self) -> None:
        self.balance = Balance()
        self._near = _Near()
        self._ids: dict[str, str] = {}
        self._first: dict[tuple[str, ...], str] = {}  # the first turns as compared -> where
        self._replies: defaultdict[str, list[tuple[Path, int]]] = defaultdict(list)

    def read(self, path: Path) -> Iterator[Finding]:
        """The findings of one file, in the order of its lines; UsageError if it cannot be read."""
        try:
            with path.open("rb") as lines:
                for number, line in enumerate(lines, start=1):
                    if line.strip():
                        yield from (Finding(path, number, problem) for problem in self._line(line, path, number))
        except OSError as error:
            raise UsageError(f"{path} cannot be read: {error.strerror}; check the path and its permissions") from error

    def repeated(self) -> Iterator[Finding]:
        """Replies that stand all over the files read: they are what makes a model dull."""
        allowed = max(3, int(_OFTEN * self.balance.replies.total()))
        for reply, places in self._replies.items():
            if len(places) > allowed:
                yield Finding(*places[0], f"this reply stands {len(places)} times: {reply[:60]!r}")

    def against(self, paths: Sequence[Path]) -> Iterator[Finding]:
        """Dialogues of the files read that stand, nearly whole, in those of `paths`, too."""
        named = set[str]()
        for dialogue in read_dialogues(paths):
            for place in self._near.places_in(dialogue, whole=False):
                if place not in named:
                    named.add(place)
                    path, _, line = place.rpartition(":")
                    yield Finding(Path(path), int(line), f"nearly the same as dialogue {dialogue.id} of another file")

    def _line(self, line: bytes, path: Path, number: int) -> Iterator[str]:
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            dialogue = parse_dialogue(text)
        except UnicodeDecodeError:
            yield "not UTF-8"
            return
        except ValueError as error:
            yield str(error)
            return
        place = f"{path}:{number}"
        yield from _shape(dialogue, text)
        if dialogue.id in self._ids:
            yield f"its id {dialogue.id} stands at {self._ids[dialogue.id]} already"
        self._ids.setdefault(dialogue.id, place)
        # A question and its reply may stand several times, with other ways to go on.
        opening = tuple(compared(turn) for turn in dialogue.turns[:4])
        if opening in self._first:
            yield f"begins as {self._first[opening]} does"
        else:
            for other in self._near.places_in(dialogue, whole=True):
                yield f"nearly the same as {other}"
        self._first.setdefault(opening, place)
        self._near.add(dialogue, place)
        self.balance.count(dialogue)
        for reply in dialogue.turns[1::2]:
            self._replies[compared(reply)].append((path, number))


def _shape(dialogue: Dialogue, line: str) -> Iterator[str]:
    """What is wrong with one dialogue by itself."""
    turns = dialogue.turns
    if len(turns) % 2:
        yield f"{len(turns)} turns: the person begins and the bot has the last word"
    if len(turns) > MOST_TURNS:
        yield f"{len(turns)} turns, more than {MOST_TURNS}: cut it where the subject changes"
    for turn in turns:
        if len(turn) > LONGEST_TURN:
            yield f"a turn of {len(turn)} characters, more than {LONGEST_TURN}: {turn[:40]!r}"
    if any(compared(one) == compared(two) for one, two in zip(turns[1::2], turns[3::2], strict=False)):
        yield "the bot says the same twice running"
    if any(compared(question) == compared(reply) for question, reply in zip(turns[::2], turns[1::2], strict=False)):
        yield "a reply repeats what was said to it"
    language = json.loads(line).get("lang")
    if language in {"en", "zh"} and any(is_chinese(reply) != (language == "zh") for reply in turns[1::2]):
        yield f"a reply is not in the language of the dialogue, {language}"
