"""What may be learnt from, what is streamed to training, and which rows a model leads back to."""

from __future__ import annotations

from collections import Counter
from itertools import product
from typing import Any

import pytest
from talking import NOON, store_dialogue

from chatbot.errors import UsageError
from chatbot.learnable import DEFAULT_POLICY, Blocklist, LearnablePair, LearnableRow, LeftOut, Rule, may_learn
from chatbot.messages import Message, Reply
from chatbot.store import ConversationStore

GIVEN = (True,)


def exchange(
    store: ConversationStore,
    number: int,
    *,
    platform: str = "terminal",
    sender: str = "me",
    rating: int | None = None,
    taught: str | None = None,
    reply_to: str | None = None,
    model: str = "m1",
) -> tuple[int, int]:
    """One line and its reply in the chat "c", rated or corrected if asked; the ids of both rows."""
    message = Message(platform, "c", sender, f"ask {number}", str(number), NOON, reply_to=reply_to)
    asked = store.record_message(message).id
    reply = store.record_reply(asked, Reply(f"reply {number}", model, "seq2seq"))
    if rating is not None:
        store.rate(platform, "c", sender, rating)
    if taught is not None:
        store.teach(platform, "c", sender, taught)
    return asked, reply


def learn(store: ConversationStore, turns: int = 3, **policy: Any) -> tuple[list[LearnablePair], Counter[LeftOut]]:
    """The learnable pairs, and what was left out, under the shipped policy with changes."""
    pairs = store.learnable_pairs({**DEFAULT_POLICY, **policy}, turns)
    return list(pairs), pairs.left_out


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (LearnableRow("terminal", "taught", (None,)), None),
        (LearnableRow("terminal", "liked", (True,)), None),
        (LearnableRow("terminal", "liked", (False,)), LeftOut.NO_CONSENT),
        (LearnableRow("terminal", None, (None,)), LeftOut.UNRATED),
        (LearnableRow("terminal", "liked", (None,), tainted=True), LeftOut.TAINTED),
        (LearnableRow("terminal", "liked", (None,), erased=True), LeftOut.ERASED),
        (LearnableRow("terminal", "liked", (None,), has_context=False), LeftOut.NO_CONTEXT),
        (LearnableRow("telegram", "taught", GIVEN), None),
        (LearnableRow("telegram", "taught", (True, True)), None),
        (LearnableRow("telegram", "taught", (True, None)), LeftOut.NO_CONSENT),
        (LearnableRow("telegram", "taught", (True, False)), LeftOut.NO_CONSENT),
        (LearnableRow("telegram", None, (None,)), LeftOut.NO_CONSENT),
        (LearnableRow("telegram", "human", GIVEN, erased=True), LeftOut.ERASED),
        (LearnableRow("discord", "taught", GIVEN), LeftOut.FORBIDDEN),
        (LearnableRow("matrix", "taught", (None,)), LeftOut.NO_CONSENT),
        (LearnableRow("matrix", "taught", GIVEN), None),
        (LearnableRow("import", "human", (None, None), imported=True), LeftOut.UNDECLARED),
        (LearnableRow("import", "human", (None, None), imported=True, declared=True), None),
        (LearnableRow("discord", "human", (None,), imported=True, declared=True), LeftOut.FORBIDDEN),
        (LearnableRow("import", "human", (None, False), imported=True, declared=True), LeftOut.NO_CONSENT),
        (LearnableRow("terminal", "taught", GIVEN, blocked=True), LeftOut.BLOCKED),
    ],
)
def test_may_learn(row: LearnableRow, reason: LeftOut | None) -> None:
    """The table of cases: who may be learnt from under the shipped policy, and the reason for everyone else."""
    verdict = may_learn(row, DEFAULT_POLICY)

    assert verdict.reason == reason
    assert bool(verdict) == (reason is None)


