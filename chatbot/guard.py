"""The rules around an engine: what people are told whatever the model would say, in every way of asking it.

Before the engine: crisis and hostility are answered by hand. After it: a reply that must not be said is replaced.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from chatbot.messages import Reply
from chatbot.rules import RuleHit

if TYPE_CHECKING:
    from chatbot.engine import Engine


class Rules(Protocol):
    """As `chatbot.rules.Rules` is: None, or the line to send instead."""

    def before(self, text: str) -> RuleHit | None:
        """Judge what a person wrote."""

    def after(self, text: str) -> RuleHit | None:
        """Judge what the model is about to say."""


class GuardedEngine:
    """An engine that asks `rules` first and last; a rule's reply has engine and model id "rules"."""

    def __init__(self, engine: Engine, rules: Rules) -> None:
        self._engine = engine
        self._rules = rules

    @property
    def model_id(self) -> str:
        """Which model answers where no rule does."""
        return self._engine.model_id

    async def reply(
        self,
        history: Sequence[str],
        text: str,
        *,
        seed: int | None = None,
        options: Mapping[str, object] | None = None,
    ) -> Reply:
        """A rule's answer, or the engine's if no rule objects to that. The rules read in a thread, off the loop."""
        import asyncio

        hit = await asyncio.to_thread(self._rules.before, text)
        if hit is not None:
            return _said(hit)
        reply = await self._engine.reply(history, text, seed=seed, options=options)
        return self._checked(reply, await asyncio.to_thread(self._rules.after, reply.text))

    def reply_sync(
        self,
        history: Sequence[str],
        text: str,
        *,
        seed: int | None = None,
        options: Mapping[str, object] | None = None,
    ) -> Reply:
        """`reply` for callers without an event loop."""
        hit = self._rules.before(text)
        if hit is not None:
            return _said(hit)
        reply = self._engine.reply_sync(history, text, seed=seed, options=options)
        return self._checked(reply, self._rules.after(reply.text))

    def close(self) -> None:
        """Close the engine."""
        self._engine.close()

    def _checked(self, reply: Reply, hit: RuleHit | None) -> Reply:
        if hit is None:
            return reply
        return replace(reply, text=hit.reply, model_id="rules", engine="rules", detail=hit.rule, score=None)


def _said(hit: RuleHit) -> Reply:
    return Reply(hit.reply, model_id="rules", engine="rules", detail=hit.rule)
