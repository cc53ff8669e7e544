"""Things done in tasks of their own: begun beside the rest, seen out at the end, or apart from who waits for them."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
_LAST_CALLS_S = 2.0


def begin(work: Coroutine[Any, Any, None], tasks: set[asyncio.Task[None]]) -> None:
    """Do something in a task of its own, which stands in `tasks` until it has ended."""
    task = asyncio.create_task(work)
    tasks.add(task)
    task.add_done_callback(tasks.discard)


async def see_out(tasks: Collection[asyncio.Task[None]]) -> None:
    """Let calls that are under way end; after two seconds they are broken off.

    Not at once: of a call that is broken off while it connects, a library may leave the connection open.
    """
    if tasks:
        await asyncio.wait(tasks, timeout=_LAST_CALLS_S)
    late = list(tasks)
    for task in late:
        task.cancel()
    await asyncio.gather(*late, return_exceptions=True)


async def apart(call: Coroutine[Any, Any, T]) -> T:
    """What a call gives; when the caller is cancelled, the call is, until it has ended.

    In a task of its own: a cancellation that arrives just as a connection is made can be taken by anyio for its own,
    and get lost. Whoever had cancelled us would then wait for ever.
    """
    task = asyncio.create_task(call)
    try:
        await asyncio.wait({task})
    finally:
        while not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=1.0)
        lost = None if task.cancelled() else task.exception()  # looked at, or asyncio complains of it
    if lost is not None:
        raise lost
    return task.result()