def test_may_learn_never_without_a_ground() -> None:
    """Over all combinations: never an erased, forbidden, undeclared or refused row, nor one that nobody approved."""
    flags = (False, True)
    consents: tuple[tuple[bool | None, ...], ...] = ((None,), (True,), (False,), (True, None))
    for platform, kind, consent, imported, declared, erased, tainted in product(
        ("terminal", "telegram", "discord"), (None, "liked"), consents, flags, flags, flags, flags
    ):
        row = LearnableRow(platform, kind, consent, imported, declared, erased, tainted)  # type: ignore[arg-type]
        if may_learn(row, DEFAULT_POLICY):
            assert not erased
            assert not tainted
            assert platform != "discord"
            assert False not in consent
            assert declared or not imported
            assert kind is not None
            assert platform == "terminal" or imported or all(consent)


def test_a_platforms_permission_does_not_stand_for_peoples() -> None:
    """Where the platform has permitted it, everybody is asked as before."""
    policy: dict[str, Rule] = {"discord": "permitted"}
    cases = {GIVEN: None, (None,): LeftOut.NO_CONSENT, (True, None): LeftOut.NO_CONSENT, (False,): LeftOut.NO_CONSENT}

    for consents, reason in cases.items():
        assert may_learn(LearnableRow("discord", "taught", consents), policy).reason == reason


def test_an_unknown_rule_forbids() -> None:
    """A rule that is mistyped opens no door."""
    row = LearnableRow("terminal", "taught", GIVEN)

    assert may_learn(row, {"terminal": "alowed"}).reason == LeftOut.FORBIDDEN  # type: ignore[dict-item]


def test_taught_and_liked_are_streamed_in_id_order(store: ConversationStore) -> None:
    """Worked example: a correction and a liked reply with their contexts, corrections within; the rest is counted."""
    a, b = exchange(store, 0, taught="taught 0")
    c, d = exchange(store, 1)
    e, f = exchange(store, 2, rating=1)
    exchange(store, 3, rating=-1)

    pairs, left_out = learn(store, turns=3)

    assert [(pair.context, pair.reply, pair.kind, pair.message_ids) for pair in pairs] == [
        (("ask 0",), "taught 0", "taught", (a, b)),
        (("ask 1", "reply 1", "ask 2"), "reply 2", "liked", (c, d, e, f)),
    ]
    assert pairs[0].chat == pairs[1].chat
    assert left_out == {"unrated bot reply": 2}
    assert learn(store, turns=5)[0][1].context == ("ask 0", "taught 0", "ask 1", "reply 1", "ask 2")


def test_context_ends_at_a_reset(store: ConversationStore) -> None:
    """What the bot no longer knew when it replied is not in the pair either."""
    exchange(store, 0)
    store.reset("terminal", "c")
    exchange(store, 1, rating=1)

    assert [pair.context for pair in learn(store)[0]] == [("ask 1",)]


