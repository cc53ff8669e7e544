"""From an accepted message to its reply on the platform, for all messengers alike: one conversation, one lane.

In a lane messages are answered in order; lanes go on side by side, however long one of them waits. Each step is told to
the spine before or after it is taken, so that a new start can go on from there (docs/decisions/delivery.md). What one
platform is like, the lanes learn through `Outbound` alone.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Literal, Protocol, TypeVar

from adapters.aside import begin, see_out
from adapters.base import Spine
from chatbot.errors import ChatbotError, DatabaseError
from chatbot.messages import Message, Reply, Waiting

T = TypeVar("T")
log = logging.getLogger(__name__)

_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 60.0
_LONGEST_BURST = 20  # messages answered as one, when that is wanted
_ANSWERED_AT_ONCE = 64  # more would only wait in the engine's queue, where waiting has a deadline


class NotDeliveredError(Exception):
    """Raised by `Outbound.send`: the platform refused, and will for ever, for instance because it has blocked us."""


class MaybeDeliveredError(Exception):
    """Raised by `Outbound.send`: the call was made and its outcome is unknown."""


class NotYetError(Exception):
    """Raised by `Outbound.send`: certainly nothing was delivered; try again after `seconds`, or soon if None."""

    def __init__(self, seconds: float | None = None) -> None:
        super().__init__()
        self.seconds = seconds


@dataclass(frozen=True, slots=True)
class Part:
    """One platform message's share of a reply: its text, its number from 0, and whether it is the last."""

    text: str
    number: int
    last: bool


class Outbound(Protocol):
    """What the lanes need of a platform. `typing_s`: seconds from one sign that a reply is coming to the next."""

    typing_s: float

    def parts(self, message: Message, reply: Reply) -> Sequence[str]:
        """The reply's text in parts that the platform takes. The same reply always gives the same parts."""

    async def turn(self, message: Message) -> None:
        """Wait until the platform's limits let another part into this conversation. Called before each `send`."""

    async def send(self, message: Message, reply: Reply, part: Part) -> str:
        """Make the one call that delivers a part; the platform's id of it.

        Raises NotYetError, NotDeliveredError or MaybeDeliveredError; whatever else counts as the last.
        """

    async def show_typing(self, message: Message) -> bool:
        """Show once that a reply is coming; False, or whatever is raised: not again for this message."""


@dataclass(slots=True)
class _Job:
    """A message to see through; `reply` is None until there is one, `kept` False for what the spine does not know.

    `before` are messages that it answers, too; `alone` says that there shall be none.
    """

    message: Message
    reply: Reply | None = None
    sent: tuple[str, ...] = ()
    kept: bool = True
    before: tuple[Message, ...] = ()
    alone: bool = False

    def goes_on(self, other: _Job) -> bool:
        """Whether both are ordinary talk of one writer, so that this one can be answered with that before it."""
        talk = all(
            job.reply is None and job.kept and not job.alone and not job.message.text.lstrip().startswith(("/", "／"))
            for job in (self, other)
        )
        return talk and self.message.sender == other.message.sender


