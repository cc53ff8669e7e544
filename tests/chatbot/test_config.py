"""Configuration: what is known is typed, what is unknown is named with its nearest neighbour, nothing else escapes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chatbot.config import Settings, build, database_url, home, load_settings, merge, parse_assignments, read_yaml
from chatbot.errors import UsageError
from training.recipe import Recipe

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=7) | st.dates() | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=7) | st.integers(), inner, max_size=3),
    max_leaves=7,
)
known_keys = st.sampled_from(
    ["chat", "learn", "model", "data", "optimiser", "name", "seed", "policy", "weights", "steps", "decoding", "paths"]
)
documents = st.recursive(plain, lambda inner: st.dictionaries(known_keys, inner, max_size=3), max_leaves=7)


def refused(call: Any, *arguments: Any) -> str:
    """The one line with which a call is refused."""
    with pytest.raises(UsageError) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("values", "parts"),
    [
        ({"caht": {}}, ["here.yaml", "unknown key 'caht'", "did you mean 'chat'?"]),
        ({"chat": {"histroy_turns": 3}}, ["unknown key 'chat.histroy_turns'", "'history_turns'"]),
        ({"zzzz": 1}, ["unknown key 'zzzz'", "known: access, chat, discord, learn"]),
        ({3: 1}, ["unknown key '3'"]),
        ({"chat": {"history_turns": "many"}}, ["chat.history_turns is 'many'", "a whole number"]),
        ({"chat": {"history_turns": True}}, ["chat.history_turns is True", "a whole number"]),
        ({"chat": {"history_turns": 2.5}}, ["chat.history_turns is 2.5", "a whole number"]),
        ({"chat": {"device": "gpu"}}, ["chat.device is 'gpu'", "one of auto, cpu, cuda, mps"]),
        ({"chat": {"decoding": 3}}, ["chat.decoding is 3", "a mapping"]),
        ({"chat": [1]}, ["chat is [1]", "a mapping of keys to values"]),
        ({"learn": {"replay": "file.jsonl"}}, ["learn.replay is 'file.jsonl'", "a list"]),
        ({"learn": {"replay": [7]}}, ["learn.replay[0] is 7", "a text"]),
        ({"learn": {"policy": {"terminal": "alowed"}}}, ["learn.policy.terminal is 'alowed'", "consented"]),
        ({"learn": {"policy": {"discord": "permitted"}}}, ["learn.policy.discord is permitted", "learn.permissions"]),
        (
            {"learn": {"policy": {"discord": "permitted"}, "permissions": {"discord": " "}}},
            ["learn.policy.discord is permitted, on no ground", "set the rule to never"],
        ),
        ({"learn": {"policy": {"discord": "consented"}}}, ["learn.policy.discord is consented", "permitted, never"]),
        ({"learn": {"policy": {"telegram": "allowed"}}}, ["learn.policy.telegram is allowed", "consented, permitted"]),
        ({"learn": {"permissions": {"discord": 7}}}, ["learn.permissions.discord is 7", "a text"]),
        ({"learn": {"block": {"users": ["ann"]}}}, ["learn.block.users names 'ann'", "telegram:123456"]),
        ({"learn": {"scrub": ["emial"]}}, ["learn.scrub[0] is 'emial'", "one of link, email"]),
        ({"learn": {"per_person": -1}}, ["learn.per_person is -1", "from 0"]),
        ({"retention": {"days": -1}}, ["retention.days is -1", "from 0 to 36500"]),
        ({"learn": {"max_frozen_worsening": "3%"}}, ["max_frozen_worsening is '3%'", "a number"]),
        ({"learn": {"max_frozen_worsening": float("nan")}}, ["max_frozen_worsening is nan", "a number"]),
        ({"learn": {"max_frozen_worsening": 10**400}}, ["max_frozen_worsening is 1000", "a number"]),
        ("text", ["the document is 'text'"]),
    ],
)
def test_mistakes_are_named(values: object, parts: list[str]) -> None:
    """File, key, value, and what it must be or was probably meant to be."""
    message = refused(build, Settings, values, "here.yaml")

    assert all(part in message for part in parts), message


def test_right_values_are_taken() -> None:
    """Whole numbers pass as numbers, lists as tuples, absent keys as their defaults."""
    values = {"chat": {"model": None, "history_turns": 5}, "learn": {"replay": ["a"], "max_frozen_worsening": 1}}

    settings = build(Settings, values, "here.yaml")

    assert (settings.chat.model, settings.chat.history_turns, settings.chat.device) == (None, 5, "auto")
    assert (settings.learn.replay, settings.learn.max_frozen_worsening) == (("a",), 1.0)
    assert isinstance(settings.learn.max_frozen_worsening, float)
    assert build(Settings, {"learn": {"max_frozen_worsening": "1e-3"}}, "here.yaml").learn.max_frozen_worsening == 0.001
    assert Settings() == build(Settings, None, "here.yaml")


def test_a_missing_key_without_default_is_named() -> None:
    """What has no default must be given."""
    assert "'name' is missing" in refused(build, Recipe, {}, "here.yaml")


@given(values=documents, cls=st.sampled_from([Settings, Recipe]))
@example(values={"name": "x", "seed": 10**30}, cls=Recipe)
@example(values={"name": "x", "data": {"weights": {"a": 10**400}}}, cls=Recipe)
@example(values={"name": "x", "data": {"weights": {"a\nb": "1"}}}, cls=Recipe)
def test_any_document_is_built_or_refused(values: object, cls: type[Any]) -> None:
    """Whatever a YAML file holds, the result is settings or one UsageError."""
    message = "here.yaml"
    try:
        build(cls, values, "here.yaml")
    except UsageError as error:
        message = str(error)
    assert "here.yaml" in message or "recipe " in message
    assert "\n" not in message


@given(data=st.binary(max_size=61) | st.text(max_size=61).map(lambda text: text.encode("utf-8", "surrogatepass")))
@example(data=b"a: 2020-99-99")
@example(data=b"a: " + b"9" * 5000)
@example(data=b"a: !!bool x")
@example(data=b'a: !!int ""')
@example(data=b"a: !!python/object/apply:os.system [ls]")
@example(data=b"[" * 3_000)
@example(data=b"ok: 1\n\x00: 2")
@example(data=b"a: *b")
def test_any_file_is_read_or_refused(data: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whatever bytes a file holds, the result is a value or one line that names the file."""
    path = tmp_path_factory.mktemp("yaml") / "c.yaml"
    path.write_bytes(data)

    message = str(path)
    try:
        read_yaml(path)
    except UsageError as error:
        message = str(error)
    assert str(path) in message
    assert "\n" not in message


