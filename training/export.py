"""The log as a data set: the pairs that may be learnt from, with the ids of their rows, in one hashed file.

Whether a row may be learnt from is decided by `chatbot.learnable.may_learn` behind `learnable_pairs`, nowhere else.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from chatbot.checkpoint import sha256
from chatbot.errors import UsageError
from chatbot.learnable import LearnablePair, Rule
from chatbot.store import ConversationStore


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What was written: the pairs, every row id they hold, the file's hash, and how many were left out and why."""

    path: Path
    pairs: tuple[LearnablePair, ...]
    message_ids: tuple[int, ...]
    sha256: str
    left_out: Mapping[str, int]


def export_pairs(store: ConversationStore, policy: Mapping[str, Rule], path: Path, context_turns: int) -> Snapshot:
    """Write the learnable pairs of the log to `path`, a dialogue file; whole or not at all.

    UsageError if it cannot be written.
    """
    found = store.learnable_pairs(policy, context_turns)
    pairs = tuple(found)
    try:
        _write(pairs, path)
    except OSError as error:
        raise UsageError(
            f"{path} cannot be written ({error.strerror}): name a file in a folder of yours with space left"
        ) from error
    ids = {row for pair in pairs for row in pair.message_ids}
    left_out = {str(reason): count for reason, count in found.left_out.items()}
    return Snapshot(path, pairs, tuple(sorted(ids)), sha256(path), left_out)


def _write(pairs: Sequence[LearnablePair], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    building = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with building.open("w", encoding="utf-8") as stream:
            for pair in pairs:
                record = {
                    "id": f"log-{pair.message_ids[-1]}",
                    "source": "log",
                    "license": "private",
                    "kind": pair.kind,
                    "message_ids": list(pair.message_ids),
                    "learn": "last",
                    "turns": [*pair.context, pair.reply],
                }
                stream.write(json.dumps(record, ensure_ascii=False) + "\n")
        building.replace(path)
    finally:
        building.unlink(missing_ok=True)
