"""Telegram: long polling by default, or a webhook; every update is kept before Telegram is told that we have it.

The session is wired together here, and updates come in. What one means is `adapters.telegram_reading`'s, what is done
with it `adapters.telegram_intake`'s, how a reply gets out `adapters.telegram_sending`'s, and the order of things
`adapters.lanes`'s.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from telegram.error import BadRequest, Conflict, InvalidToken, TelegramError

from adapters.admission import Admission
from adapters.base import Spine
from adapters.lanes import Lanes
from adapters.telegram_client import (
    ALLOWED_UPDATES,
    LONGEST_PAUSE_S,
    Client,
    LaterError,
    patiently,
    read_token,
)
from adapters.telegram_doctor import diagnose
from adapters.telegram_intake import Intake, offer_menus
from adapters.telegram_pacing import Pace, Pacer
from adapters.telegram_reading import PLATFORM
from adapters.telegram_sending import TYPING_S, TelegramOutbound
from adapters.telegram_settings import CONFLICTS, TelegramSettings
from adapters.telegram_webhook import listening, secret_of
from chatbot.errors import UsageError

__all__ = ["Pace", "TelegramAdapter", "Timing", "diagnose"]

log = logging.getLogger(__name__)
_TAKEN_AT_ONCE = 16  # updates


@dataclass(frozen=True, slots=True)
class Timing:
    """How long things take, in seconds: a poll, an answer of Telegram's, from one sign of typing to the next."""

    poll_s: float = 25.0
    answer_s: float = 30.0
    typing_s: float = TYPING_S
    first_pause_s: float = 1.0  # after a failed poll; doubles up to a minute


class TelegramAdapter:
    """One bot. `settings` is the section `telegram` of the configuration; nothing is opened before `run`."""

    name = PLATFORM

    def __init__(
        self,
        settings: Mapping[str, object],
        admission: Admission,
        drain_seconds: float,
        *,
        pace: Pace | None = None,
        timing: Timing | None = None,
    ) -> None:
        self._settings = TelegramSettings.of(settings)
        self._admission = admission
        self._drain_seconds = drain_seconds
        self._pace = pace or Pace()
        self._timing = timing or Timing()

    async def run(self, spine: Spine) -> None:
        """Take updates and bring replies, until cancelled; UsageError for a token or an address that cannot work."""
        token = read_token()
        async with Client(token, self._timing.answer_s) as client:
            me = await patiently(client.myself, "its first call")

            async def moved(old_chat: str, new_chat: str) -> None:
                await spine.move(PLATFORM, old_chat, new_chat)

            outbound = TelegramOutbound(client, Pacer(self._pace), moved, self._timing.typing_s)
            lanes = Lanes(
                spine,
                outbound,
                PLATFORM,
                resend=lambda *_: False,
                drain_seconds=self._drain_seconds,
                merge_burst_s=self._settings.merge_burst_s,
            )
            intake = Intake(client, me, spine, lanes, self._admission, ambient=self._settings.ambient)
            try:
                async with lanes:
                    intake.aside(offer_menus(client))
                    if self._settings.webhook_url:
                        await self._be_called(client, secret_of(token), intake.take)
                    else:
                        await self._poll(client, intake.take)
            finally:
                await intake.close()

    async def _poll(self, client: Client, take: Callable[..., Awaitable[None]]) -> None:
        """Ask for updates, for ever. One is confirmed by the poll after that which brought it, once it is kept."""
        offset: int | None = None
        pause, trouble = self._timing.first_pause_s, ""
        try:
            while True:
                updates, problem, wait = await self._ask(client, offset, pause)
                if problem != trouble:  # Said when it begins, and when it is over.
                    log.log(logging.ERROR if problem else logging.INFO, "telegram: %s", problem or "updates come again")
                    trouble = problem
                pause = min(2 * pause, LONGEST_PAUSE_S) if problem else self._timing.first_pause_s
                for begin in range(0, len(updates), _TAKEN_AT_ONCE):  # More would hold up the loop.
                    await take(*updates[begin : begin + _TAKEN_AT_ONCE])
                # Not the highest of all times: after a quiet week, ids begin anywhere.
                if numbers := [number for number in map(_number, updates) if number is not None]:
                    offset = max(numbers) + 1
                elif updates:
                    wait = pause
                await asyncio.sleep(wait)
        finally:
            if offset is not None:
                with suppress(TelegramError, TimeoutError):
                    async with asyncio.timeout(2):
                        await client.updates(offset, 0, limit=1)

    async def _ask(self, client: Client, offset: int | None, pause: float) -> tuple[list[Any], str, float]:
        """One poll: what it brought, what went wrong, and how long to wait before the next. UsageError: bad token."""
        asked = asyncio.get_running_loop().time()
        try:
            updates = list(await client.updates(offset, self._timing.poll_s))
        except InvalidToken:
            # The same answer comes from a server that is only half there, so the token is asked for by itself.
            await patiently(client.myself, "another look at the token")
            return [], "Telegram does not find what it is asked for; trying again", pause
        except Conflict as error:
            return [], CONFLICTS["webhook" in str(error).lower()], pause
        except LaterError as error:
            return [], "Telegram asks for fewer calls", error.seconds
        except TelegramError as error:
            return [], f"Telegram cannot be reached ({type(error).__name__}); trying again", pause
        # A server that does not hold a poll open must not be asked without end.
        early = not updates and asyncio.get_running_loop().time() - asked < self._timing.poll_s / 2
        return updates, "", pause if early else 0.0

    async def _be_called(self, client: Client, secret: str, take: Callable[[Any], Awaitable[None]]) -> None:
        """Have Telegram bring updates, for ever. The webhook stays set: what comes later waits for the next start."""
        settings = self._settings
        async with listening(settings.webhook_url, settings.webhook_host, settings.webhook_port, secret, take):

            async def announce() -> bool:
                return await client.bot.set_webhook(
                    settings.webhook_url, allowed_updates=ALLOWED_UPDATES, secret_token=secret
                )

            try:
                await patiently(announce, "setting the webhook")
            except BadRequest:
                raise UsageError(
                    "Telegram refuses telegram.webhook_url: it must be https with a valid certificate, on port 443, "
                    "80, 88 or 8443"
                ) from None
            await asyncio.Event().wait()


def _number(raw: Any) -> int | None:
    """The number of an update, by which it is confirmed; None for what has none."""
    number = raw.get("update_id") if isinstance(raw, dict) else None
    return number if isinstance(number, int) else None
