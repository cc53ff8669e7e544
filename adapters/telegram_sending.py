"""Replies on their way to Telegram: parts that it takes, one call for each, and what became of the call.

What the lanes need of a platform (`adapters.lanes.Outbound`). Retries are theirs; here every failure gets its name.
"""

from __future__ import annotations

import asyncio
import re
import unicodedata
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from telegram import Bot, InlineKeyboardButton, InlineKeyboardMarkup, ReplyParameters
from telegram.constants import ChatAction
from telegram.error import BadRequest, ChatMigrated, Forbidden, InvalidToken, NetworkError, TelegramError

from adapters.base import split_text
from adapters.lanes import MaybeDeliveredError, NotDeliveredError, NotYetError, Part
from adapters.telegram_client import Client, LaterError, NotReachedError
from adapters.telegram_pacing import Pacer
from chatbot.errors import ChatbotError
from chatbot.messages import Message, Reply

LIMIT = 4096  # UTF-16 code units
TYPING_S = 4.0  # the sign lasts five seconds at most
_NOTHING_TO_SEE = "…"
_SURROGATE = re.compile("[\ud800-\udfff]")
_MENTION = re.compile(r"@(?=\w)")


class TelegramOutbound:
    """Sends through a client at the times of a pacer. `moved` is told the old and the new id of a chat that got one."""

    def __init__(
        self, client: Client, pacer: Pacer, moved: Callable[[str, str], Awaitable[None]], typing_s: float = TYPING_S
    ) -> None:
        self._client = client
        self._pacer = pacer
        self._moved = moved
        self.typing_s = typing_s
        self._new_chats: dict[str, str] = {}
        self._no_typing_before: dict[str, float] = {}

    def parts(self, message: Message, reply: Reply) -> Sequence[str]:
        """The text in parts of at most 4096 UTF-16 units, of blank text one that shows. In groups it pings nobody."""
        text = _SURROGATE.sub("\ufffd", reply.text)
        if message.chat.startswith("-"):
            # A word joiner, which nobody sees: a model repeats the names that people wrote.
            text = _MENTION.sub("@\u2060", text)
        if not text:  # the message was erased meanwhile
            return []
        return [part for part in split_text(text, LIMIT, _units) if _visible(part)] or [_NOTHING_TO_SEE]

    async def turn(self, message: Message) -> None:
        """Wait for the limits of this chat, and of all together."""
        await self._pacer.turn(self._chat(message))

    async def send(self, message: Message, reply: Reply, part: Part) -> str:
        """Call sendMessage once; its message's id."""
        chat = self._chat(message)
        fields = {
            "chat_id": chat,
            "text": part.text,
            "message_thread_id": None if message.thread is None else int(message.thread),
            "reply_parameters": self._replying(message, chat, part),
            "reply_markup": feedback_buttons(reply.id) if part.last and reply.id is not None else None,
        }
        try:
            sent = await self._client.call("sendMessage", fields)
        except LaterError as error:
            self._pacer.hold(chat, error.seconds)
            raise NotYetError(error.seconds) from None
        except ChatMigrated as error:
            await self._follow(message.chat, chat, str(error.new_chat_id))
            raise NotYetError(0) from None
        # A token that was taken back: the polling says so and ends the session, and what waits goes out after that.
        except (NotReachedError, InvalidToken):
            raise NotYetError from None
        except (BadRequest, Forbidden) as error:
            raise NotDeliveredError from error
        except TelegramError as error:  # no answer, or one that nobody can read
            raise MaybeDeliveredError from error
        finally:
            self._pacer.over(chat)
        return str(sent.get("message_id", "")) if isinstance(sent, dict) else ""

    async def _follow(self, known_as: str, old_chat: str, new_chat: str) -> None:
        """From now on send to the new id of a chat. NotYetError if that cannot be kept now."""
        try:
            await self._moved(old_chat, new_chat)
        except ChatbotError as error:
            raise NotYetError from error
        self._new_chats[known_as] = new_chat

    async def show_typing(self, message: Message) -> bool:
        """Show "typing", unless that might cost a message its place; it lasts five seconds."""
        chat, now = self._chat(message), asyncio.get_running_loop().time()
        if self._pacer.crowded or now < self._no_typing_before.get(chat, 0.0):
            return True
        self._no_typing_before.pop(chat, None)
        try:
            await self._client.bot.send_chat_action(
                chat,
                ChatAction.TYPING,
                message_thread_id=None if message.thread is None else int(message.thread),
                read_timeout=self.typing_s,
            )
        except LaterError as error:
            self._no_typing_before[chat] = asyncio.get_running_loop().time() + error.seconds
        except TelegramError:
            pass  # The text that follows meets the same trouble, and deals with it.
        return True

    def _chat(self, message: Message) -> str:
        return self._new_chats.get(message.chat, message.chat)

    def _replying(self, message: Message, chat: str, part: Part) -> ReplyParameters | None:
        """In a group the first part says whom it answers, unless that message is gone with the chat's old id."""
        if part.number or not chat.startswith("-") or chat != message.chat:
            return None
        return ReplyParameters(int(message.message_id), allow_sending_without_reply=True)


def feedback_buttons(reply_id: int, rated: int = 0) -> InlineKeyboardMarkup:
    """Thumbs up and down for a reply; `rated`, 1 or -1, is marked."""
    faces = {1: "👍", -1: "👎"}
    return InlineKeyboardMarkup.from_row(
        [
            InlineKeyboardButton(
                face + (" ✓" if rating == rated else ""), callback_data=f"fb:{reply_id}:{'+' if rating > 0 else '-'}"
            )
            for rating, face in faces.items()
        ]
    )


async def acknowledge(bot: Bot, query_id: str, thanks: str | None) -> None:
    """Answer a press of a button, without which the person's app shows it as pending; too late is no matter."""
    with suppress(TelegramError):
        await bot.answer_callback_query(query_id, thanks and thanks[:200])


async def mark(bot: Bot, chat: str, message_id: str, reply_id: int, rating: int) -> None:
    """Show under a reply how it was rated; that it stands there already, or that the reply is gone, is no matter."""
    with suppress(TelegramError, NetworkError):
        await bot.edit_message_reply_markup(chat, int(message_id), reply_markup=feedback_buttons(reply_id, rating))


def _units(text: str) -> int:
    """The length as Telegram counts."""
    return len(text.encode("utf-16-le")) // 2


def _visible(text: str) -> bool:
    """Whether Telegram would take a text for more than blank."""
    return any(not character.isspace() and unicodedata.category(character)[0] != "C" for character in text)
