"""The terminal: an interactive chat where there is one, otherwise one line in, one line out.

Replies go to stdout and nothing else does, but for the prompt at a terminal. What is typed and what is printed is
freed of escape sequences and control characters before a terminal sees it. Editing is prompt_toolkit's, imported only
when there is somebody to edit.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import re
import signal
import sys
import termios
import uuid
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from adapters.base import Answering
from adapters.streams import is_terminal, lines, local_modes, never_fail_to_encode, printable, spinner, write
from chatbot.errors import ChatbotError
from chatbot.messages import Message, Reply

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession

_OWN_HELP = """In this terminal also:
/multi - write several lines, up to one that says /end
/set key=value - a decode setting, such as temperature=0.7; /set key= takes it back, /set alone lists them
/quit, exit or Ctrl-D - leave; Ctrl-C stops a reply, twice it leaves"""
_SET_USAGE = "write /set key=value, such as /set temperature=0.7; /set key= takes it back"
_LEAVE_COMMANDS = {"/quit", "/exit"}
_LEAVE_WORDS = {"quit", "exit"}  # in a pipe these are text like any other
# Off between prompts: what is typed then is not echoed, and waits for the next prompt, Ctrl-C and Ctrl-D too.
_TYPED = termios.ICANON | termios.ECHO | termios.ISIG


class TerminalAdapter:
    """One chat, named `chat`, with the operator.

    `options` are decode settings to begin with, `as_json` prints each reply as one JSON object with what produced it,
    `history_file` keeps typed lines (None: not kept), `greeting` is shown on stderr when somebody is there to read it.
    After `run`, `exit_code` is 0, 1 if a piped line got an error for a reply, or 130 if Ctrl-C left.
    """

    name = "terminal"

    def __init__(
        self,
        chat: str = "default",
        *,
        options: Mapping[str, object] | None = None,
        as_json: bool = False,
        history_file: Path | None = None,
        greeting: str | None = None,
    ) -> None:
        self.exit_code = 0
        self._chat = chat
        self._options = dict(options or {})
        self._as_json = as_json
        self._history_file = history_file
        self._greeting = greeting
        self._interrupts = 0  # Ctrl-C since the last line that was entered
        self._session = uuid.uuid4().hex[:16]  # so that message ids never meet those of another start
        self._numbers = itertools.count(1)

    async def run(self, spine: Answering) -> None:
        """Chat until the person leaves or the input ends; SIGTERM and SIGHUP leave, too, unless others handle them.

        Raises BrokenPipeError when the reader of stdout has gone, ChatbotError when stdin or stdout fails otherwise.
        """
        interactive = is_terminal(sys.stdin) and is_terminal(sys.stdout)
        never_fail_to_encode(interactive)
        session = asyncio.create_task(self._talk(spine) if interactive else self._pipe(spine))
        with _ended_by_signals(session) as signals, local_modes(off=_TYPED) if interactive else nullcontext():
            try:
                await session
            except asyncio.CancelledError:
                if not signals:
                    raise

    async def _talk(self, spine: Answering) -> None:
        """The interactive session."""
        prompt = _prompt_session(self._history_file)
        if self._greeting:
            write(printable(self._greeting), sys.stderr)
        while self._interrupts < 2:
            try:
                text = await self._read(prompt)
            except EOFError:
                return
            except KeyboardInterrupt:
                # With something typed, it only takes that back.
                self._interrupts = 0 if prompt.default_buffer.text else self._interrupts + 1
                if self._interrupts == 1:
                    write("Ctrl-C once more leaves, as Ctrl-D does.", sys.stderr)
                continue
            if text.strip().casefold() in _LEAVE_COMMANDS | _LEAVE_WORDS:
                return
            self._interrupts = 0
            if not printable(text).strip():
                continue
            reply = await self._interruptible(self._reply(spine, text))
            if reply is None or reply.engine == "error":
                continue
            self._show(reply, printable(reply.text))
            if (reply.engine, reply.detail, self._as_json) == ("command", "help", False):
                write(_OWN_HELP, sys.stdout)
        self.exit_code = 130

    async def _read(self, prompt: PromptSession[str]) -> str:
        """What the person enters: a line, pasted lines, or all between /multi and /end."""
        text = await prompt.prompt_async("> ", set_exception_handler=False)
        if text.strip() == "/multi":
            block = []
            while (line := await prompt.prompt_async(". ", set_exception_handler=False)).strip() != "/end":
                block.append(line)
            text = "\n".join(block)
        # Bytes that are no UTF-8 arrive as lone surrogates.
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")

    async def _interruptible(self, replying: Coroutine[None, None, Reply]) -> Reply | None:
        """The reply, awaited with a spinner; None if Ctrl-C stopped it, which is said on stderr."""
        loop, task = asyncio.get_running_loop(), asyncio.ensure_future(replying)
        before, interrupts = signal.getsignal(signal.SIGINT), self._interrupts

        def interrupt() -> None:
            self._interrupts += 1
            task.cancel()

        loop.add_signal_handler(signal.SIGINT, interrupt)
        try:
            with local_modes(on=termios.ISIG), spinner():
                return await task
        except asyncio.CancelledError:
            ending = asyncio.current_task()
            if self._interrupts == interrupts or (ending is not None and ending.cancelling()):
                raise
            write("\rStopped; Ctrl-C once more leaves.", sys.stderr)
            return None
        finally:
            loop.remove_signal_handler(signal.SIGINT)
            signal.signal(signal.SIGINT, before)

    async def _pipe(self, spine: Answering) -> None:
        """One line in, one line out, to the end of the input."""
        if sys.stdin is None:  # It was closed before we started; its number may be another file's by now.
            return
        async for text in lines(sys.stdin.fileno()):
            if text.strip() in _LEAVE_COMMANDS:
                return
            if not printable(text).strip():
                self._show(Reply("", model_id="", engine=""), "")
                continue
            reply = await self._reply(spine, text)
            if reply.engine == "error":
                self.exit_code = 1
            self._show(reply, " ".join(printable(reply.text).splitlines()))

    async def _reply(self, spine: Answering, text: str) -> Reply:
        """The reply to a line, this terminal's own commands included; engine "error" after one told on stderr."""
        words = text.split(maxsplit=1)
        if words[0] == "/set":
            return Reply(self._set("".join(words[1:]).strip()), model_id="command", engine="command", detail="set")
        if words[0] == "/multi":
            return Reply("/multi stands alone on a line, at a terminal only", "command", "command", detail="multi")
        message = Message(
            platform=self.name,
            chat=self._chat,
            sender="operator",
            text=text,
            message_id=f"{self._session}-{next(self._numbers)}",
            sent_at=datetime.now(UTC),
            options=dict(self._options),
        )
        try:
            return await spine.answer(message)
        except ChatbotError as error:
            problem = " ".join(printable(str(error)).split())
            write(f"chatbot: {problem}", sys.stderr)
            return Reply("", model_id="", engine="error", detail=problem)

    def _set(self, argument: str) -> str:
        """Do /set; what to say about it. The engine checks the values, when it uses them."""
        if not argument:
            settings = ", ".join(f"{key}={value}" for key, value in self._options.items())
            return settings or f"no decode settings of your own; {_SET_USAGE}"
        assignment = re.fullmatch(r"(\w+)\s*[=\s]\s*(.*)", argument, re.DOTALL)
        if assignment is None:
            return _SET_USAGE
        key, value = assignment.groups()
        if not value:
            self._options.pop(key, None)
            return f"{key} is back to its default"
        try:
            self._options[key] = json.loads(value)
        except (ValueError, RecursionError):
            self._options[key] = value
        return f"{key} is {self._options[key]}"

    def _show(self, reply: Reply, text: str) -> None:
        """Print a reply's `text`, or all of it as a JSON object on one line."""
        if self._as_json:
            fields = {
                "text": printable(reply.text),
                "model": reply.model_id or None,
                "ms": round(reply.duration_ms, 1),
                "engine": reply.engine or None,
                "score": reply.score,
                "seed": reply.seed,
                "settings": dict(reply.settings),
                "detail": reply.detail,
            }
            text = json.dumps(fields, ensure_ascii=False)
        write(text, sys.stdout)