class Lanes:
    """Answers messages while it is open; opening takes up what waits from earlier starts.

    `resend`: whether the platform shows a part of the reply to a message, by its number, once even if it is sent again,
    as Discord does by its nonce. Where it does not, what may have been sent is not sent again. With `merge_burst_s`,
    ordinary messages that somebody writes with pauses of at most so many seconds get one answer, which belongs to the
    last of them. Closing sees through what was put in, for at most `drain_seconds`; the rest is taken up by the next
    start.
    """

    def __init__(
        self,
        spine: Spine,
        outbound: Outbound,
        platform: str,
        *,
        resend: Callable[[Message, int], bool],
        drain_seconds: float,
        merge_burst_s: float = 0.0,
    ) -> None:
        self._spine = spine
        self._outbound = outbound
        self._platform = platform
        self._resend = resend
        self._drain_seconds = drain_seconds
        self._merge_burst_s = merge_burst_s
        self._lanes: dict[tuple[str, str | None], deque[_Job]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._signs: set[asyncio.Task[None]] = set()
        self._answering = asyncio.Semaphore(_ANSWERED_AT_ONCE)
        self._open = False

    async def __aenter__(self) -> Lanes:
        self._open = True
        for found in await self._spine.waiting(self._platform):
            await self._take_up(found)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._open = False
        try:
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=self._drain_seconds)
        finally:
            unfinished = list(self._tasks)
            for task in unfinished:
                task.cancel()
            await asyncio.gather(*unfinished, return_exceptions=True)
            if unfinished:
                log.warning("%s: %d conversations go on at the next start", self._platform, len(unfinished))
            await see_out(self._signs)

    def put(self, message: Message, *, alone: bool = False) -> None:
        """Answer a message that the spine has accepted, after those put in before it in its conversation.

        `alone`: even where bursts are merged, since it has a place of its own for its answer.
        """
        self._add(_Job(message, alone=alone))

    def say(self, message: Message, text: str) -> None:
        """Say a line of the adapter's own in the conversation of `message`. It is not kept: a crash may lose it."""
        self._add(_Job(message, Reply(text, model_id="adapter", engine="adapter"), kept=False))

    async def _take_up(self, found: Waiting) -> None:
        if found.state == "sending" and not self._resend(found.message, len(found.sent)):
            await self._spine.done(found.message, "unknown", found.sent)
        else:
            self._add(_Job(found.message, found.reply, tuple(found.sent)))

    def _add(self, job: _Job) -> None:
        if not self._open:  # Whatever comes now is committed already, and waits for the next start.
            return
        lane = (job.message.chat, job.message.thread)
        if lane in self._lanes:
            self._lanes[lane].append(job)
            return
        self._lanes[lane] = deque([job])
        begin(self._work(lane), self._tasks)

    async def _work(self, lane: tuple[str, str | None]) -> None:
        jobs = self._lanes[lane]
        while jobs:
            await self._see_through(await self._next(jobs) if self._merge_burst_s else jobs.popleft())
        del self._lanes[lane]

    async def _next(self, jobs: deque[_Job]) -> _Job:
        """The next message together with those that go on from it, as one job."""
        job = jobs.popleft()
        while job.goes_on(job) and len(job.before) < _LONGEST_BURST - 1:
            if not jobs and self._open:
                await asyncio.sleep(self._merge_burst_s)
            if not jobs or not jobs[0].goes_on(job):
                break
            before = (*job.before, job.message)
            job = jobs.popleft()
            job.before = before
        return job

    async def _see_through(self, job: _Job) -> None:
        """Bring one message to its end. No mistake in it, or of ours, may keep the next one waiting."""
        sending = job.reply is not None
        try:
            if job.reply is None:
                job.reply = await self._answer(job)
                sending = True
            if job.before and job.reply.detail == "erased":  # What was written last is gone: answer what is left.
                await self._done(job, "sent")
                return await self._see_through(_Job(job.before[-1], before=job.before[:-1]))
            await self._deliver(job, job.reply)
            await self._done(job, "sent")
        except NotDeliveredError:
            log.warning("%s: a reply was refused for good", self._platform)
            await self._done(job, "failed")
        except MaybeDeliveredError:
            log.warning("%s: whether a reply arrived is unknown; it is not sent again", self._platform)
            await self._done(job, "unknown")
        except ChatbotError as error:
            log.warning("%s: a message is left without an answer: %s", self._platform, error)
            await self._done(job, "failed")
        except Exception as error:
            log.error("%s: a message is left without an answer: %s", self._platform, where(error))
            await self._done(job, "unknown" if sending else "failed")

    async def _answer(self, job: _Job) -> Reply:
        there = asyncio.Event()
        async with self._answering:
            begin(self._show_typing(job.message, there), self._signs)
            try:
                return await self._when_stored(lambda: self._spine.answer(job.message, job.before))
            finally:
                there.set()

    async def _show_typing(self, message: Message, there: asyncio.Event) -> None:
        """Keep the sign alive until the reply is there. No trouble with it matters: the reply meets the same."""
        with suppress(Exception):
            while not there.is_set() and await self._outbound.show_typing(message):
                with suppress(TimeoutError):
                    await asyncio.wait_for(there.wait(), self._outbound.typing_s)

    async def _deliver(self, job: _Job, reply: Reply) -> None:
        """Send the parts that are not out yet, one after another."""
        texts = self._outbound.parts(job.message, reply)
        for number in range(len(job.sent), len(texts)):
            part = Part(texts[number], number, last=number == len(texts) - 1)
            job.sent += (await self._send(job, reply, part),)
            if not part.last and job.kept:
                await self._when_stored(lambda: self._spine.pending(job.message, job.sent))

    async def _send(self, job: _Job, reply: Reply, part: Part) -> str:
        """The platform's id of a part, sent as often as it takes, never sooner than the platform allows."""
        pause, again = _FIRST_PAUSE_S, self._resend(job.message, part.number)
        while True:
            await self._outbound.turn(job.message)
            if job.kept:
                await self._when_stored(lambda: self._spine.sending(job.message))
            try:
                return await self._outbound.send(job.message, reply, part)
            except NotYetError as error:
                seconds = error.seconds
            except MaybeDeliveredError:
                if not again:
                    raise
                seconds = None
            if job.kept and not again:
                await self._when_stored(lambda: self._spine.pending(job.message, job.sent))
            await asyncio.sleep(pause if seconds is None else seconds)
            pause = min(2 * pause, _LONGEST_PAUSE_S)

    async def _done(self, job: _Job, state: Literal["sent", "failed", "unknown"]) -> None:
        if job.reply is None:  # Otherwise those before are done with since there is a reply.
            for message in job.before:
                await self._when_stored(partial(self._spine.done, message, state))
        if job.kept:
            await self._when_stored(lambda: self._spine.done(job.message, state, job.sent))

    async def _when_stored(self, call: Callable[[], Awaitable[T]]) -> T:
        """What a call of the spine gives, tried until the store can be used: what is accepted must not be dropped."""
        pause = _FIRST_PAUSE_S
        while True:
            try:
                return await call()
            except DatabaseError as error:
                log.error("%s: %s", self._platform, error)
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_S)


def where(error: BaseException) -> str:
    """What went wrong, by class, file and line: what may stand in a log, where an error's own text may not."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    at = f" at {trace.tb_frame.f_code.co_filename.rpartition('/')[2]}:{trace.tb_lineno}" if trace else ""
    return type(error).__name__ + at
