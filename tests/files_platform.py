"""A messenger made of files, for tests that need processes: messages are files in `in/`, gone once acknowledged.

A reply is appended to `out`, a line a part. With `keyed` a part that is there already is dropped, as Discord does by
its nonce. Found by `chatbot run` through the entry point that `install` writes.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from adapters.admission import Admission
from adapters.base import Spine
from adapters.lanes import Lanes, Part
from chatbot.messages import Message, Reply


class FilesAdapter:
    """`settings`: the `folder`, whether it is `keyed`, and the `seconds` that sending a part takes."""

    name = "files"
    typing_s = 1.0

    def __init__(self, settings: Mapping[str, object], admission: Admission, drain_seconds: float) -> None:
        self._folder = Path(str(settings["folder"]))
        self._keyed = bool(settings.get("keyed"))
        self._seconds = float(str(settings.get("seconds", 0)))
        self._admission = admission
        self._drain_seconds = drain_seconds

    async def run(self, spine: Spine) -> None:
        """Take each file, in the order of the names, which are chat and number."""
        async with Lanes(
            spine, self, self.name, resend=lambda *_: self._keyed, drain_seconds=self._drain_seconds
        ) as lanes:
            (self._folder / "ready").touch()
            while True:
                for file in sorted((self._folder / "in").iterdir()):
                    chat, _, number = file.name.partition("-")
                    message = Message(self.name, chat, f"of {chat}", file.read_text(), number, datetime.now(UTC))
                    if self._admission.decide(message) == "welcome" and await spine.accept(message):
                        lanes.put(message)
                    file.unlink()
                await asyncio.sleep(0.01)

    def parts(self, message: Message, reply: Reply) -> Sequence[str]:
        """The reply as it is."""
        return [reply.text]

    async def turn(self, message: Message) -> None:
        """Nothing to wait for."""

    async def send(self, message: Message, reply: Reply, part: Part) -> str:
        """Append one line, unless it is there."""
        line = f"{message.chat}-{message.message_id} {' '.join(part.text.split())}\n"
        await asyncio.sleep(self._seconds / 2)
        out = self._folder / "out"
        if not (self._keyed and out.exists() and line in out.read_text()):
            file = os.open(out, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            os.write(file, line.encode())
            os.close(file)
        await asyncio.sleep(self._seconds / 2)
        return f"{message.chat}-{message.message_id}"

    async def show_typing(self, message: Message) -> bool:
        """Nothing to see."""
        return False


def install(folder: Path) -> None:
    """Make `folder`, once on the module path, a package that brings this adapter."""
    info = folder / "files_platform-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: files-platform\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[familect.adapters]\nfiles = files_platform:FilesAdapter\n")
