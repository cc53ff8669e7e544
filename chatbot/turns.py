"""From logged rows to alternating turns. Pure; knows no database."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

# A turn may be several rows; this many rows are looked at for each turn asked for.
ROWS_PER_TURN = 4


@dataclass(frozen=True, slots=True)
class Turn:
    """What one side said before the other spoke. `own` is the side whose next words are wanted."""

    own: bool
    text: str
    message_ids: tuple[int, ...]


def merge_turns(rows: Iterable[tuple[bool, str, int]]) -> list[Turn]:
    """Rows of (own, text, message id) in order -> turns whose sides alternate, neighbours joined by a newline."""
    turns: list[Turn] = []
    for own, text, message_id in rows:
        if turns and turns[-1].own == own:
            last = turns.pop()
            turns.append(Turn(own, f"{last.text}\n{text}", (*last.message_ids, message_id)))
        else:
            turns.append(Turn(own, text, (message_id,)))
    return turns
