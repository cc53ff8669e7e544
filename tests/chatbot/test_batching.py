"""The worker between many conversations and one model. Events, not sleeps, say when the fake model is busy."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import wait

import pytest

from chatbot.batching import BatchWorker
from chatbot.errors import EngineBusyError

PATIENCE_S = 20  # how long a test waits for what must come at once, before it fails


class SlowModel:
    """Doubles numbers, when it is let; remembers its batches."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.free = threading.Event()
        self.batches: list[list[int]] = []

    def work(self, items: Sequence[int]) -> list[int]:
        """Twice each; ValueError for a batch with a negative one."""
        self.batches.append(list(items))
        self.begun.set()
        assert self.free.wait(PATIENCE_S)
        if min(items) < 0:
            raise ValueError("negative")
        return [2 * item for item in items]


def test_what_waits_becomes_one_batch() -> None:
    """An item alone is not kept waiting; those that come meanwhile go together, in order, at most `max_batch`."""
    model = SlowModel()
    worker = BatchWorker(model.work, max_batch=5)

    futures = [worker.submit(0)]
    assert model.begun.wait(PATIENCE_S)
    futures += [worker.submit(item) for item in range(1, 8)]
    model.free.set()

    assert [future.result(PATIENCE_S) for future in futures] == [0, 2, 4, 6, 8, 10, 12, 14]
    assert model.batches == [[0], [1, 2, 3, 4, 5], [6, 7]]
    worker.close()


def test_a_full_queue_is_said_at_once() -> None:
    """The item that does not fit is refused without waiting, and one that was given up makes room."""
    model = SlowModel()
    worker = BatchWorker(model.work, queue_size=3)
    futures = [worker.submit(0)]
    assert model.begun.wait(PATIENCE_S)
    futures += [worker.submit(item) for item in (1, 2, 3)]

    with pytest.raises(EngineBusyError, match="3 requests are waiting"):
        worker.submit(4)
    futures[2].cancel()
    futures.append(worker.submit(5))
    model.free.set()
    worker.close()

    assert model.batches == [[0], [1, 3, 5]]


@pytest.mark.parametrize("synchronous", [True, False])
def test_a_deadline_ends_the_waiting(synchronous: bool) -> None:
    """Whoever has waited too long is told, with an event loop or without, and costs the model nothing more."""
    model = SlowModel()
    worker = BatchWorker(model.work, deadline_s=0.01)
    running = worker.submit(1)
    assert model.begun.wait(PATIENCE_S)

    with pytest.raises(EngineBusyError, match=r"within 0.01 s"):
        _ = worker.answer_sync(2) if synchronous else asyncio.run(worker.answer(2))
    model.free.set()

    assert running.result(PATIENCE_S) == 2
    worker.close()
    assert model.batches == [[1]]


def test_an_error_goes_to_its_batch_and_no_further() -> None:
    """What the model raises reaches those who asked; the next batch is answered as if nothing had been."""
    model = SlowModel()
    model.free.set()
    worker = BatchWorker(model.work)

    with pytest.raises(ValueError, match="negative"):
        worker.answer_sync(-1)

    assert worker.answer_sync(21) == 42
    worker.close()


def test_too_few_results_are_an_error_too() -> None:
    """A model that returns fewer results than it got items leaves nobody waiting for ever."""
    worker: BatchWorker[int, int] = BatchWorker(lambda items: [])

    with pytest.raises(ValueError, match="shorter"):
        worker.answer_sync(1)

    worker.close()


def test_the_event_loop_runs_on_while_the_model_works() -> None:
    """A ticker gets its turns while the model is busy; if awaiting blocked the loop, nobody would free the model."""
    model = SlowModel()
    worker = BatchWorker(model.work)

    async def talk() -> list[int]:
        replies = asyncio.gather(*(worker.answer(item) for item in range(7)))
        while not model.begun.is_set():
            await asyncio.sleep(0)
        for _ in range(101):
            await asyncio.sleep(0)
        assert not replies.done()
        model.free.set()
        return await replies

    assert asyncio.run(asyncio.wait_for(talk(), PATIENCE_S)) == [0, 2, 4, 6, 8, 10, 12]
    worker.close()


def test_a_cancelled_request_is_never_worked_on() -> None:
    """Ctrl-C while waiting in the queue takes the request out of it; the others stay."""
    model = SlowModel()
    worker = BatchWorker(model.work)

    async def talk() -> list[int]:
        first = asyncio.create_task(worker.answer(1))
        while not model.begun.is_set():
            await asyncio.sleep(0)
        given_up, last = asyncio.create_task(worker.answer(2)), asyncio.create_task(worker.answer(3))
        await asyncio.sleep(0)
        given_up.cancel()
        await asyncio.sleep(0)
        model.free.set()
        with pytest.raises(asyncio.CancelledError):
            await given_up
        return [await first, await last]

    assert asyncio.run(asyncio.wait_for(talk(), PATIENCE_S)) == [2, 6]
    assert model.batches == [[1], [3]]
    worker.close()


def test_closing_answers_what_waits_and_ends_the_thread() -> None:
    """`close` drains the queue; afterwards the thread is gone and new items are refused."""
    model = SlowModel()
    worker = BatchWorker(model.work)
    before = {thread.name for thread in threading.enumerate()}
    futures = [worker.submit(item) for item in range(19)]
    model.free.set()

    worker.close()

    assert not wait(futures, timeout=0).not_done
    assert {thread.name for thread in threading.enumerate() if thread.is_alive()} <= before
    with pytest.raises(EngineBusyError, match="closing"):
        worker.submit(1)


def test_several_workers_work_at_the_same_time() -> None:
    """Two batches are under way at once, which the barrier tells: alone nobody passes it. All get their own result."""
    together = threading.Barrier(2)

    def work(items: Sequence[int]) -> list[int]:
        together.wait(PATIENCE_S)
        return [2 * item for item in items]

    worker = BatchWorker(work, workers=2, max_batch=1)
    futures = [worker.submit(item) for item in range(6)]

    assert [future.result(PATIENCE_S) for future in futures] == [0, 2, 4, 6, 8, 10]
    worker.close()
