"""The log as a data set: the pairs that may be learnt from, with the ids of their rows, in one hashed file.

Whether a row may be learnt from is decided by `chatbot.learnable.may_learn` behind `learnable_pairs`, nowhere else.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from chatbot.learnable import LearnablePair, Rule
from chatbot.store import ConversationStore
from chatbot.text import clean
from chatbot.writing import whole_file

_CONTEXT_TURNS = 6


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What was written: the pairs, every row id they hold, the file's hash, and how many were left out and why."""

    path: Path
    pairs: tuple[LearnablePair, ...]
    message_ids: tuple[int, ...]
    sha256: str
    left_out: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Written:
    """How many pairs a stream got, the hash of what it got, and how many were left out and why."""

    pairs: int
    sha256: str
    left_out: Mapping[str, int]


def export_pairs(store: ConversationStore, policy: Mapping[str, Rule], path: Path, context_turns: int) -> Snapshot:
    """Write the learnable pairs of the log to `path`, a dialogue file; whole or not at all.

    UsageError if it cannot be written.
    """
    found = store.learnable_pairs(policy, context_turns)
    pairs = tuple(found)
    with whole_file(path) as stream:
        digest = _write(pairs, stream, _as_dialogue)
    ids = {row for pair in pairs for row in pair.message_ids}
    left_out = {str(reason): count for reason, count in found.left_out.items()}
    return Snapshot(path, pairs, tuple(sorted(ids)), digest, left_out)


def write_pairs(store: ConversationStore, policy: Mapping[str, Rule], stream: TextIO, form: str) -> Written:
    """Write the learnable pairs of the log one after another, in the format `form`: jsonl, sharegpt, tsv or conv."""
    found = store.learnable_pairs(policy, _CONTEXT_TURNS)
    count = 0

    def counted() -> Iterable[LearnablePair]:
        nonlocal count
        for pair in found:
            count += 1
            yield pair

    digest = _write(counted(), stream, _FORMS[form])
    return Written(count, digest, {str(reason): number for reason, number in found.left_out.items()})


def _write(pairs: Iterable[LearnablePair], stream: TextIO, line_of: Callable[[LearnablePair], str]) -> str:
    """The hash of what was written."""
    digest = hashlib.sha256()
    for pair in pairs:
        line = line_of(pair) + "\n"
        digest.update(line.encode())
        stream.write(line)
    return digest.hexdigest()


def _as_dialogue(pair: LearnablePair) -> str:
    record = {
        "id": f"log-{pair.message_ids[-1]}",
        "source": "log",
        "license": "private",
        "kind": pair.kind,
        "message_ids": list(pair.message_ids),
        "learn": "last",
        "turns": [*pair.context, pair.reply],
    }
    return json.dumps(record, ensure_ascii=False)


def _as_sharegpt(pair: LearnablePair) -> str:
    """The reply is the assistant's, and so is every second turn before it."""
    turns = [*pair.context, pair.reply]
    sides = ("gpt", "human")
    said = [{"from": sides[(len(turns) - 1 - place) % 2], "value": turn} for place, turn in enumerate(turns)]
    return json.dumps({"id": f"log-{pair.message_ids[-1]}", "conversations": said}, ensure_ascii=False)


def _as_tsv(pair: LearnablePair) -> str:
    """What was said last, a tab, the reply; white space folded, for a cell has no lines."""
    return f"{clean(pair.context[-1])}\t{clean(pair.reply)}"


def _as_conv(pair: LearnablePair) -> str:
    return "\n".join(["E", *(f"M {clean(turn)}" for turn in (*pair.context, pair.reply))])


_FORMS: Mapping[str, Callable[[LearnablePair], str]] = {
    "jsonl": _as_dialogue,
    "sharegpt": _as_sharegpt,
    "tsv": _as_tsv,
    "conv": _as_conv,
}
