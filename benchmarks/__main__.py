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

_SECTIONS = ("reply", "train", "start", "importing")
_BEGIN, _END = "<!-- figures -->", "<!-- /figures -->"
_QUIET_LOAD = 0.5  # runnable threads, mean of the last minute


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and write if asked to; exit code 2 for wrong use."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure speed and memory.")
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"of {', '.join(_SECTIONS)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that everything runs, measures nothing")
    parser.add_argument("--write", type=Path, metavar="FILE", help="also put the tables between the marks in FILE")
    parsed = parser.parse_args(arguments)
    for name in parsed.sections:
        if name not in _SECTIONS:
            parser.error(f"there is no section {name!r}; known: {', '.join(_SECTIONS)}")
    if parsed.write and parsed.sections:
        parser.error("--write wants the figures of one run: leave the sections out")
    document = ""
    if parsed.write:
        try:
            document = parsed.write.read_text(encoding="utf-8")
        except OSError as error:
            parser.error(f"{parsed.write} cannot be read: {error.strerror}")
        if not document.partition(_BEGIN)[2].partition(_END)[1]:
            parser.error(f"{parsed.write} has no place for figures: add the lines {_BEGIN} and {_END}")
    parts = [machine(parsed.quick)]
    print(parts[0], flush=True)
    for name in parsed.sections or _SECTIONS:
        print(f"measuring: {name}", file=sys.stderr)
        # Imported only now: torch is not needed to say what is wrong, nor by `start`.
        parts.append(import_module(f"benchmarks.{name}").section(parsed.quick))
        print(f"\n{parts[-1]}", flush=True)
    if parsed.write:
        parsed.write.write_text(with_figures(document, "\n\n".join(parts)), encoding="utf-8")
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


def with_figures(document: str, figures: str) -> str:
    """`document` with what stands between its two marks replaced."""
    before, _, rest = document.partition(_BEGIN)
    after = rest.partition(_END)[2]
    return f"{before}{_BEGIN}\n{figures}\n{_END}{after}"


if __name__ == "__main__":
    sys.exit(main())
