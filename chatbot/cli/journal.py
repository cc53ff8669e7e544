"""The log of a program that runs on its own: lines on stderr, without any secret of the environment."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

_SECRET = ("_TOKEN", "_SECRET", "_PASSWORD")
_SHORTEST = 6  # characters of a secret; shorter ones occur by chance


class WithoutSecrets(logging.Formatter):
    """Formats a record, its traceback included, and blots out each of `secrets`."""

    def __init__(self, format: str, secrets: frozenset[str]) -> None:
        super().__init__(format)
        self._secrets = sorted(secrets, key=len, reverse=True)

    def format(self, record: logging.LogRecord) -> str:
        """One record as text."""
        text = super().format(record)
        for secret in self._secrets:
            text = text.replace(secret, "<secret>")
        return text


def secrets() -> frozenset[str]:
    """What must not be shown: the environment's tokens, and the contents of the files that it names for them."""
    found = set()
    for name, value in os.environ.items():
        if name.endswith(_SECRET):
            found.add(value.strip())
        elif name.removesuffix("_FILE").endswith(_SECRET):
            try:
                found.add(Path(value).read_text("utf-8").strip())
            except (OSError, ValueError):
                continue  # Whoever needs it will say so.
    return frozenset(secret for secret in found if len(secret) >= _SHORTEST)


def log_to_stderr() -> None:
    """Show warnings and errors on stderr."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    _format("%(levelname)s %(name)s: %(message)s")


def tell_all() -> None:
    """Show all that our own modules tell, with the time. httpx tells URLs, with Telegram's token: not what it tells."""
    _format("%(asctime)s %(levelname)s %(name)s: %(message)s")
    for name in ("adapters", "chatbot"):
        logging.getLogger(name).setLevel(logging.INFO)
    for name in ("httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)


def _format(lines: str) -> None:
    formatter = WithoutSecrets(lines, secrets())
    for handler in logging.getLogger().handlers:
        handler.setFormatter(formatter)
