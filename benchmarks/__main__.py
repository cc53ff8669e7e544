"""`python -m benchmarks`: every table, or the ones named, as Markdown on stdout."""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

_SECTIONS = ("reply", "train", "start", "delivery", "storage", "importing", "known")
_QUIET_LOAD = 0.5  # runnable threads, mean of the last minute


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and write if asked to; exit code 2 for wrong use."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure speed and memory.")
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"of {', '.join(_SECTIONS)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that everything runs, measures nothing")
    parser.add_argument("--write", type=Path, metavar="FILE", help="also put each table between its marks in FILE")
    parser.add_argument(
        "--database", metavar="URL", help="of an empty database on a server, which storage measures in place of SQLite"
    )
    parser.add_argument("--million", action="store_true", help="for train: its data grows to a million pairs")
    parsed = parser.parse_args(arguments)
    sections = parsed.sections or _SECTIONS
    for name in sections:
        if name not in _SECTIONS:
            parser.error(f"there is no section {name!r}; known: {', '.join(_SECTIONS)}")
    if parsed.database and list(sections) != ["storage"]:
        parser.error("--database is for `storage` alone")
    if parsed.million and list(sections) != ["train"]:
        parser.error("--million is for `train` alone")
    extra = [each for each in (parsed.database, parsed.million) if each]
    blocks = {name: "storage-postgresql" if parsed.database else name for name in sections}
    if parsed.write:
        try:
            document = parsed.write.read_text(encoding="utf-8")
        except OSError as error:
            parser.error(f"{parsed.write} cannot be read: {error.strerror}")
        for block in blocks.values():
            begin, end = marks(block)
            if not document.partition(begin)[2].partition(end)[1]:
                parser.error(f"{parsed.write} has no place for figures: add the lines {begin} and {end}")
    for name in sections:
        print(f"measuring: {name}", file=sys.stderr)
        on = machine(parsed.quick)
        # Imported only now: torch is not needed to say what is wrong, nor by `start` and `storage`.
        module = import_module(f"benchmarks.{name}")
        figures = module.section(parsed.quick, *extra)
        print(f"{on}\n\n{figures}\n", flush=True)
        if parsed.write:
            document = parsed.write.read_text(encoding="utf-8")
            parsed.write.write_text(with_figures(document, blocks[name], f"{on}\n\n{figures}"), encoding="utf-8")
    return 0


def machine(quick: bool) -> str:
    """One paragraph: when, on what, and whether the figures can be trusted."""
    load = os.getloadavg()[0]
    lines = [
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {_processor()}, {os.cpu_count()} cores, Python "
        f"{platform.python_version()}, torch {version('torch')}, load average {load:.2f} before the run."
    ]
    if load > _QUIET_LOAD:
        lines.append("**Another process was busy: torch may be several times slower than on a quiet machine.**")
    if quick:
        lines.append("**A quick run: tiny models and few repetitions; these figures say nothing about speed.**")
    return "\n".join(lines)


def _processor() -> str:
    """The model of the CPU, as far as the system tells."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def marks(block: str) -> tuple[str, str]:
    """The lines of a document between which the figures of a benchmark stand."""
    return f"<!-- figures: {block} -->", f"<!-- /figures: {block} -->"


def with_figures(document: str, block: str, figures: str) -> str:
    """`document` with what stands between the two marks of a benchmark replaced."""
    begin, end = marks(block)
    before, _, rest = document.partition(begin)
    after = rest.partition(end)[2]
    return f"{before}{begin}\n{figures}\n{end}{after}"


if __name__ == "__main__":
    sys.exit(main())
