"""Texts read past the usual disguises: case, accents, invisible characters, look-alikes, digits for letters.

In goes any string, out comes a `View` of bounded length on which `chatbot.rules` matches its expressions.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from chatbot.literals import Expression

# Longer texts are read at both ends only, this many characters each: time stays bounded whatever is sent.
_EDGE_CHARS = 1536
HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
# Control and default-ignorable characters, combining marks, lone surrogates: each can hide inside a word.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\u0300-\u036f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f"
    "\u200b-\u200f\u202a-\u202e\u2060-\u206f\u20d0-\u20f0\u3164\ufe00-\ufe0f\ufe20-\ufe2f\ufeff\uffa0"
    "\ud800-\udfff\U000e0000-\U000e0fff]+"
)
_STRETCH = re.compile(r"(\D)\1{3,}")
_QUOTES = re.compile("['\"`´’‘ʼ“”]+")
_INSIDE_WORD = re.compile(r"(?<=\w)[-_~^·•+=]+(?=\w)|_")
_SENTENCE_END = re.compile(rf"(?<!\.)\.(?=\s|$)|[!?;:]+(?=\s|$)|(?<=[{HAN}])[,.!?;:、。]+|。")
_TOKEN = re.compile(rf"\||[{HAN}]+|[a-z0-9@$*!]+|[^\W\d_{HAN}]+")
_HAN_GAP = re.compile(rf"(?<=[{HAN}]) (?=[{HAN}])")
_DISGUISED = re.compile(r"[0-9@$*!]|(.)\1\1")
_LETTERS = {"0": "o", "1": "il", "3": "e", "4": "a", "5": "s", "7": "t", "8": "b", "9": "g"}
_LETTERS |= {"@": "a", "$": "s", "!": "i", "*": "aeiou"}
_MAX_READINGS = 50  # of one disguised word
_LONGEST_WORD = 16  # letters, among those spelled out
NEEDS = {"en": re.compile("[a-z]"), "zh": re.compile(f"[{HAN}]"), "raw": re.compile("[@/.0-9]")}


@dataclass(frozen=True, slots=True)
class View:
    """A text made comparable: `raw` keeps punctuation, `words` is bare words with "|" between sentences."""

    raw: str
    words: str


@dataclass(frozen=True, slots=True)
class Reader:
    """Makes texts comparable. `vocabulary` is every Latin word of the patterns, what disguises are undone to."""

    lookalikes: Mapping[int, str]
    vocabulary: frozenset[str]
    spellings: Mapping[str, str]
    harmless: Mapping[str, Expression]

    def read(self, text: str) -> View:
        """Fold a text of any length into a view of bounded length."""
        text = _clip(" ".join(_INVISIBLE.sub("", text).split()), 8 * _EDGE_CHARS)
        text = _clip(_STRETCH.sub(r"\1\1\1", text))
        # One character may become eighteen here, hence the second clip.
        text = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", text).casefold())
        raw = _clip("".join(c for c in text if not unicodedata.combining(c)))
        bare = _INSIDE_WORD.sub("", _QUOTES.sub("", raw.translate(self.lookalikes).replace("|", " ")))
        words = _HAN_GAP.sub("", " ".join(self._words(_TOKEN.findall(_SENTENCE_END.sub(" | ", bare)))))
        for key, expression in self.harmless.items():
            if NEEDS[key].search(words):
                words = expression.replaced(words, "|")
        return View(raw, words)

    def _words(self, tokens: Iterable[str]) -> Iterable[str]:
        """Tokens as plain words, with letters standing alone ("k i l l") put together."""
        for alone, run in itertools.groupby(tokens, lambda token: len(token) == 1 and token.isascii() and token != "|"):
            group = list(run)
            if alone and len(group) > 2 and not self.vocabulary.issuperset(group):
                group = self._split("".join(_LETTERS.get(sign, sign)[0] for sign in group))
            for token in group:
                if word := self._undisguise(token):
                    yield self.spellings.get(word, word)

    def _undisguise(self, token: str) -> str:
        """The known word behind digits, signs and stretched letters, or the token without the signs."""
        if token in self.vocabulary or token.isdigit() or not _DISGUISED.search(token):
            return token
        options = (_readings(letter, len(list(run))) for letter, run in itertools.groupby(token[:40]))
        readings = ("".join(reading) for reading in itertools.product(*options))
        for word in itertools.islice(readings, _MAX_READINGS):
            if word in self.vocabulary:
                return word
        return " ".join(re.findall(r"[^\W_]+", re.sub(r"(.)\1\1+", r"\1", token)))

    def _split(self, letters: str) -> list[str]:
        """Known words written without spaces, longest first; what belongs to none stays single letters."""
        words: list[str] = []
        start = 0
        while start < len(letters):
            ends = range(min(start + _LONGEST_WORD, len(letters)), start + 1, -1)
            end = next((end for end in ends if letters[start:end] in self.vocabulary), start + 1)
            words.append(letters[start:end])
            start = end
        return words


def _clip(text: str, edge: int = _EDGE_CHARS) -> str:
    """Both ends of a text too long to read whole, `edge` characters each."""
    return text if len(text) <= 2 * edge else f"{text[:edge]} {text[-edge:]}"


def _readings(letter: str, count: int) -> Sequence[str]:
    """What a letter written `count` times over may stand for."""
    options = _LETTERS.get(letter, letter)
    return [option * n for n in ((1, 2) if count > 2 else (count,)) for option in options]
