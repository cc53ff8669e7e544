"""`chatbot run telegram discord` as a process, and a terminal chat beside it: one database, each its own talk."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

from discord_server import TOKEN as DISCORD_TOKEN
from discord_server import DiscordServer
from running import command, rows, run
from telegram_server import TOKEN as TELEGRAM_TOKEN
from telegram_server import TelegramServer

TALK = ["hello", "how are you?", "and now?"]


def test_two_messengers_and_a_terminal_share_one_database(home: Path) -> None:
    """All three are answered at the same time, every row is there, and SIGTERM ends the messengers with 0."""
    home.mkdir(exist_ok=True)
    (home / "config.yaml").write_text("chat: {model: echo}\n")

    async def whole() -> None:
        async with TelegramServer() as telegram, DiscordServer() as discord:
            tokens = {"TELEGRAM_BOT_TOKEN": TELEGRAM_TOKEN, "DISCORD_BOT_TOKEN": DISCORD_TOKEN}
            places = {"TELEGRAM_API_URL": telegram.url, "DISCORD_API_URL": discord.api_url}
            bot = await asyncio.create_subprocess_exec(
                *command("run", "telegram", "discord"), env={**os.environ, **tokens, **places}
            )
            pipe = asyncio.subprocess.PIPE
            chat = await asyncio.create_subprocess_exec(*command("chat"), stdin=pipe, stdout=pipe)
            assert chat.stdin is not None
            assert chat.stdout is not None
            try:
                await discord.connected()
                channel = discord.world.direct(ann := discord.world.person("ann"))
                for number, text in enumerate(TALK, 1):
                    chat.stdin.write(f"{text}\n".encode())
                    await telegram.say(telegram.chat(501), text)
                    await discord.say(ann, channel, text)
                    assert (await asyncio.wait_for(chat.stdout.readline(), 60)).decode() == f"{text}\n"
                    await telegram.until_sent(number)
                    await discord.until(lambda: len(discord.world.answers(channel)) == number)  # noqa: B023 - awaited
                chat.stdin.close()
                assert await asyncio.wait_for(chat.wait(), 60) == 0
                bot.send_signal(signal.SIGTERM)
                assert await asyncio.wait_for(bot.wait(), 60) == 0
            finally:
                for process in (bot, chat):
                    if process.returncode is None:
                        process.kill()
                        await process.wait()

    run("db", "upgrade")
    asyncio.run(whole())

    said = "SELECT platform, text FROM message JOIN chat ON chat.id = chat_id WHERE role = 'user' ORDER BY message.id"
    found = rows(home, said)
    for platform in ("terminal", "telegram", "discord"):
        assert [text for where, text in found if where == platform] == TALK
    assert rows(home, "SELECT count(*) FROM message WHERE role = 'bot'") == [(9,)]
    assert rows(home, "SELECT DISTINCT state FROM inbox") == [("sent",)]
