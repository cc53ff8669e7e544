"""The readers of other programs' files: dialects, broken files, hostile files, and anything at all."""

from __future__ import annotations

import gzip
import json
from datetime import datetime
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from talking import KEY, rows

from chatbot.errors import UsageError
from chatbot.importers import bringing, files, jsonstream
from chatbot.importers.bringing import bring_in, look, preview
from chatbot.importers.formats import FORMATS
from chatbot.importers.records import Report, Said, Skipped, Source
from chatbot.store import ConversationStore

DIALECTS = {
    "android": ("31/01/2024, 22:05 - ", "day-month-year"),
    "android, United States": ("1/31/24, 10:05\u202fPM - ", "month-day-year"),
    "android, dots": ("31.01.24, 22:05 - ", "day-month-year"),
    "android, dashes": ("31-01-2024 22:05 - ", "day-month-year"),
    "android, ISO": ("2024-01-31, 22:05 - ", "year-month-day"),
    "android, Spanish": ("31/1/24, 10:05 p.\u00a0m. - ", "day-month-year"),
    "android, Finnish": ("31.1.2024 klo 22.05 - ", "day-month-year"),
    "android, French": ("31/01/2024 à 22:05 - ", "day-month-year"),
    "android, Chinese": ("2024/1/31 下午10:05 - ", "year-month-day"),
    "android, Korean": ("2024년 1월 31일 오후 10:05, ", "year-month-day"),
    "android, Arabic digits": ("٣١/١/٢٠٢٤, ٢٢:٠٥ - ", "day-month-year"),
    "iPhone": ("[31/01/2024, 22:05:00] ", "day-month-year"),
    "iPhone, United States": ("\u200e[1/31/24, 10:05:00\u202fPM] ", "month-day-year"),
    "iPhone, German": ("[31.01.24, 22:05:00] ", "day-month-year"),
    "iPhone, lower case": ("[31/01/2024, 10:05:00 pm] ", "day-month-year"),
}


def read(kind: str, path: Path) -> list[object]:
    """All that a reader finds."""
    return list(FORMATS[kind].read(Source(path)))


def saved(tmp_path: Path, content: str | bytes, name: str = "file") -> Path:
    """A file with this content."""
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def whatsapp(tmp_path: Path, *lines: str) -> tuple[list[object], str]:
    """What is found in a WhatsApp export, and the dialect."""
    source = Source(saved(tmp_path, "\n".join(lines) + "\n"))
    return list(FORMATS["whatsapp"].read(source)), source.dialect


@pytest.mark.parametrize("name", DIALECTS)
def test_every_dialect_of_whatsapp(name: str, tmp_path: Path) -> None:
    """In every dialect the same moment, speaker and text are found, over several lines, and the order is named."""
    stamp, order = DIALECTS[name]
    between = " : " if "Korean" in name else ": "

    found, dialect = whatsapp(tmp_path, f"{stamp}Ada Lovelace{between}one", "two: 3", f"{stamp}Ben{between}four")

    said = [item for item in found if isinstance(item, Said)]
    assert [(item.speaker, item.text) for item in said] == [("Ada Lovelace", "one\ntwo: 3"), ("Ben", "four")]
    assert {item.sent_at for item in said} == {datetime.fromisoformat("2024-01-31T22:05:00+00:00")}
    assert order in dialect
    assert len({item.id for item in said}) == 2


def test_days_below_13_follow_the_order_of_time(tmp_path: Path) -> None:
    """Where no day is above 12, the order in which time runs forwards is taken, and called a guess."""
    lines = [f"{month}/{day}/24, 10:00 - Ada: x" for month, day in ((1, 9), (1, 11), (2, 3), (3, 2))]

    found, dialect = whatsapp(tmp_path, *lines)

    assert [item.sent_at.month for item in found if isinstance(item, Said) and item.sent_at] == [1, 1, 2, 3]
    assert "month-day-year (guessed" in dialect


