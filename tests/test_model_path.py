"""Path two from end to end: what is taught in a chat is learnt, served by the chat that stayed open, and taken back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from running import rows, run_here
from talking import store_dialogue
from tiny import save_tiny_model, tiny_model, write_dialogues

from chatbot import schema
from chatbot.checkpoint import KNOWN_FILE, load_model_folder, save_model_folder
from chatbot.config import LearnSettings
from chatbot.conversation import Conversations
from chatbot.engine import Engine, load_engine
from chatbot.errors import ChatbotError, UsageError
from chatbot.identity import load_key
from chatbot.learnable import LearnablePair
from chatbot.messages import Message, Reply
from chatbot.registry import Registry
from chatbot.store import ConversationStore
from chatbot.tokenizer import Tokenizer
from training import pipeline
from training.export import export_pairs
from training.pipeline import Comparison, gate, retrain
from training.recipe import Recipe, load_recipe

EXCHANGES = (
    ("cat", "purr"),
    ("dog", "woof"),
    ("cow", "moo"),
    ("duck", "quack"),
    ("red", "rose"),
    ("blue", "sea"),
    ("green", "leaf"),
    ("sun", "hot"),
    ("snow", "cold"),
    ("rain", "wet"),
    ("one", "two"),
    ("three", "four"),
    ("tea", "cup"),
    ("key", "door"),
    ("pen", "ink"),
    ("day", "night"),
    ("up", "down"),
    ("猫", "喵"),
    ("狗", "汪"),
    ("你好", "嗨"),
)
GENEROUS = LearnSettings(max_frozen_worsening=1e9)  # a net of a few weights forgets; only the loop is tested here


@pytest.fixture
def registry(home: Path, tmp_path: Path, tokenizer: Tokenizer) -> Registry:
    """A registry whose live model, "first", has random weights, and room for twenty exchanges."""
    net = tiny_model(len(tokenizer), embedding_size=64, encoder_units=64, decoder_units=96)
    found = Registry(home)
    found.add(save_tiny_model(tmp_path / "first", tokenizer, net), "first")
    found.promote("first")
    return found


@pytest.fixture
def store(home: Path) -> Iterator[ConversationStore]:
    """The store of the state folder."""
    url = f"sqlite:///{home / 'chatbot.db'}"
    schema.upgrade(url)
    opened = ConversationStore(url, load_key(home))
    yield opened
    opened.close()


@pytest.fixture
def engine(registry: Registry) -> Iterator[Engine]:
    """What answers: the live model, whichever it is."""
    opened = load_engine()
    yield opened
    opened.close()


@pytest.fixture(autouse=True)
def few_shipped_dialogues(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rehearsal and the frozen set are a few lines, so that a retraining takes seconds."""
    turns = {"dialogues": ["good morning", "good morning to you"], "frozen": ["good evening", "good evening to you"]}
    for kind, pair in turns.items():
        write_dialogues(tmp_path / f"{kind}.jsonl", [{"id": kind, "source": "familect", "turns": pair}])
    monkeypatch.setattr(pipeline, "shipped_dialogues", lambda kind: [tmp_path / f"{kind}.jsonl"])


def quick(*changes: str) -> Recipe:
    """The shipped recipe of a retraining, in seconds."""
    sizes = ("optimiser.steps=2", "optimiser.warmup_steps=1", "optimiser.evaluate_every=2", "precision=fp32")
    return load_recipe("retrain", [*sizes, *changes])


def chat_of(number: int, text: str, chat: str = "school", platform: str = "terminal") -> Message:
    """A message with the platform id `number`."""
    return Message(platform, chat, "operator", text, str(number), datetime.now(UTC))


def teach(conversations: Conversations) -> None:
    """Say each question of `EXCHANGES` in a chat of its own and teach what should have been the reply."""

    async def talk() -> None:
        for number, (question, reply) in enumerate(EXCHANGES):
            await conversations.answer(chat_of(number, question, f"lesson {number}"))
            taught = await conversations.answer(chat_of(1000 + number, f"/teach {reply}", f"lesson {number}"))
            assert taught.detail == "teach"

    asyncio.run(talk())


