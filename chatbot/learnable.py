"""Which rows of the log may be learnt from: one function, pure, the only door between the log and training data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from enum import StrEnum
from typing import Literal, get_args

from chatbot.access import verify_ids

Rule = Literal["allowed", "consented", "permitted", "never"]
Kind = Literal["taught", "liked", "human"]
# What of a person can be in a text, and is replaced before training: `training.scrub`.
Personal = Literal["link", "email", "user", "account", "card", "address", "phone", "name"]

# The terminal holds the operator's own words; Telegram asks every speaker; Discord forbids training outright.
DEFAULT_POLICY: Mapping[str, Rule] = {"terminal": "allowed", "telegram": "consented", "discord": "never"}
# What whoever runs the bot may set instead: the platforms' terms leave them no more.
CHOICES: Mapping[str, tuple[Rule, ...]] = {
    "telegram": ("consented", "permitted", "never"),
    "discord": ("permitted", "never"),
}

PERSONAL: tuple[Personal, ...] = get_args(Personal)


class LeftOut(StrEnum):
    """Why a reply was not learnt from, in the words of the export's report."""

    ERASED = "erased"
    UNDECLARED = "import without declaration"
    FORBIDDEN = "platform forbids"
    BLOCKED = "on the blocklist"
    NO_CONSENT = "no consent"
    TAINTED = "said by a tainted model"
    UNRATED = "unrated bot reply"
    NO_CONTEXT = "no context in reach"


@dataclass(frozen=True, slots=True)
class Blocklist:
    """Whose words, and what is said where, is never learnt, whatever they agreed to: platform and id."""

    users: tuple[str, ...] = ()
    chats: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for item in fields(self):
            verify_ids(f"learn.block.{item.name}", getattr(self, item.name))


NOBODY = Blocklist()


@dataclass(frozen=True, slots=True)
class LearnableRow:
    """All that the decision about one reply and its context rests on.

    `consents` holds the latest consent in this chat of every person whose words are in it, or whom the bot answers in
    it, None where there is none. `blocked` is True if one of them, or the chat, is on the operator's blocklist.
    `kind` is None for a bot reply that nobody corrected or liked; `has_context` is False if what it answers is gone.
    """

    platform: str
    kind: Kind | None
    consents: tuple[bool | None, ...]
    imported: bool = False
    declared: bool = False
    erased: bool = False
    tainted: bool = False
    has_context: bool = True
    blocked: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """True if the row may be learnt from, else the reason why not."""

    reason: LeftOut | None

    def __bool__(self) -> bool:
        return self.reason is None


@dataclass(frozen=True, slots=True)
class LearnablePair:
    """A context and the reply worth learning.

    `context` is oldest first and alternating, its last entry is what `reply` answers. `message_ids` are the rows whose
    text is in it, the reply's row last. `chat` is the same number for all pairs of one chat, for splitting. `person` is
    the number of who gives the lesson: who taught it, said it, or was answered so.
    """

    context: tuple[str, ...]
    reply: str
    kind: Kind
    message_ids: tuple[int, ...]
    chat: int
    created_at: datetime
    platform: str
    person: int | None
    imported: bool


def may_learn(row: LearnableRow, policy: Mapping[str, Rule]) -> Verdict:
    """Decide about one reply with its context. Platforms not in `policy` need consent; unknown rules forbid.

    A platform's permission does not stand for people's: ``permitted`` asks for consent as ``consented`` does. A
    declaration stands for the consent of imported speakers. A withdrawn consent counts everywhere.
    """
    rule = policy.get(row.platform, "consented")
    asking = rule in ("consented", "permitted")
    checks = (
        (row.erased, LeftOut.ERASED),
        (row.blocked, LeftOut.BLOCKED),
        (row.imported and not row.declared, LeftOut.UNDECLARED),
        (rule != "allowed" and not asking, LeftOut.FORBIDDEN),
        (False in row.consents, LeftOut.NO_CONSENT),
        (asking and not row.imported and not all(row.consents), LeftOut.NO_CONSENT),
        (not row.has_context, LeftOut.NO_CONTEXT),
        (row.kind is None, LeftOut.UNRATED),
        (row.tainted, LeftOut.TAINTED),
    )
    return Verdict(next((reason for failed, reason in checks if failed), None))
