"""A Telegram adapter that runs against the server of `telegram_server`, at a pace for tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from telegram_server import TOKEN, TelegramServer

from adapters.admission import Admission
from adapters.base import Spine
from adapters.telegram import Pace, TelegramAdapter, Timing
from chatbot.access import Access, Limits

AT_ONCE = Pace(chat_s=0.0, group_burst=10_000, overall_s=0.0)
QUICK = Timing(poll_s=2.0, answer_s=2.0, typing_s=0.05, first_pause_s=0.05)
UNLIMITED = Limits(0, 0)


@asynccontextmanager
async def running(
    server: TelegramServer,
    spine: Spine,
    *,
    admission: Admission | None = None,
    drain: float = 5.0,
    pace: Pace = AT_ONCE,
    timing: Timing = QUICK,
    **settings: object,
) -> AsyncIterator[asyncio.Task[None]]:
    """The adapter in a task, from its first poll on; ended as the program ends it. Its own failure comes out."""
    admission = admission or Admission(Access(), UNLIMITED)
    adapter = TelegramAdapter(settings, admission, drain, pace=pace, timing=timing)
    task = asyncio.create_task(adapter.run(spine))
    try:
        yield task
    finally:
        if not task.cancelling():  # A second time would break off the drain.
            task.cancel()
        ended, _ = await asyncio.wait({task}, timeout=60)
        assert ended, "the adapter was told to end, and goes on"
        with suppress(asyncio.CancelledError):
            task.result()


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Plays a coroutine function with a server to which the environment points."""

    def play(act: Callable[[TelegramServer], Coroutine[Any, Any, None]], **more: Any) -> None:
        async def whole() -> None:
            async with TelegramServer(**more) as server:
                monkeypatch.setenv("TELEGRAM_BOT_TOKEN", TOKEN)
                monkeypatch.setenv("TELEGRAM_API_URL", server.url)
                await asyncio.wait_for(act(server), 90)

        asyncio.run(whole())

    return play
