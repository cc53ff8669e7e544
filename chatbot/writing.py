"""A text file that is there whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from chatbot.errors import UsageError


@contextmanager
def whole_file(path: Path) -> Iterator[TextIO]:
    """A stream for the content of `path`, which takes its name at the end; UsageError if it cannot be written."""
    building = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with building.open("w", encoding="utf-8", newline="\n") as stream:
                yield stream
            building.replace(path)
        finally:
            building.unlink(missing_ok=True)
    except OSError as error:
        raise UsageError(
            f"{path} cannot be written ({error.strerror}): name a file in a folder of yours with space left"
        ) from error
