"""Adapters side by side: one that fails starts again, the others go on, and all end in good order when told to.

What went wrong is said in the log by class and place, or in the words of an error of ours; never what people wrote.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass

from adapters.base import Adapter, Spine
from adapters.lanes import where
from chatbot.errors import ChatbotError, UsageError

log = logging.getLogger(__name__)

_CLOSING_S = 5.0  # for what an adapter has to do besides draining, such as closing connections


@dataclass(frozen=True, slots=True)
class Backoff:
    """Seconds until an adapter that failed starts again: doubled each time, and anew after it has run quietly."""

    first: float = 1.0
    longest: float = 300.0
    quiet: float = 600.0


async def supervise(adapter: Adapter, spine: Spine, backoff: Backoff) -> None:
    """Run an adapter until it ends by itself; start it again when it fails.

    A UsageError, which only the operator can mend, ends it and is raised.
    """
    loop, pause = asyncio.get_running_loop(), backoff.first
    while True:
        started = loop.time()
        try:
            log.info("%s: starts", adapter.name)
            await adapter.run(spine)
            log.info("%s: has ended", adapter.name)
            return
        except UsageError as error:
            log.error("%s: stays stopped: %s", adapter.name, error)
            raise
        except ChatbotError as error:
            reason = str(error)
        except Exception as error:
            reason = where(error)
        if loop.time() - started > backoff.quiet:
            pause = backoff.first
        log.error("%s: failed: %s; starts again in %g s", adapter.name, reason, pause)
        await asyncio.sleep(pause)
        pause = min(2 * pause, backoff.longest)


class Supervisor:
    """Runs `adapters` on a spine. `stop` may be called from a signal handler of the event loop."""

    def __init__(self, adapters: Sequence[Adapter], spine: Spine, drain_seconds: float, backoff: Backoff) -> None:
        self._adapters = adapters
        self._spine = spine
        self._drain_seconds = drain_seconds
        self._backoff = backoff
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Let every adapter take nothing new and finish what it has begun; a second call does not wait for that."""
        if not self._stopping.is_set():
            log.info("stopping: what is on its way is finished, for up to %g s", self._drain_seconds)
        self._stopping.set()
        for task in self._tasks:
            task.cancel()

    async def run(self) -> None:
        """Run until all adapters have ended or `stop` was called; a UsageError of one is raised when none runs on."""
        self._tasks = [
            asyncio.create_task(supervise(adapter, self._spine, self._backoff), name=adapter.name)
            for adapter in self._adapters
        ]
        stopping, ended = asyncio.create_task(self._stopping.wait()), asyncio.create_task(self._ended())
        try:
            await asyncio.wait([stopping, ended], return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            self.stop()
            await self._see_out()
            raise
        finally:
            stopping.cancel()
            ended.cancel()
        if self._stopping.is_set():
            await self._see_out()
            return
        failures = [error for task in self._tasks if (error := task.exception()) is not None]
        if failures:
            raise failures[0]

    async def _ended(self) -> bool:
        await asyncio.wait(self._tasks)
        return True

    async def _see_out(self) -> None:
        """Wait for the adapters to end, and no longer than that may take."""
        ended, late = await asyncio.wait(self._tasks, timeout=self._drain_seconds + _CLOSING_S)
        for task in ended:
            if not task.cancelled():
                task.exception()  # It has been said; asyncio would say it again, with a traceback.
        for task in late:
            log.error("%s: did not end in time", task.get_name())
            task.cancel()
