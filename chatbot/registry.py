"""Which models there are and which one answers: `<home>/models/<id>/` folders and a one-line file, `models/live`.

In: folders and ids. Out: paths. It loads no model. The starter that ships with the package has the id "starter" and
is live until another one is. `models/history` remembers, one id a line, what was live before: that is `rollback`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Container, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from chatbot.checkpoint import verify_model_folder
from chatbot.errors import ChatbotError, ModelFolderError, UsageError

STARTER = "starter"
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_RESERVED = frozenset({STARTER, "live", "history", "echo", "retrieval"})


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """One model of the registry; `parent` is the model it was trained from, `created` when it was saved (UTC)."""

    id: str
    path: Path
    live: bool
    created: datetime
    parent: str | None
    size_bytes: int


class Registry:
    """The models under one home folder; nothing is created before something is added or promoted."""

    def __init__(self, home: Path) -> None:
        self._models = home / "models"
        self._live = self._models / "live"
        self._history = self._models / "history"
        self._starter = Path(__file__).resolve().parent / "starter"

    def live_id(self) -> str:
        """The id of the model that answers, one small file read; it may name a folder that is gone (see `path`)."""
        try:
            return self._live.read_text(encoding="utf-8").strip() or STARTER
        except FileNotFoundError:
            return STARTER
        except (OSError, UnicodeDecodeError) as error:
            raise ModelFolderError(
                f"{self._live} cannot be read ({error}); `chatbot models rollback` rewrites it"
            ) from error

    def path(self, model_id: str) -> Path:
        """The folder of a model; ModelFolderError if there is none of that id or the id is not a plain name."""
        if model_id == STARTER:
            if (self._starter / "config.json").is_file():
                return self._starter
            raise ModelFolderError(f"{self._starter} holds no model; reinstall familect, or name another with --model")
        problem = f"{model_id!r} is not a model id"
        if _ID.fullmatch(model_id) and model_id not in _RESERVED:
            if (self._models / model_id / "config.json").is_file():
                return self._models / model_id
            problem = f"there is no model {model_id!r}"
        if model_id == self.live_id():
            raise ModelFolderError(f"{problem}, but {self._live} names it; `chatbot models rollback` goes back")
        raise ModelFolderError(f"{problem}; `chatbot models list` shows what there is")

    def list(self) -> tuple[ModelInfo, ...]:
        """Every model, the starter first, then by age."""
        live = self.live_id()
        found = [STARTER] if (self._starter / "config.json").is_file() else []
        if self._models.is_dir():
            found += [p.name for p in self._models.iterdir() if _ID.fullmatch(p.name) and (p / "config.json").is_file()]
        infos = [self._info(model_id, live) for model_id in found]
        return tuple(sorted(infos, key=lambda info: (info.id != STARTER, info.created, info.id)))

    def check_new(self, model_id: str) -> None:
        """UsageError if a new model cannot be called that: the id is taken or no plain name."""
        if not _ID.fullmatch(model_id) or model_id in _RESERVED:
            raise UsageError(f"{model_id!r} cannot be a model id; use letters, digits, dots and dashes, at most 64")
        if (self._models / model_id).exists():
            raise UsageError(f"there is a model {model_id!r} already; `chatbot models list` shows the names taken")

    def add(self, folder: Path, model_id: str) -> Path:
        """Copy a model folder in under `model_id`, whole or not at all, and return its place.

        UsageError if `check_new` objects; ModelFolderError if the folder, or its copy, is not sound.
        """
        self.check_new(model_id)
        place = self._models / model_id
        verify_model_folder(folder)
        building = self._models / f".{model_id}.{os.getpid()}"
        shutil.rmtree(building, ignore_errors=True)
        self._models.mkdir(parents=True, exist_ok=True)
        try:
            shutil.copytree(folder, building)
            verify_model_folder(building)
            for file in building.rglob("*"):
                _sync(file)
            building.rename(place)
        except OSError as error:
            raise ChatbotError(
                f"{folder} cannot be copied to {place}: {error}; check disk space and permissions"
            ) from error
        finally:
            shutil.rmtree(building, ignore_errors=True)
        _sync(self._models)
        return place

    def promote(self, model_id: str) -> None:
        """Make a model live, after checking its folder; running engines follow. ModelFolderError if it is not sound."""
        verify_model_folder(self.path(model_id))
        live = self.live_id()
        if live == model_id:
            return
        # History first: a crash in between leaves the live model on top of it, which `rollback` passes over.
        self._write(self._history, [*_lines(self._history), live])
        self._write(self._live, [model_id])

    def rollback(self, passing: Container[str] = ()) -> str:
        """Make the newest sound model of the history live again, the starter at the end of it, and return its id.

        Those in `passing` are passed over. UsageError if there is none.
        """
        past = [STARTER, *_lines(self._history)]
        try:
            live = self.live_id()
        except ModelFolderError:
            live = ""  # the file is damaged: writing it anew is what mends it
        while past:
            model_id = past.pop()
            if model_id == live or model_id in passing:
                continue
            try:
                verify_model_folder(self.path(model_id))
            except ModelFolderError:
                continue  # deleted or damaged since: it cannot be gone back to
            self._write(self._live, [model_id])
            self._write(self._history, past[1:])
            return model_id
        raise UsageError(
            "no earlier model to go back to; `chatbot models promote ID` chooses one of `chatbot models list`"
        )

    def _write(self, path: Path, lines: Iterable[str]) -> None:
        """Replace a small file in one step that survives a crash."""
        building = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            self._models.mkdir(parents=True, exist_ok=True)
            building.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
            _sync(building)
            building.replace(path)
        except OSError as error:
            raise ChatbotError(
                f"{path} cannot be written: {error.strerror}; check disk space and permissions"
            ) from error
        _sync(self._models)

    def _info(self, model_id: str, live: str) -> ModelInfo:
        folder = self.path(model_id)
        files = [file for file in folder.iterdir() if file.is_file()]
        parent: object = None  # a damaged folder is listed all the same; `chatbot models verify` says what is wrong
        with suppress(OSError, ValueError, AttributeError):
            parent = json.loads((folder / "provenance.json").read_text(encoding="utf-8")).get("parent")
        return ModelInfo(
            id=model_id,
            path=folder,
            live=model_id == live,
            created=datetime.fromtimestamp((folder / "config.json").stat().st_mtime, UTC),
            parent=str(parent) if parent else None,
            size_bytes=sum(file.stat().st_size for file in files),
        )


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").split()
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise ModelFolderError(
            f"{path} cannot be read ({error}); remove it: only `chatbot models rollback` reads it"
        ) from error


def _sync(path: Path) -> None:
    """Have the disk hold what was written to a file or a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
