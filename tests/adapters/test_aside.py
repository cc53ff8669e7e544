"""Calls apart from who waits for them: what they give, how they fail, and that they end with who waits."""

from __future__ import annotations

import asyncio

import pytest

from adapters.aside import apart


def test_a_call_gives_and_raises_as_it_would_by_itself() -> None:
    """The value, or the error."""

    async def call(value: int) -> int:
        await asyncio.sleep(0)
        if value < 0:
            raise ValueError(value)
        return value

    assert asyncio.run(apart(call(3))) == 3
    with pytest.raises(ValueError, match="-1"):
        asyncio.run(apart(call(-1)))


def test_a_cancellation_that_the_call_loses_ends_it_all_the_same() -> None:
    """As when a connection is made just then: the call takes it for its own and goes on, but the caller ends."""
    lost = 0

    async def call() -> None:
        nonlocal lost
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                lost += 1
                if lost > 1:
                    raise

    async def cancelled() -> None:
        waiting = asyncio.create_task(apart(call()))
        await asyncio.sleep(0.01)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(asyncio.shield(waiting), 30)

    asyncio.run(cancelled())

    assert lost == 2
