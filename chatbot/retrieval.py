"""Answers by the nearest known question: an engine without a model, and a yardstick for those with one.

In: a dialogue file, or the dialogues shipped beside the training package. Out: the reply that followed the nearest
first-speaker turn. It looks at the text alone, not at the history.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from rapidfuzz import fuzz, process

from chatbot.errors import UsageError
from chatbot.known import dialogues
from chatbot.matching import compared
from chatbot.messages import Reply


class RetrievalEngine:
    """An `Engine` over the dialogues of `paths`, or the shipped ones; UsageError names the file and line at fault."""

    model_id = "retrieval"

    def __init__(self, paths: Sequence[Path] | None = None) -> None:
        self._answers: dict[str, tuple[str, str]] = {}  # question as compared -> (reply, dialogue id)
        for path in paths or _shipped():
            for dialogue in dialogues(path):
                turns = dialogue.turns
                asked = [*zip(turns[::2], turns[1::2], strict=False), *((also, turns[1]) for also in dialogue.also)]
                for question, reply in asked:
                    self._answers.setdefault(compared(question), (reply, dialogue.id))
        if not self._answers:
            raise UsageError("there are no dialogues to answer from; name a file: --model retrieval:PATH")

    async def reply(
        self,
        history: Sequence[str],
        text: str,
        *,
        seed: int | None = None,
        options: Mapping[str, object] | None = None,
    ) -> Reply:
        """As `reply_sync`, in another thread: a file may hold a million questions."""
        return await asyncio.to_thread(self.reply_sync, history, text, seed=seed, options=options)

    def reply_sync(
        self,
        history: Sequence[str],
        text: str,
        *,
        seed: int | None = None,
        options: Mapping[str, object] | None = None,
    ) -> Reply:
        """The reply to the nearest question; `score` from 0 to 1, `detail` the id of its dialogue."""
        started = time.perf_counter()
        # Levenshtein's without substitution, of whole texts: scorers that match parts or sets of words would find "how
        # old are you" in any question that holds those words.
        nearest, similarity, *_ = process.extractOne(compared(text), self._answers.keys(), scorer=fuzz.ratio)
        answer, name = self._answers[nearest]
        return Reply(
            text=answer,
            model_id=self.model_id,
            engine="retrieval",
            score=similarity / 100,
            duration_ms=(time.perf_counter() - started) * 1000,
            detail=name,
        )

    def close(self) -> None:
        """Nothing to release."""


def _shipped() -> list[Path]:
    """The dialogue files beside the training package, which is looked up but not imported."""
    spec = find_spec("training")
    folders = (spec.submodule_search_locations or []) if spec else []
    return [path for folder in folders for path in sorted((Path(folder) / "data").glob("dialogues.*.jsonl*"))]
