"""The known exchanges that a model takes along: the dialogues under its own marker, less what was taught otherwise.

In: the dialogues of a run on their way into training. Out: `known.jsonl` for the model folder (`chatbot.known`). A
question that the log teaches is left to the net, or what was learnt would never be heard.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence, Set
from pathlib import Path

from chatbot.known import KnownExchanges
from chatbot.matching import compared, forms
from training.corpus import Dialogue


class KnownPart:
    """Keeps what belongs into `known.jsonl` of the dialogues that pass through `watch`."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._dialogues: list[Dialogue] = []
        self._questions: dict[str, set[str]] = {}  # taught -> replies, as compared
        self._taught: dict[str, set[str]] = {}  # the same by the forms of a question

    def watch(self, dialogues: Iterable[Dialogue]) -> Iterator[Dialogue]:
        """The same dialogues, noted in passing."""
        for dialogue in dialogues:
            if dialogue.last_only:
                question, reply = dialogue.turns[-2], compared(dialogue.turns[-1])
                self._questions.setdefault(question, set()).add(reply)
                for form in forms(question):
                    self._taught.setdefault(form, set()).add(reply)
            elif dialogue.source == self._source:
                self._dialogues.append(dialogue)
            yield dialogue

    def write(self, path: Path) -> None:
        """One dialogue a line, each up to the first question that was taught another answer."""
        struck: set[str] = set()
        while True:
            self._write(path, struck)
            if not self._dialogues or not (in_the_way := self._in_the_way(KnownExchanges(path))):
                return
            struck |= in_the_way

    def _write(self, path: Path, struck: Set[str]) -> None:
        with path.open("w", encoding="utf-8") as stream:
            for dialogue in self._dialogues:
                turns = self._up_to_the_taught(dialogue.turns)
                if len(turns) > 1 and dialogue.id not in struck:
                    also = [line for line in dialogue.also if not self._otherwise(line, turns[1])]
                    stream.write(json.dumps(_record(dialogue, turns, also), ensure_ascii=False) + "\n")

    def _in_the_way(self, known: KnownExchanges) -> set[str]:
        """Dialogues whose first line is so near a taught question that it would still be taken for it."""
        return {
            found.dialogue
            for question, replies in self._questions.items()
            for found in known.all(question)
            if compared(found.text) not in replies
        }

    def _up_to_the_taught(self, turns: tuple[str, ...]) -> tuple[str, ...]:
        for index in range(0, len(turns) - 1, 2):
            if self._otherwise(turns[index], turns[index + 1]):
                return turns[:index]
        return turns

    def _otherwise(self, question: str, reply: str) -> bool:
        """Whether `question` was taught other replies than this one."""
        replies = set().union(*(self._taught.get(form, ()) for form in forms(question))) if self._taught else set()
        return bool(replies) and compared(reply) not in replies


def _record(dialogue: Dialogue, turns: Sequence[str], also: Sequence[str]) -> dict[str, object]:
    record: dict[str, object] = {"id": dialogue.id, "source": dialogue.source, "license": dialogue.license}
    record |= {"opening": True} if dialogue.opening else {}
    return record | {"turns": turns} | ({"also": also} if also else {})
