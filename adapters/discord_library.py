"""Where discord.py is bent, for the whole process: its addresses, its log, and what it insists on in Discord's answers.

It holds its addresses in classes, so there is one Discord for all of a process. Of a server of somebody's own, as of
Discord, no more is asked than is needed: a field that nobody looks at may be missing, and packed events come unasked.
"""

from __future__ import annotations

import json
import logging
import os
import re
import zlib
from typing import Any

import discord
import zstandard
from discord.gateway import DiscordWebSocket
from discord.http import Route
from yarl import URL

from chatbot.errors import UsageError

_API = "DISCORD_API_URL"
_DISCORDS_API = Route.BASE
# Their warnings name people and the tokens of interactions; what is less than a warning carries texts.
_TALKATIVE = ("discord.http", "discord.webhook.async_", "discord.state")
_ZSTD_BEGINS = b"\x28\xb5\x2f\xfd"
_ZLIB_ENDS = b"\x00\x00\xff\xff"
_NOBODY = {"id": "0", "username": "", "discriminator": "0", "avatar": None, "bot": True}
# What the library cannot do without, by what an object is known by.
_TAKEN_FOR_GRANTED: tuple[tuple[set[str], dict[str, Any]], ...] = (
    ({"id", "username"}, {"discriminator": "0", "avatar": None}),
    (
        {"id", "channel_id", "content"},
        {
            **{"type": 0, "author": _NOBODY, "edited_timestamp": None, "tts": False, "pinned": False},
            **{"mention_everyone": False, "mentions": [], "attachments": [], "embeds": []},
        },
    ),
    ({"user", "session_id"}, {"guilds": []}),
    ({"id", "token", "type"}, {"version": 1, "attachment_size_limit": 0}),
)


def point_library() -> None:
    """Make discord.py use the REST API of the environment, and keep its log free of texts, ids and tokens.

    UsageError for an address that is no URL.
    """
    base = os.environ.get(_API, "").strip().rstrip("/") or _DISCORDS_API
    if not re.fullmatch(r"https?://[^/\s]+(/\S*)?", base):
        raise UsageError(f"{_API} is no http address: write one such as http://127.0.0.1:9000/api/v10")
    Route.BASE = base
    discord.utils._ActiveDecompressionContext = _Unpacking
    discord.utils._from_json = _read
    for name in ("discord", *_TALKATIVE):
        logger, least = logging.getLogger(name), logging.ERROR if name in _TALKATIVE else logging.WARNING
        logger.setLevel(max(logger.level, least))


def point_gateway(url: str) -> None:
    """Make discord.py connect to this gateway, which `/gateway/bot` has named."""
    DiscordWebSocket.DEFAULT_GATEWAY = URL(url)


class _Unpacking:
    """The events of one connection: asked for in zlib, which every server knows, and taken as they come."""

    COMPRESSION_TYPE = "zlib-stream"

    def __init__(self) -> None:
        self._stream: Any = None
        self._frames = bytearray()

    def decompress(self, data: bytes, /) -> str | None:
        """The text of an event, None until there is all of it."""
        if self._stream is None:
            zstd = data.startswith(_ZSTD_BEGINS)
            self._stream = zstandard.ZstdDecompressor().decompressobj() if zstd else zlib.decompressobj()
            self._end = b"" if zstd else _ZLIB_ENDS
        self._frames += data
        if not data.endswith(self._end):
            return None
        text: bytes = self._stream.decompress(bytes(self._frames))
        self._frames.clear()
        return text.decode("utf-8")


def _read(text: str | bytes) -> Any:
    """JSON as the library reads it."""
    return json.loads(text, object_hook=_completed)


def _completed(given: dict[str, Any]) -> dict[str, Any]:
    for marks, granted in _TAKEN_FOR_GRANTED:
        if marks <= given.keys():
            given = {**granted, **given}
    if "resume_gateway_url" not in given and {"user", "session_id"} <= given.keys():
        given["resume_gateway_url"] = str(DiscordWebSocket.DEFAULT_GATEWAY)
    if "channel_id" in given and "channel" not in given and {"id", "token", "type"} <= given.keys():
        given["channel"] = {
            **{"id": given["channel_id"], "type": 0 if "guild_id" in given else 1},
            **{"name": "", "position": 0},
        }
    return given
