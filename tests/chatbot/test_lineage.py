"""What becomes of models when words are taken back, and the proof of what they learnt from."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from talking import said, store_dialogue, talk

from chatbot.learnable import DEFAULT_POLICY
from chatbot.messages import Reply
from chatbot.store import ConversationStore


def lesson(store: ConversationStore, number: int, sender: str, platform: str = "telegram") -> list[int]:
    """A question in the chat "c" and a reply that is taught to the bot; the rows of both."""
    asked = store.record_message(said(f"ask {number}", number, "c", platform, sender=sender)).id
    reply = store.record_reply(asked, Reply("bland", "m1", "seq2seq"))
    store.teach(platform, "c", sender, f"taught {number}")
    return [asked, reply]


def agree(store: ConversationStore, sender: str, given: bool = True, chat: str = "c") -> tuple[str, ...]:
    """An entry of the ledger."""
    return store.consent("telegram", chat, sender, given, "en-1", "/consent yes" if given else "/consent no")


def model(store: ConversationStore, name: str, rows: list[int], parent: str | None = None) -> str:
    """A model that learnt from these rows; the state in which it begins."""
    return store.record_model(name, parent=parent, dataset=store.create_dataset(name, name, rows), metrics={})


def test_withdrawing_consent_taints_what_learnt_from_it(store: ConversationStore) -> None:
    """A model with words of the person from that chat, a reply to them or a correction by them; no other model."""
    mine, yours = lesson(store, 1, "me"), lesson(store, 2, "you")
    agree(store, "me")
    agree(store, "you")
    model(store, "a", mine)
    model(store, "b", mine[1:], parent="a")
    model(store, "c", yours)

    assert agree(store, "me", given=False, chat="elsewhere") == ()
    assert agree(store, "me", given=False) == ("a", "b")
    assert agree(store, "me", given=False) == ()
    assert store.tainted_models() == {"a", "b"}
    assert store.untainted("b") == []
    assert store.untainted("c") == ["c"]


def test_the_way_back_ends_at_what_has_no_record(store: ConversationStore) -> None:
    """From a tainted model the way leads over its ancestors to the one that came with the program."""
    model(store, "a", [], parent="starter")
    model(store, "b", lesson(store, 1, "me"), parent="a")
    model(store, "c", [], parent="b")
    store.forget("telegram", "me")

    assert store.untainted("c") == ["a", "starter"]


def test_what_is_taken_back_during_the_training_taints_at_birth(store: ConversationStore) -> None:
    """Between the reading of the data and the record of the model: erased, a correction erased, consent withdrawn."""

    def forget_one(who: str) -> None:
        store.forget("telegram", who, "c", "0")

    def forget_all(who: str) -> None:
        store.forget("telegram", who)

    def withdraw(who: str) -> None:
        agree(store, who, given=False)

    for number, take_back in enumerate((forget_one, forget_all, withdraw)):
        rows = lesson(store, number, f"person {number}")
        dataset = store.create_dataset("d", "h", rows)
        take_back(f"person {number}")
        assert store.record_model(f"m{number}", parent=None, dataset=dataset, metrics={}) == "tainted"
    assert store.record_model("child", parent="m0", dataset=None, metrics={}) == "tainted"
    agree(store, "late", given=False)
    assert model(store, "after", lesson(store, 99, "late")) == "candidate"


def test_what_only_got_old_taints_nothing(store: ConversationStore) -> None:
    """Words that the retention erased were not taken back: models that learnt from them stay as they are."""
    rows = lesson(store, 1, "me")
    model(store, "a", rows)
    dataset = store.create_dataset("d", "h", rows)

    erased = store.expire(datetime.now(UTC) + timedelta(days=1))

    assert (erased.messages, erased.replies, erased.corrections) == (1, 1, 1)
    assert store.my_data("telegram", "me") == []
    assert store.record_model("b", parent="a", dataset=dataset, metrics={}) == "candidate"
    assert store.tainted_models() == frozenset()


def test_retention_keeps_what_is_young(store: ConversationStore) -> None:
    """Only what was written before the moment goes, in pages."""
    talk(store, "one", "two", "three", "four")

    assert store.expire(datetime(2026, 5, 3, 11, tzinfo=UTC)).messages == 0
    assert store.expire(datetime(2026, 5, 3, 13, tzinfo=UTC)).messages == 2


def test_the_proof_names_rows_and_consents(store: ConversationStore) -> None:
    """Each row with the consent of who spoke, or was answered, or taught, as it stood when it was read; no text."""
    agree(store, "me", given=False)
    agree(store, "me")
    mine, yours = lesson(store, 1, "me"), lesson(store, 2, "you")
    batch = store.record_import("talk.jsonl", "our own")
    store_dialogue(store, batch, ["a", "b"], "d")
    imported = [yours[1] + 1, yours[1] + 2]
    model(store, "a", [*mine, *imported])
    model(store, "b", yours, parent="a")
    agree(store, "me", given=False)

    grounds = store.grounds("b", DEFAULT_POLICY)

    assert [(g.message, g.model, g.problem) for g in grounds] == [
        (yours[0], "b", "no consent"),
        (yours[1], "b", "no consent"),
        (mine[0], "a", None),
        (mine[1], "a", None),
        (imported[0], "a", None),
        (imported[1], "a", None),
    ]
    me = grounds[2].speakers[0]
    assert me.then is not None
    assert me.now is not None
    assert (me.then.id, me.then.given, me.then.wording, me.now.id, me.now.given) == (2, True, "en-1", 3, False)
    assert grounds[3].speakers == grounds[2].speakers
    assert [g.batch for g in grounds[-2:]] == [batch, batch]
    assert "ask" not in repr(grounds)
    assert "taught" not in repr(grounds)


def test_the_proof_uses_the_policy_kept_with_the_model(store: ConversationStore) -> None:
    """What a model was trained under counts, not what the configuration says today."""
    rows = lesson(store, 1, "me", "discord")
    dataset = store.create_dataset("d", "h", rows)
    store.consent("discord", "c", "me", True, "en-1", "/consent yes")
    store.record_model("a", parent=None, dataset=dataset, metrics={"policy": {"discord": "never"}})
    open_all = {"discord": "allowed"}

    assert {ground.problem for ground in store.grounds("a", open_all)} == {"platform forbids"}  # type: ignore[arg-type]


def test_a_model_is_traced_by_the_hashes_of_its_data(store: ConversationStore) -> None:
    """Trained elsewhere on exports of ours: what they held is what it learnt from, and what was erased since counts."""
    rows = lesson(store, 1, "me")
    store.create_dataset("export", "hash one", rows[:1])
    store.create_dataset("export", "hash two", rows)

    dataset = store.dataset_of("m", ["hash one", "hash two", "of a public corpus"])
    store.forget("telegram", "me")

    assert store.dataset_of("m", ["of a public corpus"]) is None
    assert store.record_model("m", parent=None, dataset=dataset, metrics={}) == "tainted"
    assert store.lineage("m") == rows
