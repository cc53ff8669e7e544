"""From files to the store: every file is looked into before anything is stored, then stored batch by batch.

That holds for talk of every format, and for our own log (`chatbot.archive`), whose lines are rows already.
"""

from __future__ import annotations

import gc
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chatbot.archive import EXPORTED, LOG_VERSION
from chatbot.errors import UsageError
from chatbot.importers.files import chunks, is_packed, text_lines
from chatbot.importers.formats import Format, verify_kind
from chatbot.importers.records import Report, Row, Skipped, Source
from chatbot.importers.talk import rows
from chatbot.store import ConversationStore

# A batch is one transaction. It ends at either bound, so that memory depends on neither the file nor its longest text.
_BATCH_ROWS = 5_000
_BATCH_CHARS = 4 * 2**20
_NEW_OBJECTS = 20_000  # after which Python looks for circles among them


@dataclass(slots=True)
class Brought:
    """What an import did: dialogues and turns that are new, and turns that were stored before."""

    dialogues: int = 0
    turns: int = 0
    before: int = 0


def preview(kind: Format, paths: Sequence[Path], report: Report) -> None:
    """Read all, store nothing."""
    for path in paths:
        for _ in _read(kind, path, report):
            pass


def look(kind: Format, paths: Sequence[Path]) -> None:
    """UsageError if one of the files cannot be used: unreadable, cut off, another format's, or without a dialogue."""
    for path in paths:
        _verify(path, kind.name)
        report = Report()
        if next(_read(kind, path, report), None) is None:
            detail = f" ({report.problems[0]})" if report.problems else ""
            raise UsageError(f"{path} holds no dialogue{detail}: docs/importing.md shows what {kind.name} looks like")


def bring_in(
    store: ConversationStore, kind: Format, paths: Sequence[Path], declaration: str | None, report: Report
) -> Brought:
    """Store all that can be read; what `look` refuses should not get here. What was stored before stays as it is.

    One batch is stored while the next is read: much of the time of storing is waiting for the disk.
    """
    brought = Brought()

    def store_batch(batch: int, rows_: Sequence[Row]) -> None:
        added = store.add_imported(batch, kind.platform, kind.thread, rows_)
        brought.dialogues += added.dialogues
        brought.turns += added.turns
        brought.before += added.before

    with _collecting_seldom(), ThreadPoolExecutor(max_workers=1) as storing:
        for path in paths:
            batch = store.record_import(path.name, declaration)
            last: Future[None] | None = None
            for rows_ in _batches(_read(kind, path, report)):
                if last is not None:
                    last.result()
                last = storing.submit(store_batch, batch, rows_)
            if last is not None:
                last.result()
    return brought


@contextmanager
def _collecting_seldom() -> Iterator[None]:
    """Rows are no circles, and to look for some at every 700 new objects takes a fifth of the time of an import."""
    before = gc.get_threshold()
    gc.set_threshold(_NEW_OBJECTS, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _batches(found: Iterator[Row]) -> Iterator[list[Row]]:
    batch: list[Row] = []
    size = 0
    for row in found:
        batch.append(row)
        size += len(row.text)
        if len(batch) >= _BATCH_ROWS or size >= _BATCH_CHARS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _read(kind: Format, path: Path, report: Report) -> Iterator[Row]:
    source = Source(path)
    yield from rows(kind.read(source), kind.name, path.name, report)
    if source.dialect and source.dialect not in report.dialects:
        report.dialects.append(source.dialect)


def _verify(path: Path, asked: str) -> None:
    verify_kind(path, asked)
    if is_packed(path):
        for _ in chunks(path):
            pass  # whether it is cut off shows only at its end


def look_log(paths: Sequence[Path]) -> None:
    """UsageError if one of the files is not a log that this program can put back."""
    for path in paths:
        _verify(path, "log")
        head = next((line for _, line in text_lines(path)), "")
        try:
            version = json.loads(head)["familect_log"] if isinstance(head, str) else None
        except (ValueError, KeyError, TypeError, RecursionError):
            version = None
        if version != LOG_VERSION:
            raise UsageError(
                f"{path} does not begin like a log of version {LOG_VERSION}: name a file that"
                " `chatbot export --format log` wrote"
            )


def read_log(store: ConversationStore | None, path: Path, report: Report) -> Counter[str]:
    """Put a log back, or without a store only read it; how many lines of each kind are new, or were read."""
    new: Counter[str] = Counter()
    restoring = store.begin_restore() if store is not None else None
    for kind, records in _log_batches(path, report):
        if store is None or restoring is None:
            new[kind] += len(records)
            continue
        count, wrong = store.restore(restoring, kind, records)
        new[kind] += count
        for line, reason in wrong.items():
            report.skip(path.name, Skipped(line, reason))
    return new


_Lines = list[tuple[int, Mapping[str, Any]]]


def _log_batches(path: Path, report: Report) -> Iterator[tuple[str, _Lines]]:
    """Lines of one kind that follow each other, with their numbers."""
    batch: _Lines = []
    kind, size = "", 0
    for number, line in text_lines(path):
        if number == 1:
            continue
        record = line if isinstance(line, Skipped) else _record(number, line)
        if isinstance(record, Skipped):
            report.skip(path.name, record)
            continue
        if batch and (record["kind"] != kind or len(batch) >= _BATCH_ROWS or size >= _BATCH_CHARS):
            yield kind, batch
            batch, size = [], 0
        kind = record["kind"]
        batch.append((number, record))
        size += len(line) if isinstance(line, str) else 0
    if batch:
        yield kind, batch


def _record(number: int, line: str) -> Mapping[str, Any] | Skipped:
    try:
        record = json.loads(line)
    except RecursionError:
        return Skipped(number, "nested too deeply")
    except ValueError:
        return Skipped(number, "not JSON")
    if not isinstance(record, dict) or record.get("kind") not in (*EXPORTED, "reset"):
        return Skipped(number, "not a line of the log")
    return record
