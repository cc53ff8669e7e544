"""The export: what is written equals what is decided with all pairs in hand, and few pairs are ever held."""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatbot.config import LearnSettings
from chatbot.learnable import LearnablePair
from chatbot.messages import Message, Reply
from chatbot.pairs import LearnablePairs
from chatbot.store import ConversationStore
from chatbot.text import clean
from training.export import export_pairs
from training.scrub import Scrubber, is_bare
from training.sifting import Sifting, sift

ON_BOTH = pytest.mark.parametrize("url", ["sqlite", "postgresql"], indirect=True)
NOON = datetime(2026, 5, 3, 12, tzinfo=UTC)
WORDS = ("yes", "no", "YES ", "maybe", "write to ann@example.org", "ann@example.org")


def sift_in_hand(pairs: Sequence[LearnablePair], settings: LearnSettings) -> tuple[list[LearnablePair], Counter[str]]:
    """What `sift` has to find, decided with all pairs in a list, from the newest to the oldest."""
    kept: list[LearnablePair] = []
    left_out: Counter[str] = Counter()
    told: set[tuple[str, ...]] = set()
    counts: Counter[tuple[object, ...]] = Counter()
    for pair in reversed(pairs):
        words = tuple(clean(text).casefold() for text in (*pair.context, pair.reply))
        reason = "said twice" if words in told else None
        told.add(words)
        limits: dict[tuple[object, ...], tuple[int, str]] = {
            (pair.person, "says", words[-1]): (settings.same_reply, "same reply of one person too often"),
            (pair.person, "in", f"{pair.created_at:%Y-%m-%d %H}"): (
                settings.per_hour,
                "too much of one person in an hour",
            ),
            (pair.person,): (settings.per_person, "too much of one person"),
        }
        if reason is None and not pair.imported:
            reason = next((why for key, (most, why) in limits.items() if most and counts[key] >= most), None)
            if reason is None:
                counts.update(limits.keys())
        if reason is None:
            kept.append(pair)
        else:
            left_out[reason] += 1
    return kept[::-1], left_out


@given(
    st.lists(
        st.tuples(
            st.sampled_from(WORDS),
            st.sampled_from(WORDS),
            st.sampled_from([1, 2, None]),
            st.booleans(),
            st.integers(0, 3),
        ),
        max_size=30,
    ),
    st.tuples(*[st.integers(0, 4)] * 3),
)
def test_sifting_equals_deciding_with_all_in_hand(
    said: list[tuple[str, str, int | None, bool, int]], most: tuple[int, int, int]
) -> None:
    """On any log, under any limits: the same pairs stay, and the same numbers of others are counted."""
    settings = LearnSettings(same_reply=most[0], per_hour=most[1], per_person=most[2])
    pairs = [
        LearnablePair(
            (asked,), reply, "human", (2 * n, 2 * n + 1), 1, NOON + timedelta(hours=hour), "telegram", person, imported
        )
        for n, (asked, reply, person, imported, hour) in enumerate(said)
    ]

    sifting = sift(iter(pairs), settings)

    assert ([pair for pair in pairs if pair in sifting], sifting.left_out) == sift_in_hand(pairs, settings)


def fill(store: ConversationStore, exchanges: int) -> None:
    """Three people teach the bot, each in a chat of their own, often the same."""
    dice = random.Random(5)
    for number in range(exchanges):
        person = dice.choice(("ann", "bob", "cem"))
        asked = Message("terminal", person, person, f"is it {dice.randrange(6)}?", str(number), datetime.now(UTC))
        store.record_reply(store.record_message(asked).id, Reply("bland", "m1", "seq2seq"))
        assert store.teach("terminal", person, person, dice.choice(WORDS))


@ON_BOTH
def test_the_export_is_what_is_decided_with_all_in_hand(store: ConversationStore, tmp_path: Path) -> None:
    """File, hash, counts and data set are those of all pairs read into a list, sifted there and scrubbed."""
    fill(store, 60)
    settings = LearnSettings(same_reply=1, per_person=4)
    found = store.learnable_pairs(settings.policy, 1)
    kept, left_out = sift_in_hand(list(found), settings)
    assert {"said twice", "same reply of one person too often", "too much of one person"} <= left_out.keys()
    scrubber = Scrubber(settings.scrub, settings.names)
    scrubbed = [(pair, scrubber.turns((*pair.context, pair.reply))) for pair in kept]
    written = [(pair, turns) for pair, turns in scrubbed if not is_bare(turns[-1]) or turns[-1] == pair.reply]
    assert 0 < len(written) < len(scrubbed)

    snapshot = export_pairs(store, settings, tmp_path / "log.jsonl", 1, "log", kept=False)

    lines = [json.loads(line) for line in snapshot.path.read_text("utf-8").splitlines()]
    assert [(line["message_ids"], line["turns"]) for line in lines] == [
        (list(pair.message_ids), list(turns)) for pair, turns in written
    ]
    assert snapshot.pairs == len(written)
    assert snapshot.sha256 == hashlib.sha256(snapshot.path.read_bytes()).hexdigest()
    assert snapshot.left_out == left_out | {"nothing but personal data": len(scrubbed) - len(written)}
    assert snapshot.replaced == scrubber.replaced
    store.record_model("m2", parent=None, dataset=snapshot.dataset, metrics={})
    assert store.lineage("m2") == sorted({row for pair, _ in written for row in pair.message_ids})


class Counted(LearnablePair):
    """A pair that is counted while anybody holds it."""

    alive = 0
    made = 0
    most = 0

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        Counted.alive += 1
        Counted.made += 1
        Counted.most = max(Counted.most, Counted.alive)

    def __del__(self) -> None:
        Counted.alive -= 1


@ON_BOTH
def test_few_pairs_are_held_at_once(store: ConversationStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the log is, the export has a handful of its pairs in memory: as read, as scrubbed, as written."""
    fill(store, 40)
    monkeypatch.setattr("chatbot.pairs.LearnablePair", Counted)

    for form in ("jsonl", "sharegpt", "tsv", "conv"):
        export_pairs(store, LearnSettings(), tmp_path / form, 1, form, kept=False, form=form)

    assert Counted.made > 4 * 2 * 40
    assert Counted.most <= 6


@ON_BOTH
def test_what_is_forgotten_between_the_readings_is_not_written(
    store: ConversationStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was judged and is then taken back does not pass the door again; what is said by then was never judged."""
    fill(store, 12)

    def sift_and_wait(pairs: LearnablePairs, settings: LearnSettings) -> Sifting:
        sifting = sift(pairs, settings)
        store.forget("terminal", "ann")
        asked = Message("terminal", "bob", "bob", "what is new?", "new", datetime.now(UTC))
        store.record_reply(store.record_message(asked).id, Reply("bland", "m1", "seq2seq"))
        assert store.teach("terminal", "bob", "bob", "this")
        return sifting

    monkeypatch.setattr("training.export.sift", sift_and_wait)
    people = {pair.person for pair in store.learnable_pairs(LearnSettings().policy, 1)}
    pairs: list[LearnablePair] = []
    snapshot = export_pairs(store, LearnSettings(), tmp_path / "log", 1, "log", kept=False, told=pairs.append)

    assert len({pair.person for pair in pairs}) == len(people) - 1
    assert snapshot.left_out["erased"] > 0
    assert "what is new?" not in snapshot.path.read_text("utf-8")
