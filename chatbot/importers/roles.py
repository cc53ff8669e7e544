"""Dialogues as JSON: our own dialogue files, ShareGPT (`conversations`), and messages as OpenAI's interface has them.

ShareGPT and messages come as one object a line or as one array of all. Where roles are given, what the assistant says
is an answer to learn and what the person says is not; system prompts are nobody's words and are left out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from chatbot.dialogue import parse_dialogue
from chatbot.importers.files import chunks, text_lines
from chatbot.importers.jsonstream import Broken, JsonStream
from chatbot.importers.records import Exchange, Item, Skipped, Source

_ROLES = {
    **dict.fromkeys(("human", "user", "prompter"), "person"),
    **dict.fromkeys(("gpt", "assistant", "chatgpt", "bing", "bard", "model", "bot"), "assistant"),
    **dict.fromkeys(("system", "developer", "tool", "function", "observation", "function_call"), ""),
}


def looks_jsonl(head: str) -> bool:
    """Whether the first line of a file is a dialogue of ours."""
    return head.lstrip().startswith("{") and '"turns"' in head.lstrip().partition("\n")[0]


def looks_sharegpt(head: str) -> bool:
    """Whether a file that begins so has ShareGPT's keys."""
    return head.lstrip().startswith(("{", "[")) and '"conversations"' in head and '"from"' in head


def looks_messages(head: str) -> bool:
    """Whether a file that begins so has the keys of messages with roles."""
    return head.lstrip().startswith(("{", "[")) and '"messages"' in head and '"role"' in head


def read_jsonl(source: Source) -> Iterator[Item]:
    """A dialogue a line: docs/dialogue-format.md."""
    for number, line in text_lines(source.path):
        if isinstance(line, Skipped):
            yield line
        elif line.strip():
            try:
                turns = parse_dialogue(line).turns
            except ValueError as error:
                yield Skipped(number, str(error))
            else:
                yield Exchange(turns, tuple(str(place % 2) for place in range(len(turns))), number)


def read_sharegpt(source: Source) -> Iterator[Item]:
    """`{"conversations": [{"from": "human", "value": "..."}, ...]}`."""
    return _read(source, _sharegpt)


def read_messages(source: Source) -> Iterator[Item]:
    """`{"messages": [{"role": "user", "content": "..."}, ...]}`; of content in parts, the texts."""
    return _read(source, _messages)


def _read(source: Source, turns_of: Callable[[dict[str, Any]], list[tuple[Any, Any]]]) -> Iterator[Item]:
    begin = next(chunks(source.path), b"").lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
    source.dialect = "one array" if begin == b"[" else "an object a line"
    if begin != b"[":
        for number, line in text_lines(source.path):
            if isinstance(line, Skipped):
                yield line
            elif line.strip():
                yield _parsed(number, line, turns_of)
        return
    entry = r'\{\s*"(?:id|conversations|messages)"\s*:'
    try:
        for found in JsonStream(chunks(source.path), frozenset({()}), entry).walk():
            if found.wrong is not None:
                yield Skipped(found.line, found.wrong)
            else:
                yield _exchange(found.line, found.value, turns_of)
    except Broken as broken:
        yield Skipped(broken.line, broken.reason)


def _parsed(number: int, line: str, turns_of: Callable[[dict[str, Any]], list[tuple[Any, Any]]]) -> Item:
    try:
        record = json.loads(line)
    except RecursionError:
        return Skipped(number, "nested too deeply")
    except ValueError:
        return Skipped(number, "not JSON")
    return _exchange(number, record, turns_of)


def _exchange(number: int, record: Any, turns_of: Callable[[dict[str, Any]], list[tuple[Any, Any]]]) -> Item:
    if not isinstance(record, dict):
        return Skipped(number, "not a JSON object")
    try:
        found = turns_of(record)
    except (TypeError, AttributeError):
        return Skipped(number, "no list of turns with their roles")
    turns, speakers = [], []
    for role, text in found:
        speaker = _ROLES.get(role) if isinstance(role, str) else None
        if speaker is None:
            return Skipped(number, "a role that is not known")
        if not isinstance(text, str):
            return Skipped(number, "a turn that is no text")
        if speaker and text.strip():
            speakers.append(speaker)
            turns.append(text)
    if len(turns) < 2:
        return Skipped(number, "fewer than two turns")
    return Exchange(tuple(turns), tuple(speakers), number, learnt="assistant")


def _sharegpt(record: dict[str, Any]) -> list[tuple[Any, Any]]:
    return [(turn.get("from"), turn.get("value")) for turn in _list(record.get("conversations"))]


def _messages(record: dict[str, Any]) -> list[tuple[Any, Any]]:
    return [(turn.get("role"), _content(turn.get("content"))) for turn in _list(record.get("messages"))]


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError
    return value


def _content(value: Any) -> Any:
    """Text, or the texts of a list of parts; an assistant that only calls a tool says nothing."""
    if isinstance(value, list):
        return "".join(part["text"] for part in value if isinstance(part, dict) and isinstance(part.get("text"), str))
    return "" if value is None else value
