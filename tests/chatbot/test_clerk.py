"""Calls of the store that wait together: one transaction for all, and none that pays for another's mistake."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from chatbot.clerk import Clerk
from chatbot.errors import DatabaseError


@dataclass
class Transactions:
    """Tells how many calls each transaction held; the next one can be kept waiting, or fail at its commit."""

    sizes: list[int] = field(default_factory=list)
    go: threading.Event = field(default_factory=threading.Event)
    fails: bool = False
    calls: int = 0

    @contextmanager
    def together(self) -> Iterator[None]:
        """One transaction."""
        self.go.wait(30)
        self.calls = 0
        yield
        self.sizes.append(self.calls)
        if self.fails:
            raise DatabaseError("the disk is full")

    def call(self, value: int) -> Callable[[], int]:
        """A call that gives a value, or raises what is below nothing."""

        def counted() -> int:
            self.calls += 1
            if value < 0:
                raise ValueError(value)
            return value

        return counted


def outcomes(transactions: Transactions, *values: int) -> list[int | BaseException]:
    """What calls give, the first of which waits until all the others wait, too."""

    async def handed_in() -> list[int | BaseException]:
        clerk = Clerk(transactions.together)
        waiting = [asyncio.ensure_future(clerk.do(transactions.call(value))) for value in values]
        await asyncio.sleep(0)
        transactions.go.set()
        return await asyncio.gather(*waiting, return_exceptions=True)

    return asyncio.run(handed_in())


def test_calls_that_wait_together_share_a_transaction() -> None:
    """The first is under way; the other six pay for one commit, and each gets what is its own."""
    transactions = Transactions()

    assert outcomes(transactions, *range(7)) == list(range(7))
    assert len(transactions.sizes) <= 2
    assert sum(transactions.sizes) == 7


def test_a_call_that_fails_takes_nothing_else_with_it() -> None:
    """Its transaction is given up, and each of its calls done again by itself."""
    transactions = Transactions()

    given = outcomes(transactions, 2, 3, -5, 7)

    assert [value for value in given if isinstance(value, int)] == [2, 3, 7]
    assert isinstance(given[2], ValueError)


def test_a_commit_that_fails_fails_all() -> None:
    """Nobody is told that something is kept which is not; and it is not tried call by call, each with its own wait."""
    transactions = Transactions(fails=True)

    given = outcomes(transactions, 2, 3, 5)

    assert all(isinstance(value, DatabaseError) for value in given)
    assert len(transactions.sizes) <= 2


def test_a_cancelled_caller_leaves_when_its_call_has_ended() -> None:
    """Otherwise the next message could overtake what this one still writes."""
    transactions = Transactions()

    async def cancelled() -> None:
        waiting = asyncio.ensure_future(Clerk(transactions.together).do(transactions.call(3)))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.sleep(0)
        assert not waiting.done()
        transactions.go.set()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert transactions.sizes == [1]

    asyncio.run(cancelled())
