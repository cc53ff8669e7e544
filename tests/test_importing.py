"""Imports and exports as people run them: the samples of docs/importing.md previewed, imported twice, put back."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from running import Done, rows, run_here

from chatbot.importers import EXPORT_NAMES, FORMAT_NAMES
from chatbot.importers.formats import FORMATS
from chatbot.store import ConversationStore

Capture = pytest.CaptureFixture[str]
PAGE = (Path(__file__).resolve().parent.parent / "docs" / "importing.md").read_text(encoding="utf-8")
SAMPLES = re.findall(r"^<!-- sample: (\S+) ([^\n]+) -->\n```\w+\n(.*?)^```$", PAGE, re.M | re.S)
# What each sample holds: dialogues and turns stored, pairs to learn from with a declaration, what is left out, and why.
HOLDS = {
    "result.json": (2, 3, 1, {"service message": 1}),
    "account.json": (2, 4, 2, {}),
    "channel.json": (1, 2, 0, {"service message": 1}),
    "chat.txt": (2, 3, 1, {"service message": 1, "no words": 1}),
    "talk.jsonl": (2, 6, 4, {}),
    "talk.json": (2, 4, 2, {}),
    "messages.jsonl": (2, 4, 2, {}),
    "movie_conversations.txt": (1, 3, 2, {}),
    "film.xml": (1, 2, 1, {}),
    "film.txt": (2, 4, 2, {}),
    "talk.conv": (2, 4, 2, {}),
    "food.yml": (2, 4, 2, {}),
    "talk.txt": (2, 4, 2, {}),
    "pairs.tsv": (2, 4, 2, {}),
    "pairs.csv": (2, 4, 2, {}),
}


def samples(folder: Path) -> dict[str, tuple[str, Path]]:
    """Every sample as a file, with its format; the second `talk.jsonl` is called after its format."""
    found: dict[str, tuple[str, Path]] = {}
    for kind, name, content in SAMPLES:
        name = f"{kind}.jsonl" if name in found else name
        (folder / name).write_text(content, encoding="utf-8")
        found[name] = (kind, folder / name)
    return {name: sample for name, sample in found.items() if sample[0] != "-"}


def learnable(capsys: Capture) -> int:
    """How many replies may be learnt from."""
    return int(json.loads(run_here(capsys, "stats", "--learnable", "--json").out)["learnable"])


def test_the_guide_has_a_sample_of_every_format(tmp_path: Path) -> None:
    """Every format of the command line is known, shown in the guide, and counted here."""
    kinds = {kind for kind, _ in samples(tmp_path).values()}

    assert set(FORMAT_NAMES) == {*FORMATS, "log"} == kinds
    assert samples(tmp_path).keys() == {*HOLDS, "log.jsonl"}


def test_every_sample_is_imported_once(home: Path, tmp_path: Path, capsys: Capture) -> None:
    """The preview says what the import then does; a second time nothing is stored, but then it is declared."""
    for name, (kind, file) in samples(tmp_path).items():
        if kind == "log":
            continue
        dialogues, turns, pairs, left_out = HOLDS[name]
        before = learnable(capsys)
        notes = [f"left out: {count} ({reason})" for reason, count in left_out.items()]

        preview = run_here(capsys, "import", kind, file, "--dry-run")
        assert (preview.code, preview.lines[0]) == (0, f"{dialogues} dialogues with {turns} turns would be stored"), (
            name
        )
        assert [line for line in preview.err.splitlines() if line.startswith("left out")] == notes, name
        first = run_here(capsys, "import", kind, file)
        assert first.lines[0] == f"{dialogues} dialogues with {turns} turns stored", name
        assert learnable(capsys) == before, name
        again = run_here(capsys, "import", kind, file, "--consent", "ours")
        assert again.lines[:2] == ["0 dialogues with 0 turns stored", f"{turns} turns were stored before"], name
        assert learnable(capsys) == before + pairs, name


def test_preview_shows_the_dialect_and_numbers_not_names(home: Path, tmp_path: Path, capsys: Capture) -> None:
    """A preview tells how dates were read, from when to when, how much each speaker said; no names, no words."""
    preview = run_here(capsys, "import", "whatsapp", samples(tmp_path)["chat.txt"][1], "--dry-run")

    assert preview.lines == [
        "2 dialogues with 3 turns would be stored",
        "read as: dates day-month-year, 24-hour clock, without brackets",
        "from 2026-01-31 to 2026-02-01",
        "5 messages, 1 chats, 2 speakers",
        "speaker 1: 2 turns",
        "speaker 2: 1 turns",
    ]
    assert "Ada" not in preview.out + preview.err


@pytest.fixture
def filled(home: Path, tmp_path: Path, capsys: Capture) -> ConversationStore:
    """The state folder's store with a rated, taught, erased and reset talk, consents, and an import."""
    from datetime import UTC, datetime

    from chatbot.cli.opening import open_store
    from chatbot.messages import Message, Reply

    run_here(capsys, "db", "upgrade")
    run_here(capsys, "import", "telegram", samples(tmp_path)["result.json"][1], "--consent", "ours")
    store = open_store()
    noon = datetime(2026, 5, 3, 12, 0, 0, 7, tzinfo=UTC)
    for number in range(5):
        asked = store.record_message(Message("telegram", "c", "me", f"\u2028ask {number}", str(number), noon))
        store.record_reply(asked.id, Reply(f"reply {number}", "m", "seq2seq", score=-0.5, settings={"beam": 3}, seed=7))
        store.rate("telegram", "c", "me", 1)
        store.teach("telegram", "c", "me", f"better {number}")
        if number == 2:
            store.reset("telegram", "c")
    store.consent("telegram", "c", "me", True, "1", "/consent yes")
    store.forget("telegram", "me", "c", "1")
    store.record_model("m", parent=None, dataset=None, metrics={"loss": 1.5}, state="tainted")
    return store


