"""Worker threads that answer whatever waits, a batch at a time, behind a bounded queue with a deadline.

In: items of any kind. Out: a result each, through futures. It knows no text and no model. Nothing is waited for: an
item that comes alone is worked on alone, and what arrives meanwhile is the next batch.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

from chatbot.errors import EngineBusyError

Item = TypeVar("Item")
Result = TypeVar("Result")


class BatchWorker(Generic[Item, Result]):
    """Calls `work` with up to `max_batch` items, in `workers` threads at a time, in the order in which they came.

    `work` returns a result an item; what it raises goes to all items of that batch, and the next batch is tried.
    At most `queue_size` items wait; nobody waits longer than `deadline_s` seconds for a result.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Item]], Sequence[Result]],
        *,
        workers: int = 1,
        max_batch: int = 16,
        queue_size: int = 256,
        deadline_s: float = 30.0,
    ) -> None:
        self._work = work
        self._max_batch = max_batch
        self._queue_size = queue_size
        self._deadline_s = deadline_s
        self._lock = threading.Lock()
        self._waiting: deque[tuple[Item, Future[Result]]] = deque()
        # The executor is the threads and their life: they end with `close`, with this object, or with the program.
        self._executor = ThreadPoolExecutor(workers, thread_name_prefix="batch-worker")

    async def answer(self, item: Item) -> Result:
        """The result for `item`, awaited. EngineBusyError if the queue is full or the deadline passes.

        Cancelling the awaiting task takes the item out of the queue, unless its batch has begun.
        """
        import asyncio  # here and elsewhere on the way to a reply in the function: `reply_sync` can do without

        future = self.submit(item)
        try:
            async with asyncio.timeout(self._deadline_s):
                return await asyncio.wrap_future(future)
        except TimeoutError:
            raise self._too_late() from None

    def answer_sync(self, item: Item) -> Result:
        """`answer` for callers without an event loop."""
        future = self.submit(item)
        try:
            return future.result(timeout=self._deadline_s)
        except TimeoutError:
            future.cancel()
            raise self._too_late() from None

    def submit(self, item: Item) -> Future[Result]:
        """Queue `item` at once; cancel the future to drop it. EngineBusyError if the queue is full or closed."""
        future: Future[Result] = Future()
        with self._lock:
            if len(self._waiting) >= self._queue_size:
                # Whoever gave up waiting must not keep others out.
                self._waiting = deque(entry for entry in self._waiting if not entry[1].cancelled())
            if len(self._waiting) >= self._queue_size:
                raise EngineBusyError(f"{self._queue_size} requests are waiting already; try again in a moment")
            try:
                self._executor.submit(self._run_batch)
            except RuntimeError:
                raise EngineBusyError("the engine is closing; start it again to go on") from None
            self._waiting.append((item, future))
        return future

    def close(self) -> None:
        """Take nothing new, answer what waits, and return when the threads have ended."""
        self._executor.shutdown(wait=True)

    def _run_batch(self) -> None:
        """One call is scheduled for each item, so that calls never run out; those that come too late find nothing."""
        with self._lock:
            batch: list[tuple[Item, Future[Result]]] = []
            while self._waiting and len(batch) < self._max_batch:
                item, future = self._waiting.popleft()
                if future.set_running_or_notify_cancel():
                    batch.append((item, future))
        if not batch:
            return
        try:
            results = self._work([item for item, _ in batch])
            for (_, future), result in zip(batch, results, strict=True):
                future.set_result(result)
        except BaseException as error:  # whatever it is, it belongs to those who asked, and the thread goes on
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)

    def _too_late(self) -> EngineBusyError:
        return EngineBusyError(f"no reply within {self._deadline_s:g} s; try again in a moment")
