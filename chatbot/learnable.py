"""Which rows of the log may be learnt from: one function, pure, the only door between the log and training data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Literal

Rule = Literal["allowed", "consented", "never"]
Kind = Literal["taught", "liked", "human"]

# The terminal holds the operator's own words; Telegram asks every speaker; Discord forbids training outright.
DEFAULT_POLICY: Mapping[str, Rule] = {"terminal": "allowed", "telegram": "consented", "discord": "never"}


class LeftOut(StrEnum):
    """Why a reply was not learnt from, in the words of the export's report."""

    ERASED = "erased"
    UNDECLARED = "import without declaration"
    FORBIDDEN = "platform forbids"
    NO_CONSENT = "no consent"
    TAINTED = "said by a tainted model"
    UNRATED = "unrated bot reply"
    NO_CONTEXT = "no context in reach"


@dataclass(frozen=True, slots=True)
class LearnableRow:
    """All that the decision about one reply and its context rests on.

    `consents` holds the latest consent in this chat of every person whose words are in it, None where there is none.
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
    text is in it, the reply's row last. `chat` is the same number for all pairs of one chat, for splitting.
    """

    context: tuple[str, ...]
    reply: str
    kind: Kind
    message_ids: tuple[int, ...]
    chat: int
    created_at: datetime


def may_learn(row: LearnableRow, policy: Mapping[str, Rule]) -> Verdict:
    """Decide about one reply with its context. Platforms not in `policy` need consent; unknown rules forbid.

    A declaration stands for the consent of imported speakers. A withdrawn consent counts everywhere.
    """
    rule = policy.get(row.platform, "consented")
    checks = (
        (row.erased, LeftOut.ERASED),
        (row.imported and not row.declared, LeftOut.UNDECLARED),
        (rule not in ("allowed", "consented"), LeftOut.FORBIDDEN),
        (False in row.consents, LeftOut.NO_CONSENT),
        (rule == "consented" and not row.imported and not all(row.consents), LeftOut.NO_CONSENT),
        (not row.has_context, LeftOut.NO_CONTEXT),
        (row.kind is None, LeftOut.UNRATED),
        (row.tainted, LeftOut.TAINTED),
    )
    return Verdict(next((reason for failed, reason in checks if failed), None))
