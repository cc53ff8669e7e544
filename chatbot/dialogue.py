"""One line of a dialogue file as a value: docs/dialogue-format.md. It knows no files and no tokens."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from chatbot.text import clean


@dataclass(frozen=True, slots=True)
class Dialogue:
    """One conversation: at least two turns, speakers alternating; `source` is its persona where it has one.

    Of a dialogue with `last_only` (key "learn": "last") only the last turn is a target: the rest is context, such as
    replies of the bot that nobody vouched for. An `opening` begins with words that lean on the talk before them
    anywhere but at its start (see `chatbot.known`). `also` are other ways to say the first turn. Of the epochs of a
    training it takes part in a `share`. `permissions` are references to what platforms have permitted.
    """

    id: str
    source: str
    license: str
    turns: tuple[str, ...]
    quality: float | None = None
    last_only: bool = False
    opening: bool = False
    permissions: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    share: float = 1.0


def _name(value: object) -> str:
    """A text or number as a label that every file and database takes; anything else is no label: ""."""
    return clean(str(value)) if isinstance(value, str | int) else ""


def parse_dialogue(line: str) -> Dialogue:
    """One line of a dialogue file; ValueError says in plain words what is wrong with it."""
    try:
        record: Any = json.loads(line)
    except ValueError:
        raise ValueError("not JSON") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(record, dict):
        raise ValueError("not a JSON object")
    turns = record.get("turns")
    if not isinstance(turns, list) or not all(isinstance(turn, str) for turn in turns):
        raise ValueError('"turns" is not a list of texts')
    cleaned = tuple(clean(turn) for turn in turns)
    if len(cleaned) < 2 or not all(cleaned):
        raise ValueError("fewer than two turns, or an empty one")
    also = record.get("also")
    tags = record.get("tags")
    personas = [t for t in tags if isinstance(t, str) and t.startswith("persona:")] if isinstance(tags, list) else []
    permissions = record.get("permissions")
    quality = record.get("q")
    if isinstance(quality, int) and abs(quality) >= 2**63:
        raise ValueError('"q" is not a sensible number')
    return Dialogue(
        id=_name(record.get("id")) or hashlib.sha256("\n".join(cleaned).encode()).hexdigest()[:16],
        source=_name(personas[0] if personas else record.get("source")) or "other",
        license=_name(record.get("license")) or "unknown",
        turns=cleaned,
        quality=float(quality) if isinstance(quality, int | float) else None,
        last_only=record.get("learn") == "last",
        opening=record.get("opening") is True,
        also=tuple(filter(None, (clean(t) for t in also if isinstance(t, str)))) if isinstance(also, list) else (),
        permissions=tuple(clean(p) for p in permissions if isinstance(p, str)) if isinstance(permissions, list) else (),
    )
