"""How updates reach the Telegram adapter: the webhook, what stands in the way of polling, settings, and the doctor."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
from collections.abc import Callable
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import pytest
from aiohttp import ClientSession
from fakes import MemorySpine
from telegram_server import TOKEN, Fault, TelegramServer
from telegram_stage import UNLIMITED, running, scene

from adapters.admission import Admission
from adapters.base import Finding
from adapters.telegram import TelegramAdapter, diagnose
from adapters.telegram_webhook import BODY_LIMIT, SECRET_HEADER, secret_of
from chatbot.access import Access
from chatbot.errors import DatabaseError, UsageError
from chatbot.messages import Message

__all__ = ["scene"]
Play = Callable[..., None]


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def test_a_webhook_brings_messages(scene: Play) -> None:
    """It is set with a secret and the kinds of updates, nothing is polled, and messages are answered in order."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/hook"

    async def act(server: TelegramServer) -> None:
        await server.say(server.chat(501), "before")
        async with running(server, MemorySpine(), webhook_url=url, webhook_port=port):
            await server.say(server.chat(501), "after")
            assert await server.until_sent(2) == ["re: before", "re: after"]
            await server.until(lambda: not server.queue)
        assert server.webhook == {
            "url": url,
            "allowed_updates": ["message", "edited_message", "callback_query"],
            "secret_token": secret_of(TOKEN),
        }
        assert server.made("getUpdates") == []
        assert server.webhook_error == ""

    scene(act)


@pytest.mark.parametrize(
    ("path", "headers", "body", "status"),
    [
        ("/hook", {}, b"{}", 403),
        ("/hook", {SECRET_HEADER: "guessed"}, b"{}", 403),
        ("/hook", {SECRET_HEADER: "\udcff\u00e4"}, b"{}", 403),
        ("/hook", {SECRET_HEADER: secret_of(TOKEN)}, b" " * BODY_LIMIT + b"{}", 413),
        ("/hook", {SECRET_HEADER: secret_of(TOKEN)}, b'{"update_id": ', 400),
        ("/hook", {SECRET_HEADER: secret_of(TOKEN)}, b'{"update_id": 7, "message": {}}', 200),
        ("/hook", {SECRET_HEADER: secret_of(TOKEN)}, b"[]", 200),
        ("/", {SECRET_HEADER: secret_of(TOKEN)}, b"{}", 404),
    ],
)
def test_what_else_comes_to_the_port(scene: Play, path: str, headers: dict[str, str], body: bytes, status: int) -> None:
    """Who does not know the secret is refused, what is too long or no JSON, too; what means nothing is done with."""
    port = free_port()

    async def act(server: TelegramServer) -> None:
        async with running(server, MemorySpine(), webhook_url=f"http://127.0.0.1:{port}/hook", webhook_port=port):
            await server.until(lambda: server.webhook)
            try:
                async with (
                    ClientSession() as session,
                    session.post(f"http://127.0.0.1:{port}{path}", data=BytesIO(body), headers=headers) as response,
                ):
                    assert response.status == status
            except UnicodeEncodeError:
                pytest.skip("this client cannot send such a header")
            await server.say(server.chat(501), "next")
            assert await server.until_sent(1) == ["re: next"]

    scene(act)


def test_a_webhook_is_answered_when_the_message_is_kept(scene: Play) -> None:
    """While the store fails Telegram gets a 500, brings the update again, and it is answered once."""

    class Failing(MemorySpine):
        async def accept(self, message: Message) -> bool:
            if len(failures) < 2:
                failures.append(message.text)
                raise DatabaseError("the disk is full: make room")
            return await super().accept(message)

    failures: list[str] = []
    port = free_port()

    async def act(server: TelegramServer) -> None:
        async with running(server, Failing(), webhook_url=f"http://127.0.0.1:{port}/", webhook_port=port):
            await server.say(server.chat(501), "hi")
            await server.say(server.chat(501), "ho")
            assert await server.until_sent(2) == ["re: hi", "re: ho"]
            await server.until(lambda: not server.queue)
        assert server.webhook_error == "Wrong response from the webhook: 500"
        assert failures == ["hi", "hi"]

    scene(act)


def test_a_port_that_is_taken_is_named(scene: Play) -> None:
    """The operator is told which, and nothing was set at Telegram."""

    async def act(server: TelegramServer) -> None:
        with pytest.raises(UsageError, match=f"webhook_port {server.port} .*choose another"):
            async with running(
                server, MemorySpine(), webhook_url="https://bot.example/", webhook_port=server.port
            ) as task:
                await asyncio.wait([task], timeout=5)
        assert server.webhook == {}

    scene(act)


