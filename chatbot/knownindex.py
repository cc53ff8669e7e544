"""The index of a dialogue file: where a question stands, and which questions are similar, without reading the file.

In: the bytes of a dialogue file (JSONL). Out: `Place` values, a line of the file and a turn in it. All of it is a few
flat arrays, so that a saved index of tens of thousands of questions is there in milliseconds; what it holds of the
texts are hashes and, to mend slips, the list of their words. It knows no replies and no model.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from chatbot.matching import compared, forms, gist, wording
from chatbot.text import is_chinese

_VERSION = 1
_ANYWHERE = "\0"  # the place of a question that is known wherever it comes up
_SHORTEST_SLIP = 5  # letters of a word in which a slip is mended
_NEARLY_AS_RARE = 0.7  # share of the weight of the rarest word
_BESIDE_THE_POINT = 0.6
_ARRAYS = ("keys", "lines", "turns", "words", "spelt", "terms", "starts", "posts", "norms", "firsts")


class Place(NamedTuple):
    """A question in the file: the offset of its line in bytes, and the turn that is asked."""

    line: int
    turn: int


class Asked(NamedTuple):
    """What goes in: a question at its place, in any of its forms; `before` is what the bot said, None anywhere."""

    text: str
    before: str | None
    place: Place


@dataclass(frozen=True, slots=True)
class Found:
    """Where a question stands that is taken for the same, from 1 (the same words) down."""

    place: Place
    similarity: float


@dataclass(frozen=True, slots=True)
class KnownIndex:
    """Sorted keys (a hash of place and words) beside their lines and turns; words; postings of terms by question."""

    stamp: tuple[int, int, int]  # version, size and checksum of the file that it belongs to
    keys: NDArray[np.uint64]
    lines: NDArray[np.uint32]
    turns: NDArray[np.uint16]
    words: NDArray[np.uint64]  # sorted
    spelt: NDArray[np.uint8]  # the words, a line each
    terms: NDArray[np.uint64]  # sorted
    starts: NDArray[np.uint32]  # (terms + 1,), in posts
    posts: NDArray[np.uint32]  # questions
    norms: NDArray[np.float32]  # of each question
    firsts: NDArray[np.uint32]  # line of each question
    _vocabulary: list[list[str]] = field(default_factory=list)

    def exact(self, text: str, before: str | None) -> Iterator[Found]:
        """Where `text` stands, the best forms first: its words, its gist, its gist with slips mended."""
        seen: set[Place] = set()
        for similarity, key in self._forms(text, before):
            start, end = np.searchsorted(self.keys, np.array([key, key + 1], dtype=np.uint64))
            for row in range(int(start), int(end)):
                place = Place(int(self.lines[row]), int(self.turns[row]))
                if place not in seen:
                    seen.add(place)
                    yield Found(place, similarity)

    def similar(self, text: str, count: int) -> list[Found]:
        """The `count` first lines that share the most telling words with `text`: cosine of idf weights.

        One that lacks the rarest word, or one nearly as rare, is about something else, and counts for less.
        """
        total = len(self.firsts)
        sums, rarest = np.zeros(total, dtype=np.float32), np.zeros(total, dtype=np.float32)
        norm = most = 0.0
        for term in set(map(_hash, _terms(self.gist(text)))):
            row = int(np.searchsorted(self.terms, np.uint64(term)))
            here = row < len(self.terms) and int(self.terms[row]) == term
            posts = self.posts[self.starts[row] : self.starts[row + 1]] if here else self.posts[:0]
            weight = math.log((total + 1) / (len(posts) + 1)) ** 2
            norm, most = norm + weight, max(most, weight)
            sums[posts] += weight
            rarest[posts] = np.maximum(rarest[posts], weight)
        if not norm or not total:
            return []
        sums /= np.sqrt(np.float32(norm)) * self.norms
        sums[rarest < _NEARLY_AS_RARE * most] *= _BESIDE_THE_POINT
        best = np.argpartition(-sums, min(count, total - 1))[:count]
        best = best[np.lexsort((best, -sums[best]))]
        return [Found(Place(int(self.firsts[i]), 0), float(sums[i])) for i in best if sums[i] > 0]

    def gist(self, text: str) -> str:
        """`chatbot.matching.gist` with slips mended."""
        return gist(text, self._mend)

    def _forms(self, text: str, before: str | None) -> Iterator[tuple[float, int]]:
        yield 1.0, _key(wording(text), before)
        yield 0.98, _key("=" + gist(text), before)
        yield 0.96, _key("=" + self.gist(text), before)

    def _mend(self, word: str) -> str:
        """The known word that `word` was meant to be, or `word`: one slip, two in a long word."""
        if len(word) < _SHORTEST_SLIP or not word.isascii() or not word.isalpha() or self._knows(word):
            return word
        from rapidfuzz import process  # in the function: most words are known
        from rapidfuzz.distance import OSA

        if not self._vocabulary:
            self._vocabulary.append(self.spelt.tobytes().decode().split("\n"))
        slips = 1 if len(word) < 8 else 2
        found = process.extract(word, self._vocabulary[0], scorer=OSA.distance, score_cutoff=slips, limit=2)
        if not found or (len(found) > 1 and found[0][1] == found[1][1]) or found[0][0][0] != word[0]:
            return word
        return str(found[0][0])

    def _knows(self, word: str) -> bool:
        key = _hash(word)
        row = int(np.searchsorted(self.words, np.uint64(key)))
        return row < len(self.words) and int(self.words[row]) == key

    def save(self, path: Path) -> None:
        """Write all of it as one .npz."""
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        np.savez(path, stamp=np.array(self.stamp, dtype=np.int64), **arrays)

    @classmethod
    def load(cls, path: Path, data: bytes) -> KnownIndex | None:
        """The index saved at `path`, or None if there is none or it belongs to another file than `data`."""
        try:
            with np.load(path, allow_pickle=False) as arrays:
                stamp = tuple(int(number) for number in arrays["stamp"])
                if stamp == _stamp(data):
                    return cls(stamp, *(arrays[name] for name in _ARRAYS))
        except (OSError, ValueError, KeyError):
            pass  # an index can be made anew from what it is an index of
        return None

    @classmethod
    def build(cls, data: bytes, asked: Sequence[Asked], words: Iterable[str]) -> KnownIndex:
        """The index of a file's questions; `words` are all words that stand in it."""
        rows = sorted({(_key(form, item.before), item.place) for item in asked for form in forms(item.text)})
        spelt = sorted({word for word in words if len(word) >= _SHORTEST_SLIP - 2 and word.isascii()})
        firsts = [item for item in asked if item.before is None and item.place.turn == 0]
        postings: dict[int, list[int]] = defaultdict(list)
        for number, item in enumerate(firsts):
            for term in set(_terms(gist(item.text))):
                postings[_hash(term)].append(number)
        norms = np.zeros(len(firsts), dtype=np.float32)
        for numbers in postings.values():
            norms[numbers] += math.log((len(firsts) + 1) / (len(numbers) + 1)) ** 2
        terms = sorted(postings)
        return cls(
            _stamp(data),
            np.array([key for key, _ in rows], dtype=np.uint64),
            np.array([place.line for _, place in rows], dtype=np.uint32),
            np.array([place.turn for _, place in rows], dtype=np.uint16),
            np.array(sorted(map(_hash, spelt)), dtype=np.uint64),
            np.frombuffer("\n".join(spelt).encode(), dtype=np.uint8),
            np.array(terms, dtype=np.uint64),
            np.cumsum([0, *(len(postings[term]) for term in terms)], dtype=np.uint32),
            np.array([number for term in terms for number in postings[term]], dtype=np.uint32),
            np.sqrt(np.maximum(norms, 1e-6)),
            np.array([item.place.line for item in firsts], dtype=np.uint32),
        )


def _stamp(data: bytes) -> tuple[int, int, int]:
    return _VERSION, len(data), crc32(data)


def _hash(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def _key(form: str, before: str | None) -> int:
    return _hash(f"{_ANYWHERE if before is None else compared(before)}\n{form}")


_ENGLISH = re.compile("[a-z0-9']+")


def _terms(line: str) -> list[str]:
    """What two similar lines share: words; of Chinese, characters in pairs, and single ones to lean on."""
    words = _ENGLISH.findall(line)
    if not is_chinese(line):
        return words or [line]
    signs = _ENGLISH.sub("", line).lstrip("?")
    return [*words, *(signs[i : i + 2] for i in range(len(signs) - 1)), *(f"{sign}." for sign in signs)]
