"""Adapters side by side: failures, new starts, and how all of them end. On adapters without a platform."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Sequence

import pytest
from fakes import MemorySpine

from adapters.base import Spine
from adapters.supervision import Backoff, Supervisor
from chatbot.errors import ChatbotError, UsageError

QUICK = Backoff(first=0.01, longest=0.04, quiet=600)


class Failing:
    """An adapter that fails with one of `failures` a session, and then runs until it is cancelled."""

    def __init__(self, name: str, *failures: Exception) -> None:
        self.name = name
        self.starts: list[float] = []
        self.closed = False
        self._failures = list(failures)

    async def run(self, spine: Spine) -> None:
        """One session."""
        self.starts.append(asyncio.get_running_loop().time())
        if self._failures:
            raise self._failures.pop(0)
        try:
            await asyncio.sleep(3600)
        finally:
            self.closed = True


class Passing(Failing):
    """An adapter whose session is over at once."""

    async def run(self, spine: Spine) -> None:
        """Nothing to do."""
        self.starts.append(0.0)


def supervise(adapters: Sequence[Failing], starts: int, backoff: Backoff = QUICK) -> None:
    """Run adapters until there have been so many starts, then stop them."""

    async def session() -> None:
        supervisor = Supervisor(adapters, MemorySpine(), 1.0, backoff)
        running = asyncio.create_task(supervisor.run())
        while sum(len(adapter.starts) for adapter in adapters) < starts and not running.done():
            await asyncio.sleep(0.001)
        supervisor.stop()
        await running

    asyncio.run(session())


@pytest.fixture(autouse=True)
def everything_logged(caplog: pytest.LogCaptureFixture) -> None:
    """From INFO on."""
    caplog.set_level(logging.INFO, "adapters")


def test_one_that_fails_starts_again_and_others_go_on(caplog: pytest.LogCaptureFixture) -> None:
    """With a pause that doubles up to a limit; the other adapter is started once and closed in the end."""
    failing = Failing("one", *(ZeroDivisionError() for _ in range(4)))
    other = Failing("other")

    supervise([failing, other], 6)

    pauses = [after - before for before, after in zip(failing.starts, failing.starts[1:], strict=False)]
    least = (0.01, 0.02, 0.04, 0.04)
    assert all(pause >= at_least for pause, at_least in zip(pauses, least, strict=True))
    assert len(other.starts) == 1
    assert (failing.closed, other.closed) == (True, True)
    assert "starts again in 0.04 s" in caplog.text


def test_the_reason_is_said_without_content(caplog: pytest.LogCaptureFixture) -> None:
    """A mistake by class, file and line, since its text may hold what people wrote; an error of ours in its words."""
    supervise([Failing("one", ValueError("private words"), ChatbotError("the network is down"))], 3)

    assert "one: failed: ValueError at test_supervision.py:" in caplog.text
    assert "one: failed: the network is down; starts again" in caplog.text
    assert "private" not in caplog.text


def test_a_pause_is_short_again_after_a_quiet_time(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever has run for long enough has not been failing."""
    supervise([Failing("one", *(ZeroDivisionError() for _ in range(3)))], 4, Backoff(0.01, 0.04, quiet=-1))

    assert caplog.text.count("starts again in 0.01 s") == 3


def test_what_only_the_operator_can_mend_is_not_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    """A bad token stops its adapter, with the reason, while the other runs on; stopping then is no failure."""
    bad, good = Failing("bad", UsageError("the token is refused")), Failing("good")

    supervise([bad, good], 2)

    assert len(bad.starts) == 1
    assert "bad: stays stopped: the token is refused" in caplog.text
    assert good.closed


def test_when_none_runs_on_the_reason_is_raised(caplog: pytest.LogCaptureFixture) -> None:
    """The command ends with the first, and with exit code 2; the others stand in the log, without a traceback."""
    bad = [Failing(name, UsageError(f"the token of {name} is refused")) for name in ("one", "two")]

    with pytest.raises(UsageError, match="the token of one is refused"):
        supervise([*bad, Passing("done")], 9)
    gc.collect()

    assert "two: stays stopped: the token of two is refused" in caplog.text
    assert {record.name for record in caplog.records} == {"adapters.supervision"}


def test_it_ends_when_all_have_ended() -> None:
    """Sessions that are over, such as a terminal's, are not started again."""
    adapters = [Passing("one"), Passing("two")]

    supervise(adapters, 9)

    assert [len(adapter.starts) for adapter in adapters] == [1, 1]


def test_one_that_waits_for_its_next_start_can_be_stopped() -> None:
    """Stopping does not wait for a pause to pass."""
    failing = Failing("one", ZeroDivisionError())

    supervise([failing], 1, Backoff(first=3600))

    assert len(failing.starts) == 1
