"""What an operator sets for Discord: the section of the configuration, and the environment. Nothing here connects."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import discord

from chatbot.errors import UsageError

_TOKEN = "DISCORD_BOT_TOKEN"
_WHERE = "https://discord.com/developers/applications, your application, Bot"


@dataclass(frozen=True, slots=True)
class DiscordSettings:
    """`message_content`: the privileged intent is asked for. `ambient`: channels whose every message is answered.

    `merge_burst_s`: seconds of the pauses within what somebody writes in one go, which gets one answer.
    """

    message_content: bool = False
    ambient: frozenset[str] = frozenset()
    merge_burst_s: float = 0.0

    @classmethod
    def read(cls, settings: Mapping[str, object]) -> DiscordSettings:
        """The settings in a mapping as YAML gives it. UsageError names what is wrong."""
        known = [field.name for field in fields(cls)]
        for key in settings:
            if key not in known:
                near = difflib.get_close_matches(str(key), known, 1) or known
                raise UsageError(f"discord: there is no setting {str(key)[:40]!r}; is {near[0]!r} meant?")
        content, ambient = settings.get("message_content", False), settings.get("ambient", [])
        if not isinstance(content, bool):
            raise UsageError(f"discord: message_content is {str(content)[:40]!r}; write true or false")
        if not isinstance(ambient, list | tuple) or not all(re.fullmatch(r"\d{1,20}", str(id_)) for id_ in ambient):
            raise UsageError("discord: ambient must be a list of channel ids, such as [123456789012345678]")
        if ambient and not content:
            raise UsageError("discord: ambient needs the message content intent: set message_content to true")
        merge = settings.get("merge_burst_s", 0.0)
        if not isinstance(merge, float | int) or not 0 <= merge <= 60:
            raise UsageError(f"discord: merge_burst_s is {str(merge)[:40]!r}; write seconds from 0 to 60")
        return cls(content, frozenset(str(id_) for id_ in ambient), float(merge))

    @property
    def intents(self) -> discord.Intents:
        """What to ask Discord to be told: messages where the bot is, and their text only if it is set."""
        return discord.Intents(guilds=True, guild_messages=True, dm_messages=True, message_content=self.message_content)


@dataclass(frozen=True, slots=True)
class Pace:
    """How long things take, in seconds; tests are faster."""

    identify_pause: float = 5.0  # before each further IDENTIFY; Discord allows one in 5 s
    guilds: float = 2.0  # without another guild arriving, after which all are there
    silence: float = 60.0  # of the gateway, after which the connection is taken for dead
    typing: float = 8.0  # a typing sign lasts 10
    defer: float = 1.5  # after which an interaction is acknowledged whatever happens; Discord waits 3
    retry: float = 1.0  # first pause when a history cannot be read
    stale: float = 120.0  # age of a message after which Discord may have forgotten the nonce of the reply


def read_token() -> str:
    """The bot's token. UsageError says where to put it; it never shows what is there."""
    token, file = os.environ.get(_TOKEN, ""), os.environ.get(f"{_TOKEN}_FILE", "")
    if not token and file:
        try:
            token = Path(file).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{_TOKEN}_FILE cannot be read ({type(error).__name__}): check the path") from None
    token = token.strip().removeprefix("Bot ")
    if not token:
        raise UsageError(f"Discord needs a bot token: set {_TOKEN}, or {_TOKEN}_FILE to a file with it, from {_WHERE}")
    if not re.fullmatch(r"[\x21-\x7e]+", token):
        raise UsageError(f"{_TOKEN} holds characters that no token has: copy it again from {_WHERE}")
    return token


def bad_token() -> UsageError:
    """What to raise when Discord refuses the token."""
    return UsageError(f"Discord does not accept the bot token: reset it at {_WHERE}, and set {_TOKEN}")


def missing_intent() -> UsageError:
    """What to raise when Discord closes the gateway for want of the message content intent."""
    return UsageError(
        "Discord does not give this bot the message content intent: switch on 'Message Content Intent' at "
        f"{_WHERE}, or set discord.message_content to false; mentions, direct messages and /chat work without it"
    )
