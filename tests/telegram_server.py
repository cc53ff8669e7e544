"""A Bot API server on a loopback socket, after the official one: its rules, its error texts, and faults on order.

Point an adapter at `TelegramServer.url` by TELEGRAM_API_URL. People write with `say`, `edit`, `press` and `push`; what
the bot did is in `calls`, each with its times, and in `sent`.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import struct
import time
from collections import defaultdict, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal

from aiohttp import ClientError, ClientSession, ClientTimeout, web
from telegram_people import Chat, Json, marked, person, units

TOKEN = "110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw"
BOT = {"id": 110201543, "is_bot": True, "first_name": "Familect", "username": "FamilectTestBot"}
_OTHER_POLLER = "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running"
_WEBHOOK_ACTIVE = (
    "Conflict: can't use getUpdates method while webhook is active; use deleteWebhook to delete the webhook first"
)
_ACTIONS = {"typing", "upload_photo", "upload_document", "choose_sticker", "find_location"}


class Refusal(Exception):
    """An answer that says no, with its code, its text and its parameters."""

    def __init__(self, code: int, description: str, **parameters: int) -> None:
        super().__init__(description)
        self.code = code
        self.description = description
        self.parameters = parameters


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong with one call: "drop" cuts the connection, "status" answers with `value`, "flood" with a 429 that
    asks for `value` seconds, "slow" answers `value` seconds late, "garbage" with something that is no JSON.

    With `after`, the call has been carried out by then. `chat` keeps the fault for calls to one chat.
    """

    kind: Literal["drop", "status", "flood", "slow", "garbage"]
    value: float = 0
    after: bool = False
    chat: int | None = None


@dataclass(slots=True)
class Call:
    """A request as it came in, and whether it was carried out."""

    method: str
    params: Json
    at: float
    done: bool = False
    code: int = 200

    @property
    def chat(self) -> int:
        """The chat that it names, or 0."""
        return int(self.params.get("chat_id", 0))