def ask_all(conversations: Conversations, chat: str) -> list[Reply]:
    """The replies to the questions of `EXCHANGES`, each in a new chat."""

    async def talk() -> list[Reply]:
        return [
            await conversations.answer(chat_of(0, question, f"{chat} {number}"))
            for number, (question, _) in enumerate(EXCHANGES)
        ]

    return asyncio.run(talk())


def learnt(replies: list[Reply]) -> int:
    """How many of `replies` are what was taught."""
    return sum(reply.text == wanted for reply, (_, wanted) in zip(replies, EXCHANGES, strict=True))


def test_taught_learnt_served_and_taken_back(
    home: Path, store: ConversationStore, registry: Registry, engine: Engine
) -> None:
    """Twenty taught exchanges: at least 16 come back from the chat that was open all the time, until the rollback.

    And the rows of those replies lead to the ids of the very messages that were taught.
    """
    conversations = Conversations(store, engine)
    before = ask_all(conversations, "before")
    assert {reply.model_id for reply in before} == {"first"}
    assert learnt(before) == 0
    teach(conversations)
    school = [row for (row,) in rows(home, "SELECT m.id FROM message m JOIN correction c ON m.id = c.message_id")]

    steps = ("optimiser.steps=260", "optimiser.evaluate_every=260", "optimiser.learning_rate=0.015")
    plain = ("optimiser.rehearse=false", "data.noise=0.0", "data.context_turns=1")  # such a small net learns no more
    verdict = retrain(store, registry, GENEROUS, quick(*steps, *plain), home / "runs" / "second")

    assert (verdict.promoted, verdict.model_id, registry.live_id()) == (True, "second", "second"), verdict.reason
    assert (verdict.comparison.asked, verdict.comparison.reproduced >= 16) == (20, True), verdict.comparison
    after = ask_all(conversations, "after")
    assert {reply.model_id for reply in after} == {"second"}
    assert learnt(after) >= 16
    stored = rows(home, "SELECT DISTINCT model_id FROM message WHERE role = 'bot' ORDER BY id DESC LIMIT 1")
    assert stored == [("second",)]
    assert set(school) <= set(store.lineage("second"))
    assert rows(home, "SELECT parent_id, state FROM model WHERE id = 'second'") == [("first", "serving")]

    assert registry.rollback() == "first"
    again = ask_all(conversations, "again")
    assert {reply.model_id for reply in again} == {"first"}
    assert [reply.text for reply in again] == [reply.text for reply in before]


def test_every_step_leaves_its_artefact(
    home: Path, store: ConversationStore, registry: Registry, engine: Engine
) -> None:
    """The run folder holds the snapshot with its row ids and hash, the lessons, the model and a report to be read.

    A second run into it, under a model's name, or under a name that is none, is refused before anything is overwritten.
    """
    teach(Conversations(store, engine))
    run = home / "runs" / "second"
    verdict = retrain(store, registry, GENEROUS, quick(), run)

    records = [json.loads(line) for line in (run / "log.jsonl").read_text("utf-8").splitlines()]
    assert [record["turns"][-1] for record in records] == [reply for _, reply in EXCHANGES]
    assert {row for record in records for row in record["message_ids"]} == set(store.lineage("second"))
    assert rows(home, "SELECT name, hash FROM dataset") == [("second", verdict.snapshot.sha256)]
    assert str(run / "lessons.jsonl") in json.loads((run / "data.json").read_text("utf-8"))["files"]
    report = (run / "report.md").read_text("utf-8")
    for part in ("second", "first", verdict.snapshot.sha256, "frozen set", "how are you?"):
        assert part in report

    kept = (run / "log.jsonl").read_bytes()
    store.teach("terminal", "lesson 0", "operator", "something new")
    for name, problem in (("second", "already holds a run"), ("a b", "model id"), ("first", "a model 'first' already")):
        with pytest.raises(UsageError, match=problem):
            retrain(store, registry, GENEROUS, quick(), run.with_name(name))
    assert (run / "log.jsonl").read_bytes() == kept
    assert not run.with_name("a b").exists()


