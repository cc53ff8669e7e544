"""The section `telegram` of the configuration, checked, and what operators are told of two who take the updates."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from chatbot.errors import UsageError

# What Telegram's 409 means, by whether it speaks of a webhook, and what to do.
REMOVE_WEBHOOK = 'curl "https://api.telegram.org/bot$TELEGRAM_BOT_TOKEN/deleteWebhook"'
CONFLICTS = {
    True: "a webhook is set for this bot, so that Telegram gives no updates to polling: remove it with "
    f"{REMOVE_WEBHOOK}, or use it by telegram.webhook_url",
    False: "another process takes this bot's updates with the same token: stop it, or get a new token from @BotFather "
    "(/revoke)",
}
_ADDRESS = re.compile(r"https?://[^/\s]+(/\S*)?")


@dataclass(frozen=True, slots=True)
class TelegramSettings:
    """The section `telegram` of the configuration. With a `webhook_url`, updates come there instead of being polled."""

    ambient: bool = False  # answer all talk in groups, not only what is addressed to the bot
    merge_burst_s: float = 0.0  # pauses within what somebody writes in one go, which gets one answer
    webhook_url: str = ""  # the public https address that Telegram calls, for instance of a reverse proxy
    webhook_host: str = "127.0.0.1"  # the address to listen on behind it
    webhook_port: int = 8080

    def __post_init__(self) -> None:
        if self.webhook_url and not _ADDRESS.fullmatch(self.webhook_url):
            raise UsageError(f"telegram.webhook_url is {self.webhook_url!r}: it must be an https:// address")
        if not 0 <= self.merge_burst_s <= 60:
            raise UsageError(f"telegram.merge_burst_s is {self.merge_burst_s:g}: it must be from 0 to 60")
        if not 0 <= self.webhook_port <= 65535:
            raise UsageError(f"telegram.webhook_port is {self.webhook_port}: it must be from 0 to 65535")

    @classmethod
    def of(cls, section: Mapping[str, object]) -> TelegramSettings:
        """The settings in a section; UsageError names a key that is unknown or has a value of the wrong kind."""
        kinds = {item.name: type(item.default) for item in fields(cls)}
        for key, value in section.items():
            if key not in kinds:
                raise UsageError(f"telegram has no key {key!r}: write one of {', '.join(sorted(kinds))}")
            if type(value) is not kinds[key]:
                raise UsageError(f"telegram.{key} is {value!r}: it must be of the kind {kinds[key].__name__}")
        values: dict[str, Any] = dict(section)
        return cls(**values)
