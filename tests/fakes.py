"""Doubles of what stands around the spine: an adapter without a platform, engines that wait or fail, short rules."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from adapters.base import Answer
from chatbot.errors import ChatbotError
from chatbot.messages import Message, Reply
from chatbot.rules import RuleHit


class CollectingAdapter:
    """An adapter whose platform is a list of texts in and a list of texts out."""

    name = "collecting"

    def __init__(self, texts: Iterable[str]) -> None:
        self.shown: list[str] = []
        self.told: list[str] = []  # errors
        self._texts = texts

    async def run(self, answer: Answer) -> None:
        """Bring each text to `answer`, one after another."""
        for number, text in enumerate(self._texts):
            message = Message(self.name, "room", "somebody", text, f"{id(self)}-{number}", datetime.now(UTC))
            try:
                self.shown.append((await answer(message)).text)
            except ChatbotError as error:
                self.told.append(str(error))


class ScriptedEngine:
    """Echoes, but waits for `release` at a text that starts with "slow", and raises `failure` at one with "fail"."""

    model_id = "scripted"

    def __init__(self, failure: ChatbotError | None = None) -> None:
        self.asked: list[tuple[list[str], str]] = []
        self.options: list[Mapping[str, object] | None] = []
        self.waiting = asyncio.Event()
        self.release = asyncio.Event()
        self._failure = failure

    async def reply(
        self,
        history: Sequence[str],
        text: str,
        *,
        seed: int | None = None,
        options: Mapping[str, object] | None = None,
    ) -> Reply:
        """The text as it is, after "heard ", when its time has come."""
        self.asked.append((list(history), text))
        self.options.append(options)
        if text.startswith("slow"):
            self.waiting.set()
            await self.release.wait()
        if text.startswith("fail") and self._failure is not None:
            raise self._failure
        return Reply(f"heard {text}", self.model_id, "echo", score=-0.5, duration_ms=7.0, seed=seed)

    def reply_sync(
        self,
        history: Sequence[str],
        text: str,
        *,
        seed: int | None = None,
        options: Mapping[str, object] | None = None,
    ) -> Reply:
        """`reply` for callers without an event loop."""
        return asyncio.run(self.reply(history, text, seed=seed, options=options))

    def close(self) -> None:
        """Nothing to release."""


class WordRules:
    """Answers "alarm" from people with help, and keeps the bot from saying "secret"."""

    def before(self, text: str) -> RuleHit | None:
        """A hit for "alarm"."""
        return RuleHit("crisis", "help is near") if "alarm" in text else None

    def after(self, text: str) -> RuleHit | None:
        """A hit for "secret"."""
        return RuleHit("hate", "let us talk of something else") if "secret" in text else None
