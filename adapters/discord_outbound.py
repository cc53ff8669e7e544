"""From a reply to Discord's calls: parts, typing, buttons, and what Discord's answers mean for the lanes.

A part carries a nonce made of the id of the message it answers. Discord drops a second message with the same nonce for
some minutes, so whatever may have been lost is sent again; when those minutes are over, the channel's history is asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import aiohttp
import discord

from adapters.base import split_text
from adapters.discord_settings import Pace, bad_token
from adapters.lanes import MaybeDeliveredError, NotDeliveredError, NotYetError, Part
from chatbot.messages import Message, Reply

MESSAGE_LIMIT = 2000  # code points
PRIVATE = frozenset({"help", "privacy", "consent", "mydata", "forget", "stats"})
NETWORK_ERRORS = (OSError, aiohttp.ClientError, TimeoutError)
# Statuses for what the bot may not read, or what a server of somebody's own does not tell.
NOT_TOLD = frozenset({400, 403, 404, 405, 501})
_LOOKED_BACK = 50  # messages
_BANNED_PAUSE_S = 60.0
_CANNOT_REPLY_HERE = 160002  # the history of the channel is hidden from the bot
_INTERACTION = "i"
_OPEN_S = 15 * 60


def interaction_key(interaction: discord.Interaction) -> str:
    """The id of the message that an interaction becomes; never that of a message in the channel."""
    return f"{_INTERACTION}{interaction.id}"


def ticket_for(interaction: discord.Interaction, text: str) -> str:
    """What a start after this one needs to answer an interaction in the place that Discord keeps for it."""
    return f"{'private' if is_private(text) else 'open'} {interaction.application_id} {interaction.token}"


def is_private(text: str) -> bool:
    """Whether the answer to a command is for nobody but who gave it."""
    words = text.split(maxsplit=1)
    return bool(words) and words[0][:1] in "/／" and words[0][1:].lower() in PRIVATE


def buttons(reply_id: int) -> discord.ui.View:
    """Thumbs up and down for a reply; the answer to them needs nothing but their custom ids, so it outlives us."""
    view = discord.ui.View(timeout=None)
    for emoji, sign in (("👍", "+"), ("👎", "-")):
        view.add_item(discord.ui.Button[discord.ui.View](emoji=emoji, custom_id=f"fb:{reply_id}:{sign}"))
    view.stop()  # Nobody waits for it here: otherwise the library would keep it for ever.
    return view


class DiscordOutbound:
    """Sends for one client. `refused` gets a UsageError when Discord no longer accepts the token."""

    def __init__(self, client: discord.Client, pace: Pace, refused: asyncio.Future[None]) -> None:
        self._client = client
        self.typing_s = pace.typing
        self._pace = pace
        self._refused = refused
        self._gone: set[str] = set()  # interactions for which Discord takes no more answers

    def may_repeat(self, message: Message, number: int) -> bool:
        """Whether a part of a reply is shown once, however often it is sent.

        By its nonce, or since it fills one place; or because it can be looked for. A later part of an answer to an
        interaction is neither, nor is a private one when the place is gone and it may have been there.
        """
        if message.ticket is None or message.message_id in self._gone:
            return True
        return number == 0 and not (_is_hidden(message) and _is_over(message))

    def parts(self, message: Message, reply: Reply) -> Sequence[str]:
        """The text in pieces of 2000 code points."""
        return split_text(reply.text, MESSAGE_LIMIT)

    async def turn(self, message: Message) -> None:
        """Nothing to wait for: the library obeys the limits that Discord's headers tell, within `send`."""

    async def send(self, message: Message, reply: Reply, part: Part) -> str:
        """Send a part where the message came from: to its interaction if that still lives, else to the channel."""
        rated = reply.id if part.last else None
        try:
            interaction = self._interaction(message)
            if interaction is not None:
                sent = await self._to_interaction(interaction, message, part, rated)
                if sent is not None:
                    return sent
                self._gone.add(message.message_id)
            sent = await self._to_channel(message, part, rated)
            if part.last:
                self._gone.discard(message.message_id)
            return sent
        except discord.HTTPException as error:
            raise self._meaning(error) from None
        except (RuntimeError, *NETWORK_ERRORS):  # RuntimeError: the client is closed, and the next start sends it.
            raise MaybeDeliveredError from None

    async def show_typing(self, message: Message) -> bool:
        """Show that the bot types; an interaction shows that it thinks by itself. Where it is refused, it raises."""
        if message.ticket is not None:
            return False
        await self._client.get_partial_messageable(int(message.chat)).typing()
        return True

    async def _to_interaction(
        self, interaction: discord.Interaction, message: Message, part: Part, rated: int | None
    ) -> str | None:
        """The id of the part, or None if the interaction has expired."""
        view = discord.utils.MISSING if rated is None else buttons(rated)
        try:
            if part.number == 0:  # An edit, so that doing it twice does no harm.
                sent: discord.Message = await interaction.edit_original_response(content=part.text, view=view)
            else:
                sent = await interaction.followup.send(part.text, ephemeral=_is_hidden(message), view=view, wait=True)
        except discord.HTTPException as error:
            if error.status in (401, 404):  # The token of the interaction; unknown interaction, message or webhook.
                return None
            raise
        return str(sent.id)

    def _interaction(self, message: Message) -> discord.Interaction | None:
        """The interaction that a message was, maybe of an earlier start; None if there is none, or no longer."""
        if message.ticket is None or message.message_id in self._gone or _is_over(message):
            return None
        _, application, token = message.ticket.split(" ", 2)
        nobody = {"id": message.sender, "username": "", "discriminator": "0", "avatar": None}
        data: Any = {
            **{"id": message.message_id.removeprefix(_INTERACTION), "application_id": application, "token": token},
            **{"type": 2, "version": 1, "attachment_size_limit": 0, "user": nobody},
            "channel": {"id": message.chat, "type": 1},
        }
        return discord.Interaction(data=data, state=self._client._connection)

    async def _to_channel(self, message: Message, part: Part, rated: int | None) -> str:
        asked = message.message_id.startswith(_INTERACTION)
        channel: discord.abc.Messageable = self._client.get_partial_messageable(int(message.chat))
        if _is_hidden(message):  # The interaction is gone, and the answer is nobody else's business.
            channel = await self._client.create_dm(discord.Object(int(message.sender)))
        elif (datetime.now(UTC) - message.sent_at).total_seconds() > self._pace.stale:
            found = await self._sent_before(channel, message, part, by_text=asked or part.number > 0)
            if found is not None:
                return found
        view = discord.utils.MISSING if rated is None else buttons(rated)
        reference = None
        if part.number == 0 and not asked:
            reference = discord.MessageReference(
                message_id=int(message.message_id), channel_id=int(message.chat), fail_if_not_exists=False
            )
        nonce = f"{message.message_id}-{part.number}"
        try:
            sent = await self._post(channel, part.text, nonce, view, reference)
        except discord.HTTPException as error:
            if reference is None or not (error.status == 400 or error.code == _CANNOT_REPLY_HERE):
                raise
            sent = await self._post(channel, part.text, nonce, view, None)
        return str(sent.id)

    async def _post(
        self,
        channel: discord.abc.Messageable,
        text: str,
        nonce: str,
        view: discord.ui.View,
        reference: discord.MessageReference | None,
    ) -> discord.Message:
        nobody = discord.AllowedMentions.none()
        if reference is None:
            return await channel.send(text, nonce=nonce, view=view, allowed_mentions=nobody)
        return await channel.send(text, nonce=nonce, view=view, allowed_mentions=nobody, reference=reference)

    async def _sent_before(
        self, channel: discord.abc.Messageable, message: Message, part: Part, *, by_text: bool
    ) -> str | None:
        """The id of the part in the channel's history, known by what it replies to or, if it must be, by its text."""
        after = discord.Object(int(message.message_id.removeprefix(_INTERACTION)))
        try:
            async for found in channel.history(after=after, limit=_LOOKED_BACK):
                if self._client.user is None or found.author.id != self._client.user.id:
                    continue
                replied = found.reference.message_id if found.reference else None
                if found.content == part.text if by_text else replied == after.id:
                    return str(found.id)
        except discord.HTTPException as error:
            if error.status not in NOT_TOLD:
                raise
        return None  # Who may not read may still write.

    def _meaning(self, error: discord.HTTPException) -> Exception:
        """What to tell the lanes about an answer of Discord's."""
        if error.status == 429:  # The library obeys the usual ones; this is a ban, or the fifth in a row.
            return NotYetError(_retry_after(error))
        if error.status == 401:
            if not self._refused.done():
                self._refused.set_exception(bad_token())
            return NotYetError(_BANNED_PAUSE_S)
        if error.status >= 500:
            return MaybeDeliveredError()
        return NotDeliveredError()


def _is_hidden(message: Message) -> bool:
    """Whether the answer is for nobody else's eyes; the text of a command is gone by then."""
    return message.ticket is not None and message.ticket.startswith("private ")


def _is_over(message: Message) -> bool:
    """Whether Discord has given up waiting for the answer to an interaction."""
    return (datetime.now(UTC) - message.sent_at).total_seconds() > _OPEN_S


def _retry_after(error: discord.HTTPException) -> float:
    """The seconds to wait that an answer names."""
    try:
        return max(0.0, float(error.response.headers["Retry-After"]))
    except (KeyError, ValueError):
        return _BANNED_PAUSE_S
