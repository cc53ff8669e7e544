"""Slash commands and buttons: each command becomes a message with the command's text, each button a rating.

Discord waits three seconds for a sign that an interaction has arrived; it gets one as soon as the message is accepted,
and the answer when there is one. What people are told here is in their own language, as Discord names it.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import discord
from discord import app_commands

from adapters.admission import Admission
from adapters.base import Spine
from adapters.courtesy import too_fast
from adapters.discord_inbound import PLATFORM, DiscordInbound, decide
from adapters.discord_outbound import NETWORK_ERRORS, interaction_key, is_private, ticket_for
from adapters.discord_settings import Pace
from adapters.discord_text import storable
from adapters.lanes import Lanes, where
from chatbot.errors import ChatbotError
from chatbot.messages import Message

log = logging.getLogger(__name__)

Interaction = discord.Interaction[discord.Client]
Command = app_commands.Command[Any, ..., None]
Hearing = Callable[[Interaction, str], Awaitable[None]]
# What may go wrong with a sign of ours: Discord refuses it, or its answer is not such as the library reads.
_NO_MATTER = (discord.HTTPException, *NETWORK_ERRORS, TypeError, KeyError)
_BUTTON = re.compile(r"fb:(?P<reply>[0-9]{1,18}):(?P<sign>[+-])", re.ASCII)
Words = app_commands.Range[str, 1, 2000]

# What is read in the menu of commands: English, and Chinese for who has set Discord to it.
_CHINESE = {
    "Talk to me": "和我聊天",
    "What you want to say": "你想说的话",
    "Start over: I no longer look at what was said so far": "重新开始：我不再参考之前说过的话",
    "What I can do": "我会做什么",
    "What is stored, and your rights": "保存了什么，以及你的权利",
    "Whether I may learn from your words in this chat": "我可不可以从你在这里说的话中学习",
    "yes, no, or nothing to see how it stands": "yes、no，或者留空查看现状",
    "What is kept of you in this chat": "这个聊天里保存了你的哪些内容",
    "Erase your words in this chat": "删除你在这个聊天里的话",
    "In every chat, not only in this one": "所有聊天，而不只是这一个",
    "What I remember, in numbers": "我记得多少，用数字说",
    "Tell me what my last reply should have been": "告诉我上一句应该怎么说",
    "What I should have said": "我应该说的话",
}
_PLAIN = {
    "reset": "Start over: I no longer look at what was said so far",
    "help": "What I can do",
    "privacy": "What is stored, and your rights",
    "mydata": "What is kept of you in this chat",
    "stats": "What I remember, in numbers",
}
_TEXTS = {
    "not now": ("I cannot answer you here now.", "现在我不能在这里回答你。"),
    "just back": ("I have just come back: please try again in a moment.", "我刚刚回来：请稍等片刻再试。"),
    "unknown": ("I no longer know this one: please try /help.", "我已经不认得这个了：请试试 /help。"),
    "failed": ("That did not work: please try again later.", "没有成功：请稍后再试。"),
}


class DiscordCommands:
    """Takes the interactions of one client while it is open to them."""

    def __init__(
        self,
        spine: Spine,
        admission: Admission,
        lanes: Lanes,
        inbound: DiscordInbound,
        pace: Pace,
    ) -> None:
        self._spine = spine
        self._admission = admission
        self._lanes = lanes
        self._inbound = inbound
        self._pace = pace

    async def hear(self, interaction: Interaction, text: str) -> None:
        """Take a command whose text this is: accepted, acknowledged, and put to the others of its conversation."""
        if interaction.channel_id is None:
            return await tell(interaction, "failed")
        message = Message(
            platform=PLATFORM,
            chat=str(interaction.channel_id),
            sender=str(interaction.user.id),
            text=storable(text),
            message_id=interaction_key(interaction),
            sent_at=datetime.now(UTC),  # By our clock, which tells, too, how long Discord still waits for the answer.
            ticket=ticket_for(interaction, text),
        )
        verdict = decide(self._admission, message, interaction.user, interaction.guild, interaction.channel)
        if verdict != "welcome":
            return await tell(interaction, "not now", too_fast(text) if verdict == "notice" else None)
        with suppress(TimeoutError):  # Accepted before what was missed, it would hide that.
            await asyncio.wait_for(self._inbound.caught_up.wait(), self._pace.defer)
        if not self._inbound.caught_up.is_set():
            return await tell(interaction, "just back")
        accepting = asyncio.ensure_future(self._spine.accept(message))
        await asyncio.wait([accepting], timeout=self._pace.defer)
        if accepting.done() and accepting.exception() is None and not accepting.result():
            return None
        with suppress(discord.InteractionResponded, *_NO_MATTER):
            await interaction.response.defer(ephemeral=is_private(text), thinking=True)
        if await accepting:
            self._lanes.put(message, alone=True)

    async def press(self, interaction: Interaction) -> None:
        """Take a button: rate the reply under which it is, and thank whoever pressed it, unseen by others."""
        data: Mapping[str, Any] = interaction.data or {}
        custom_id = str(data.get("custom_id", ""))
        button = _BUTTON.fullmatch(custom_id)
        if button is None or interaction.channel_id is None:
            return await tell(interaction, "unknown")
        with suppress(*_NO_MATTER):  # A rating counts even if nobody can be thanked.
            await interaction.response.defer(ephemeral=True, thinking=True)
        rating = 1 if button["sign"] == "+" else -1
        sender, chat = str(interaction.user.id), str(interaction.channel_id)
        thanks = await self._spine.rate(PLATFORM, chat, sender, int(button["reply"]), rating)
        await tell(interaction, "unknown", thanks)


async def tell(interaction: Interaction, key: str, text: str | None = None) -> None:
    """Say a line of ours, or `text`, to whoever interacted, unseen by others. Nothing if the interaction is gone."""
    line = text or _TEXTS[key][_is_chinese(interaction)]
    with suppress(*_NO_MATTER):
        if interaction.response.is_done():
            await interaction.followup.send(line, ephemeral=True)
        else:
            await interaction.response.send_message(line, ephemeral=True)


async def failed(interaction: Interaction, error: BaseException) -> None:
    """Log what went wrong with an interaction, without a word of it, and say that it did."""
    reason = str(error) if isinstance(error, ChatbotError) else where(error)
    log.warning("discord: an interaction failed: %s", reason)
    key = "unknown" if isinstance(error, app_commands.CommandNotFound) else "failed"
    await tell(interaction, key)


class CommandTree(app_commands.CommandTree[discord.Client]):
    """The slash commands. What each hears goes to `hear`."""

    def __init__(self, client: discord.Client, hear: Hearing) -> None:
        super().__init__(client)
        for name, what in _PLAIN.items():
            self.add_command(_plain(name, what, hear))
        for command in _with_words(hear):
            self.add_command(command)

    async def on_error(self, interaction: Interaction, error: app_commands.AppCommandError) -> None:
        """Also for commands that Discord knows from an earlier sync, and we no longer."""
        await failed(interaction, error.original if isinstance(error, app_commands.CommandInvokeError) else error)


class Translator(app_commands.Translator):
    """The menu in Chinese."""

    async def translate(self, string: app_commands.locale_str, locale: discord.Locale, context: object) -> str | None:
        """The string in a language, None where it stays as it is."""
        return _CHINESE.get(string.message) if locale.value.startswith("zh") else None


def _plain(name: str, what: str, hear: Hearing) -> Command:
    """A command without words of its own; told in Chinese to who has set Discord to it."""

    async def callback(interaction: Interaction) -> None:
        await hear(interaction, f"/{name} 中文" if _is_chinese(interaction) else f"/{name}")

    return app_commands.Command(name=name, description=what, callback=callback)


def _with_words(hear: Hearing) -> list[Command]:
    @app_commands.command(name="chat", description="Talk to me")
    @app_commands.describe(text="What you want to say")
    async def chat(interaction: Interaction, text: Words) -> None:
        await hear(interaction, text)

    @app_commands.command(name="teach", description="Tell me what my last reply should have been")
    @app_commands.describe(text="What I should have said")
    async def teach(interaction: Interaction, text: Words) -> None:
        await hear(interaction, f"/teach {text}")

    @app_commands.command(name="consent", description="Whether I may learn from your words in this chat")
    @app_commands.describe(answer="yes, no, or nothing to see how it stands")
    async def consent(interaction: Interaction, answer: str = "") -> None:
        chinese = {"": "状态", "yes": "同意", "no": "不同意"} if _is_chinese(interaction) else {}
        await hear(interaction, f"/consent {chinese.get(answer.casefold(), answer)}".strip())

    @app_commands.command(name="forget", description="Erase your words in this chat")
    @app_commands.describe(everywhere="In every chat, not only in this one")
    async def forget(interaction: Interaction, everywhere: bool = False) -> None:
        here = "/forget 中文" if _is_chinese(interaction) else "/forget"
        await hear(interaction, "/forget all" if everywhere else here)

    return [chat, teach, consent, forget]


def _is_chinese(interaction: Interaction) -> bool:
    return str(interaction.locale).startswith("zh")