@dataclass
class TelegramServer:
    """One bot's server. Stopping and starting it keeps what waits, unless `forget` is called."""

    token: str = TOKEN
    reads_all: bool = True  # privacy mode is off
    calls: list[Call] = field(default_factory=list)
    faults: dict[str, deque[Fault]] = field(default_factory=lambda: defaultdict(deque))
    chaos: Callable[[Call], Fault | None] | None = None
    chats: dict[int, Chat] = field(default_factory=dict)
    queue: list[Json] = field(default_factory=list)
    commands: dict[tuple[str, str], list[Json]] = field(default_factory=dict)
    webhook: Json = field(default_factory=dict)
    webhook_error: str = ""
    open_queries: set[str] = field(default_factory=set)
    answered: dict[str, str | None] = field(default_factory=dict)
    port: int = 0

    async def __aenter__(self) -> TelegramServer:
        self._numbers = 7000
        self._newest = 7000  # number of the update that came last
        self._allowed: list[str] | None = None
        self._poller: asyncio.Future[None] | None = None
        self._news = asyncio.Condition()
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen, on the port that it had if it had one."""
        application = web.Application(client_max_size=1 << 26)
        application.router.add_route("*", "/bot{token}/{method}", self._handle)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]
        self._caller = asyncio.create_task(self._call_webhook())

    async def stop(self) -> None:
        """Close all connections at once, as a server that dies."""
        if self._poller is not None:
            self._poller.cancel()
        self._caller.cancel()
        with suppress(asyncio.CancelledError):
            await self._caller
        server = self._runner.server
        await self._runner.cleanup()
        # A connection accepted just before the port was closed reaches the server some turns of the loop later.
        for _ in range(10):
            await asyncio.sleep(0)
        if server is not None:
            await server.shutdown(0.1)

    @property
    def url(self) -> str:
        """What TELEGRAM_API_URL has to be."""
        return f"http://127.0.0.1:{self.port}"

    # What people do.

    def chat(self, number: int, kind: str = "private", **more: Any) -> Chat:
        """A chat; groups have negative numbers."""
        return self.chats.setdefault(number, Chat(number, kind, **more))

    async def say(self, chat: Chat, text: str | None = None, sender: Json | None = None, **content: Any) -> Json:
        """A message from a person, brought to the bot; `content` as `Chat.add` takes it."""
        sender = person(chat.number if chat.kind == "private" else 501) if sender is None else sender
        if text is not None:
            content["text"] = text
        message = chat.add(sender, **content)
        await self.push("message", message)
        return message

    async def edit(self, chat: Chat, number: int, text: str) -> None:
        """A person gives a message a new text."""
        changed = {**chat.messages[number], "text": text, "edit_date": int(time.time()), "entities": marked(text)}
        chat.messages[number] = changed
        await self.push("edited_message", changed)

    async def press(self, chat: Chat, number: int, data: str | None, sender: Json | None = None) -> str:
        """A person presses a button under a message; the id of the query."""
        query = str(9_000_000_000_000 + len(self.open_queries) + len(self.answered))
        self.open_queries.add(query)
        message = chat.messages.get(number, {"chat": chat.json(), "message_id": number, "date": 0})
        pressed: Json = {"id": query, "from": sender or person(501), "message": message, "chat_instance": "1"}
        await self.push("callback_query", pressed | ({} if data is None else {"data": data}))
        return query

    async def push(self, kind: str, content: Any, number: int | None = None) -> int:
        """Any update, with a number of its own or the one given, if the bot asked for its kind."""
        self._numbers += 1
        number = self._numbers if number is None else number
        if self._allowed is None or kind in self._allowed or kind == "any":
            self._newest = number
            self.queue.append({"update_id": number, **(content if kind == "any" else {kind: content})})
            async with self._news:
                self._news.notify_all()
        return number

    # What the bot did.

    def made(self, method: str) -> list[Call]:
        """The calls of one method, in order."""
        return [call for call in self.calls if call.method == method]

    @property
    def sent(self) -> list[Call]:
        """The messages that were carried out."""
        return [call for call in self.made("sendMessage") if call.done]

    async def until(self, happened: Callable[[], Any], seconds: float = 30.0) -> None:
        """Wait until something is so; AssertionError if it does not become so."""
        end = time.monotonic() + seconds
        while not happened():
            assert time.monotonic() < end, "it did not happen"
            await asyncio.sleep(0.005)

    async def until_sent(self, count: int) -> list[str]:
        """The texts that were sent, when there are so many."""
        await self.until(lambda: len(self.sent) >= count)
        return [call.params["text"] for call in self.sent]

    # The server.

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        method = request.match_info["method"].lower()
        try:
            given = {**request.query, **dict(await request.post())}
        except ConnectionError:  # who called was killed in the middle
            return web.Response()
        call = Call(
            _SPELLING.get(method, method), {key: _value(key, value) for key, value in given.items()}, time.monotonic()
        )
        known = getattr(self, f"_do_{method}", None)
        self.calls.append(call)
        fault = self._fault(call)
        if fault is not None and not fault.after:
            return await self._suffer(fault, request, call)
        try:
            if request.match_info["token"] != self.token:
                raise Refusal(401, "Unauthorized")
            if known is None:
                raise Refusal(404, "Not Found: method not found")
            result = await known(call.params)
            call.done = True
            answer = web.json_response({"ok": True, "result": result})
        except Refusal as error:
            call.code = error.code
            answer = _refused(error)
        return answer if fault is None else await self._suffer(fault, request, call, answer)

    def _fault(self, call: Call) -> Fault | None:
        waiting = self.faults.get(call.method)
        for fault in waiting or ():
            if fault.chat in (None, call.chat):
                assert waiting is not None
                waiting.remove(fault)
                return fault
        return self.chaos(call) if self.chaos else None

    async def _suffer(
        self, fault: Fault, request: web.Request, call: Call, answer: web.StreamResponse | None = None
    ) -> web.StreamResponse:
        call.code = int(fault.value) if fault.kind == "status" else 429 if fault.kind == "flood" else 0
        if fault.kind == "status":
            return web.Response(status=int(fault.value), text="<html>Bad Gateway</html>", content_type="text/html")
        if fault.kind == "flood":
            seconds = int(fault.value)
            return _refused(Refusal(429, f"Too Many Requests: retry after {seconds}", retry_after=seconds))
        if fault.kind == "garbage":
            return web.Response(text='{"ok": true, "resu')
        if fault.kind == "slow":
            await asyncio.sleep(fault.value)
            return answer or web.Response(status=504)
        assert request.transport is not None
        raw = request.transport.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # RST, not FIN
        request.transport.abort()
        return web.Response()

    async def _do_getme(self, params: Json) -> Json:
        return BOT | {
            "can_join_groups": True,
            "can_read_all_group_messages": self.reads_all,
            "supports_inline_queries": False,
        }

    async def _do_getupdates(self, params: Json) -> list[Json]:
        if self.webhook:
            raise Refusal(409, _WEBHOOK_ACTIVE)
        if self._poller is not None and not self._poller.done():
            self._poller.set_exception(Refusal(409, _OTHER_POLLER))
        mine = self._poller = asyncio.get_running_loop().create_future()
        mine.add_done_callback(lambda poller: poller.cancelled() or poller.exception())  # its handler may be gone
        if "allowed_updates" in params:
            self._allowed = params["allowed_updates"] or None
        offset = int(params.get("offset", 0))
        if offset > self._newest + 10:
            pass  # in the future, so of an earlier numbering: all that waits is given
        elif offset > 0:
            self.queue = [update for update in self.queue if update["update_id"] >= offset]
        else:
            self.queue = self.queue[offset:]
        if not self.queue:
            waiting = asyncio.create_task(self._news_came())
            await asyncio.wait([waiting, mine], timeout=float(params.get("timeout", 0)), return_when="FIRST_COMPLETED")
            waiting.cancel()
        if mine.done():
            mine.result()
        mine.cancel()
        return self.queue[: int(params.get("limit", 100))]

    async def _news_came(self) -> None:
        async with self._news:
            await self._news.wait_for(lambda: self.queue)

    async def _do_setwebhook(self, params: Json) -> bool:
        url = str(params.get("url", ""))
        if url and not url.startswith(("https://", "http://127.0.0.1")):
            raise Refusal(400, "Bad Request: bad webhook: An HTTPS URL must be provided for webhook")
        if not re.fullmatch(r"[\w-]{0,256}", str(params.get("secret_token", "")), re.ASCII):
            raise Refusal(400, "Bad Request: secret token contains unallowed characters")
        if self._poller is not None and not self._poller.done():
            self._poller.set_exception(Refusal(409, "Conflict: terminated by setWebhook request"))
        self.webhook = dict(params) if url else {}
        self._allowed = params.get("allowed_updates", self._allowed)
        async with self._news:
            self._news.notify_all()
        return True

    async def _do_deletewebhook(self, params: Json) -> bool:
        self.webhook = {}
        return True

    async def _do_getwebhookinfo(self, params: Json) -> Json:
        error = {"last_error_date": int(time.time()), "last_error_message": self.webhook_error}
        return {
            "url": self.webhook.get("url", ""),
            "has_custom_certificate": False,
            "pending_update_count": len(self.queue),
            **(error if self.webhook_error else {}),
        }

    async def _do_sendmessage(self, params: Json) -> Json:
        chat = self._there(params)
        text = str(params.get("text", "")).strip()
        if not text or not re.search(r"[^\s\u200b-\u200f\u2060\ufeff]", text):
            raise Refusal(400, "Bad Request: message text is empty")
        if units(text) > 4096:
            raise Refusal(400, "Bad Request: message is too long")
        thread = params.get("message_thread_id")
        if thread is not None and int(thread) not in chat.topics:
            raise Refusal(400, "Bad Request: message thread not found")
        if thread is not None and int(thread) in chat.closed_topics:
            raise Refusal(400, "Bad Request: TOPIC_CLOSED")
        replied = params.get("reply_parameters") or {}
        if replied and replied["message_id"] not in chat.messages and not replied.get("allow_sending_without_reply"):
            raise Refusal(400, "Bad Request: message to be replied not found")
        content: Json = {"text": text}
        if markup := params.get("reply_markup"):
            content["reply_markup"] = _checked(markup)
        return chat.add(BOT, int(thread) if thread else None, replied.get("message_id"), **content)

    async def _do_sendchataction(self, params: Json) -> bool:
        self._there(params)
        if params.get("action") not in _ACTIONS:
            raise Refusal(400, "Bad Request: wrong parameter action in request")
        return True

    async def _do_answercallbackquery(self, params: Json) -> bool:
        query = str(params.get("callback_query_id"))
        if query not in self.open_queries:
            raise Refusal(400, "Bad Request: query is too old and response timeout expired or query ID is invalid")
        self.open_queries.remove(query)
        self.answered[query] = params.get("text")
        return True

    async def _do_editmessagereplymarkup(self, params: Json) -> Json:
        message = self._there(params).messages.get(int(params["message_id"]))
        if message is None or message.get("from") != BOT:
            raise Refusal(400, "Bad Request: message to edit not found")
        markup = _checked(params["reply_markup"])
        if message.get("reply_markup") == markup:
            raise Refusal(
                400,
                "Bad Request: message is not modified: specified new message content and reply markup are exactly the "
                "same as a current content and reply markup of the message",
            )
        message["reply_markup"] = markup
        return message

    async def _do_setmycommands(self, params: Json) -> bool:
        commands = params["commands"]
        if len(commands) > 100:
            raise Refusal(400, "Bad Request: BOT_COMMANDS_TOO_MUCH")
        for entry in commands:
            if not re.fullmatch("[a-z0-9_]{1,32}", entry["command"]):
                raise Refusal(400, "Bad Request: BOT_COMMAND_INVALID")
            if not 1 <= len(entry["description"]) <= 256:
                raise Refusal(400, "Bad Request: BOT_COMMAND_DESCRIPTION_INVALID")
        self.commands[params.get("scope", {}).get("type", "default"), params.get("language_code", "")] = commands
        return True

    def _there(self, params: Json) -> Chat:
        """The chat that a call names, if the bot may do something in it."""
        if not params.get("chat_id"):
            raise Refusal(400, "Bad Request: chat_id is empty")
        chat = self.chats.get(int(params["chat_id"]))
        if chat is None:
            raise Refusal(400, "Bad Request: chat not found")
        if chat.moved_to is not None:
            text = "Bad Request: group chat was upgraded to a supergroup chat"
            raise Refusal(400, text, migrate_to_chat_id=chat.moved_to)
        if chat.refusal is not None:
            raise Refusal(*chat.refusal)
        return chat

    async def _call_webhook(self) -> None:
        """Bring what waits to the webhook, one after another, each until it is taken."""
        async with ClientSession(timeout=ClientTimeout(total=10)) as session:
            while True:
                async with self._news:
                    await self._news.wait_for(lambda: self.webhook and self.queue)
                update, status = self.queue[0], 0
                secret = {"X-Telegram-Bot-Api-Secret-Token": self.webhook.get("secret_token", "")}
                with suppress(ClientError, TimeoutError):
                    async with session.post(self.webhook["url"], json=update, headers=secret) as response:
                        status = response.status
                if 200 <= status < 300:
                    self.queue.remove(update)
                else:
                    self.webhook_error = f"Wrong response from the webhook: {status}"
                    await asyncio.sleep(0.05)


_SPELLING = {
    name.lower(): name
    for name in (
        *("getMe", "getUpdates", "setWebhook", "deleteWebhook", "getWebhookInfo", "sendMessage", "sendChatAction"),
        *("answerCallbackQuery", "editMessageReplyMarkup", "setMyCommands"),
    )
}


def _value(key: str, value: Any) -> Any:
    """A parameter: objects and lists come as JSON, texts as they are."""
    if key != "text" and str(value)[:1] in ("{", "["):
        return json.loads(str(value))
    return value


def _refused(error: Refusal) -> web.Response:
    content: Json = {"ok": False, "error_code": error.code, "description": error.description}
    if error.parameters:
        content["parameters"] = error.parameters
    return web.json_response(content, status=error.code)


def _checked(markup: Json) -> Json:
    """A keyboard, if its buttons could be pressed."""
    for row in markup["inline_keyboard"]:
        for button in row:
            if not 1 <= len(button.get("callback_data", "").encode()) <= 64:
                raise Refusal(400, "Bad Request: BUTTON_DATA_INVALID")
    return markup
