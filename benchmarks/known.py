"""Known exchanges: what a lookup costs among 30,000 questions, and how many other ways to ask are recognised.

Out: a section of Markdown. Of the shipped dialogues' `also` lines a quarter is held out and looked up among the rest.
"""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from chatbot.known import KnownDialogue, KnownExchanges, dialogues
from training.pipeline import shipped_dialogues

_QUESTIONS = 30_000
_QUICK_QUESTIONS = 300
_FORMS: Mapping[float, str] = {1.0: "the same words", 0.98: "the same gist", 0.96: "the same gist, slips mended"}


def section(quick: bool) -> str:
    """The tables of this file; `quick` takes few questions."""
    own = [dialogue for path in shipped_dialogues("dialogues") for dialogue in dialogues(path)]
    own = own[:: 20 if quick else 1]
    return f"{_costs(own, _QUICK_QUESTIONS if quick else _QUESTIONS)}\n\n{_recognised(own)}"


def _costs(own: Sequence[KnownDialogue], questions: int) -> str:
    lines = [" ".join(d.turns[0].split()) for d in own]
    asked = [f"{lines[n % len(lines)]} {n // len(lines) or ''}".strip() for n in range(questions)]
    with TemporaryDirectory() as temporary:
        path = Path(temporary) / "known.jsonl"
        _write(path, [KnownDialogue(str(n), (line, f"reply {n}")) for n, line in enumerate(asked)])
        made = _ms(lambda: KnownExchanges(path), 1)
        KnownExchanges(path).save_index()
        loaded = _ms(lambda: KnownExchanges(path), 5)
        known = KnownExchanges(path)
        known.answer([], "a frist lokup reads the words")
        sample = random.Random(1).sample(asked, min(100, len(asked)))
        found = _ms(lambda: [known.answer([], line) for line in sample], 1) / len(sample)
        unknown = _ms(lambda: [known.answer([], f"{line} unheard of") for line in sample], 1) / len(sample)
        near = _ms(lambda: [known.neighbours([], line, 3) for line in sample], 1) / len(sample)
    rows = [
        ("making the index, once, when a model is saved", made),
        ("loading it", loaded),
        ("a known question", found),
        ("an unknown one", unknown),
        ("three neighbours", near),
    ]
    table = "\n".join(f"| {name} | {value:.3g} |" for name, value in rows)
    return f"CPU time with {questions:,} questions:\n\n| what | ms |\n|---|---|\n{table}"


def _recognised(own: Sequence[KnownDialogue]) -> str:
    rng = random.Random(2)
    held = {d.id: [line for line in d.also if rng.random() < 0.25] for d in own}
    rest = [KnownDialogue(d.id, d.turns, d.opening, tuple(a for a in d.also if a not in held[d.id])) for d in own]
    with TemporaryDirectory() as temporary:
        path = Path(temporary) / "known.jsonl"
        _write(path, rest)
        known = KnownExchanges(path)
        lines = [line for others in held.values() for line in others]
        answers = [known.answer([], line) for line in lines]
    counts = Counter(_FORMS.get(found.similarity, "similar") for found in answers if found is not None)
    table = "\n".join(f"| {name} | {counts[name]} |" for name in (*_FORMS.values(), "similar"))
    return f"Of {len(lines)} other ways to ask, held out, were answered:\n\n| by | lines |\n|---|---|\n{table}"


def _write(path: Path, lines: Sequence[KnownDialogue]) -> None:
    with path.open("w", encoding="utf-8") as stream:
        for d in lines:
            record = {"id": d.id, "turns": d.turns, "also": d.also, "opening": d.opening}
            stream.write(json.dumps(record, ensure_ascii=False) + "\n")


def _ms(call: Callable[[], object], times: int) -> float:
    begin = time.process_time()
    for _ in range(times):
        call()
    return (time.process_time() - begin) * 1000 / times
