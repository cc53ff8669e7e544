"""Text in, `Reply` out: the engines, and `load_engine`, which finds the right one.

`LiveEngine` follows the registry with a `Seq2SeqEngine` (`chatbot.seq2seq`), `RetrievalEngine` (`chatbot.retrieval`)
needs no model, `EchoEngine` not even data. They know no platform and no store; torch loads when a model is opened.

A history is oldest first, speakers alternating, and ends with what the bot said before the text to answer.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import platform
import re
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

from chatbot.checkpoint import KNOWN_FILE, has_graphs
from chatbot.config import home
from chatbot.errors import ModelFolderError
from chatbot.guard import GuardedEngine
from chatbot.known import KnownExchanges
from chatbot.messages import Reply
from chatbot.registry import Registry
from chatbot.rules import Rules
from chatbot.seq2seq import Seq2SeqEngine, TextRuntime
from chatbot.text import clean

_log = logging.getLogger(__name__)
_ACCELERATORS = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")  # NVIDIA's driver, the same within WSL, AMD's


class Engine(Protocol):
    """Whatever answers. One engine serves many conversations at once; it keeps nothing of any of them."""

    @property
    def model_id(self) -> str:
        """Which model answers now."""

    async def reply(
        self,
        history: Sequence[str],
        text: str,
        *,
        seed: int | None = None,
        options: Mapping[str, object] | None = None,
    ) -> Reply:
        """Answer `text` without ever holding up the event loop.

        `options` are decode settings over the engine's own. UsageError if they make no sense.
        """

    def reply_sync(
        self,
        history: Sequence[str],
        text: str,
        *,
        seed: int | None = None,
        options: Mapping[str, object] | None = None,
    ) -> Reply:
        """`reply` for callers without an event loop."""

    def close(self) -> None:
        """Answer what waits, then release threads and memory; the engine answers nothing more."""


class EchoEngine:
    """Says what it is told: for trying an adapter out, and for tests."""

    model_id = "echo"

    async def reply(
        self,
        history: Sequence[str],
        text: str,
        *,
        seed: int | None = None,
        options: Mapping[str, object] | None = None,
    ) -> Reply:
        """The cleaned text."""
        return self.reply_sync(history, text, seed=seed, options=options)

    def reply_sync(
        self,
        history: Sequence[str],
        text: str,
        *,
        seed: int | None = None,
        options: Mapping[str, object] | None = None,
    ) -> Reply:
        """The cleaned text."""
        return Reply(text=clean(text) or "…", model_id=self.model_id, engine="echo")

    def close(self) -> None:
        """Nothing to release."""


class LiveEngine:
    """Answers with whichever model the registry calls live at the moment the request comes.

    A newly promoted model is loaded and warmed up in a thread beside the old one; the request that noticed waits for
    it. Requests under way finish on the model they began with, which goes when the last of them is done. A model that
    cannot be loaded is passed over with one warning, until another one is promoted.
    """

    def __init__(self, registry: Registry, open_model: Callable[[Path, str], Engine]) -> None:
        self._registry = registry
        self._open_model = open_model
        self._lock = threading.Lock()
        self._loader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="model-loader")
        self._wanted = registry.live_id()
        self._engine = open_model(registry.path(self._wanted), self._wanted)
        self._current: Future[Engine] = Future()
        self._current.set_result(self._engine)

    @property
    def model_id(self) -> str:
        """The model loaded last."""
        return self._engine.model_id

    async def reply(
        self,
        history: Sequence[str],
        text: str,
        *,
        seed: int | None = None,
        options: Mapping[str, object] | None = None,
    ) -> Reply:
        """Answer with the live model."""
        import asyncio

        current = self._follow()
        # Shielded: one caller who gives up must not cancel the loading for the others.
        engine = current.result() if current.done() else await asyncio.shield(asyncio.wrap_future(current))
        return await engine.reply(history, text, seed=seed, options=options)

    def reply_sync(
        self,
        history: Sequence[str],
        text: str,
        *,
        seed: int | None = None,
        options: Mapping[str, object] | None = None,
    ) -> Reply:
        """Answer with the live model."""
        return self._follow().result().reply_sync(history, text, seed=seed, options=options)

    def close(self) -> None:
        """Finish what is being loaded or answered, and end the threads."""
        self._loader.shutdown()
        self._engine.close()

    def _follow(self) -> Future[Engine]:
        """The engine of the live model, loading if it has just changed; costs the reading of one line."""
        with self._lock:
            try:
                wanted = self._registry.live_id()
            except ModelFolderError as error:
                _log.warning("%s; %s goes on answering", error, self.model_id)
                wanted = self._wanted
            if wanted != self._wanted:
                self._current = self._loader.submit(self._load, wanted, self._current)
                self._wanted = wanted
            return self._current

    def _load(self, wanted: str, before: Future[Engine]) -> Engine:
        try:
            engine = self._open_model(self._registry.path(wanted), wanted)
            engine.reply_sync([], "hi")  # the first reply of a model is slow: it is nobody's
        except Exception as error:
            _log.warning("model %s stays out: %s; %s goes on answering", wanted, error, self.model_id)
            return before.result()
        self._engine = engine
        return engine


def load_engine(
    model: str | Path | None = None,
    *,
    device: str = "auto",
    settings: Mapping[str, object] | None = None,
    seed: int | None = None,
) -> Engine:
    """Open an engine behind the rules.

    `model` None follows the live model; else "echo", "retrieval", "retrieval:PATH", a registry id, or a model folder.
    `device` is "auto", "cpu", "cuda" or "mps"; `settings` are decode settings over the model's own; `seed` holds for
    every reply that brings none. UsageError or ModelFolderError says what is wrong with any of them.
    """

    def open_model(folder: Path, model_id: str) -> Engine:
        runtime = _open_runtime(folder, device, model_id)  # first: it checks the folder's checksums
        known = folder / KNOWN_FILE
        exchanges = KnownExchanges(known) if known.exists() else None
        return Seq2SeqEngine(runtime, exchanges, settings=settings, seed=seed, unfit=unfit)

    rules = Rules.load()

    def unfit(text: str) -> bool:
        return rules.after(text) is not None

    return GuardedEngine(_open(model, open_model), rules)


def _open_runtime(folder: Path, device: str, model_id: str) -> TextRuntime[Any]:
    """Without torch where the folder can do without and no accelerator is wanted or there."""
    if (device == "cpu" or (device == "auto" and not accelerated())) and has_graphs(folder):
        from chatbot.runtime_onnx import OnnxRuntime

        return OnnxRuntime(folder, model_id)
    from chatbot.runtime import TorchRuntime

    return TorchRuntime(folder, device, model_id)


def accelerated() -> bool:
    """Whether torch may find something faster than the CPU, told from files: importing it takes a second."""
    if sys.platform == "darwin":
        return platform.machine() == "arm64"
    if not any(Path(path).exists() for path in _ACCELERATORS):
        return False
    found = importlib.util.find_spec("torch")
    build = Path(found.origin).with_name("version.py").read_text("utf-8") if found and found.origin else ""
    return bool(re.search(r"^(cuda|hip)\b[^=]*= *['\"]", build, re.MULTILINE))


def _open(model: str | Path | None, open_model: Callable[[Path, str], Engine]) -> Engine:
    if model == "echo":
        return EchoEngine()
    if isinstance(model, str) and (model == "retrieval" or model.startswith("retrieval:")):
        from chatbot.retrieval import RetrievalEngine

        _, named, path = model.partition(":")
        return RetrievalEngine([Path(os.path.expanduser(path))]) if named else RetrievalEngine()
    registry = Registry(home())
    if model is None:
        return LiveEngine(registry, open_model)
    folder = Path(os.path.expanduser(model))
    if isinstance(model, str) and os.sep not in model:
        try:
            return open_model(registry.path(model), model)
        except ModelFolderError:
            if not folder.is_dir():
                raise
    return open_model(folder, folder.resolve().name)
