"""The platforms people talk on. Each module turns its platform's events into messages, and replies into its calls."""

from __future__ import annotations

# Loaded on use: a terminal chat must not need another platform's library.
ADAPTERS: dict[str, str] = {"terminal": "adapters.terminal:TerminalAdapter"}
