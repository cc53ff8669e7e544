"""A person's words followed to their end: store, export, data set, copies, backups, model, and the next training."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import talking
from running import Done, run, run_here
from talking import store_dialogue
from tiny import save_tiny_model, tiny_model, write_dialogues

from chatbot import schema
from chatbot.config import LearnSettings
from chatbot.conversation import Conversations
from chatbot.copies import Copies
from chatbot.engine import EchoEngine
from chatbot.errors import ChatbotError
from chatbot.identity import load_key
from chatbot.learnable import LearnablePair
from chatbot.messages import Message
from chatbot.registry import Registry
from chatbot.store import ConversationStore
from chatbot.tokenizer import Tokenizer
from training import pipeline
from training.export import export_pairs
from training.pipeline import Verdict, retrain
from training.recipe import load_recipe

GENEROUS = LearnSettings(max_frozen_worsening=1e9)  # a net of a few weights forgets; only the loop is tested here
ON_BOTH = pytest.mark.parametrize("store", ["a file", "a server"], indirect=True)
FEW = ("steps=2", "warmup_steps=1", "evaluate_every=2", "learning_rate=0.01", "rehearse=false")


@pytest.fixture
def registry(home: Path, tmp_path: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """A registry whose live model, "first", has random weights; rehearsal and the frozen set are one line each."""
    for kind in ("dialogues", "frozen"):
        write_dialogues(tmp_path / f"{kind}.jsonl", [{"id": kind, "turns": ["good evening", "good evening to you"]}])
    monkeypatch.setattr(pipeline, "shipped_dialogues", lambda kind: [tmp_path / f"{kind}.jsonl"])
    found = Registry(home)
    found.add(save_tiny_model(tmp_path / "first", tokenizer, tiny_model(len(tokenizer))), "first")
    found.promote("first")
    return found


@pytest.fixture
def store(home: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[ConversationStore]:
    """The store of the state folder, or one on a server, with its copies."""
    url = f"sqlite:///{home / 'chatbot.db'}"
    if getattr(request, "param", "a file") == "a server":
        url = request.getfixturevalue("postgres").empty()
        monkeypatch.setenv("CHATBOT_DATABASE_URL", url)
    schema.upgrade(url)
    opened: list[ConversationStore] = []
    begin = ConversationStore.__init__

    def begin_and_tell(self: ConversationStore, *arguments: Any) -> None:
        begin(self, *arguments)
        opened.append(self)

    monkeypatch.setattr(ConversationStore, "__init__", begin_and_tell)
    yield ConversationStore(url, load_key(home), Copies(home))
    for one in opened:  # a command leaves closing its own to the end of its process
        one.close()


def found(store: ConversationStore, query: str) -> list[tuple[object, ...]]:
    """What is really in the database."""
    return talking.rows(store._url, query)


def say(store: ConversationStore, sender: str, *texts: str, platform: str = "telegram", chat: str = "") -> list[str]:
    """What a person writes in a chat of their own, and what comes back."""
    spine = Conversations(store, EchoEngine())

    async def talk() -> list[str]:
        first = len(store.my_data(platform, sender))
        messages = [
            Message(platform, chat or f"chat of {sender}", sender, text, f"{first}.{number}", datetime.now(UTC))
            for number, text in enumerate(texts)
        ]
        return [(await spine.answer(message)).text for message in messages]

    return asyncio.run(talk())


def train(store: ConversationStore, registry: Registry, out: Path) -> Verdict:
    """A retraining in a second."""
    recipe = load_recipe("retrain", ["precision=fp32", *(f"optimiser.{change}" for change in FEW)])
    return retrain(store, registry, GENEROUS, recipe, out)


def holding(word: str, *folders: Path) -> set[str]:
    """The files under these folders in which a word stands."""
    files = (path for folder in folders for path in folder.rglob("*") if path.is_file())
    return {path.name for path in files if word.encode() in path.read_bytes()}


def models(capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """What `chatbot models list` says of each model."""
    lines = run_here(capsys, "models", "list").lines[1:]
    return {line[2:].split()[0]: line for line in lines}


@ON_BOTH
def test_a_person_is_forgotten_everywhere(
    home: Path, tmp_path: Path, store: ConversationStore, registry: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    """/forget empties store, export, snapshot, lessons, tokens, taints the model; the next training is without it."""
    out = tmp_path / "mine"
    for person, word in (("ann", "zebrafish"), ("bob", "kumquat")):
        say(store, person, "/consent yes", f"what is a {word}?", f"/teach A {word}, of course.", "thanks")
    assert run_here(capsys, "export", out / "talk.jsonl").code == 0
    second = train(store, registry, home / "runs" / "second")
    assert (second.promoted, second.base, second.snapshot.pairs) == (True, "first", 2), second.reason
    of_ann = {row for (row,) in found(store, "SELECT id FROM message WHERE text LIKE '%zebrafish%'")}
    assert of_ann < set(store.lineage("second"))
    assert holding("zebrafish", home, out) >= {"talk.jsonl", "log.jsonl", "lessons.jsonl"}
    assert (home / "runs" / "second" / "tokens").is_dir()

    told = say(store, "ann", "/forget")

    assert "Models marked because they had learnt from these words: 1." in told[0]
    assert holding("zebrafish", home, out) == set()
    assert holding("kumquat", home, out) >= {"talk.jsonl", "log.jsonl"}
    assert not {"tokens", "lessons.jsonl"} & {path.name for path in (home / "runs" / "second").iterdir()}
    assert store.my_data("telegram", "bob")
    assert [record.kind for record in store.my_data("telegram", "ann")] == ["consent"]
    assert "tainted" in models(capsys)["second"]
    proof = run_here(capsys, "consent", "report", "second")
    assert (proof.code, len(proof.lines)) == (0, len(store.lineage("second")))
    assert {int(line.split()[1]) for line in proof.lines if "erased since" in line} >= of_ann

    third = train(store, registry, home / "runs" / "third")

    assert (third.promoted, third.base, registry.live_id()) == (True, "first", "third"), third.reason
    assert set(store.lineage("third")).isdisjoint(of_ann)
    assert found(store, "SELECT parent_id, state FROM model WHERE id = 'third'") == [("first", "serving")]
    assert "tainted" not in models(capsys)["third"]
    assert holding("zebrafish", home, out) == set()
    assert "first answers again" in run_here(capsys, "models", "rollback").out


@ON_BOTH
def test_a_mixed_log_is_learnt_by_consent_alone(home: Path, store: ConversationStore, registry: Registry) -> None:
    """Exactly the consented rows reach the files that training reads; after a withdrawal they are gone."""
    for person in ("yes", "no", "mute", "later"):
        say(store, person, f"canary asked by {person}", f"/teach canary taught by {person}")
    say(store, "discord", "canary asked by discord", "/teach canary taught by discord", platform="discord")
    say(store, "discord", "/consent yes", platform="discord")
    batch = store.record_import("file", None)
    store_dialogue(store, batch, ["canary asked by import", "canary taught by import"], "d")
    for person in ("yes", "later"):
        say(store, person, "/consent yes")
    say(store, "no", "/consent no")

    train(store, registry, home / "runs" / "second")

    texts = ((home / "runs" / "second" / name).read_text("utf-8") for name in ("log.jsonl", "lessons.jsonl"))
    learnt = {part.split('"')[0] for text in texts for part in text.split("canary ")[1:]}
    assert learnt == {f"{verb} by {who}" for verb in ("asked", "taught") for who in ("yes", "later")}
    assert "Models marked" in say(store, "later", "/consent no")[0]
    assert holding("taught by later", home / "runs") == set()
    assert store.tainted_models() == {"second"}
    again: list[LearnablePair] = []
    export_pairs(store, GENEROUS, home / "again.jsonl", 3, "again", told=again.append)
    assert [(pair.context, pair.reply) for pair in again] == [(("canary asked by yes",), "canary taught by yes")]


def test_without_lessons_a_tainted_model_is_let_go_by_hand(
    home: Path, store: ConversationStore, registry: Registry
) -> None:
    """If all that the serving model was taught is gone, there is nothing to train; the error names the way back."""
    say(store, "operator", "a question", "/teach an answer", platform="terminal")
    registry.add(registry.path("first"), "second")
    registry.promote("second")
    store.record_model("second", parent="first", dataset=store.create_dataset("second", "hash", [1, 2]), metrics={})
    (home / "history").write_text("+a question\n")
    say(store, "operator", "/forget all", platform="terminal")

    with pytest.raises(ChatbotError, match=r"nothing to learn from .* `chatbot models promote first` lets it go"):
        train(store, registry, home / "runs" / "third")
    assert (home / "history").read_text() == ""


def test_words_taken_back_during_a_training_stop_its_promotion(
    home: Path, store: ConversationStore, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever says /forget while the model learns is out of its files, and the model does not serve."""
    say(store, "ann", "/consent yes", "a zebrafish?", "/teach A zebrafish.")
    real = pipeline.compare

    def compare(*arguments: object) -> object:
        say(store, "ann", "/forget")
        return real(*arguments)  # type: ignore[arg-type]  # as they came

    monkeypatch.setattr(pipeline, "compare", compare)

    verdict = train(store, registry, home / "runs" / "second")

    assert (verdict.promoted, registry.live_id()) == (False, "first")
    assert "taken back meanwhile" in verdict.reason
    assert store.tainted_models() == {"second"}
    assert holding("zebrafish", home) == set()