def test_a_retrained_model_answers_in_the_way_of_the_one_before(
    home: Path, tmp_path: Path, store: ConversationStore, registry: Registry, engine: Engine
) -> None:
    """Its decode settings are the same, and it takes known exchanges along if, and only if, that one did."""
    teach(Conversations(store, engine))
    first = load_model_folder(registry.path("first"))
    save_model_folder(
        tmp_path / "knowing",
        first.model,
        first.tokenizer,
        provenance={"parent": "first"},
        source="familect",
        decoding={"beam_size": 2, "max_tokens": 9},
        context=first.config["context"],
        known=tmp_path / "dialogues.jsonl",
    )
    registry.add(tmp_path / "knowing", "knowing")

    retrain(store, registry, GENEROUS, quick(), home / "runs" / "plain")
    registry.promote("knowing")
    retrain(store, registry, GENEROUS, quick(), home / "runs" / "known")

    plain, known = (home / "runs" / name / "model" for name in ("plain", "known"))
    assert load_model_folder(plain).config["decoding"] == first.config["decoding"]
    assert load_model_folder(known).config["decoding"] == {"beam_size": 2, "max_tokens": 9}
    assert not (plain / KNOWN_FILE).exists()
    assert "good morning to you" in (known / KNOWN_FILE).read_text("utf-8")


def test_a_worse_candidate_is_kept_out(
    home: Path, store: ConversationStore, registry: Registry, engine: Engine
) -> None:
    """A candidate that an absurd learning rate has ruined does not serve, and is there to be looked at."""
    conversations = Conversations(store, engine)
    teach(conversations)
    rates = ("optimiser.learning_rate=50", "optimiser.rehearse=false")
    verdict = retrain(store, registry, LearnSettings(), quick(*rates), home / "runs" / "worse")

    assert not verdict.promoted
    assert "frozen set" in verdict.reason
    assert registry.live_id() == "first"
    assert {reply.model_id for reply in ask_all(conversations, "after")} == {"first"}
    assert rows(home, "SELECT id, state FROM model") == [("worse", "candidate")]
    assert {info.id for info in registry.list()} >= {"first", "worse"}
    assert "kept out" in (home / "runs" / "worse" / "report.md").read_text("utf-8")


@pytest.mark.parametrize(
    ("after", "recent"), [(float("nan"), 1.0), (float("inf"), 1.0), (10.0, 9.0), (10.0, float("nan"))]
)
def test_gate_trusts_no_figure_that_is_none(after: float, recent: float) -> None:
    """Not-a-number, infinity, and being no better on the recent talk keep a candidate out."""
    comparison = Comparison(10.0, after, 9.0, recent, True, 20, 20)

    assert not gate(comparison, 0.03)[0]
    assert gate(Comparison(10.0, 10.2, 9.0, 8.0, True, 20, 0), 0.03)[0]
    assert not gate(Comparison(float("inf"), float("inf"), 9.0, 8.0, True, 20, 20), 0.03)[0]


