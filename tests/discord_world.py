"""What Discord's emulator knows: people, channels, messages and interactions, as the JSON that Discord gives.

Time and numbers are real: ids are snowflakes of now. The rules are those of Discord's documentation, as far as a bot
that talks meets them; the sockets are in `discord_server`.
"""

from __future__ import annotations

import itertools
import secrets
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

Json = dict[str, Any]
EPOCH_MS = 1420070400000
BOT_ID = "100000000000000001"
APP_ID = "100000000000000002"
TOKEN = "bot.token.for-tests"
CONTENT_INTENT, CONTENT_FLAG = 1 << 15, 1 << 19
TEXT, DIRECT, THREAD = 0, 1, 11

_sequence = itertools.count()


def snowflake(at: float | None = None) -> str:
    """An id of a moment (seconds since 1970), now if None; later ones are larger."""
    ms = int((time.time() if at is None else at) * 1000) - EPOCH_MS
    return str((ms << 22) + next(_sequence) % (1 << 22))


class RefusedError(Exception):
    """What Discord answers instead: an HTTP status, its own code and text."""

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"code": code, "message": message}


def user(id_: str, name: str, *, bot: bool = False) -> Json:
    """An account."""
    return {"id": id_, "username": name, "discriminator": "0", "avatar": None, "global_name": name, "bot": bot}