def test_an_address_that_telegram_refuses_is_named(scene: Play) -> None:
    """Without TLS there is no webhook."""

    async def act(server: TelegramServer) -> None:
        with pytest.raises(UsageError, match="must be https"):
            async with running(server, MemorySpine(), webhook_url="http://bot.example/", webhook_port=0) as task:
                await asyncio.wait([task], timeout=5)

    scene(act)


def test_a_webhook_left_set_is_named_once_and_waited_for(scene: Play, caplog: pytest.LogCaptureFixture) -> None:
    """Polling says what stands in its way and how to mend it, does not spin, and goes on by itself afterwards."""
    caplog.set_level(logging.INFO, "adapters")

    async def act(server: TelegramServer) -> None:
        server.webhook = {"url": "http://127.0.0.1:1/"}
        async with running(server, MemorySpine()):
            await server.say(server.chat(501), "hi")
            await server.until(lambda: len(server.made("getUpdates")) == 4)
            pauses = [later.at - earlier.at for earlier, later in pairwise(server.made("getUpdates"))]
            assert all(pause >= least for pause, least in zip(pauses, (0.05, 0.1, 0.2), strict=True))
            server.webhook = {}
            assert await server.until_sent(1) == ["re: hi"]

    scene(act)
    lines = [record.getMessage() for record in caplog.records if record.name == "adapters.telegram"]
    assert len(lines) == 2
    assert "deleteWebhook" in lines[0]
    assert "come again" in lines[1]


def test_a_second_poller_is_named_and_survived(scene: Play, caplog: pytest.LogCaptureFixture) -> None:
    """Thrown out by another, the bot says so once, waits a little, and goes on when the other has gone."""

    async def act(server: TelegramServer) -> None:
        url = f"{server.url}/bot{TOKEN}/getUpdates?timeout=1"
        async with running(server, MemorySpine()), ClientSession() as session:
            await server.until(lambda: server.made("getUpdates"))
            for _ in range(3):
                async with session.get(url) as response:
                    await response.read()
            await server.say(server.chat(501), "hi")
            assert await server.until_sent(1) == ["re: hi"]
        assert len(server.made("getUpdates")) < 40

    scene(act)
    assert "another process takes this bot's updates" in caplog.text
    assert "@BotFather" in caplog.text


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({"TELEGRAM_BOT_TOKEN": "1:wrong"}, "Telegram refuses the bot token"),
        ({"TELEGRAM_BOT_TOKEN": ""}, "there is no Telegram token"),
        ({"TELEGRAM_BOT_TOKEN": "1:a b"}, "holds characters that no token has"),
        ({"TELEGRAM_BOT_TOKEN": "", "TELEGRAM_BOT_TOKEN_FILE": "/nowhere/token"}, "cannot be read .No such file"),
        ({"TELEGRAM_API_URL": "ftp://bot.example"}, "must begin with http"),
    ],
)
def test_what_the_operator_must_mend_ends_the_session(
    scene: Play, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], told: str
) -> None:
    """A UsageError says what is wrong, without the token."""

    async def act(server: TelegramServer) -> None:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(UsageError, match=told) as caught:
            async with running(server, MemorySpine()) as task:
                await asyncio.wait([task], timeout=5)
        assert "1:" not in str(caught.value)
        found = await diagnose({}, watched_s=0)
        assert [finding.ok for finding in found] == [False]
        assert re.search(told, found[0].what + found[0].mend)
        assert found[0].mend

    scene(act)


def test_a_token_that_is_taken_back_ends_the_session(scene: Play) -> None:
    """As when it was wrong from the beginning."""

    async def act(server: TelegramServer) -> None:
        async def until_it_ends() -> None:
            async with running(server, MemorySpine()) as task:
                await server.until(lambda: server.made("getUpdates"))
                server.token = "7:new"
                await asyncio.wait([task], timeout=5)

        with pytest.raises(UsageError, match="refuses the bot token"):
            await until_it_ends()

    scene(act)


def test_a_server_that_is_half_there_is_waited_for(scene: Play) -> None:
    """A 404 for a token that is fine ends nothing."""

    async def act(server: TelegramServer) -> None:
        server.faults["getUpdates"].append(Fault("status", 404))
        async with running(server, MemorySpine()):
            await server.say(server.chat(501), "hi")
            assert await server.until_sent(1) == ["re: hi"]

    scene(act)


