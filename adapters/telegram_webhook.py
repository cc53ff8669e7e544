"""Updates that Telegram brings to a port of ours, for operators with a public address (docs/telegram.md)."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from adapters.lanes import where
from chatbot.errors import ChatbotError, UsageError

log = logging.getLogger(__name__)
SECRET_HEADER = "X-Telegram-Bot-Api-Secret-Token"
BODY_LIMIT = 2 * 1024 * 1024  # bytes; Telegram's own updates stay far below


def secret_of(token: str) -> str:
    """What Telegram has to say with each update: made from the token, so that there is no second secret to keep."""
    return hmac.new(token.encode(), b"familect webhook", hashlib.sha256).hexdigest()


@asynccontextmanager
async def listening(
    url: str, host: str, port: int, secret: str, take: Callable[[Any], Awaitable[None]]
) -> AsyncIterator[None]:
    """Takes updates at `host` and `port`, at the path of `url`, meanwhile.

    200 is said when `take` has returned, 500 when it failed, which makes Telegram bring the update again. UsageError
    if the port cannot be had.
    """

    async def receive(request: web.Request) -> web.Response:
        given = request.headers.get(SECRET_HEADER, "")
        if not hmac.compare_digest(given.encode("utf-8", "surrogateescape"), secret.encode()):
            return web.Response(status=403)
        body = await request.read()  # 413 from here if it is too long
        try:
            update = json.loads(body)
        except (ValueError, RecursionError):
            return web.Response(status=400)
        try:
            await take(update)
        except ChatbotError as error:
            log.error("telegram: %s", error)
            return web.Response(status=500)
        except Exception as error:
            log.error("telegram: an update could not be taken: %s", where(error))
            return web.Response(status=500)
        return web.Response()

    application = web.Application(client_max_size=BODY_LIMIT)
    application.router.add_post(urlsplit(url).path or "/", receive)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            raise UsageError(
                f"telegram.webhook_port {port} on {host} cannot be listened on ({error.strerror}): "
                "stop what uses it, or choose another"
            ) from error
        yield
    finally:
        await runner.cleanup()
