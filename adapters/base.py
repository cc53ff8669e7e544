"""What every adapter is: something with a name that runs until its platform's session is over.

In goes the spine: `Answering` is all that a terminal needs of it, `Spine` what a messenger needs, whose messages are
gone once they are acknowledged. Adapters know nothing else of the program: no model, no store, no other adapter.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from chatbot.messages import Message, Reply, Waiting

# Where a text may be cut, the best first: after a paragraph, a line, a sentence, a word.
_CUTS = tuple(
    re.compile(pattern)
    for pattern in (r"\n\s*\n", r"\n", r"[.!?…]+[\"'”’)]*\s|[。！？…]+[”’」』）]*\s?", r"[\s，、；]+")
)
_JOINER = "\u200d"
# Variation selectors and skin tones change the character before them.
_CLINGING = (_JOINER, "\ufe0e", "\ufe0f", *map(chr, range(0x1F3FB, 0x1F400)))


class Answering(Protocol):
    """Something that answers."""

    async def answer(self, message: Message) -> Reply:
        """The reply to a message, both committed. A ChatbotError says why there is none."""


class Spine(Answering, Protocol):
    """What a messenger needs: each message followed from its arrival until its reply is out, over any crash.

    Every call is committed when it returns. DatabaseError from all where the store cannot be used now. A message is
    known by its platform, chat, thread and id. docs/decisions/delivery.md tells the states.
    """

    async def answer(self, message: Message, before: Sequence[Message] = ()) -> Reply:
        """As for all. `before` are messages of the same writer, just before it, that this reply answers, too."""

    async def accept(self, message: Message) -> bool:
        """Keep a message before the platform is told that we have it; False: delivered before, do nothing with it."""

    async def waiting(self, platform: str) -> Sequence[Waiting]:
        """What earlier starts accepted and did not finish, oldest first."""

    async def sending(self, message: Message) -> None:
        """The platform is about to be called with the next part of the reply."""

    async def pending(self, message: Message, ids: Sequence[str] = ()) -> None:
        """The call is over: of the reply, the parts with these platform ids are out, and certainly no other."""

    async def done(
        self, message: Message, state: Literal["sent", "failed", "unknown"], ids: Sequence[str] = ()
    ) -> None:
        """Nothing is left to do for a message; `ids` are the platform's of the parts that are out."""

    async def edit(self, message: Message) -> None:
        """A message has a new text: take it into its row, or into the answer if that is still to come. No reply."""

    async def erase(self, platform: str, chat: str, message_id: str, thread: str | None = None) -> None:
        """A message was deleted on the platform: erase its words and the bot's replies to it, as /forget does."""

    async def rate(self, platform: str, chat: str, sender: str, reply_id: int, rating: int) -> str | None:
        """A +1 or -1 for the reply with this `Reply.id`; a line of thanks, None if there is no such reply there."""

    async def move(self, platform: str, old_chat: str, new_chat: str) -> None:
        """A chat has a new id on its platform: all its state goes with it."""

    async def newest(self, platform: str, chat: str) -> str | None:
        """The largest number among the ids of the messages accepted in a chat, of any thread; None if there is none."""

    async def chats(self, platform: str) -> Sequence[str]:
        """The platform's own ids of the chats known there; only Discord's are kept."""


class Adapter(Protocol):
    """A platform. `name` is the `Message.platform` of all its messages."""

    name: str

    async def run(self, spine: Spine) -> None:
        """Bring every message to the spine and its reply back, until the session is over or the task is cancelled.

        A `ChatbotError` from the spine is told to the person or the operator and ends nothing. What is raised ends the
        session: a UsageError needs the operator, anything else may pass, and a new session may be tried.
        """


@dataclass(frozen=True, slots=True)
class Finding:
    """What a look at one thing gave: `what` was found, and, where it is not `ok`, what will `mend` it."""

    ok: bool
    what: str
    mend: str = ""


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
    low, high = 1, min(len(text), limit)  # no code point counts less than one
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
