"""The rules around an engine: whoever asks it, and in whichever way, gets their answer and not the model's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest
from fakes import ScriptedEngine, WordRules

from chatbot.engine import Engine, load_engine
from chatbot.guard import GuardedEngine
from chatbot.messages import Reply
from chatbot.rules import Rules

Ask = Callable[[Engine, Sequence[str], str], Reply]


def _later(engine: Engine, history: Sequence[str], text: str) -> Reply:
    return asyncio.run(engine.reply(history, text, seed=3))


def _now(engine: Engine, history: Sequence[str], text: str) -> Reply:
    return engine.reply_sync(history, text, seed=3)


@pytest.fixture(params=[_later, _now], ids=["reply", "reply_sync"])
def ask(request: pytest.FixtureRequest) -> Ask:
    """The two ways of asking."""
    way: Ask = request.param
    return way


@pytest.mark.parametrize("text", ["I want to kill myself", "我不想活了"])
def test_crisis_never_reaches_the_engine(ask: Ask, text: str) -> None:
    """In both languages the hand-written line comes, in the language of the question, and the engine hears nothing."""
    engine = ScriptedEngine()
    reply = ask(GuardedEngine(engine, Rules.load()), [], text)

    assert engine.asked == []
    assert (reply.engine, reply.model_id, reply.detail) == ("rules", "rules", "crisis")
    assert reply.text.isascii() == text.isascii()


@pytest.mark.parametrize("bad", ["You should kill yourself.", "去死吧，你这个废物"])
def test_bad_reply_is_replaced(ask: Ask, bad: str) -> None:
    """What the engine must not say is not said, and the reply's origin is the rule and not the model."""

    class BadEngine(ScriptedEngine):
        async def reply(self, *arguments: object, **more: object) -> Reply:
            return Reply(bad, "scripted", "seq2seq", score=-0.1, duration_ms=5.0, seed=3)

    reply = ask(GuardedEngine(BadEngine(), Rules.load()), [], "hi")

    assert bad not in reply.text
    assert (reply.engine, reply.model_id, reply.detail, reply.score) == ("rules", "rules", "self_harm", None)
    assert (reply.duration_ms, reply.seed) == (5.0, 3)


def test_other_replies_pass_unchanged(ask: Ask) -> None:
    """Without a hit the engine gets all that was asked, and its reply comes back as it is."""
    engine = ScriptedEngine()
    reply = ask(GuardedEngine(engine, WordRules()), ["hello", "hi"], "how are you?")

    assert engine.asked == [(["hello", "hi"], "how are you?")]
    assert reply == Reply("heard how are you?", "scripted", "echo", score=-0.5, duration_ms=7.0, seed=3)


def test_every_loaded_engine_is_guarded(ask: Ask) -> None:
    """`load_engine` gives no engine that could be asked past the rules."""
    engine = load_engine("echo")

    assert ask(engine, [], "I want to kill myself").engine == "rules"
    assert ask(engine, [], "hi").text == "hi"
    assert engine.model_id == "echo"
