"""Known exchanges: dialogues whose questions, asked again in the same words or nearly, get the reply that stands there.

In: a dialogue file, a history and a text. Out: the known reply, or None, and then a net may answer. Small generative
models are at their weakest where a line was written by hand for the very question (Weston et al. 2018, arXiv
1808.04776, refine retrieved replies for the same reason). What counts as the same question: `chatbot.matching`.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO
from zlib import crc32

from chatbot.errors import UsageError
from chatbot.generic import is_generic
from chatbot.knownindex import Asked, Found, KnownIndex, Place
from chatbot.matching import compared, gist, kind, kindred, wording
from chatbot.text import clean, is_chinese

INDEX_FILE = "known.npz"  # beside the dialogue file
_LONGEST_QUESTION = 300  # characters: a longer line is nobody's known question
_LEAST_SIMILAR = 0.4  # of a neighbour, from 0 to 1
_OF_ANOTHER_KIND = 0.8  # of the similarity is left, where a line that tells meets one that asks
# Similarity of a question that is answered as known; docs/decisions/replies.md tells how it was found.
_NEARLY_THE_SAME, _NEARLY_THE_SAME_ZH = 0.85, 0.74
_SURE = 0.95  # what such a similarity is at most: the same words are surer
_LOOKED_AT = 6  # similar lines
_WORD = re.compile(r"[a-z]+")
_AGAIN = re.compile(
    r"(?:(?:tell|give|sing|say|show) (?:me )?|do you have |have you got |got )?"
    r"(?:another|one more|more|again|next|a different|any more|any other)(?: (?:one|joke|riddle|fact|story|poem)s?)?"
    r"|(?:那|请)?(?:再(?:给我)?[来讲说](?:一?[个条首句遍点段])?|还有(?:别的|其他的?|没有)?|下一个|换一?个)(?:笑话|谜语|故事)?"
)


@dataclass(frozen=True, slots=True)
class KnownReply:
    """A reply as it stands in dialogue `dialogue`; `similarity` of the question from 0 to 1."""

    text: str
    dialogue: str
    similarity: float = 1.0


@dataclass(frozen=True, slots=True)
class KnownDialogue:
    """A line of a dialogue file, at byte `offset`; `also` are other ways to say its first turn."""

    id: str
    turns: tuple[str, ...]
    opening: bool = False
    also: tuple[str, ...] = ()
    offset: int = 0


class KnownExchanges:
    """The exchanges of a dialogue file; UsageError names the line at fault.

    The first line of a dialogue is known wherever it comes up. Not so if the dialogue is marked as an `opening`, for
    the same words later in a talk lean on what was said ("yes", "why?"): it, and what follows a first exchange, is
    known only where the bot has just said what stands before it, which at the start is nothing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._data = _read(path)
        self._index = KnownIndex.load(path.with_name(INDEX_FILE), self._data) or _indexed(self._data, path)

    def save_index(self) -> None:
        """Write the index beside the file, for the next time."""
        self._index.save(self._path.with_name(INDEX_FILE))

    def answer(self, history: Sequence[str], text: str, seed: int | None = None) -> KnownReply | None:
        """The known reply to `text`; of several, one that this history does not hold, chosen by `seed`."""
        if len(text) > _LONGEST_QUESTION:
            return None
        draw = (seed or 0) + crc32("\n".join(history).encode())
        for before in (history[-1] if history else "", None):
            if reply := self._fresh(self._index.exact(text, before), history, draw):
                return reply
        return self._another(history, text, draw) or self._fresh(self._kindred(text), history, draw)

    def all(self, text: str) -> list[KnownReply]:
        """Every reply that `answer` may give to `text` wherever it comes up."""
        return [self._reply(one) for one in (*self._index.exact(text, None), *self._kindred(text))]

    def neighbours(self, history: Sequence[str], text: str, count: int) -> list[KnownReply]:
        """Replies to first lines similar to `text`, `count` at most, the nearest first, none that was given before."""
        text = text[-_LONGEST_QUESTION:]
        if is_generic(text):
            return []  # "why?" leans on what was said before
        given = {compared(turn) for turn in history[-1::-2]}
        replies = []
        for one in self._index.similar(text, 3 * count):
            likeness = one.similarity * (1 if self._is_of_a_kind(text, one.place) else _OF_ANOTHER_KIND)
            reply = self._reply(replace(one, similarity=likeness))
            if likeness >= _LEAST_SIMILAR and compared(reply.text) not in given:
                replies.append(reply)
        return sorted(replies, key=lambda reply: -reply.similarity)[:count]

    def _is_of_a_kind(self, text: str, place: Place) -> bool:
        """Whether the way to say it that comes nearest to `text` asks where that asks, and tells where it tells."""
        from rapidfuzz import fuzz

        dialogue, wanted = self._dialogue(place), compared(text)
        nearest = max((dialogue.turns[0], *dialogue.also), key=lambda form: fuzz.ratio(compared(form), wanted))
        return kind(nearest) == kind(text)

    def _kindred(self, text: str) -> Iterator[Found]:
        """First lines that say nearly the same with other words, the nearest first."""
        wanted = self._index.gist(text)
        least = _NEARLY_THE_SAME_ZH if is_chinese(wanted) else _NEARLY_THE_SAME
        for one in self._index.similar(text, _LOOKED_AT):
            if one.similarity < least:
                return
            dialogue = self._dialogue(one.place)
            if any(kindred(wanted, gist(form)) for form in (dialogue.turns[0], *dialogue.also)):
                yield replace(one, similarity=min(one.similarity, _SURE))

    def _another(self, history: Sequence[str], text: str, draw: int) -> KnownReply | None:
        """ "Another one": of the same as was asked for before, if that was known."""
        if not _AGAIN.fullmatch(wording(text)):
            return None
        for asked, told in zip(history[-2::-2], history[-1::-2], strict=False):
            if not _AGAIN.fullmatch(wording(asked)):
                known = list(self._index.exact(asked, None))
                if compared(told) in {compared(self._reply(one).text) for one in known}:
                    return self._fresh(known, history, draw)
                return None
        return None

    def _fresh(self, found: Iterable[Found], history: Sequence[str], draw: int) -> KnownReply | None:
        """One of the replies that come nearest, of those that were not given yet."""
        given = {compared(turn) for turn in history[-1::-2]}
        best: list[KnownReply] = []
        for one in found:
            if best and one.similarity < best[0].similarity:
                break
            reply = self._reply(one)
            if compared(reply.text) not in given:
                best.append(reply)
        return best[draw % len(best)] if best else None

    def _reply(self, found: Found) -> KnownReply:
        dialogue = self._dialogue(found.place)
        return KnownReply(dialogue.turns[found.place.turn + 1], dialogue.id, found.similarity)

    def _dialogue(self, place: Place) -> KnownDialogue:
        end = self._data.find(b"\n", place.line)
        return _parsed(self._data[place.line : end if end >= 0 else None], str(self._path))