class World:
    """One bot, one server with a channel, and whoever writes."""

    def __init__(self) -> None:
        self.bot = user(BOT_ID, "familect", bot=True)
        self.guild_id = snowflake()
        self.roles: dict[str, list[str]] = {}  # of members, by their id
        self.channels: dict[str, Json] = {}
        self.messages: dict[str, dict[str, Json]] = {}  # by channel and id, oldest first
        self.interactions: dict[str, Json] = {}  # by token: what was answered to it
        self.commands: list[Json] = []
        self.forbidden: set[str] = set()  # channels where the bot may not write
        self.locale = "en-US"
        self.flags = CONTENT_FLAG
        self.nonces: dict[tuple[str, str], str] = {}
        self._people = itertools.count(1)
        self._direct: dict[str, str] = {}
        self.channel = self.add_channel(TEXT)

    def person(self, name: str, *, bot: bool = False) -> Json:
        """Somebody new."""
        return user(f"2000000000000{next(self._people):05}", name, bot=bot)

    def add_channel(self, kind: int, **fields: Any) -> str:
        """A channel of the server; its id."""
        id_ = snowflake()
        basics = {"id": id_, "type": kind, "guild_id": self.guild_id, "name": "talk", "position": 0}
        self.channels[id_] = {**basics, **fields}
        self.messages[id_] = {}
        return id_

    def add_thread(self, parent: str) -> str:
        """A thread of a channel; its id."""
        metadata = {"archived": False, "auto_archive_duration": 60, "archive_timestamp": datetime.now(UTC).isoformat()}
        counts = {"message_count": 0, "member_count": 1}
        return self.add_channel(THREAD, parent_id=parent, owner_id=BOT_ID, thread_metadata=metadata, **counts)

    def direct(self, person: Json) -> str:
        """The channel of the bot's direct messages with a person; its id."""
        if person["id"] not in self._direct:
            id_ = snowflake()
            self.channels[id_] = {"id": id_, "type": DIRECT, "recipients": [person]}
            self.messages[id_] = {}
            self._direct[person["id"]] = id_
        return self._direct[person["id"]]

    def guild(self) -> Json:
        """GUILD_CREATE's payload."""
        here = [self._with_last(channel) for channel in self.channels.values() if channel["type"] != DIRECT]
        return {
            "id": self.guild_id,
            "name": "a server",
            "owner_id": BOT_ID,
            "member_count": 2,
            "preferred_locale": self.locale,
            "roles": [
                {
                    "id": role,
                    "name": "@everyone" if role == self.guild_id else "a role",
                    "permissions": "0",
                    "position": 0,
                }
                for role in {self.guild_id, *(role for roles in self.roles.values() for role in roles)}
            ],
            "channels": [channel for channel in here if channel["type"] == TEXT],
            "threads": [channel for channel in here if channel["type"] == THREAD],
            "members": [],
        }

    def message(self, author: Json, channel: str, text: str, **fields: Any) -> Json:
        """Keep a message and give its payload. `reply_to` is a message; mentions are read from the text."""
        replied = fields.pop("reply_to", None)
        place = self.channel_of(channel)
        message: Json = {
            "id": snowflake(fields.pop("at", None)),
            "channel_id": channel,
            "author": author,
            "content": text,
            "timestamp": datetime.now(UTC).isoformat(),
            "edited_timestamp": None,
            "tts": False,
            "mention_everyone": "@everyone" in text,
            "mentions": [self.bot] if f"<@{BOT_ID}>" in text else [],
            "mention_roles": [],
            "attachments": [],
            "embeds": [],
            "pinned": False,
            "type": 0 if replied is None else 19,
            **fields,
        }
        if replied is not None:
            message["message_reference"] = {"message_id": replied["id"], "channel_id": channel}
            message["referenced_message"] = self.messages[channel].get(replied["id"])
        if "guild_id" in place:
            message["guild_id"] = place["guild_id"]
            message["member"] = self.member(author["id"])
        self.messages[channel][message["id"]] = message
        return message

    def member(self, person_id: str) -> Json:
        """What the server knows of somebody, without the account."""
        return {"roles": self.roles.get(person_id, []), "flags": 0, "joined_at": None, "deaf": False, "mute": False}

    def channel_of(self, channel: str) -> Json:
        """A channel by its id, or Discord's answer that there is none."""
        if channel not in self.channels:
            raise RefusedError(404, 10003, "Unknown Channel")
        return self._with_last(self.channels[channel])

    def post(self, channel: str, body: Json) -> Json:
        """The bot's own message: checked, kept once for each nonce, and its payload."""
        place = self.channel_of(channel)
        if channel in self.forbidden:
            direct = place["type"] == DIRECT
            raise RefusedError(403, *((50007, "Cannot send messages to this user") if direct else (50013, "No access")))
        nonce = body.get("nonce")
        if nonce is not None and len(str(nonce)) > 25:
            raise RefusedError(400, 50035, "Invalid Form Body: nonce")
        known = self.nonces.get((channel, str(nonce))) if body.get("enforce_nonce") else None
        if known is not None:
            return {**self.messages[channel][known], "again": True}
        reference = body.get("message_reference")
        replied = None
        if reference is not None:
            replied = self.messages[channel].get(str(reference["message_id"]))
            if replied is None and reference.get("fail_if_not_exists", True):
                raise RefusedError(400, 50035, "Invalid Form Body: message_reference: unknown message")
        message = self.said(channel, body, reply_to=replied)
        if nonce is not None:
            self.nonces[channel, str(nonce)] = message["id"]
        return {**message, "nonce": nonce}

    def said(self, channel: str, body: Json, **fields: Any) -> Json:
        """The bot's words, from a message or an interaction."""
        text = body.get("content") or ""
        if not text.strip():
            raise RefusedError(400, 50006, "Cannot send an empty message")
        if len(text) > 2000:
            raise RefusedError(400, 50035, "Invalid Form Body: content: Must be 2000 or fewer in length.")
        components = body.get("components") or []
        return self.message(self.bot, channel, text, components=components, flags=body.get("flags", 0), **fields)

    def interact(self, person: Json, channel: str, kind: int, data: Json, **fields: Any) -> Json:
        """INTERACTION_CREATE's payload."""
        place = self.channel_of(channel)
        payload: Json = {
            "id": snowflake(),
            "application_id": APP_ID,
            "type": kind,
            "data": data,
            "channel": place,
            "channel_id": channel,
            "token": secrets.token_hex(8),
            "version": 1,
            "locale": "en-US",
            "attachment_size_limit": 1,
            **fields,
        }
        if "guild_id" in place:
            member = {**self.member(person["id"]), "user": person, "permissions": "0"}
            payload |= {"guild_id": place["guild_id"], "member": member}
        else:
            payload["user"] = person
        self.interactions[payload["token"]] = {"payload": payload, "response": None, "messages": [], "expired": False}
        return payload

    def respond(self, token: str, body: Json) -> Json:
        """Take the first response to an interaction."""
        known = self._interaction(token)
        if known["response"] is not None:
            raise RefusedError(400, 40060, "Interaction has already been acknowledged.")
        known["response"] = body
        if body["type"] == 4:
            known["messages"].append(self._answer(known, body["data"]))
        payload = known["payload"]
        return {"interaction": {"id": payload["id"], "type": payload["type"]}, "resource": {"type": body["type"]}}

    def edit_response(self, token: str, body: Json) -> Json:
        """Change the first response, or fill it in if it was deferred."""
        known = self._interaction(token)
        if known["response"] is None:
            raise RefusedError(404, 10015, "Unknown Webhook")
        messages: list[Json] = known["messages"]
        if messages:  # the same message, with another text
            messages[0]["content"] = body["content"]
        else:
            messages.append(self._answer(known, body))
        return messages[0]

    def follow_up(self, token: str, body: Json) -> Json:
        """One more message for an interaction."""
        message = self._answer(self._interaction(token), body)
        self.interactions[token]["messages"].append(message)
        return message

    def answers(self, channel: str) -> list[str]:
        """What the bot has said in a channel, seen by all."""
        mine = (message for message in self.messages[channel].values() if message.get("author") == self.bot)
        return [message["content"] for message in mine if not message.get("flags", 0) & 64]

    def history(self, channel: str, *, after: str | None, before: str | None, limit: int) -> Iterator[Json]:
        """The newest messages before an id, or the first after one, newest first, as Discord gives them."""
        self.channel_of(channel)
        messages = sorted(self.messages[channel].values(), key=lambda message: int(message["id"]))
        if after is not None:
            messages = [message for message in messages if int(message["id"]) > int(after)][:limit]
        elif before is not None:
            messages = [message for message in messages if int(message["id"]) < int(before)]
        return ({k: v for k, v in m.items() if k not in ("guild_id", "member")} for m in messages[-limit:][::-1])

    def _answer(self, known: Json, body: Json) -> Json:
        hidden = body.get("flags", 0) or (known["response"].get("data") or {}).get("flags", 0)
        return self.said(known["payload"]["channel_id"], {**body, "flags": hidden})

    def _interaction(self, token: str) -> Json:
        known = self.interactions.get(token)
        if known is None or known["expired"]:
            raise RefusedError(404, 10062, "Unknown interaction")
        return known

    def _with_last(self, channel: Json) -> Json:
        return {**channel, "last_message_id": max(self.messages[channel["id"]], key=int, default=None)}
