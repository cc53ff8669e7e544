"""The formats there are: what each is called, how it is read and recognised, and as whose words it counts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from chatbot.errors import UsageError
from chatbot.importers import chatterbot, discord, films, pairs, roles, telegram, whatsapp
from chatbot.importers.files import head
from chatbot.importers.records import IMPORT_PLATFORM, Item, Source

# Imported talk stands in a thread of its own: what the bot was told in the same chat is another conversation.
THREAD = "import"
_LOG_BEGIN = '{"familect_log":'


@dataclass(frozen=True, slots=True)
class Format:
    """A kind of file. `platform` is its people's and chats'; `looks` is None where anything may be it."""

    name: str
    what: str
    read: Callable[[Source], Iterator[Item]]
    looks: Callable[[str], bool] | None
    platform: str = IMPORT_PLATFORM

    @property
    def thread(self) -> str | None:
        """The thread under which its chats are stored."""
        return None if self.platform == IMPORT_PLATFORM else THREAD


FORMATS = {
    known.name: known
    for known in (
        Format("jsonl", "dialogue files: docs/dialogue-format.md", roles.read_jsonl, roles.looks_jsonl),
        Format("telegram", "Telegram Desktop's JSON", telegram.read, telegram.looks, "telegram"),
        Format("discord", "DiscordChatExporter's JSON", discord.read, discord.looks, "discord"),
        Format("whatsapp", "WhatsApp's text", whatsapp.read, whatsapp.looks, "whatsapp"),
        Format("cornell", "the Cornell Movie-Dialogs Corpus", films.read_cornell, films.looks_cornell),
        Format("opensubtitles", "subtitles as OPUS has them", films.read_opensubtitles, films.looks_opensubtitles),
        Format("conv", "lines of E and M", pairs.read_conv, pairs.looks_conv),
        Format("chatterbot", "ChatterBot's YAML", chatterbot.read, chatterbot.looks),
        Format("sharegpt", "ShareGPT's conversations", roles.read_sharegpt, roles.looks_sharegpt),
        Format("messages", "messages with roles", roles.read_messages, roles.looks_messages),
        Format("deepqa", "a turn a line, === between dialogues", pairs.read_deepqa, pairs.looks_deepqa),
        Format("tsv", "a dialogue a line, tabs between turns", pairs.read_tsv, pairs.looks_tsv),
        Format("csv", "a dialogue a record", pairs.read_csv, None),
    )
}


def is_log(begin: str) -> bool:
    """Whether a file that begins so is what `chatbot export --format log` wrote."""
    return begin.startswith(_LOG_BEGIN)


def verify_kind(path: Path, asked: str) -> None:
    """UsageError that names the format a file seems to have, if that is another one than was asked for."""
    begin = head(path)
    own = FORMATS[asked].looks if asked in FORMATS else is_log
    if own is not None and own(begin):
        return
    seen = "log" if is_log(begin) else next((f.name for f in FORMATS.values() if f.looks and f.looks(begin)), None)
    if seen is not None and seen != asked:
        raise UsageError(f"{path} does not look like {asked}, it looks like {seen}: try `chatbot import {seen} {path}`")
