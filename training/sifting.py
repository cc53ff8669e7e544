"""Too much of the same out of the pairs: duplicates, floods, and more of one person than the others can outweigh.

The newest pairs win. Imports are exempt from the limits on people: they are the operator's declared choice, and all
of them have the time of the import.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from enum import StrEnum

from chatbot.config import LearnSettings
from chatbot.learnable import LearnablePair
from chatbot.text import clean


class Sifted(StrEnum):
    """Why a pair that may be learnt from was not, in the words of the export's report."""

    DUPLICATE = "said twice"
    SAME_REPLY = "same reply of one person too often"
    FLOOD = "too much of one person in an hour"
    PERSON = "too much of one person"


def sift(pairs: Iterable[LearnablePair], settings: LearnSettings) -> tuple[list[LearnablePair], Counter[str]]:
    """The pairs worth learning, in the order they came, and how many others there were, by reason."""
    kept: list[LearnablePair] = []
    left_out: Counter[str] = Counter()
    told: set[tuple[str, ...]] = set()
    counts: Counter[object] = Counter()
    for pair in reversed(list(pairs)):
        words = tuple(clean(text).casefold() for text in (*pair.context, pair.reply))
        reason = Sifted.DUPLICATE if words in told else None
        told.add(words)
        if reason is None and not pair.imported:
            limits: dict[tuple[Sifted, int | None, str], int] = {
                (Sifted.SAME_REPLY, pair.person, words[-1]): settings.same_reply,
                (Sifted.FLOOD, pair.person, f"{pair.created_at:%Y-%m-%d %H}"): settings.per_hour,
                (Sifted.PERSON, pair.person, ""): settings.per_person,
            }
            reason = next((key[0] for key, most in limits.items() if most and counts[key] >= most), None)
            if reason is None:
                counts.update(limits.keys())
        if reason is None:
            kept.append(pair)
        else:
            left_out[reason] += 1
    return kept[::-1], left_out