@given(assignments=st.lists(st.text(st.characters(), max_size=13) | st.from_regex(r"[a-c.]{1,5}=[a-z0-9\[{:&*!]{0,5}")))
def test_any_assignment_is_parsed_or_refused(assignments: list[str]) -> None:
    """Whatever follows --set, the result is a mapping or one UsageError."""
    message = "--set"
    try:
        assert isinstance(parse_assignments(assignments), dict)
    except UsageError as error:
        message = str(error)
    assert "--set" in message


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("chat:\n  model: [1,\nlearn: {", "line 3 is not YAML"),
        ("a: 1\nb: 2\n\tc: 3", "line 3 is not YAML"),
        ("a: 1\nb: \x07", "line 2 is not YAML: character U+0007"),
        ("a: 2020-99-99", "cannot convert"),
    ],
)
def test_yaml_mistakes_name_the_line(tmp_path: Path, text: str, part: str) -> None:
    """The number of the line stands in the error."""
    path = tmp_path / "c.yaml"
    path.write_text(text, encoding="utf-8")

    assert part in refused(read_yaml, path)


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    """Absent, a folder, or another encoding: each says what is wrong with the file."""
    (tmp_path / "latin.yaml").write_bytes("a: é".encode("latin-1"))

    assert "cannot be read: No such file" in refused(read_yaml, tmp_path / "absent.yaml")
    assert "cannot be read: Is a directory" in refused(read_yaml, tmp_path)
    assert "is not UTF-8 text (byte 3)" in refused(read_yaml, tmp_path / "latin.yaml")


def test_assignments_make_a_tree() -> None:
    """Dots nest, values are YAML, later ones win."""
    tree = parse_assignments(["a.b=1", "a.c=[x, 2]", "d=null", "a.b=1e-3", "e=x=y"])

    assert tree == {"a": {"b": "1e-3", "c": ["x", 2]}, "d": None, "e": "x=y"}


def test_assignments_cannot_contradict_each_other() -> None:
    """A key is a value or holds keys, not both; no "=" is no assignment."""
    assert "'a' already has a value" in refused(parse_assignments, ["a=1", "a.b=2"])
    assert "is not key=value" in refused(parse_assignments, ["temperature"])
    assert "is not YAML" in refused(parse_assignments, ["a=[1"])


def test_merge_lays_mappings_over_each_other() -> None:
    """Mappings merge key by key, everything else is replaced; nothing is changed in place."""
    base = {"a": {"b": 1, "c": [1]}, "d": 2}

    assert merge(base, {"a": {"b": 3, "c": [2], "e": 4}}) == {"a": {"b": 3, "c": [2], "e": 4}, "d": 2}
    assert base == {"a": {"b": 1, "c": [1]}, "d": 2}


def test_places_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Home, database and settings follow their variables, and have defaults without them."""
    assert f"sqlite:///{home() / 'chatbot.db'}" == database_url()
    assert Settings() == load_settings()
    monkeypatch.setenv("CHATBOT_DATABASE_URL", "sqlite:///elsewhere.db")
    assert database_url() == "sqlite:///elsewhere.db"
    (tmp_path / "mine.yaml").write_text("chat: {history_turns: 3}", encoding="utf-8")
    monkeypatch.setenv("CHATBOT_CONFIG", str(tmp_path / "mine.yaml"))
    assert load_settings().chat.history_turns == 3
    monkeypatch.setenv("CHATBOT_CONFIG", str(tmp_path / "absent.yaml"))
    assert "absent.yaml cannot be read" in refused(load_settings)
