"""What a Discord message says: its words as people read them, without the ids that Discord writes in their place.

In go discord.py's messages, out come plain strings and yes or no.
"""

from __future__ import annotations

import re

import discord

# Discord's own limit for those who pay; whatever is longer did not come from its clients.
LONGEST_TEXT = 4000
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
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

    return storable(_MARKUP.sub(readable, message.content[:LONGEST_TEXT]))


def storable(text: str) -> str:
    """A text as databases take it: no half characters, which JSON can carry, and no NUL."""
    return _UNSTORABLE.sub("\ufffd", text).strip()


def language_of(message: discord.Message) -> str | None:
    """The code of the language that the message's server has chosen; None for direct messages."""
    return str(message.guild.preferred_locale) if message.guild else None


def is_hidden(message: discord.Message, bot_id: int) -> bool:
    """Whether Discord has kept the text to itself: a reply to the bot that does not mention it."""
    mentioned = any(user.id == bot_id for user in message.mentions)
    return not (message.content or message.stickers or mentioned or is_direct(message))


def unreadable(language: str | None) -> str:
    """For a message whose text is hidden, in the language with this code."""
    if (language or "").startswith("zh"):
        return "没有提到我的回复我读不到：回复时请保留 @，或者用 /chat。"
    return "I cannot read a reply that does not mention me: leave the @ on, or use /chat."
