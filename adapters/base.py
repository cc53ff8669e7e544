"""What every adapter is: something with a name that runs until its platform's session is over.

In goes one callable, `Answer`; it takes a `Message` and gives the `Reply` to show. Adapters know nothing else of the
program: no model, no store, no other adapter.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Awaitable, Callable
from typing import Protocol

from chatbot.messages import Message, Reply

Answer = Callable[[Message], Awaitable[Reply]]

# Where a text may be cut, the best first: after a paragraph, a line, a sentence, a word.
_CUTS = tuple(
    re.compile(pattern)
    for pattern in (r"\n\s*\n", r"\n", r"[.!?…]+[\"'”’)]*\s|[。！？…]+[”’」』）]*\s?", r"[\s，、；]+")
)
_JOINER = "\u200d"
# Variation selectors and skin tones change the character before them.
_CLINGING = (_JOINER, "\ufe0e", "\ufe0f", *map(chr, range(0x1F3FB, 0x1F400)))


class Adapter(Protocol):
    """A platform. `name` is the `Message.platform` of all its messages."""

    name: str

    async def run(self, answer: Answer) -> None:
        """Bring every message to `answer` and its reply back, until the session is over or the task is cancelled.

        A `ChatbotError` from `answer` is told to the person or the operator and ends nothing.
        """


def split_text(text: str, limit: int, length: Callable[[str], int] = len) -> list[str]:
    """`text` in parts of at most `limit`, as the platform's `length` counts; blank text has no parts.

    Cuts after a paragraph, a line, a sentence or a word, where one ends in the second half of what fits; otherwise
    between characters, never inside one that is made of several code points, unless it alone is too long.
    White space at a cut is dropped.
    """
    parts = []
    rest = text.strip()
    while rest and length(rest) > limit:
        fits = _longest(rest, limit, length)
        # White space after a word that just fits is looked at, too: it ends the word, and is dropped.
        seen = fits + rest[fits].isspace()
        ends = (max((match.end() for match in cut.finditer(rest, 0, seen)), default=0) for cut in _CUTS)
        at = next((end for end in ends if end > fits // 2), None) or _between_characters(rest, fits)
        parts.append(rest[:at].strip())
        rest = rest[at:].strip()
    return [part for part in (*parts, rest) if part]


def _longest(text: str, limit: int, length: Callable[[str], int]) -> int:
    """How many code points from the start of `text` fit into `limit`; at least one, so that there is an end."""
    low, high = 1, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if length(text[:middle]) <= limit else (low, middle - 1)
    return low


def _between_characters(text: str, at: int) -> int:
    """The last place up to `at` that is not inside a character of several code points; `at` if there is none."""
    place = at
    while place > 0 and (text[place] in _CLINGING or unicodedata.combining(text[place]) or text[place - 1] == _JOINER):
        place -= 1
    return place or at