def test_the_token_may_be_in_a_file(scene: Play, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """TELEGRAM_BOT_TOKEN_FILE names it; white space around the token is no matter."""

    async def act(server: TelegramServer) -> None:
        (tmp_path / "token").write_text(f"{TOKEN}\n", "utf-8")
        monkeypatch.delenv("TELEGRAM_BOT_TOKEN")
        monkeypatch.setenv("TELEGRAM_BOT_TOKEN_FILE", str(tmp_path / "token"))
        async with running(server, MemorySpine()):
            await server.say(server.chat(501), "hi")
            assert await server.until_sent(1) == ["re: hi"]

    scene(act)


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ({"webhok_url": "https://bot.example/"}, "has no key 'webhok_url'"),
        ({"merge_burst_s": -1.0}, "merge_burst_s is -1"),
        ({"webhook_url": "bot.example"}, "must be an https:// address"),
        ({"webhook_port": "8080"}, "webhook_port is '8080'"),
        ({"webhook_port": 70000}, "must be from 0 to 65535"),
        ({"ambient": 1}, "ambient is 1"),
    ],
)
def test_wrong_settings_are_named(section: dict[str, object], told: str) -> None:
    """Before anything is opened."""
    with pytest.raises(UsageError, match=told):
        TelegramAdapter(section, Admission(Access(), UNLIMITED), 1.0)


async def healthy(server: TelegramServer) -> None:
    """Nothing is wrong."""


async def private(server: TelegramServer) -> None:
    """Privacy mode is on."""
    server.reads_all = False


async def hooked(server: TelegramServer) -> None:
    """A webhook was left set."""
    server.webhook = {"url": "https://old.example/"}


async def rejected(server: TelegramServer) -> None:
    """Our webhook was called in vain."""
    server.webhook = {"url": "https://bot.example/"}
    server.webhook_error = "Connection refused"


async def down(server: TelegramServer) -> None:
    """The server cannot be reached."""
    await server.stop()


async def busy(server: TelegramServer) -> None:
    """Calls are refused for now."""
    server.faults["getMe"].append(Fault("flood", 9))


DIAGNOSES: list[tuple[Callable[[TelegramServer], object], dict[str, object], list[bool], str]] = [
    (healthy, {}, [True, True, True], "nobody else polls"),
    (private, {}, [True, True, True], "privacy mode is on"),
    (private, {"ambient": True}, [True, False, True], "/setprivacy"),
    (hooked, {}, [True, True, False], "deleteWebhook"),
    (healthy, {"webhook_url": "https://bot.example/"}, [True, True, False], "`chatbot run telegram` sets it"),
    (rejected, {"webhook_url": "https://bot.example/"}, [True, True, False], "Connection refused"),
    (down, {}, [False], "127.0.0.1 cannot be reached"),
    (busy, {}, [False], "wait 9 s"),
]


@pytest.mark.parametrize("case", range(len(DIAGNOSES)))
def test_the_doctor_names_the_cause(scene: Play, case: int) -> None:
    """Each cause is found, with its cure, without taking an update from anybody."""
    prepare, settings, ok, told = DIAGNOSES[case]

    async def act(server: TelegramServer) -> None:
        server.queue = [{"update_id": 7000}]
        await prepare(server)  # type: ignore[misc]
        found = await diagnose(settings, watched_s=0)
        assert [finding.ok for finding in found] == ok
        assert told in " ".join(f"{finding.what} {finding.mend}" for finding in found)
        assert all(finding.mend for finding in found if not finding.ok)
        assert TOKEN not in str(found)
        assert server.queue == [{"update_id": 7000}]
        if prepare is down:
            await server.start()

    scene(act)


def test_the_doctor_finds_another_poller(scene: Play) -> None:
    """One that polls on and on throws the doctor out while it watches."""

    async def act(server: TelegramServer) -> None:
        async def poll() -> None:
            async with ClientSession() as session:
                while True:
                    async with session.get(f"{server.url}/bot{TOKEN}/getUpdates?timeout=1") as response:
                        await response.read()
                    await asyncio.sleep(0.02)

        other = asyncio.create_task(poll())
        await server.until(lambda: server.made("getUpdates"))
        *_, last = await diagnose({}, watched_s=1)
        other.cancel()
        assert last == Finding(False, "something else polls with this token", last.mend)
        assert "stop it" in last.mend

    scene(act)
