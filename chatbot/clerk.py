"""One thread for the calls of the store that every message needs: those that wait together share a transaction.

A commit waits for the disk, some milliseconds, whatever is in it. So as many messages as there are can be followed at
the price of one, and no more than one thread contends with the event loop. It knows calls, but nothing of what they do.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
_Call = tuple[Callable[[], Any], Future[Any]]
_MOST_AT_ONCE = 16  # calls in a transaction: other processes want to write, and the event loop gets all at once


class Clerk:
    """Does calls in the order in which they come. `together` makes those of a thread one transaction while it is open.

    What a call has written is committed when it returns; one that fails takes nothing else with it.
    """

    def __init__(self, together: Callable[[], AbstractContextManager[None]]) -> None:
        self._together = together
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="clerk")
        self._waiting: deque[_Call] = deque()

    async def do(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What a call gives or raises. It must be short, and may be done again if another one fails beside it."""
        done: Future[T] = Future()
        self._waiting.append((partial(call, *args, **kwargs), done))
        self._thread.submit(self._work)
        return await whole(asyncio.wrap_future(done))

    def _work(self) -> None:
        """Do what waits, if an earlier turn has left anything."""
        turn = [self._waiting.popleft() for _ in range(min(len(self._waiting), _MOST_AT_ONCE))]
        if turn:
            self._carry_out(turn)

    def _carry_out(self, turn: Sequence[_Call]) -> None:
        calling = False
        try:
            with self._together():
                calling = True
                given = [call() for call, _ in turn]
                calling = False
        except Exception as error:
            if calling and len(turn) > 1:  # Nothing of it is kept; whose fault it is shows when each is done alone.
                for one in turn:
                    self._carry_out([one])
                return
            for _, done in turn:
                done.set_exception(error)
            return
        for (_, done), value in zip(turn, given, strict=True):
            done.set_result(value)


async def whole(doing: asyncio.Future[T]) -> T:
    """What is being done gives, done whole: a cancelled caller leaves only when it has ended.

    Otherwise the next message of the chat could overtake what this one is still writing.
    """
    try:
        return await asyncio.shield(doing)
    except asyncio.CancelledError:
        if not doing.done():
            await asyncio.wait([doing])
        if not doing.cancelled():
            doing.exception()  # Nobody is left to be told.
        raise
