"""The Bot API as the rest of the Telegram adapter calls it: python-telegram-bot's `Bot`, with failures told apart.

An error says whether the call was certainly not carried out (`NotReachedError`), must be repeated later (`LaterError`)
or was refused; whatever else python-telegram-bot raises leaves that open. No log and no error of ours holds the token,
which stands in every URL. Of servers no more is asked than is needed: what a bot has to know of itself, and of what it
has sent, is taken from the plain answers, which the library would refuse for a field that nobody looks at.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import aiohttp
from telegram import Bot, User
from telegram.error import BadRequest, InvalidToken, NetworkError, TelegramError
from telegram.request import BaseRequest, RequestData
from yarl import URL

from chatbot.errors import UsageError

T = TypeVar("T")
log = logging.getLogger(__name__)

ALLOWED_UPDATES = ("message", "edited_message", "callback_query")
_OFFICIAL = "https://api.telegram.org"
_FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0
_CONNECTING_S = 10.0
# What fails before a request is on its way.
_BEFORE_SENDING = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.ClientHttpProxyError)
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


class _Request(BaseRequest):
    """Requests whose errors say what became of the call, and that never log what a server answered.

    By aiohttp: the library's own way, over httpx, costs the event loop five times as much for a call.
    """

    def __init__(self, connections: int, timeout_s: float) -> None:
        self._connections = connections
        self._timeout_s = timeout_s
        self._session: aiohttp.ClientSession | None = None

    @property
    def read_timeout(self) -> float:
        """For how long an answer may take."""
        return self._timeout_s

    async def initialize(self) -> None:
        """Nothing is opened before the first call."""

    async def shutdown(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

    async def do_request(
        self,
        url: str,
        method: str,
        request_data: RequestData | None = None,
        read_timeout: Any = BaseRequest.DEFAULT_NONE,
        write_timeout: Any = BaseRequest.DEFAULT_NONE,
        connect_timeout: Any = BaseRequest.DEFAULT_NONE,
        pool_timeout: Any = BaseRequest.DEFAULT_NONE,
    ) -> tuple[int, bytes]:
        """One request; NotReachedError, LaterError or BadRequest where the status or the failure is clear."""
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=self._connections)
            self._session = aiohttp.ClientSession(
                connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trust_env=True
            )
        wait = self._timeout_s if read_timeout is BaseRequest.DEFAULT_NONE else read_timeout
        limits = aiohttp.ClientTimeout(connect=min(_CONNECTING_S, self._timeout_s), sock_read=wait)
        fields = None if request_data is None else request_data.json_parameters
        try:
            async with self._session.request(
                method, url, data=fields, timeout=limits, allow_redirects=False
            ) as response:
                status, body = response.status, await response.read()
        except _BEFORE_SENDING as error:
            raise NotReachedError(type(error).__name__) from None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise NetworkError(type(error).__name__) from None
        if status == 200 and b'"result"' not in body:  # as a server that says in the answer alone that it refuses
            status = _said_status(body)
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


def _said_status(body: bytes) -> int:
    """The status that stands in an answer without a result; 200 if there is none."""
    with suppress(TelegramError):
        code = _Request.parse_json_payload(body).get("error_code")
        return code if isinstance(code, int) else 200
    return 200


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
        self.host = URL(base).host
        self._requests = [_Request(size, timeout_s) for size in (2, 256)]
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
        result = await self.call("getUpdates", wanted, wait_s + self._timeout_s)
        return result if isinstance(result, list) else []

    async def myself(self) -> User:
        """Who the bot is."""
        told = await self.call("getMe", {})
        known = told if isinstance(told, dict) else {}
        number = self.bot.token.partition(":")[0]
        bare = {"id": int(number) if number.isdecimal() else 0, "first_name": "", "username": ""}
        return User.de_json({**bare, **known, "is_bot": True}, self.bot)

    async def call(self, method: str, fields: Mapping[str, object], wait_s: float | None = None) -> Any:
        """What a method gives, as JSON; an answer may take `wait_s`, if it is given."""
        wait = BaseRequest.DEFAULT_NONE if wait_s is None else wait_s
        # Spelt so that the library takes it for a method that it does not know, and gives what came.
        unknown = re.sub("(?=[A-Z])", "__", method).lower()
        return await self.bot.do_api_request(unknown, dict(fields), read_timeout=wait)


async def patiently(call: Callable[[], Coroutine[Any, Any, T]], what: str) -> T:
    """What a call gives, repeated until Telegram is reached; UsageError for a bad token, TelegramError if refused."""
    pause = _FIRST_PAUSE_S
    while True:
        try:
            return await call()
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
    """The library logs what people write at DEBUG, and httpx, should it be used, URLs at INFO: now warnings alone."""
    for name in ("httpx", "httpcore", "telegram"):
        logger = logging.getLogger(name)
        logger.setLevel(max(logging.WARNING, logger.level))