def exported(capsys: Capture, *arguments: str) -> Done:
    """`chatbot export`, without the time in its first line."""
    done = run_here(capsys, "export", *arguments)
    return Done(done.code, re.sub(r'"exported_at": "[^"]+"', "", done.out), done.err)


def test_our_own_log_restores_the_store(
    filled: ConversationStore, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exported and put back into an empty store, the log is the same; put back again, nothing changes."""
    file = tmp_path / "log.jsonl"
    before = exported(capsys, "--format", "log")
    assert run_here(capsys, "export", file, "--format", "log").code == 0
    monkeypatch.setenv("CHATBOT_HOME", str(tmp_path / "other"))
    run_here(capsys, "db", "upgrade")

    done = run_here(capsys, "import", "log", file)

    assert (done.code, done.err) == (0, "")
    assert done.out == (
        "4 people, 2 chats, 1 imports, 1 models, 13 messages, 1 consents, 5 ratings, 5 corrections stored\n"
    )
    assert exported(capsys, "--format", "log") == before
    again = run_here(capsys, "import", "log", file)
    assert again.out.startswith("0 people, 0 chats, 0 imports, 0 models, 0 messages, 0 consents, 0 ratings, 0 ")
    assert exported(capsys, "--format", "log") == before


def test_our_own_log_joins_another_store(
    filled: ConversationStore, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a store that holds something, rows get new numbers and everything still refers to the right thing."""
    other = tmp_path / "other"
    file = tmp_path / "exported.jsonl"
    run_here(capsys, "export", file, "--format", "log")
    pairs = run_here(capsys, "export").lines
    monkeypatch.setenv("CHATBOT_HOME", str(other))
    run_here(capsys, "db", "upgrade")
    run_here(capsys, "import", "conv", samples(tmp_path)["talk.conv"][1])

    done = run_here(capsys, "import", "log", file)

    assert done.code == 0, done.err
    assert [json.loads(line)["turns"] for line in run_here(capsys, "export").lines] == [
        json.loads(line)["turns"] for line in pairs
    ]
    (start,) = rows(other, "SELECT context_start FROM chat WHERE context_start > 0")[0]
    assert rows(other, "SELECT text FROM message WHERE id = ?", start) == [("reply 2",)]


def test_an_old_log_does_not_undo_a_withdrawal(
    filled: ConversationStore, home: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever agreed in the log, but said no in the store since then, has still said no."""
    from chatbot.cli.opening import open_store

    other, file = tmp_path / "other", tmp_path / "exported.jsonl"
    run_here(capsys, "export", file, "--format", "log")
    other.mkdir()
    shutil.copy(home / "identity.key", other)  # with its mode
    monkeypatch.setenv("CHATBOT_HOME", str(other))
    run_here(capsys, "db", "upgrade")
    open_store().consent("telegram", "c", "me", False, "1", "/consent no")

    assert run_here(capsys, "import", "log", file).code == 0

    assert rows(other, "SELECT given FROM consent ORDER BY id") == [(0,)]


@pytest.mark.parametrize("form", EXPORT_NAMES)
def test_what_cannot_be_cleaned_is_named(form: str, filled: ConversationStore, tmp_path: Path, capsys: Capture) -> None:
    """`chatbot forget` takes lines out of a dialogue file, and names the files of other formats for deletion."""
    file = tmp_path / "out"
    assert run_here(capsys, "export", file, "--format", form).code == 0

    forgotten = run_here(capsys, "forget", "telegram", "me")

    assert (f"not cleaned, may hold them: {file}" in forgotten.lines) == (form != "jsonl")


def test_the_log_of_an_empty_store(home: Path, tmp_path: Path, capsys: Capture) -> None:
    """With nothing stored, the log is its first line, and can be put back."""
    run_here(capsys, "db", "upgrade")

    assert run_here(capsys, "export", tmp_path / "log.jsonl", "--format", "log").code == 0
    assert len((tmp_path / "log.jsonl").read_text("utf-8").splitlines()) == 1
    assert run_here(capsys, "import", "log", tmp_path / "log.jsonl").code == 0


def test_bad_lines_of_a_log(home: Path, tmp_path: Path, capsys: Capture) -> None:
    """Lines that are no rows, refer to nothing or hold what is not allowed are named; the others are stored."""
    good = samples(tmp_path)["log.jsonl"][1].read_text("utf-8")
    bad = [
        "{oops",
        '{"kind": "inbox", "id": 1}',
        '{"kind": "message", "id": 3, "chat_id": 1, "reply_to_id": 77, "role": "bot", "text": "x", "context_start": 0,'
        ' "created_at": "2026-05-02T18:00:00+00:00"}',
        '{"kind": "message", "id": 4, "chat_id": 1, "role": "god", "text": "x", "context_start": 0,'
        ' "created_at": "2026-05-02T18:00:00+00:00"}',
        '{"kind": "message", "id": 5, "chat_id": 1, "role": "bot", "context_start": 0,'
        ' "created_at": "2026-05-02T18:00:00+00:00"}',
        '{"kind": "feedback", "id": "9", "message_id": 2, "person_id": 1, "rating": 1, "at": "yesterday"}',
    ]
    file = tmp_path / "log.jsonl"
    file.write_text(good + "\n".join(bad) + "\n", encoding="utf-8")
    run_here(capsys, "db", "upgrade")

    done = run_here(capsys, "import", "log", file)

    assert done.code == 1
    assert "1 people, 1 chats, 0 imports, 0 models, 2 messages, 0 consents, 1 ratings, 0 corrections stored" in done.out
    assert done.err.splitlines() == [
        "left out: log.jsonl line 7: not JSON",
        "left out: log.jsonl line 8: not a line of the log",
        "left out: log.jsonl line 9: refers to a row that is not in the file before it",
        "left out: log.jsonl line 11: has no text",
        "left out: log.jsonl line 10: is there already, refers to what is not, or holds a value that is not allowed",
        "left out: 1 more lines",
    ]


@pytest.mark.parametrize("form", sorted(set(EXPORT_NAMES) - {"log"}))
def test_what_is_exported_can_be_imported(
    form: str, filled: ConversationStore, tmp_path: Path, capsys: Capture
) -> None:
    """The pairs that may be learnt go out in every format, and each is read back as what it was."""
    file = tmp_path / "out"
    assert run_here(capsys, "export", file, "--format", form).code == 0

    done = run_here(capsys, "import", form, file, "--dry-run")

    # A pair cell holds the last words only; the others hold the context, too.
    turns = {"tsv": 2 * 4}.get(form, sum(len(json.loads(line)["turns"]) for line in run_here(capsys, "export").lines))
    assert done.lines[0] == f"4 dialogues with {turns} turns would be stored"
    assert done.code == 0
