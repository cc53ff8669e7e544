"""Things done in tasks of their own: begun beside the rest, and seen out at the end."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Coroutine
from typing import Any

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