def dialogues(path: Path) -> Iterator[KnownDialogue]:
    """Each line of a JSONL file, plain or .zst."""
    import zstandard  # in the function: answering from an index does without

    try:
        packed = path.suffix == ".zst"
        with io.BufferedReader(zstandard.open(path, "rb")) if packed else path.open("rb") as lines:
            yield from _parse(lines, path)
    except OSError as error:
        raise _unreadable(path, error) from error
    except zstandard.ZstdError as error:
        raise UsageError(f"{path} is damaged or not zstd: {error}; fetch or compress it again") from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> UsageError:
    return UsageError(f"{path} cannot be read: {error.strerror}; check the path and its permissions")


def _parse(lines: BinaryIO, path: Path) -> Iterator[KnownDialogue]:
    offset = 0
    for number, line in enumerate(lines, start=1):
        if line.strip() not in (b"", b"\xef\xbb\xbf"):
            yield replace(_parsed(line, f"{path} line {number}"), offset=offset)
        offset += len(line)


def _parsed(line: bytes, where: str) -> KnownDialogue:
    try:
        record: Any = json.loads(line.decode("utf-8-sig"))
        turns = tuple(clean(turn) for turn in record["turns"] if isinstance(turn, str))
        also = tuple(clean(turn) for turn in record.get("also", ()) if isinstance(turn, str))
        sound = len(turns) == len(record["turns"]) and len(turns) > 1 and all(turns)
    except UnicodeDecodeError as error:
        raise UsageError(f"{where} is not UTF-8 text; save the file as UTF-8") from error
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        sound = False
    if not sound:
        raise UsageError(f'{where} is no dialogue; it must be JSON like {{"turns": ["hi", "hello"]}}, no turn empty')
    return KnownDialogue(str(record.get("id", where)), turns, record.get("opening") is True, tuple(filter(None, also)))


def _indexed(data: bytes, path: Path) -> KnownIndex:
    asked: list[Asked] = []
    words: set[str] = set()
    for dialogue in _parse(io.BytesIO(data), path):
        for turn in range(0, len(dialogue.turns) - 1, 2):
            before = dialogue.turns[turn - 1] if turn else "" if dialogue.opening else None
            forms = (dialogue.turns[0], *dialogue.also) if turn == 0 else (dialogue.turns[turn],)
            asked += [Asked(form, before, Place(dialogue.offset, turn)) for form in forms]
        for text in (*dialogue.turns, *dialogue.also):
            words.update(_WORD.findall(text.lower()))
    return KnownIndex.build(data, asked, words)