def test_pages_and_windows_lose_nothing(store: ConversationStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """With tiny pages and room for one chat, chats that alternate row by row give the same pairs with full contexts."""
    dialogues = [store.record_import("a.jsonl", "mine") for _ in range(3)]
    for batch in dialogues:
        store_dialogue(store, batch, [f"{batch} turn {n}" for n in range(7)], "d1")
    for number in range(5):
        exchange(store, number, rating=1)
        exchange(store, number, rating=1, platform="telegram")
    store.consent("telegram", "c", "me", True, "1", "typed")
    whole = learn(store)
    monkeypatch.setattr("chatbot.pairs._PAGE_ROWS", 3)
    monkeypatch.setattr("chatbot.pairs._CHATS_IN_MEMORY", 1)

    assert learn(store) == whole
    assert len(whole[0]) == 3 * 6 + 5 + 5
    assert [pair.message_ids[-1] for pair in whole[0]] == sorted(pair.message_ids[-1] for pair in whole[0])


def test_consent_is_asked_of_every_speaker_in_this_chat(store: ConversationStore) -> None:
    """In a group all whose words are in the pair must agree, there and not elsewhere; the latest word counts."""
    exchange(store, 0, platform="telegram", sender="you")
    exchange(store, 1, platform="telegram", rating=1)
    store.consent("telegram", "c", "me", True, "1", "typed")
    store.consent("telegram", "elsewhere", "you", True, "1", "typed")

    assert learn(store) == ([], {"no consent": 2})
    assert [pair.context for pair in learn(store, turns=1)[0]] == [("ask 1",)]
    store.consent("telegram", "c", "you", True, "1", "typed")
    assert len(learn(store)[0]) == 1
    store.consent("telegram", "c", "me", False, "1", "typed")
    assert learn(store) == ([], {"no consent": 1, "unrated bot reply": 1})


def test_teacher_has_to_agree_too(store: ConversationStore) -> None:
    """Who corrects the bot in someone else's exchange is one of the speakers."""
    exchange(store, 0, platform="telegram")
    store.consent("telegram", "c", "me", True, "1", "typed")
    store.teach("telegram", "c", "you", "better")

    assert learn(store) == ([], {"no consent": 1})
    store.consent("telegram", "c", "you", True, "1", "typed")
    assert [pair.reply for pair in learn(store)[0]] == ["better"]


def test_discord_is_never_learnt_from(store: ConversationStore) -> None:
    """With the shipped policy no Discord row gets out, whatever people allowed."""
    exchange(store, 0, platform="discord", taught="better")
    store.consent("discord", "c", "me", True, "1", "typed")

    assert learn(store) == ([], {"platform forbids": 1})


def test_human_answers_are_learnt_where_all_agree(store: ConversationStore) -> None:
    """In a group an answer by reply link to another person is a pair; one to oneself or to the bot is none."""
    for sender in ("me", "you"):
        store.consent("telegram", "c", sender, True, "1", "typed")
    lines = [("me", "lunch?", None), ("me", "soup?", "0"), ("you", "soup!", "1"), ("you", "and bread", None)]
    for number, (sender, text, reply_to) in enumerate(lines):
        store.record_message(Message("telegram", "c", sender, text, str(number), NOON, reply_to=reply_to))

    pairs, left_out = learn(store)

    assert [(pair.context, pair.reply, pair.kind) for pair in pairs] == [(("lunch?\nsoup?",), "soup!", "human")]
    assert left_out == {}


def test_imports_need_a_declaration(store: ConversationStore) -> None:
    """Imported turns are pairs of two people, with a declaration alone; the same dialogue is imported once."""
    with_it, without, blank = (store.record_import("a.jsonl", text) for text in ("our letters", None, " "))
    store_dialogue(store, with_it, ["a", "b", "c"], "d1")
    store_dialogue(store, without, ["a", "b"], "d1")
    store_dialogue(store, blank, ["a", "b"], "d1")
    store_dialogue(store, with_it, ["a", "b", "c"], "d1")

    pairs, left_out = learn(store)

    assert [(pair.context, pair.reply, pair.message_ids) for pair in pairs] == [
        (("a",), "b", (1, 2)),
        (("a", "b"), "c", (1, 2, 3)),
    ]
    assert left_out == {"import without declaration": 2}


def test_a_reply_to_somebody_needs_their_consent(store: ConversationStore) -> None:
    """What the bot said to a person counts as part of their talk, also where their own words are out of reach."""
    exchange(store, 0, platform="telegram", sender="you")
    exchange(store, 1, platform="telegram", rating=1)
    store.consent("telegram", "c", "me", True, "1", "typed")

    assert learn(store, turns=2) == ([], {"no consent": 2})
    store.consent("telegram", "c", "you", True, "1", "typed")
    assert [pair.context for pair in learn(store, turns=2)[0]] == [("reply 0", "ask 1")]


def test_the_blocklist_outdoes_consent(store: ConversationStore) -> None:
    """Whoever is on it, or what is said where it names, is left out, whatever they agreed to; others are not."""
    exchange(store, 0, rating=1)
    exchange(store, 1, platform="telegram", rating=1)
    store.consent("telegram", "c", "me", True, "1", "typed")

    for block in (Blocklist(users=("telegram:me",)), Blocklist(chats=("telegram:c", "telegram:other"))):
        pairs = store.learnable_pairs(DEFAULT_POLICY, 3, block)
        assert [pair.platform for pair in pairs] == ["terminal"]
        assert pairs.left_out == {"on the blocklist": 1}
    assert len(list(store.learnable_pairs(DEFAULT_POLICY, 3, Blocklist(users=("telegram:nobody",))))) == 2


def test_erased_words_are_in_no_pair(store: ConversationStore) -> None:
    """Neither as reply nor as context, and the pairs that fall out are counted."""
    exchange(store, 0)
    exchange(store, 1, taught="better")
    store.forget("terminal", "me", "c", "0")

    assert learn(store, turns=3) == ([], {"erased": 2})
    assert [pair.reply for pair in learn(store, turns=1)[0]] == ["better"]


def test_words_of_a_tainted_model_are_not_learnt(store: ConversationStore) -> None:
    """A liked reply of a model that saw erased words is left out; what a person put in its place is not."""
    store.record_model("bad", parent=None, dataset=None, metrics={}, state="tainted")
    exchange(store, 0, model="bad", taught="better")
    store.reset("terminal", "c")
    exchange(store, 1, model="bad", rating=1)

    pairs, left_out = learn(store)

    assert [pair.reply for pair in pairs] == ["better"]
    assert left_out == {"said by a tainted model": 1}


def test_lineage_goes_through_the_parents(store: ConversationStore) -> None:
    """A model leads back to the rows of its own data set and of all its parents', down to one without a record."""
    ids = [row for number in range(3) for row in exchange(store, number)]
    first = store.create_dataset("one", "h1", ids[:2])
    second = store.create_dataset("two", "h2", ids[1:4])
    store.record_model("m2", parent="starter", dataset=first, metrics={"loss": 1.5}, state="serving", run="r1")
    store.record_model("m3", parent="m2", dataset=second, metrics={})

    assert store.lineage("m3") == ids[:4]
    assert store.lineage("m2") == ids[:2]
    assert store.lineage("starter") == []


def test_forgetting_taints_the_models_that_saw_it(store: ConversationStore) -> None:
    """The models whose rows were erased and those trained on from them are tainted, once; the others are not."""
    for platform in ("terminal", "telegram"):
        exchange(store, 0, platform=platform)
    pair = exchange(store, 1, platform="telegram", sender="you", taught="better")
    mine = store.create_dataset("mine", "h1", [1, 2])
    theirs = store.create_dataset("theirs", "h2", pair)
    for name, parent, dataset in (
        ("a", None, mine),
        ("b", "a", None),
        ("c", None, theirs),
        ("d", "b", theirs),
    ):
        store.record_model(name, parent=parent, dataset=dataset, metrics={})

    assert store.forget("terminal", "me").tainted_models == ("a", "b", "d")
    assert store.forget("telegram", "me").tainted_models == ()
    assert store.forget("telegram", "you").tainted_models == ("c",)


def test_forgetting_a_correction_taints_too(store: ConversationStore) -> None:
    """A correction counts as words of who wrote it: it goes with them, and the model that learnt it is tainted."""
    pair = exchange(store, 0, platform="telegram")
    store.teach("telegram", "c", "you", "better")
    store.record_model("a", parent=None, dataset=store.create_dataset("d", "h", pair), metrics={})

    result = store.forget("telegram", "you")

    assert (result.messages, result.corrections, result.tainted_models) == (0, 1, ("a",))


def test_model_mistakes_are_named(store: ConversationStore) -> None:
    """A state that is none, an unknown model and an id that is taken are each one clear line."""
    store.record_model("m2", parent=None, dataset=None, metrics={})
    store.set_model_state("m2", "serving")

    with pytest.raises(UsageError, match="'best' is no state of a model: use one of candidate"):
        store.set_model_state("m2", "best")
    with pytest.raises(UsageError, match="no model named m9"):
        store.set_model_state("m9", "serving")
    with pytest.raises(UsageError, match="m2 is recorded already"):
        store.record_model("m2", parent=None, dataset=None, metrics={})
