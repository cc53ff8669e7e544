"""The log as a data set: the pairs that may be learnt from, with the ids of their rows, in one hashed file.

Whether a row may be learnt from is decided by `chatbot.learnable.may_learn` behind `learnable_pairs`, nowhere else.
What is let through is then sifted and scrubbed, in this copy alone: the log stays as it was said.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from chatbot.checkpoint import sha256
from chatbot.config import LearnSettings
from chatbot.errors import UsageError
from chatbot.learnable import LearnablePair
from chatbot.store import ConversationStore
from training.scrub import Scrubber, is_bare
from training.sifting import sift


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What was written: the pairs, every row id they hold, the file's hash, and its number among the data sets.

    `left_out` counts by reason what was not, `replaced` by kind the personal data that has a placeholder now;
    `permissions` are the platforms' that it rests on.
    """

    path: Path
    pairs: tuple[LearnablePair, ...]
    message_ids: tuple[int, ...]
    sha256: str
    dataset: int
    left_out: Mapping[str, int]
    replaced: Mapping[str, int]
    permissions: tuple[str, ...]


def export_pairs(
    store: ConversationStore, settings: LearnSettings, path: Path, context_turns: int, name: str, kept: bool = True
) -> Snapshot:
    """Write the learnable pairs of the log to `path`, a dialogue file, whole or not at all, as data set `name`.

    If the file is to be kept, it is remembered, so that what is forgotten later is taken out of it. UsageError if it
    cannot be written.
    """
    read_at = datetime.now(UTC)
    found = store.learnable_pairs(settings.policy, context_turns, settings.block)
    pairs, left_out = sift(found, settings)
    scrubber = Scrubber(settings.scrub, settings.names)
    scrubbed = _scrubbed(pairs, scrubber, left_out)
    if kept:
        store.remember_copy(path)
    try:
        _write(scrubbed, path, settings)
    except OSError as error:
        raise UsageError(
            f"{path} cannot be written ({error.strerror}): name a file in a folder of yours with space left"
        ) from error
    ids = tuple(sorted({row for pair in scrubbed for row in pair.message_ids}))
    digest = sha256(path)
    return Snapshot(
        path,
        tuple(scrubbed),
        ids,
        digest,
        store.create_dataset(name, digest, ids, read_at),
        {**{str(reason): count for reason, count in found.left_out.items()}, **left_out},
        dict(scrubber.replaced),
        _permissions(scrubbed, settings),
    )


def _scrubbed(pairs: Iterable[LearnablePair], scrubber: Scrubber, left_out: Counter[str]) -> list[LearnablePair]:
    """The pairs without personal data; those of which nothing else is left are counted."""
    result = []
    for pair in pairs:
        *context, reply = scrubber.turns((*pair.context, pair.reply))
        if is_bare(reply) and reply != pair.reply:
            left_out["nothing but personal data"] += 1
        else:
            result.append(replace(pair, context=tuple(context), reply=reply))
    return result


def _permissions(pairs: Iterable[LearnablePair], settings: LearnSettings) -> tuple[str, ...]:
    """The references to what the platforms of these pairs have permitted."""
    platforms = {pair.platform for pair in pairs}
    return tuple(sorted({found for platform in platforms if (found := settings.permission(platform)) is not None}))


def _write(pairs: Sequence[LearnablePair], path: Path, settings: LearnSettings) -> None:
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
                if permissions := _permissions([pair], settings):
                    record["permissions"] = permissions
                stream.write(json.dumps(record, ensure_ascii=False) + "\n")
        building.replace(path)
    finally:
        building.unlink(missing_ok=True)