@pytest.mark.parametrize(("clock", "hour"), [("12:30 AM", 0), ("12:30 PM", 12), ("1:30 PM", 13), ("11:30 AM", 11)])
def test_twelve_o_clock(clock: str, hour: int, tmp_path: Path) -> None:
    """Midnight is 12 AM and noon 12 PM."""
    (found,), _ = whatsapp(tmp_path, f"1/31/24, {clock} - Ada: x")

    assert isinstance(found, Said)
    assert found.sent_at is not None
    assert found.sent_at.hour == hour


def test_what_whatsapp_itself_says_is_left_out(tmp_path: Path) -> None:
    """System lines, media without words and deleted messages are counted, not stored; a wrong date is a mistake."""
    found, _ = whatsapp(
        tmp_path,
        "no date here",
        "31/01/2024, 10:00 - Ada created group “soup: and salt”",
        "31/01/2024, 10:00 - Ada: IMG-20240131-WA0001.jpg (file attached)",
        "31/01/2024, 10:00 - Ada: This message was deleted",
        "31/01/2024, 10:00 - Ada: \u200eimage omitted",
        "31/02/2024, 10:00 - Ada: no such day",
        "31/01/2024, 10:00 - Ada: soup <This message was edited>",
    )

    assert [(item.reason, item.bad) for item in found if isinstance(item, Skipped)] == [
        ("no date, and no message before it", True),
        ("service message", False),
        ("no words", False),
        ("deleted", False),
        ("no words", False),
        ("no such date", True),
    ]
    assert [item.text for item in found if isinstance(item, Said)] == ["soup"]


def telegram(*messages: dict[str, object], **chat: object) -> str:
    """A Telegram export of one supergroup."""
    whole = [{"type": "message", "date_unixtime": "1777744860", "from_id": "user1", "text": "x"} | m for m in messages]
    whole = [{"id": place + 1, **message} for place, message in enumerate(whole)]
    return json.dumps({"name": "n", "type": "private_supergroup", "id": 9, **chat, "messages": whole}, indent=1)


def test_what_is_not_peoples_own_words_is_left_out(tmp_path: Path) -> None:
    """Forwarded messages, bots' words, photos; and what lacks a sender, a date or a text is told with its line."""
    odd: list[dict[str, object]] = [
        {"forwarded_from": "Cid"},
        {"via_bot": "@gif"},
        {"text": ""},
        {"from_id": None},
        {"date_unixtime": "soon"},
        {"text": 7},
        {"text": ["a", {"type": "bold", "text": "b"}]},
    ]

    found = read("telegram", saved(tmp_path, telegram(*odd)))

    skipped = [item for item in found if isinstance(item, Skipped)]
    assert [item.reason for item in skipped if not item.bad] == [
        "forwarded: somebody else's words",
        "a bot's words",
        "no words",
    ]
    assert [item.reason for item in skipped if item.bad] == ["no sender", "no date", "no text where one should be"]
    assert [item.text for item in found if isinstance(item, Said)] == ["ab"]


def stored(store: ConversationStore, kind: str, path: Path) -> list[tuple[object, ...]]:
    """Import a file; the texts with what they answer."""
    bring_in(store, FORMATS[kind], [path], "ours", Report())
    query = (
        "SELECT m.text, a.text, m.context_start FROM message m LEFT JOIN message a ON m.reply_to_id = a.id ORDER BY 1"
    )
    return rows(store._url, query.replace("ORDER BY 1", "ORDER BY m.id"))


