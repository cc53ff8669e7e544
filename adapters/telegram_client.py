"""The Bot API as the rest of the Telegram adapter calls it: python-telegram-bot's `Bot`, with failures told apart.

An error says whether the call was certainly not carried out (`NotReachedError`), must be repeated later (`LaterError`)
or was refused; whatever else python-telegram-bot raises leaves that open. No log and no error of ours holds the token,
which stands in every URL.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import httpx
from telegram import Bot
from telegram.error import BadRequest, InvalidToken, NetworkError, TelegramError
from telegram.request import BaseRequest, HTTPXRequest, RequestData

from adapters.aside import apart
from chatbot.errors import UsageError

T = TypeVar("T")
log = logging.getLogger(__name__)

ALLOWED_UPDATES = ("message", "edited_message", "callback_query")
_OFFICIAL = "https://api.telegram.org"
_FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0
# What fails before a request is on its way.
_BEFORE_SENDING = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)
_DEFAULT = BaseRequest.DEFAULT_NONE
BAD_TOKEN = (
    "Telegram refuses the bot token: copy it again from @BotFather (/mybots, API Token) into TELEGRAM_BOT_TOKEN; "
    "if TELEGRAM_API_URL is set, check that it is the base of a Bot API server"
)


class NotReachedError(NetworkError):
    """The call was certainly not carried out: no connection, or an answer of the 5xx kind."""


class LaterError(TelegramError):
    """The call was refused for now and must not be repeated before `seconds` have passed."""

    def __init__(self, seconds: float) -> None:
        super().__init__("too many requests")
        self.seconds = seconds


def read_token() -> str:
    """The token from TELEGRAM_BOT_TOKEN or the file that TELEGRAM_BOT_TOKEN_FILE names; UsageError without one."""
    token, file = os.environ.get("TELEGRAM_BOT_TOKEN", "").strip(), os.environ.get("TELEGRAM_BOT_TOKEN_FILE")
    if not token and file:
        try:
            token = Path(file).expanduser().read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise UsageError(f"the file {file} cannot be read ({reason}): check TELEGRAM_BOT_TOKEN_FILE") from None
    if not token:
        raise UsageError(
            "there is no Telegram token: make a bot with @BotFather and put its token into TELEGRAM_BOT_TOKEN, "
            "or into a file that TELEGRAM_BOT_TOKEN_FILE names"
        )
    if not re.fullmatch(r"[\w:-]+", token, re.ASCII):
        raise UsageError("TELEGRAM_BOT_TOKEN holds characters that no token has: copy it again from @BotFather")
    return token


class _Request(HTTPXRequest):
    """Requests whose errors say what became of the call, and that never log what a server answered."""

    async def do_request(
        self,
        url: str,
        method: str,
        request_data: RequestData | None = None,
        read_timeout: Any = _DEFAULT,
        write_timeout: Any = _DEFAULT,
        connect_timeout: Any = _DEFAULT,
        pool_timeout: Any = _DEFAULT,
    ) -> tuple[int, bytes]:
        """One request; NotReachedError, LaterError or BadRequest where the status or the failure is clear."""
        try:
            status, body = await super().do_request(
                url, method, request_data, read_timeout, write_timeout, connect_timeout, pool_timeout
            )
        except NetworkError as error:
            if isinstance(error.__cause__, _BEFORE_SENDING):
                raise NotReachedError(type(error.__cause__).__name__) from None
            raise
        if status >= 500:
            raise NotReachedError(f"HTTP status {status}")
        if status == 429:
            raise LaterError(_retry_after(body))
        if status in {402, 405, 406, 411, 413, 414, 415, 422}:
            raise BadRequest(f"HTTP status {status}")
        return status, body

    @staticmethod
    def parse_json_payload(payload: bytes) -> dict[str, Any]:
        """The answer as an object; TelegramError for anything else."""
        try:
            answer = json.loads(payload.decode("utf-8", "replace"))
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            raise TelegramError("the server's answer is no JSON object")
        return answer


def _retry_after(body: bytes) -> float:
    """The seconds that a "too many requests" asks for, at least one."""
    with suppress(TelegramError, AttributeError, TypeError, ValueError):
        return max(1.0, float(_Request.parse_json_payload(body)["parameters"]["retry_after"]))
    return 1.0


class Client:
    """A `Bot` with one connection for updates and a pool for the rest, open from `async with` on.

    `timeout_s` is how long an answer may take before the outcome of a call counts as unknown.
    """

    def __init__(self, token: str, timeout_s: float = 30.0) -> None:
        keep_token_out_of_logs()
        base = (os.environ.get("TELEGRAM_API_URL") or _OFFICIAL).rstrip("/")
        if not re.match(r"https?://[^/]", base):
            raise UsageError(f"TELEGRAM_API_URL is {base!r}: it must begin with http:// or https://")
        self.host = httpx.URL(base).host
        self._requests = [
            _Request(size, timeout_s, timeout_s, connect_timeout=min(10.0, timeout_s), pool_timeout=timeout_s)
            for size in (2, 256)
        ]
        self._timeout_s = timeout_s
        self.bot = Bot(
            token,
            base_url=f"{base}/bot",
            base_file_url=f"{base}/file/bot",
            get_updates_request=self._requests[0],
            request=self._requests[1],
        )

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for request in self._requests:
            await request.shutdown()

    async def updates(self, offset: int | None, wait_s: float, limit: int = 100) -> Sequence[Any]:
        """What has come, as JSON, after at most `wait_s`; what is below `offset` is confirmed by that.

        Not as python-telegram-bot's objects: it refuses a whole batch for one update that it cannot read.
        """
        wanted = {"offset": offset, "timeout": round(wait_s), "limit": limit, "allowed_updates": list(ALLOWED_UPDATES)}
        # The name is spelt so that the library takes it for a method that it does not know, and gives what came.
        result = await self.bot.do_api_request("get__updates", wanted, read_timeout=wait_s + self._timeout_s)
        return result if isinstance(result, list) else []


async def patiently(call: Callable[[], Coroutine[Any, Any, T]], what: str) -> T:
    """What a call gives, repeated until Telegram is reached; UsageError for a bad token, TelegramError if refused."""
    pause = _FIRST_PAUSE_S
    while True:
        try:
            return await apart(call())
        except InvalidToken:
            raise UsageError(BAD_TOKEN) from None
        except BadRequest:
            raise
        except LaterError as error:
            wait = error.seconds
        except NetworkError as error:
            if pause == _FIRST_PAUSE_S:
                log.warning("telegram: cannot be reached for %s (%s); trying again", what, type(error).__name__)
            wait = pause
        await asyncio.sleep(wait)
        pause = min(2 * pause, LONGEST_PAUSE_S)


def keep_token_out_of_logs() -> None:
    """The libraries log URLs at INFO, what people write at DEBUG: now warnings alone, whatever the root says."""
    for name in ("httpx", "httpcore", "telegram"):
        logger = logging.getLogger(name)
        logger.setLevel(max(logging.WARNING, logger.level))
