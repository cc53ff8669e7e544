"""How fast a chat comes in and goes out, where the time of an import goes, and whether its memory grows with the file.

Out: a section of Markdown. Each size is measured in a process of its own, in a home folder of its own, by the functions
behind `chatbot import telegram` and `chatbot export`.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

_SIZES = (10_000, 1_000_000)
_QUICK_SIZES = (100, 1_000)
_PEOPLE = 5
_WORDS = ("the", "cat", "soup", "lunch", "tomorrow", "maybe", "yes", "no", "where", "when", "you", "we", "go", "see")
_PATIENCE_S = 3600


def section(quick: bool) -> str:
    """The tables of this file; `quick` takes small files."""
    found = []
    for size in _QUICK_SIZES if quick else _SIZES:
        with TemporaryDirectory() as temporary:
            environment = {**os.environ, "CHATBOT_HOME": temporary}
            for name in ("CHATBOT_CONFIG", "CHATBOT_DATABASE_URL"):
                environment.pop(name, None)
            write_export(Path(temporary) / "result.json", size)
            code = f"from benchmarks.importing import measure; measure({temporary!r})"
            done = subprocess.run(
                [sys.executable, "-c", code],
                env=environment,
                check=True,
                stdout=subprocess.PIPE,
                text=True,
                timeout=_PATIENCE_S,
            )
            found.append((size, json.loads(done.stdout)))
    return _tables(found)


def write_export(path: Path, messages: int) -> None:
    """A Telegram Desktop export of a talkative group, as it is written there, of about 320 bytes a message."""
    dice = random.Random(7)
    moment = 1_700_000_000
    with path.open("w", encoding="utf-8") as file:
        file.write('{\n "name": "Kitchen",\n "type": "private_supergroup",\n "id": 1234567,\n "messages": [\n')
        for number in range(1, messages + 1):
            moment += dice.choice((20, 60, 400, 4000))
            who, text = dice.randrange(_PEOPLE), " ".join(dice.choices(_WORDS, k=dice.randrange(2, 14)))
            said: dict[str, object] = {"id": number, "type": "message", "date": "2023-11-14T22:13:20"}
            said |= {"date_unixtime": str(moment), "from": f"Person {who}", "from_id": f"user{100 + who}"}
            if number > _PEOPLE and dice.random() < 0.2:
                said["reply_to_message_id"] = number - dice.randrange(1, _PEOPLE)
            said |= {"text": text, "text_entities": [{"type": "plain", "text": text}]}
            end = "" if number == messages else ","
            file.write("  " + json.dumps(said, indent=1).replace("\n", "\n  ") + end + "\n")
        file.write(" ]\n}\n")


def measure(folder: str) -> None:
    """In a process of its own: seconds of each step, and the peak of the memory after it, as JSON on stdout."""
    from chatbot.cli.opening import make_home, open_store
    from chatbot.config import LearnSettings, database_url
    from chatbot.importers.bringing import bring_in, preview
    from chatbot.importers.formats import FORMATS
    from chatbot.importers.records import Report, Source
    from chatbot.schema import upgrade
    from training.export import export_pairs

    kind, path = FORMATS["telegram"], Path(folder) / "result.json"
    make_home()
    upgrade(database_url())
    store = open_store()
    steps: dict[str, Callable[[], object]] = {
        "reading": lambda: sum(1 for _ in kind.read(Source(path))),
        "preview": lambda: preview(kind, [path], Report()),
        "import": lambda: bring_in(store, kind, [path], "a benchmark", Report()),
        "import again": lambda: bring_in(store, kind, [path], "a benchmark", Report()),
    }
    found = {name: _timed(name, step) for name, step in steps.items()}
    with open(os.devnull, "w", encoding="utf-8") as out:

        def write_log() -> None:
            for _, record in store.dump():
                out.write(json.dumps(record, ensure_ascii=False) + "\n")

        found["export --format log"] = _timed("export --format log", write_log)
    pairs = Path(folder) / "pairs.jsonl"
    found["export"] = _timed(
        "export", lambda: export_pairs(store, LearnSettings(), pairs, 6, name="export", kept=False)
    )
    store.close()
    print(json.dumps(found))


def _timed(name: str, step: Callable[[], object]) -> tuple[float, float, float]:
    """Seconds, those of the processor, and the most physical memory that this process has held by then, in MB."""
    from benchmarks.start import peak_mb

    begin, worked = time.perf_counter(), time.process_time()
    step()
    seconds, worked = time.perf_counter() - begin, time.process_time() - worked
    print(f"  {name}: {seconds:.0f} s", file=sys.stderr)
    return seconds, worked, peak_mb(os.getpid())


def _tables(found: list[tuple[int, dict[str, tuple[float, float, float]]]]) -> str:
    (small, few), (large, many) = found
    work = {name: 1e6 * worked / large for name, (_, worked, _) in many.items()}
    lines = [
        "### Import and export",
        "",
        "A Telegram export of one group, SQLite. Peak memory is that of the process so far, step after step.",
        "",
        f"| step | {small:,} messages, messages/s | peak MB | {large:,} messages, messages/s | processor µs a message "
        "| peak MB |",
        "|---|--:|--:|--:|--:|--:|",
        *(
            f"| {name} | {small / few[name][0]:,.0f} | {few[name][2]:.0f} | {large / seconds:,.0f} | {work[name]:.1f} "
            f"| {peak:.0f} |"
            for name, (seconds, _, peak) in many.items()
        ),
        "",
        f"Where the processor's time of the large import goes: reading JSON {work['reading'] / work['import']:.0%}, "
        f"who answers whom {(work['preview'] - work['reading']) / work['import']:.0%}, "
        f"the database {(work['import'] - work['preview']) / work['import']:.0%}.",
        f"Peak memory of {large:,} messages against {small:,}: {many['import'][2] / few['import'][2]:.2f} times.",
    ]
    return "\n".join(lines)
