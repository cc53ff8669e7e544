"""The log as a data set: the pairs that may be learnt from, with the ids of their rows, in one hashed file.

Whether a row may be learnt from is decided by `chatbot.learnable.may_learn` behind `learnable_pairs`, nowhere else.
What is let through is then sifted and scrubbed, in this copy alone: the log stays as it was said.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from chatbot.config import LearnSettings
from chatbot.learnable import LearnablePair
from chatbot.store import ConversationStore
from chatbot.text import clean
from chatbot.writing import whole_file
from training.scrub import Scrubber, is_bare
from training.sifting import sift


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What was written: how many pairs, the file's hash, and its number among the data sets.

    `left_out` counts by reason what was not, `replaced` by kind the personal data that has a placeholder now;
    `permissions` are the platforms' that it rests on.
    """

    path: Path
    pairs: int
    sha256: str
    dataset: int
    left_out: Mapping[str, int]
    replaced: Mapping[str, int]
    permissions: tuple[str, ...]


def export_pairs(
    store: ConversationStore,
    settings: LearnSettings,
    path: Path,
    context_turns: int,
    name: str,
    kept: bool = True,
    form: str = "jsonl",
    told: Callable[[LearnablePair], object] = lambda pair: None,
) -> Snapshot:
    """Write the learnable pairs of the log to `path`, whole or not at all, as data set `name`.

    `form` is jsonl, a dialogue file, or sharegpt, tsv or conv; `told` is given every pair as it is written. If the file
    is to be kept, it is remembered, so that what is forgotten later is taken out of it; where its lines do not tell
    their rows, so that it is named and can be deleted. UsageError if the file cannot be written.

    The newest pairs decide which others are too much, so the log is read twice: to judge, which holds a few bytes of
    each pair (`sift`), and to write one pair after the other. What may not be learnt from any more by then is not
    written, nor what is said after the first reading.
    """
    read_at = datetime.now(UTC)
    door = (settings.policy, context_turns, settings.block)
    sifting = sift(store.learnable_pairs(*door), settings)
    found, left_out = store.learnable_pairs(*door), sifting.left_out
    scrubber = Scrubber(settings.scrub, settings.names)
    pairs = _scrubbed((pair for pair in found if pair in sifting), scrubber, left_out)
    cleanable = form == "jsonl"
    if kept and cleanable:
        store.remember_copy(path)
    written = _Written(settings, _FORMS[form], told)
    written.write(pairs, path)
    if kept and not cleanable:
        store.remember_copy(path, whole=True)
    digest = written.digest.hexdigest()
    return Snapshot(
        path,
        written.count,
        digest,
        store.create_dataset(name, digest, written.rows(), read_at),
        {**{str(reason): count for reason, count in found.left_out.items()}, **left_out},
        dict(scrubber.replaced),
        _permissions(written.platforms, settings),
    )


def _scrubbed(pairs: Iterable[LearnablePair], scrubber: Scrubber, left_out: Counter[str]) -> Iterator[LearnablePair]:
    """The pairs without personal data; those of which nothing else is left are counted."""
    for pair in pairs:
        *context, reply = scrubber.turns((*pair.context, pair.reply))
        if is_bare(reply) and reply != pair.reply:
            left_out["nothing but personal data"] += 1
        else:
            yield replace(pair, context=tuple(context), reply=reply)


def _permissions(platforms: Iterable[str], settings: LearnSettings) -> tuple[str, ...]:
    """The references to what these platforms have permitted."""
    return tuple(sorted({found for platform in platforms if (found := settings.permission(platform)) is not None}))


# A pair, and the references to what its platform has permitted, as a line or several.
_Form = Callable[[LearnablePair, Sequence[str]], str]


class _Written:
    """What is kept of the pairs as they go out: their number, hash, platforms, and a byte for each row there is."""

    def __init__(self, settings: LearnSettings, form: _Form, told: Callable[[LearnablePair], object]) -> None:
        self.count = 0
        self.digest = hashlib.sha256()
        self.platforms: set[str] = set()
        self._rows = bytearray()
        self._settings = settings
        self._form = form
        self._told = told

    def write(self, pairs: Iterable[LearnablePair], path: Path) -> None:
        with whole_file(path) as stream:
            for pair in pairs:
                line = self._form(pair, _permissions([pair.platform], self._settings)) + "\n"
                self.digest.update(line.encode())
                stream.write(line)
                self._note(pair)

    def rows(self) -> Iterator[int]:
        """The rows that the pairs hold, each once, in order."""
        return (row for row, held in enumerate(self._rows) if held)

    def _note(self, pair: LearnablePair) -> None:
        self.count += 1
        self.platforms.add(pair.platform)
        self._rows.extend(bytes(max(0, max(pair.message_ids) + 1 - len(self._rows))))
        for row in pair.message_ids:
            self._rows[row] = True
        self._told(pair)


def _as_dialogue(pair: LearnablePair, permissions: Sequence[str]) -> str:
    record: dict[str, object] = {
        "id": f"log-{pair.message_ids[-1]}",
        "source": "log",
        "license": "private",
        "kind": pair.kind,
        "message_ids": list(pair.message_ids),
        "learn": "last",
        "turns": [*pair.context, pair.reply],
    }
    if permissions:
        record["permissions"] = list(permissions)
    return json.dumps(record, ensure_ascii=False)


def _as_sharegpt(pair: LearnablePair, _: Sequence[str]) -> str:
    """The reply is the assistant's, and so is every second turn before it."""
    turns = [*pair.context, pair.reply]
    sides = ("gpt", "human")
    said = [{"from": sides[(len(turns) - 1 - place) % 2], "value": turn} for place, turn in enumerate(turns)]
    return json.dumps({"id": f"log-{pair.message_ids[-1]}", "conversations": said}, ensure_ascii=False)


def _as_tsv(pair: LearnablePair, _: Sequence[str]) -> str:
    """What was said last, a tab, the reply; white space folded, for a cell has no lines."""
    return f"{clean(pair.context[-1])}\t{clean(pair.reply)}"


def _as_conv(pair: LearnablePair, _: Sequence[str]) -> str:
    return "\n".join(["E", *(f"M {clean(turn)}" for turn in (*pair.context, pair.reply))])


_FORMS: Mapping[str, _Form] = {
    "jsonl": _as_dialogue,
    "sharegpt": _as_sharegpt,
    "tsv": _as_tsv,
    "conv": _as_conv,
}