def test_a_model_trained_from_an_export_is_traced(
    tmp_path: Path, store: ConversationStore, registry: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the hash of its data: /forget reaches the tokens of that training, and the model that was taken in."""
    say(store, "operator", "a zebrafish?", "/teach A zebrafish.", platform="terminal")
    export, out = tmp_path / "talk.jsonl", tmp_path / "run"
    assert run_here(capsys, "export", export).code == 0
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(
        "precision: fp32\ndata: {held_out_per_mille: 0}\noptimiser: {steps: 1, warmup_steps: 0, evaluate_every: 1}\n"
        "model: {vocabulary_size: 300, embedding_size: 13, encoder_units: 7, decoder_units: 11}\n"
    )
    assert run_here(capsys, "train", recipe, "--data", export, "--out", out, "--device", "cpu").code == 0
    assert run_here(capsys, "models", "add", out / "model", "mine").code == 0
    assert (out / "tokens").exists()

    assert "Models marked" in say(store, "operator", "/forget all", platform="terminal")[0]

    assert "tainted" in models(capsys)["mine"]
    assert not (out / "tokens").exists()
    assert not export.exists()
    warned = run_here(capsys, "models", "add", out / "model", "again")
    assert "again is tainted" in warned.err


def kept(done: Done, path: Path) -> bool:
    """Whether a command told of a copy as not cleaned."""
    return f"not cleaned, may hold them: {path}" in done.lines


def test_the_operator_shows_and_forgets(
    home: Path, tmp_path: Path, store: ConversationStore, capsys: pytest.CaptureFixture[str]
) -> None:
    """`chatbot mydata` and `chatbot forget` do what people cannot write any more; backups are named, then deleted."""
    say(store, "4711", "my secret", chat="-5")
    say(store, "4711", "elsewhere", chat="-6")
    backup = tmp_path / "backup.db"
    assert run_here(capsys, "db", "backup", backup).code == 0

    shown = [json.loads(line) for line in run_here(capsys, "mydata", "telegram", "4711", "--json").lines]
    assert [(found["kind"], found["text"]) for found in shown[:2]] == [("message", "my secret"), ("reply", "my secret")]
    assert len(run_here(capsys, "mydata", "telegram", "4711", "--chat", "-6").lines) == 2
    first = run_here(capsys, "forget", "telegram", "4711", "--chat", "-5")
    assert (first.code, first.lines[0]) == (0, "erased: messages 1, replies 1, corrections 0")
    assert kept(first, backup)
    again = run_here(capsys, "forget", "telegram", "4711", "--delete-copies")
    assert f"deleted: {backup}" in again.lines
    assert not backup.exists()
    nothing = run_here(capsys, "forget", "telegram", "4711")
    assert (nothing.code, kept(nothing, backup)) == (1, False)
    assert run_here(capsys, "mydata", "telegram", "4711").code == 1
    assert "add --chat" in run_here(capsys, "forget", "telegram", "4711", "--message", "1").complaint


def test_the_report_says_where_a_ground_is_missing(
    store: ConversationStore, capsys: pytest.CaptureFixture[str]
) -> None:
    """A model that should not have learnt a row is found out, by number and without a word of it; exit code 1."""
    say(store, "ann", "a zebrafish?", "/teach A zebrafish.")
    store.record_model("bad", parent=None, dataset=store.create_dataset("bad", "hash", [1, 2]), metrics={})

    report = run_here(capsys, "consent", "report", "bad")
    records = [json.loads(line) for line in run_here(capsys, "consent", "report", "bad", "--json").lines]

    assert report.code == 1
    assert ["NO GROUND: no consent" in line for line in report.lines] == [True, True]
    assert [(found["message"], found["rule"], found["problem"]) for found in records] == [
        (1, "consented", "no consent"),
        (2, "consented", "no consent"),
    ]
    assert "zebrafish" not in report.out + json.dumps(records)
    assert "no model 'none'" in run_here(capsys, "consent", "report", "none").complaint


def test_retention_erases_words_and_old_backups(
    home: Path, tmp_path: Path, store: ConversationStore, capsys: pytest.CaptureFixture[str]
) -> None:
    """Off by default; when set, `chatbot expire` and the start of a chat erase what is older."""
    old = datetime(2020, 5, 3, tzinfo=UTC)

    def record(number: int, when: datetime) -> None:
        store.record_message(Message("telegram", "c", "ann", f"said {number}", str(number), when))

    record(0, old)
    record(1, datetime.now(UTC))
    run_here(capsys, "db", "backup", tmp_path / "backup.db")
    assert run_here(capsys, "expire").lines[0] == "erased: messages 0, replies 0, corrections 0"
    (home / "config.yaml").write_text("retention: {days: 30, copies_days: 0}", encoding="utf-8")

    assert run_here(capsys, "expire").lines[0] == "erased: messages 1, replies 0, corrections 0"

    assert [record.text for record in store.my_data("telegram", "ann")] == ["said 1"]
    assert (tmp_path / "backup.db").exists()
    record(2, old)
    assert run("chat", "--model", "echo", stdin="hi\n").lines == ["hi"]
    assert [record.text for record in store.my_data("telegram", "ann")] == ["said 1"]
    (home / "config.yaml").write_text("retention: {copies_days: 1}", encoding="utf-8")
    os.utime(tmp_path / "backup.db", (0, 0))
    assert f"deleted: {tmp_path / 'backup.db'}" in run_here(capsys, "expire").lines


def test_a_lost_key_is_not_replaced(home: Path, store: ConversationStore, capsys: pytest.CaptureFixture[str]) -> None:
    """Without its key the database knows nobody: commands refuse, doctor says so, and no new key is made."""
    say(store, "ann", "hello")
    key = (home / "identity.key").read_bytes()
    (home / "identity.key").unlink()

    for command in (["stats"], ["forget", "telegram", "ann"]):
        assert "identity.key is missing, and the database knows people by it" in run_here(capsys, *command).complaint

    assert any("BAD" in line and "identity.key is missing" in line for line in run_here(capsys, "doctor").lines)
    assert not (home / "identity.key").exists()
    (home / "identity.key").write_bytes(key)
    (home / "identity.key").chmod(0o600)
    assert run_here(capsys, "mydata", "telegram", "ann").code == 0


def test_a_platforms_permission_stays_with_the_model(
    home: Path, store: ConversationStore, registry: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    """What Discord has permitted is in the export, the report and the provenance; people are asked all the same."""
    say(store, "ann", "a question", "/teach an answer", platform="discord")
    settings = replace(GENEROUS, policy={"discord": "permitted"}, permissions={"discord": "letter 17"})
    recipe = load_recipe("retrain", ["precision=fp32", *(f"optimiser.{change}" for change in FEW)])
    with pytest.raises(ChatbotError, match="1 no consent"):
        retrain(store, registry, settings, recipe, home / "runs" / "none")
    store.consent("discord", "chat of ann", "ann", True, "en-1", "/consent yes")

    retrain(store, registry, settings, recipe, home / "runs" / "second")

    assert "letter 17" in (home / "runs" / "second" / "report.md").read_text("utf-8")
    assert json.loads((home / "runs" / "second" / "log.jsonl").read_text("utf-8"))["permissions"] == ["letter 17"]
    assert json.loads(run_here(capsys, "models", "show", "second").out)["provenance"]["permissions"] == ["letter 17"]
