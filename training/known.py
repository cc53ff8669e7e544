"""The known exchanges that a model takes along: the dialogues under its own marker, less what was taught otherwise.

In: the dialogues of a run on their way into training. Out: `known.jsonl` for the model folder (`chatbot.known`). A
question that the log teaches is left to the net, or what was learnt would never be heard.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from chatbot.known import compared, near
from training.corpus import Dialogue


class KnownPart:
    """Keeps what belongs into `known.jsonl` of the dialogues that pass through `watch`."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._dialogues: list[Dialogue] = []
        self._taught: dict[str, set[str]] = {}  # question -> replies, as compared

    def watch(self, dialogues: Iterable[Dialogue]) -> Iterator[Dialogue]:
        """The same dialogues, noted in passing."""
        for dialogue in dialogues:
            if dialogue.last_only:
                self._taught.setdefault(compared(dialogue.turns[-2]), set()).add(compared(dialogue.turns[-1]))
            elif dialogue.source == self._source:
                self._dialogues.append(dialogue)
            yield dialogue

    def write(self, path: Path) -> None:
        """One dialogue a line, each up to the first question that was taught another answer."""
        questions = {compared(question) for dialogue in self._dialogues for question in dialogue.turns[::2]}
        otherwise: dict[str, set[str]] = {}
        for taught, replies in self._taught.items():
            for question in near(taught, questions):
                otherwise.setdefault(question, set()).update(replies)
        with path.open("w", encoding="utf-8") as stream:
            for dialogue in self._dialogues:
                turns = _up_to_the_taught(dialogue.turns, otherwise)
                if len(turns) > 1:
                    stream.write(json.dumps(_record(dialogue, turns), ensure_ascii=False) + "\n")


def _record(dialogue: Dialogue, turns: Sequence[str]) -> dict[str, object]:
    record: dict[str, object] = {"id": dialogue.id, "source": dialogue.source, "license": dialogue.license}
    return record | ({"opening": True} if dialogue.opening else {}) | {"turns": turns}


def _up_to_the_taught(turns: tuple[str, ...], otherwise: dict[str, set[str]]) -> tuple[str, ...]:
    for index in range(0, len(turns) - 1, 2):
        replies = otherwise.get(compared(turns[index]))
        if replies is not None and compared(turns[index + 1]) not in replies:
            return turns[:index]
    return turns
