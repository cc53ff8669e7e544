"""Answers by the nearest known question: an engine without a model, and a yardstick for those with one.

In: a dialogue file, or the dialogues shipped beside the training package. Out: the reply that followed the nearest
first-speaker turn. It looks at the text alone, not at the history.
"""

from __future__ import annotations

import asyncio
import json
import time
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import zstandard
from rapidfuzz import fuzz, process

from chatbot.errors import UsageError
from chatbot.messages import Reply
from chatbot.text import clean

_LONGEST_QUESTION = 300  # characters that are compared: a longer line is nobody's known question


class RetrievalEngine:
    """An `Engine` over the dialogues of `paths`, or the shipped ones; UsageError names the file and line at fault."""

    model_id = "retrieval"

    def __init__(self, paths: Sequence[Path] | None = None) -> None:
        self._answers: dict[str, tuple[str, str]] = {}  # question as compared -> (reply, dialogue id)
        for path in paths or _shipped():
            for name, turns in _dialogues(path):
                for question, reply in zip(turns[::2], turns[1::2], strict=False):
                    self._answers.setdefault(_compared(question), (reply, name))
        if not self._answers:
            raise UsageError("there are no dialogues to answer from; name a file: --model retrieval:PATH")
        self._questions = list(self._answers)

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
        """The reply to the nearest question; `score` from 0 to 1, `detail` the id of its dialogue.

        The similarity is of whole texts (Levenshtein's without substitution): scorers that match parts or sets of
        words would find "how old are you" in any question that holds those words.
        """
        started = time.perf_counter()
        best, score, _ = process.extractOne(_compared(text), self._questions, scorer=fuzz.ratio)
        answer, name = self._answers[best]
        return Reply(
            text=answer,
            model_id=self.model_id,
            engine="retrieval",
            score=score / 100,
            duration_ms=(time.perf_counter() - started) * 1000,
            detail=name,
        )

    def close(self) -> None:
        """Nothing to release."""


def _compared(text: str) -> str:
    """What of a question is compared: no case, no full-width forms, no punctuation unless there is nothing else."""
    folded = unicodedata.normalize("NFKC", clean(text[-_LONGEST_QUESTION:])).casefold()
    words = "".join(" " if unicodedata.category(c).startswith("P") and c != "'" else c for c in folded)
    return " ".join(words.split()) or folded


def _shipped() -> list[Path]:
    """The dialogue files beside the training package, which is looked up but not imported."""
    spec = find_spec("training")
    folders = (spec.submodule_search_locations or []) if spec else []
    return [path for folder in folders for path in sorted((Path(folder) / "data").glob("dialogues.*.jsonl*"))]


def _dialogues(path: Path) -> Iterator[tuple[str, list[str]]]:
    """(id, turns) of each line of a JSONL file, plain or .zst."""
    number = 0
    try:
        packed = path.suffix == ".zst"
        with zstandard.open(path, "rt", encoding="utf-8-sig") if packed else path.open(encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield _dialogue(line, f"{path} line {number}")
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}; check the path and its permissions") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 text after line {number}; save it as UTF-8") from error
    except zstandard.ZstdError as error:
        raise UsageError(f"{path} is damaged or not zstd: {error}; fetch or compress it again") from error


def _dialogue(line: str, where: str) -> tuple[str, list[str]]:
    try:
        record: Any = json.loads(line)
        turns = [clean(turn) for turn in record["turns"] if isinstance(turn, str)]
        sound = len(turns) == len(record["turns"]) and len(turns) > 1 and all(turns)
    except (ValueError, TypeError, KeyError, RecursionError):
        sound = False
    if not sound:
        raise UsageError(f'{where} is no dialogue; it must be JSON like {{"turns": ["hi", "hello"]}}, no turn empty')
    return str(record.get("id", where)), turns