def test_a_group_becomes_dialogues(store: ConversationStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Links come first, even to a line that was joined and over a pause; without one, another's last words within the
    hour are answered; a pause begins anew. The size of the batches changes nothing.
    """
    monkeypatch.setattr(bringing, "_BATCH_ROWS", 2)
    start, hour = 1777744860, 3600
    talk: list[tuple[int, str, str, int | None]] = [
        (0, "user1", "a", None),
        (60, "user1", "b", None),
        (120, "user2", "c", None),
        (180, "user3", "d", 2),
        (180 + 2 * hour, "user2", "e", None),
        (240 + 2 * hour, "user1", "f", 4),
        (300 + 2 * hour, "user2", "g", None),
    ]
    messages: list[dict[str, object]] = [
        {"date_unixtime": str(start + at), "from_id": who, "text": text}
        | ({} if link is None else {"reply_to_message_id": link})
        for at, who, text, link in talk
    ]

    found = stored(store, "telegram", saved(tmp_path, telegram(*messages)))

    assert found == [
        ("a\nb", None, 0),
        ("c", "a\nb", 0),
        ("d", "a\nb", 0),
        ("e", None, 3),
        ("f", "d", 0),
        ("g", "f", 3),
    ]


def test_a_later_export_brings_what_is_new(store: ConversationStore, tmp_path: Path) -> None:
    """The new is stored, a last turn that went on is completed, and what was erased stays erased."""
    texts = ["a", "b", "c", "d"]
    people = ["user1", "user2", "user2", "user1"]
    messages: list[dict[str, object]] = [{"text": t, "from_id": p} for t, p in zip(texts, people, strict=True)]
    stored(store, "telegram", saved(tmp_path, telegram(*messages[:2])))
    store.forget("telegram", "1")

    found = stored(store, "telegram", saved(tmp_path, telegram(*messages)))

    assert [row[:2] for row in found] == [("", None), ("b\nc", ""), ("d", "b\nc")]


def test_people_are_those_the_bot_knows(store: ConversationStore, tmp_path: Path) -> None:
    """An imported chat is the bot's chat: consent withdrawn there keeps it out, /forget there empties it."""
    messages: list[dict[str, object]] = [{"text": "a"}, {"text": "b", "from_id": "user2"}]
    stored(store, "telegram", saved(tmp_path, telegram(*messages)))
    policy = {"telegram": "consented"}
    assert [pair.reply for pair in store.learnable_pairs(policy, 3)] == ["b"]  # type: ignore[arg-type]  # a literal

    store.consent("telegram", "-1009", "1", False, "1", "/consent no")

    assert list(store.learnable_pairs(policy, 3)) == []  # type: ignore[arg-type]  # as above
    assert store.forget("telegram", "2", "-1009").messages == 1


BROKEN_ENTRY = '  {\n   "id": 2,\n   "type": "message", "text": "cut" oops },\n'


@pytest.mark.parametrize("entry", [BROKEN_ENTRY, "[[oops], 7],\n"], ids=["broken", "no object"])
def test_a_broken_entry_costs_itself(entry: str, tmp_path: Path) -> None:
    """In one large JSON the entries around a broken one are read, and it is told with its line; so with bad bytes."""
    head, first, *rest = telegram({"text": "one"}, {"text": "two"}, {"text": "three é"}).partition('  {\n   "id": 2')
    broken = (head + entry + first + "".join(rest)).encode().replace("three é".encode("unicode_escape"), b"\xff")
    broken = broken.replace(b"three \\u00e9", b"three \xff")

    found = read("telegram", saved(tmp_path, broken))

    assert [item.text for item in found if isinstance(item, Said)] == ["one", "two"]
    skipped = [(item.line, item.reason) for item in found if isinstance(item, Skipped)]
    assert [reason for _, reason in skipped] == ["not JSON", "not UTF-8"]
    assert broken.decode("latin-1").splitlines(keepends=True)[skipped[0][0] - 1 :][0] in entry


@pytest.mark.parametrize("kind", ["telegram", "discord", "sharegpt"])
def test_deep_nesting_and_long_values_are_bounded(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A million brackets, or a value without an end, are told as such; no recursion, no memory for them."""
    monkeypatch.setattr(jsonstream, "MAX_VALUE_CHARS", 2**16)
    begin = {"sharegpt": "["}.get(kind, '{"id": 1, "messages": [')

    deep = read(kind, saved(tmp_path, begin + "[" * 1_000_000))
    long = read(kind, saved(tmp_path, begin + '{"id": 1, "text": "' + "x" * 3_000_000))

    assert [item.reason for item in deep if isinstance(item, Skipped)] == ["nested too deeply"]
    assert [item.reason for item in long if isinstance(item, Skipped)] == ["longer than 0 million characters"]


@pytest.mark.parametrize("kind", sorted(set(FORMATS) - {"cornell", "telegram", "discord", "chatterbot"}))
def test_one_huge_line_is_left_out(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line above the limit is told with its number; the file is read on behind it."""
    monkeypatch.setattr(files, "MAX_LINE_BYTES", 1000)
    monkeypatch.setattr(files, "CHUNK_BYTES", 300)
    if kind == "opensubtitles":
        pytest.skip("its XML has no lines; its text is read as deepqa's")

    path = saved(tmp_path, b"x" * 5000 + b"\nE\nM a\nM b\n" + b"x" * 1200 + b"\n\n" + b"x" * 5000)

    found = read(kind, path)

    (first, *_) = (item for item in found if isinstance(item, Skipped))
    assert (first.line, first.reason) == (1, "longer than 0 MiB")
    whole = [(number, line) for number, line in files.lines(path)]
    assert whole == [(1, None), (2, b"E"), (3, b"M a"), (4, b"M b"), (5, None), (6, b""), (7, None)]


@pytest.mark.parametrize("pack", [zstandard.ZstdCompressor(level=19).compress, gzip.compress])
def test_bombs_are_refused(pack: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that grows beyond reason is refused before it is read; an honest one of the same kind is read."""
    monkeypatch.setattr(files, "_HARMLESS_BYTES", 2**20)
    assert callable(pack)
    bomb = saved(tmp_path, pack(b"\0" * 2**24))
    honest = saved(tmp_path, pack(b"E\nM a\nM b\n"), "honest")

    with pytest.raises(UsageError, match="times its size"):
        look(FORMATS["conv"], [bomb])
    look(FORMATS["conv"], [honest])


def test_yaml_and_xml_tricks(tmp_path: Path) -> None:
    """Aliases that would grow, deep nesting and document types make nothing out of little."""
    aliases = "conversations:\n- &a [x, y]\n- [*a, *a]\n- *a\n- - yes\n  - 7\n"
    doctype = '<?xml version="1.0"?><!DOCTYPE d [<!ENTITY a "aaaa">]><d><s id="1">&a;</s></d>'

    found = read("chatterbot", saved(tmp_path, aliases))
    deep = read("chatterbot", saved(tmp_path, "conversations:\n- " + "[" * 100_000, "deep"))

    assert [item.turns for item in found if not isinstance(item, Said | Skipped)] == [("x", "y"), ("yes", "7")]  # type: ignore[attr-defined]  # an Exchange
    assert all(isinstance(item, Skipped) for item in deep)
    with pytest.raises(UsageError, match="document type"):
        read("opensubtitles", saved(tmp_path, doctype, "film.xml"))


def test_another_formats_file_is_named(tmp_path: Path) -> None:
    """Whoever mixes formats up is told which it seems to be; zip archives, folders and UTF-16 have a way out each."""
    (tmp_path / "folder").mkdir()
    wrong = {
        "telegram": saved(tmp_path, telegram({}), "result.json"),
        "whatsapp": saved(tmp_path, "31/01/2024, 10:00 - Ada: x\n", "chat.txt"),
        "conv": saved(tmp_path, "E\nM a\nM b\n", "talk.conv"),
        "jsonl": saved(tmp_path, '{"turns": ["a", "b"]}\n', "talk.jsonl"),
    }
    for seen, path in wrong.items():
        for kind in FORMATS.keys() - {seen}:
            with pytest.raises(UsageError, match=f"looks like {seen}"):
                look(FORMATS[kind], [path])
    for name, content, way in (
        ("chat.zip", b"PK\x03\x04rest", "unpack"),
        ("utf16.txt", "31/01/2024, 10:00 - Ada: x".encode("utf-16"), "iconv"),
    ):
        with pytest.raises(UsageError, match=way):
            look(FORMATS["whatsapp"], [saved(tmp_path, content, name)])
    for path in (tmp_path / "folder", tmp_path / "none", Path("/dev/null"), Path("a\0b")):
        with pytest.raises(UsageError):
            look(FORMATS["whatsapp"], [path])


def test_files_that_end_in_the_middle(tmp_path: Path) -> None:
    """What was whole is imported, and the end is told; a compressed file that is cut is refused."""
    whole = telegram({"text": "one"}, {"text": "two"})
    packed = zstandard.compress(whole.encode() * 3)

    found = read("telegram", saved(tmp_path, whole[:-60]))

    assert [item.text for item in found if isinstance(item, Said)] == ["one"]
    assert [item.reason for item in found if isinstance(item, Skipped)] == ["the file ends in the middle"]
    with pytest.raises(UsageError, match="cut off"):
        look(FORMATS["telegram"], [saved(tmp_path, packed[:-5], "cut.zst")])


PIECES = [
    *(
        '"',
        "\\",
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\n",
        "\t",
        "E\n",
        "M a\n",
        "===\n",
        "- ",
        "- - x\n  - y\n",
        "&a ",
        "*a",
    ),
    *(
        '"messages"',
        '"id"',
        '"type"',
        '"text"',
        "<s id='1'>",
        "</s>",
        "<d>",
        "\ufeff",
        "\u200e",
        "1e999",
        "NaN",
        "\\ud800",
    ),
    *(
        "31/01/2024, 10:00 - Ada: x\n",
        '{"turns": ["a", "b"]}\n',
        " +++$+++ ",
        "conversations:\n",
        '{"id": 1, "type": "m"',
    ),
]


@settings(max_examples=25)
@given(pieces=st.lists(st.sampled_from(PIECES) | st.text(max_size=4), max_size=30), cut=st.binary(max_size=2))
def test_nothing_breaks_a_reader(pieces: list[str], cut: bytes, tmp_path: Path) -> None:
    """Whatever a file holds, each reader ends with items or one clear refusal, and the count adds up."""
    path = saved(tmp_path, "".join(pieces).encode("utf-8", "surrogatepass") + cut)
    for kind in FORMATS.values():
        report = Report()
        try:
            preview(kind, [path], report)
        except UsageError:
            continue
        left_out = sum(report.skipped.values()) + sum(report.notes.values())
        assert report.messages == report.turns + report.joined + left_out


def test_a_counted_import_adds_up(url: str, tmp_path: Path) -> None:
    """Twins in one file are stored once, and every message of the file is in one of the counts."""
    messages: list[dict[str, object]] = [{"id": 5, "text": "a"}, {"id": 6, "from_id": "user2"}, {"text": ""}, {"id": 5}]
    store, report = ConversationStore(url, KEY), Report()

    brought = bring_in(store, FORMATS["telegram"], [saved(tmp_path, telegram(*messages))], None, report)

    store.close()
    assert report.messages == 4
    assert brought.turns + brought.before + report.joined + sum(report.notes.values()) == 4
    assert rows(url, "SELECT text FROM message") == [("a",), ("x",)]


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
def test_a_server_gets_to_know_a_table_that_fills(store: ConversationStore, url: str, tmp_path: Path) -> None:
    """After a first import it knows how many rows there are: else it would look for each answer in all of them."""
    path = saved(tmp_path, "\n".join(json.dumps({"turns": ["Tea?", f"Yes, {place}."]}) for place in range(7)))
    known = "SELECT reltuples FROM pg_class WHERE oid = 'message'::regclass"
    assert rows(url, known)[0][0] <= 0

    bring_in(store, FORMATS["jsonl"], [path], "mine", Report())

    assert rows(url, known) == [(14.0,)]


def test_a_large_import_takes_several_statements(
    store: ConversationStore, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever fits into one statement or batch, each turn is there once, in its order, with what it answers."""
    monkeypatch.setattr("chatbot.records._PARAMETERS", 31)
    monkeypatch.setattr(bringing, "_BATCH_ROWS", 5)
    said: list[dict[str, object]] = [
        {"from_id": f"user{number % 2}", "text": f"line {number}"} for number in range(1, 24)
    ]
    path = saved(tmp_path, telegram(*said))

    bring_in(store, FORMATS["telegram"], [path], None, Report())

    chain = rows(url, "SELECT m.text, a.text FROM message m LEFT JOIN message a ON a.id = m.reply_to_id ORDER BY m.id")
    assert chain == [(f"line {number}", f"line {number - 1}" if number > 1 else None) for number in range(1, 24)]
