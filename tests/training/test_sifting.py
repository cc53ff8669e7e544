"""Too much of the same: duplicates, floods, and more of one person than the others can outweigh."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from chatbot.config import LearnSettings
from chatbot.learnable import LearnablePair
from training.sifting import sift

NOON = datetime(2026, 5, 3, 12, tzinfo=UTC)


def pair(number: int, reply: str | None = None, **more: Any) -> LearnablePair:
    """A pair of person 1, an hour after the one before it."""
    values: dict[str, Any] = {
        "context": (f"question {number}",),
        "reply": reply or f"answer {number}",
        "kind": "taught",
        "message_ids": (2 * number, 2 * number + 1),
        "chat": 1,
        "created_at": NOON + timedelta(hours=number),
        "platform": "telegram",
        "person": 1,
        "imported": False,
    }
    return LearnablePair(**{**values, **more})


def sifted(pairs: list[LearnablePair], **settings: int) -> tuple[list[int], dict[str, int]]:
    """The numbers of the pairs that are left, and what was not, by reason."""
    sifting = sift(pairs, LearnSettings(**settings))  # type: ignore[arg-type]  # only whole numbers are given
    return [found.message_ids[0] // 2 for found in pairs if found in sifting], dict(sifting.left_out)


def test_the_newest_of_equal_pairs_stays() -> None:
    """Equal up to case and spaces, whoever said it; the order of the others is kept."""
    pairs = [
        pair(1),
        pair(2),
        pair(3, "ANSWER  1", context=("Question 1",), person=2),
        pair(4, context=("question 1",)),
    ]

    assert sifted(pairs) == ([2, 3, 4], {"said twice": 1})


def test_one_person_counts_up_to_the_cap() -> None:
    """The newest of a person stay, another person's are their own; 0 is no cap."""
    pairs = [pair(number, person=number % 2) for number in range(10)]

    assert sifted(pairs, per_person=2) == ([6, 7, 8, 9], {"too much of one person": 6})
    assert len(sifted(pairs, per_person=0)[0]) == 10


def test_a_flood_is_cut_by_the_hour() -> None:
    """Of one person's pairs from one hour so many stay; those of other hours are not touched."""
    pairs = [pair(number, created_at=NOON + timedelta(minutes=25 * number)) for number in range(5)]

    assert sifted(pairs, per_hour=2) == ([1, 2, 3, 4], {"too much of one person in an hour": 1})


def test_one_reply_to_everything_counts_a_few_times() -> None:
    """The same reply of one person, in any case, is learnt so often; another person may say it, too."""
    pairs = [pair(1, "Buy!"), pair(2, "buy!"), pair(3, "BUY!"), pair(4), pair(5, "buy!", person=2)]

    assert sifted(pairs, same_reply=2) == ([2, 3, 4, 5], {"same reply of one person too often": 1})


def test_imports_have_no_limits_on_people() -> None:
    """A declared import is taken whole, but for what is in it twice."""
    pairs = [pair(number, "ok", imported=True, created_at=NOON) for number in range(9)] + [
        pair(9, "ok", context=("question 0",), imported=True)
    ]

    assert sifted(pairs, per_person=2, per_hour=2, same_reply=2) == ([*range(1, 10)], {"said twice": 1})
