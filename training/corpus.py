"""Dialogue files: JSONL, optionally compressed with zstd, read as a stream, one dialogue a line.

In: paths. Out: `Dialogue` values with cleaned turns, and a count of what was left out and why. It knows no tokens.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import zstandard

from chatbot.dialogue import Dialogue, parse_dialogue
from chatbot.errors import UsageError

__all__ = ["Dialogue", "ReadReport", "asked_otherwise", "held_out", "parse_dialogue", "read_dialogues"]

_MAX_LINE_BYTES = 16 * 2**20
_CHUNK_BYTES = 2**20
_SHOWN_PROBLEMS = 5
_ALSO_SHARE = 0.25  # of the epochs, for each other way to say a first turn


@dataclass(slots=True)
class ReadReport:
    """What a reading met; complete when the iterator is exhausted."""

    dialogues: int = 0
    turns: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def skip(self, where: str, reason: str) -> None:
        """Count a line that was left out and remember the first few for the report."""
        self.skipped[reason] += 1
        if len(self.problems) < _SHOWN_PROBLEMS:
            self.problems.append(f"{where}: {reason}")


def _chunks(path: Path) -> Iterator[bytes]:
    """The bytes of a plain or zstd file in pieces; UsageError where a compressed file is cut off."""
    with path.open("rb") as stream:
        frame = zstandard.ZstdDecompressor().decompressobj() if path.suffix == ".zst" else None
        whole = True
        while chunk := stream.read(_CHUNK_BYTES):
            if frame is None:
                yield chunk
                continue
            if frame.eof:  # the last frame ended with the last chunk
                frame = zstandard.ZstdDecompressor().decompressobj()
            yield frame.decompress(chunk)
            while frame.eof and (rest := frame.unused_data):  # several frames behind one another are one file
                frame = zstandard.ZstdDecompressor().decompressobj()
                yield frame.decompress(rest)
            whole = frame.eof
        if frame is not None and not whole:
            raise UsageError(f"{path} is cut off in the middle; fetch or compress it again")


def _lines(path: Path) -> Iterator[bytes]:
    pending = b""
    for chunk in _chunks(path):
        *whole, pending = (pending + chunk).split(b"\n")
        yield from whole
        if len(pending) > _MAX_LINE_BYTES:
            raise UsageError(f"{path} has a line of over {_MAX_LINE_BYTES >> 20} MiB; write one dialogue a line")
    if pending:
        yield pending


def read_dialogues(paths: Sequence[Path], report: ReadReport | None = None) -> Iterator[Dialogue]:
    """Stream the dialogues of `paths`; bad lines are counted in `report` and left out.

    UsageError if a file cannot be read, is cut off in the middle of its compression, or holds no dialogue at all.
    """
    report = report if report is not None else ReadReport()
    for path in paths:
        found, before = 0, len(report.problems)
        try:
            for number, line in enumerate(_lines(path), start=1):
                try:
                    text = line.decode("utf-8-sig" if number == 1 else "utf-8")
                    if not text.strip():
                        continue
                    dialogue = parse_dialogue(text)
                except UnicodeDecodeError:
                    report.skip(f"{path.name} line {number}", "not UTF-8")
                    continue
                except ValueError as error:
                    report.skip(f"{path.name} line {number}", str(error))
                    continue
                found += 1
                report.dialogues += 1
                report.turns += len(dialogue.turns)
                yield dialogue
        except OSError as error:
            raise UsageError(f"{path} cannot be read: {error.strerror}; check the path and its permissions") from error
        except zstandard.ZstdError as error:
            raise UsageError(f"{path} is damaged or not zstd: {error}; fetch or compress it again") from error
        if not found:
            detail = f" ({report.problems[before]})" if len(report.problems) > before else ""
            raise UsageError(
                f'{path} holds no dialogue{detail}; each line must be JSON like {{"turns": ["hi", "hello"]}}'
            )


def asked_otherwise(dialogue: Dialogue) -> Iterator[Dialogue]:
    """A first exchange for each other way to say the first turn (`also`): they weigh little, for the reply is one."""
    for question in () if dialogue.last_only else dialogue.also:
        yield replace(dialogue, turns=(question, dialogue.turns[1]), also=(), share=_ALSO_SHARE)


def held_out(dialogue_id: str, per_mille: int) -> bool:
    """Whether a dialogue belongs to the held-out part: decided by its id, whole, the same in every run."""
    return int.from_bytes(hashlib.sha256(dialogue_id.encode()).digest()[:4], "big") % 1000 < per_mille