def test_rows_without_consent_are_not_read(home: Path, store: ConversationStore, tmp_path: Path) -> None:
    """Telegram without consent, Discord, and an import without declaration stay out of the export, and are counted."""
    for number, platform in enumerate(("terminal", "telegram", "discord")):
        asked = store.record_message(chat_of(number, f"asked on {platform}", platform=platform))
        store.record_reply(asked.id, Reply("bland", "m1", "seq2seq"))
        assert store.teach(platform, "school", "operator", f"taught on {platform}")
    for declaration in (None, "our own words"):
        batch = store.record_import("talk.jsonl", declaration)
        store_dialogue(store, batch, ["imported", f"under {declaration}"], "d1")

    pairs: list[LearnablePair] = []
    snapshot = export_pairs(store, LearnSettings(), tmp_path / "log.jsonl", 3, "log", told=pairs.append)

    text = snapshot.path.read_text("utf-8")
    assert [pair.reply for pair in pairs] == ["taught on terminal", "under our own words"]
    assert not any(words in text for words in ("telegram", "discord", "under None"))
    assert snapshot.left_out == {"no consent": 1, "platform forbids": 1, "import without declaration": 1}
    store.consent("telegram", "school", "operator", True, wording="v1", how="/consent yes")
    export_pairs(store, LearnSettings(), tmp_path / "log.jsonl", 3, "log")
    assert "taught on telegram" in snapshot.path.read_text("utf-8")


def test_an_export_is_whole_or_not_there(store: ConversationStore, tmp_path: Path) -> None:
    """An export that cannot be written leaves what was there before, and no file of its own."""
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageError, match="cannot be written"):
        export_pairs(store, LearnSettings(), tmp_path / "folder", 3, "log")

    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_nothing_to_learn_from(
    home: Path, store: ConversationStore, registry: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    """`chatbot retrain` over a log without lessons ends with 1 and one line that counts them and says how to teach."""
    assert "the log is empty" in run_here(capsys, "retrain").complaint
    asked = store.record_message(chat_of(1, "hi"))
    store.record_reply(asked.id, Reply("hello", "m1", "seq2seq"))
    done = run_here(capsys, "retrain", "--out", home / "runs" / "second")

    assert done.code == 1
    assert "1 unrated bot reply" in done.complaint
    assert "/teach" in done.complaint
    assert registry.live_id() == "first"


def test_retrain_command(
    home: Path, store: ConversationStore, registry: Registry, engine: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    """`chatbot retrain` prints what was learnt and decided; `models` shows the lineage, goes back and forth."""
    teach(Conversations(store, engine))
    settings = home / "config.yaml"
    settings.write_text("learn: {max_frozen_worsening: 1.0e+9}", encoding="utf-8")
    few = ("--set", "optimiser.steps=2", "--set", "optimiser.learning_rate=0.01", "--set", "optimiser.rehearse=false")
    done = run_here(capsys, "retrain", "--out", home / "runs" / "second", *few)

    assert done.code == 0, done
    assert "learnt from 20 pairs" in done.lines[0]
    assert "second: promoted" in done.lines[3]
    shown = json.loads(run_here(capsys, "models", "show", "second").out)
    assert shown["provenance"]["parent"] == "first"
    assert shown["learnt_from_message_ids"] == store.lineage("second") != []
    assert "first answers again" in run_here(capsys, "models", "rollback").out
    assert rows(home, "SELECT state FROM model") == [("retired",)]
    assert run_here(capsys, "models", "promote", "second").code == 0
    assert rows(home, "SELECT state FROM model") == [("serving",)]
    assert [line[:8] for line in run_here(capsys, "models", "list").lines[1:] if "starter" not in line] == [
        "  first ",
        "* second",
    ]
    settings.write_text("learn: {max_frozen_worsening: -1}", encoding="utf-8")
    refused = run_here(capsys, "retrain", "--out", home / "runs" / "third", *few)
    assert refused.code == 1
    assert "third: kept out" in refused.out
    assert registry.live_id() == "second"


def test_a_training_that_fails_changes_nothing(
    home: Path, store: ConversationStore, registry: Registry, engine: Engine
) -> None:
    """A retraining that breaks off leaves the serving model serving, and says what happened in one line."""
    teach(Conversations(store, engine))
    with pytest.raises(ChatbotError, match="cannot be read: Is a directory") as failure:
        retrain(store, registry, LearnSettings(replay=(str(home),)), quick(), home / "runs" / "second")

    assert "\n" not in str(failure.value)
    assert registry.live_id() == "first"
    assert rows(home, "SELECT count(*) FROM model") == [(0,)]