@contextmanager
def _ended_by_signals(task: asyncio.Task[None]) -> Iterator[list[signal.Signals]]:
    """SIGTERM and SIGHUP cancel `task` meanwhile and are added to the list; who handles them already keeps them."""
    loop, got = asyncio.get_running_loop(), list[signal.Signals]()

    def end(number: signal.Signals) -> None:
        got.append(number)
        task.cancel()

    ours = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) is signal.SIG_DFL]
    for number in ours:
        loop.add_signal_handler(number, end, number)
    try:
        yield got
    finally:
        for number in ours:
            loop.remove_signal_handler(number)


def _prompt_session(history_file: Path | None) -> PromptSession[str]:
    """Line editing with a history; one that cannot be kept is said on stderr and lives as long as the chat."""
    from prompt_toolkit import PromptSession
    from prompt_toolkit.application import create_app_session
    from prompt_toolkit.history import FileHistory, InMemoryHistory
    from prompt_toolkit.output import create_output
    from prompt_toolkit.output.plain_text import PlainTextOutput
    from prompt_toolkit.output.vt100 import Vt100_Output
    from prompt_toolkit.utils import is_dumb_terminal

    class History(FileHistory):
        def store_string(self, string: str) -> None:
            with suppress(OSError):  # A full disk must not end the chat.
                super().store_string(printable(string))

    history: FileHistory | InMemoryHistory = InMemoryHistory()
    if history_file is not None:
        try:
            history_file.parent.mkdir(parents=True, exist_ok=True)
            # Its lines are as private as the database.
            os.close(os.open(history_file, os.O_RDWR | os.O_CREAT, 0o600))
            history_file.chmod(0o600)
            history = History(str(history_file))
        except OSError as error:
            write(f"chatbot: typed lines are not kept: {history_file}: {error.strerror}", sys.stderr)
    output = create_output()
    if isinstance(output, Vt100_Output):
        # Asking where the cursor is serves menus, of which there are none, and some terminals never answer.
        output.enable_cpr = False
    # The session's own way with dumb terminals is open only to an output that it finds for itself.
    with create_app_session(output=PlainTextOutput(sys.stdout) if is_dumb_terminal() else output):
        return PromptSession(history=history, enable_suspend=True, reserve_space_for_menu=0)
