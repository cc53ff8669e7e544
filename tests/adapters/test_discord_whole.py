"""Discord with the real spine and store: a person's dialogue from the socket to the rows, and over restarts."""

from __future__ import annotations

import asyncio
import itertools

import pytest
from discord_server import BOT_ID, DiscordServer, Fault
from discord_talk import adapter, answered
from talking import rows

from adapters import lanes
from chatbot.conversation import Conversations
from chatbot.engine import EchoEngine
from chatbot.store import ConversationStore
from chatbot.wording import ENGLISH

ME = f"<@{BOT_ID}>"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lanes' pauses in a test's time."""
    monkeypatch.setattr(lanes, "_FIRST_PAUSE_S", 0.02)


def test_a_dialogue_is_answered_stored_and_rated(store: ConversationStore, url: str) -> None:
    """What a person types comes back answered, stands in the store, and can be rated, edited, shown and deleted."""

    async def whole() -> str:
        async with DiscordServer() as server, adapter(server, Conversations(store, EchoEngine())):
            channel = server.world.direct(ann := server.world.person("ann"))
            said = [await server.say(ann, channel, text) for text in ("hello", "how are you?", "oops")]
            first = f"{ENGLISH.first_contact}\n\nhello"
            assert await answered(server, channel, 3) == [first, "how are you?", "oops"]
            shown = next(m for m in server.world.messages[channel].values() if m["author"]["id"] == BOT_ID)
            state = await server.press(ann, shown, shown["components"][0]["components"][0]["custom_id"])
            await server.until(lambda: state["messages"])
            await server.edit(said[0], "hello there")
            await server.delete(said[2])
            await server.until(lambda: rows(url, "SELECT 1 FROM message WHERE text = 'hello there'"))
            await server.until(lambda: not rows(url, "SELECT 1 FROM message WHERE text = 'oops'"))
            mine = await server.command(ann, channel, "mydata")
            await server.until(lambda: mine["messages"])
            assert "hello there" in mine["messages"][0]["content"]
            await server.until(lambda: rows(url, "SELECT DISTINCT state FROM inbox") == [("sent",)])
            return str(ann["id"])

    person = asyncio.run(whole())
    kept = [(record.kind, record.text) for record in store.my_data("discord", person)]
    assert kept.count(("rating", "+1")) == 1
    assert [text for kind, text in kept if kind == "message"] == ["hello there", "how are you?"]
    assert rows(url, "SELECT envelope, reply FROM inbox WHERE envelope IS NOT NULL OR reply IS NOT NULL") == []


def test_faults_and_restarts_lose_and_double_nothing(store: ConversationStore, url: str) -> None:
    """With lost answers, dropped sessions and starts that end in the middle, each message gets its answer, once."""
    spine = Conversations(store, EchoEngine())

    async def whole() -> None:
        async with DiscordServer() as server:
            people = [server.world.person(f"p{number}") for number in range(5)]
            places = [*(server.world.direct(person) for person in people[:4]), server.world.channel]
            expected = {place: list[str]() for place in places}
            server.faults = [
                fault
                for done in (False, True) * 6
                for fault in (Fault("POST", "/messages$", 503, done=done), Fault("POST", "/messages$", done=done))
            ]
            numbers = itertools.count()

            async def talk(count: int, *, quietly: bool) -> None:
                for _ in range(count):
                    number = next(numbers)
                    person, place = people[number % 5], places[number % 5]
                    expected[place].append(f"message {number}")
                    await server.say(person, place, f"{ME} message {number}", quietly=quietly)
                    await asyncio.sleep(0.01)

            async with adapter(server, spine):  # Of a direct chat it has never seen, Discord tells a bot nothing.
                await talk(5, quietly=False)
                await server.until(lambda: all(server.world.answers(place) for place in places))
            for restart in range(3):
                async with adapter(server, spine, drain_s=0.0):
                    await talk(6, quietly=False)
                    await server.gateway.drop(forget=restart == 1)
                    await talk(3, quietly=False)
                await talk(3, quietly=True)
            async with adapter(server, spine):
                await server.until(
                    lambda: all(len(server.world.answers(place)) >= len(texts) for place, texts in expected.items())
                )
                await server.until(lambda: rows(url, "SELECT DISTINCT state FROM inbox") == [("sent",)])
                answers = {
                    place: [text.rpartition("\n")[2] for text in server.world.answers(place)] for place in places
                }
                assert answers == expected

    asyncio.run(whole())
