"""The platforms people talk on. Each module turns its platform's events into messages, and replies into its calls."""

from __future__ import annotations

# Loaded on use: a terminal chat must not need another platform's library.
ADAPTERS: dict[str, str] = {
    "terminal": "adapters.terminal:TerminalAdapter",
    "telegram": "adapters.telegram:TelegramAdapter",
    "discord": "adapters.discord:DiscordAdapter",
}
ENTRY_POINTS = "familect.adapters"  # the group under which other packages bring adapters of their own
