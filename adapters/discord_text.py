"""What a Discord message says: its words as people read them, without the ids that Discord writes in their place.

In go discord.py's messages, out come plain strings and yes or no.
"""

from __future__ import annotations

import re

import discord

# Discord's own limit for those who pay; whatever is longer did not come from its clients.
LONGEST_TEXT = 4000
_MARKUP = re.compile(
    r"<(?:@!?(?P<user>\d{1,20})|@&(?P<role>\d{1,20})|#(?P<channel>\d{1,20})|a?:(?P<emoji>\w{1,32}):\d{1,20})>"
)


def is_from_person(message: discord.Message) -> bool:
    """Whether somebody wrote it: no bot, the bot itself least of all, no webhook, no notice of Discord's own."""
    spoken = message.type in (discord.MessageType.default, discord.MessageType.reply)
    return spoken and not message.author.bot and message.webhook_id is None and not message.author.system


def is_direct(message: discord.Message) -> bool:
    """Whether it was written to the bot alone."""
    return message.guild is None and getattr(message.channel, "guild_id", None) is None


def is_to(message: discord.Message, bot_id: int) -> bool:
    """Whether it is for the bot: written to it alone, with a mention of it (not of everyone), or in reply to it."""
    if is_direct(message) or any(user.id == bot_id for user in message.mentions):
        return True
    replied = message.reference and message.reference.resolved
    return isinstance(replied, discord.Message) and replied.author.id == bot_id


def words_of(message: discord.Message, bot_id: int) -> str:
    """The text without the mention of the bot, and with names instead of the ids of people, roles and channels."""
    names = {user.id: user.display_name for user in message.mentions}
    guild = message.guild

    def readable(match: re.Match[str]) -> str:
        kind, value = match.lastgroup, match[match.lastgroup or 0]
        if kind == "emoji":
            return f":{value}:"
        if kind == "user":
            return "" if int(value) == bot_id else f"@{names.get(int(value), 'somebody')}"
        if kind == "role":
            role = guild.get_role(int(value)) if guild else None
            return f"@{role.name if role else 'some role'}"
        channel = guild.get_channel_or_thread(int(value)) if guild else None
        return f"#{channel.name if channel else 'some channel'}"

    return _MARKUP.sub(readable, message.content[:LONGEST_TEXT]).strip()


def language_of(message: discord.Message) -> str | None:
    """The code of the language that the message's server has chosen; None for direct messages."""
    return str(message.guild.preferred_locale) if message.guild else None
