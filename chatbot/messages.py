"""The values that cross borders between adapters, the spine and the engine. Standard library only.

A history is a sequence of plain strings, oldest first, speakers alternating; its last entry is what the bot said
before the text that is to be answered. That is the shape of the `turns` of a dialogue file, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal


@dataclass(frozen=True, slots=True)
class Message:
    """What a person wrote, as the adapter saw it.

    `chat`, `sender` and `message_id` are the platform's own identifiers; the store keeps keyed hashes of people.
    `options` are decode settings for this one reply, such as ``{"temperature": 0.7}``. `ticket` is what the platform
    has given for a place in which it waits for the reply, if there is one; it is kept until the reply is out.
    """

    platform: str
    chat: str
    sender: str
    text: str
    message_id: str
    sent_at: datetime
    reply_to: str | None = None
    thread: str | None = None
    options: Mapping[str, object] = field(default_factory=dict)
    ticket: str | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """What the bot says, and what produced it.

    `engine` is one of ``seq2seq``, ``retrieval`` (known), ``neighbour`` (known for a similar question, and ranked
    best), ``recall`` (told by the person in this talk), ``echo``, ``rules``, ``command``, ``busy``; `score` is the
    length-normalised log-probability (seq2seq), that of the ranking, or the similarity from 0 to 1 (retrieval), None
    where there is none.
    `settings` are the decode settings in force, ready for JSON; `detail` names the rule, command or matched source.
    `id` is the row of a stored reply, by which it can be rated; None for what is stored nowhere, such as a command's.
    """

    text: str
    model_id: str
    engine: str
    score: float | None = None
    duration_ms: float = 0.0
    settings: Mapping[str, object] = field(default_factory=dict)
    seed: int | None = None
    detail: str | None = None
    id: int | None = None


@dataclass(frozen=True, slots=True)
class Waiting:
    """A message of an earlier start that is not done with.

    `reply` is None while it is still to be answered (``received``). Of a reply that was ``pending``, no part but those
    with the platform's ids in `sent` has reached the platform; of one that was ``sending``, the next may have.
    """

    message: Message
    reply: Reply | None
    state: Literal["received", "pending", "sending"]
    sent: Sequence[str] = ()
