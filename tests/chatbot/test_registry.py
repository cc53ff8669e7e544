"""Which model is live, and how to get back: folders and small files, no model in memory."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from chatbot import registry as module
from chatbot.errors import ChatbotError, ModelFolderError, UsageError
from chatbot.registry import ModelInfo, Registry


def make_folder(path: Path, parent: str | None = None) -> Path:
    """A folder that passes verification; its weights are never loaded here."""
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps({"format_version": 1}), encoding="utf-8")
    (path / "tokenizer.json").write_text("{}", encoding="utf-8")
    (path / "model.safetensors").write_bytes(b"weights of " + path.name.encode())
    (path / "provenance.json").write_text(json.dumps({"parent": parent}), encoding="utf-8")
    files = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(path.iterdir())}
    (path / "checksums.json").write_text(json.dumps({"files": files}), encoding="utf-8")
    return path


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """A registry with a starter and the models "one" and "two"."""
    make_folder(tmp_path / "package" / "starter")
    monkeypatch.setattr(module, "__file__", str(tmp_path / "package" / "registry.py"))
    made = Registry(tmp_path / "home")
    for name in ("one", "two"):
        made.add(make_folder(tmp_path / "runs" / name, parent="starter"), name)
    return made


def test_the_starter_is_live_at_first(tmp_path: Path, registry: Registry) -> None:
    """With nothing promoted the shipped model answers, from inside the package; nothing is written for it."""
    fresh = Registry(tmp_path / "elsewhere")

    assert fresh.live_id() == "starter"
    assert tmp_path / "package" / "starter" == fresh.path("starter")
    assert not (tmp_path / "elsewhere").exists()


def test_a_missing_starter_is_a_broken_installation(tmp_path: Path, registry: Registry) -> None:
    """Nothing in the home folder can bring the shipped model back, so nothing there is blamed."""
    shutil.rmtree(tmp_path / "package" / "starter")

    with pytest.raises(ModelFolderError, match="reinstall familect"):
        registry.path("starter")


def test_promote_and_roll_back(registry: Registry, tmp_path: Path) -> None:
    """Each rollback undoes one promotion, down to the starter, and then says that there is no more."""
    registry.promote("one")
    registry.promote("two")
    registry.promote("two")

    assert (tmp_path / "home" / "models" / "live").read_text(encoding="utf-8") == "two\n"
    assert [registry.rollback(), registry.live_id()] == ["one", "one"]
    assert [registry.rollback(), registry.live_id()] == ["starter", "starter"]
    with pytest.raises(UsageError, match="no earlier model"):
        registry.rollback()


def test_list_shows_every_model(registry: Registry) -> None:
    """The starter comes first; each has its place, parent and size, and one of them is live."""
    registry.promote("two")

    starter, one, two = registry.list()

    assert [starter.id, one.id, two.id] == ["starter", "one", "two"]
    assert [starter.live, one.live, two.live] == [False, False, True]
    assert isinstance(two, ModelInfo)
    assert (registry.path("two"), "starter") == (two.path, two.parent)
    assert sum(file.stat().st_size for file in two.path.iterdir()) == two.size_bytes
    assert two.created.tzinfo is not None


def test_a_damaged_model_is_not_promoted(registry: Registry) -> None:
    """A flipped byte is found before the model goes live; the old one stays."""
    weights = registry.path("one") / "model.safetensors"
    weights.write_bytes(weights.read_bytes().replace(b"w", b"v"))

    with pytest.raises(ModelFolderError, match="checksum differs"):
        registry.promote("one")

    assert registry.live_id() == "starter"


def test_rollback_passes_over_what_it_is_told_to(registry: Registry) -> None:
    """A model that shall not answer any more is not gone back to, but the one before it."""
    registry.promote("one")
    registry.promote("two")

    assert registry.rollback({"one"}) == "starter"


def test_rollback_passes_over_what_is_gone(registry: Registry) -> None:
    """A model deleted or damaged since is no way back; the one before it is."""
    registry.promote("one")
    registry.promote("two")
    (registry.path("one") / "tokenizer.json").unlink()

    assert registry.rollback() == "starter"


def test_a_crash_between_the_two_writes_costs_nothing(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """When only the history was written, the live model is unchanged and rollback does not go back to itself."""
    registry.promote("one")
    with monkeypatch.context() as patch:
        write = registry._write
        patch.setattr(registry, "_write", lambda path, lines: path.name == "live" or write(path, lines))
        registry.promote("two")

    assert registry.live_id() == "one"
    assert registry.rollback() == "starter"


@pytest.mark.parametrize("live", [b"gone\n", b"../../etc\n", b"\xff\xfe\n"])
def test_a_live_file_that_names_nothing_says_how_to_go_back(registry: Registry, tmp_path: Path, live: bytes) -> None:
    """A live model that is missing, or a garbled file, is one clear line, and the command it names mends it."""
    (tmp_path / "home" / "models" / "live").write_bytes(live)

    with pytest.raises(ModelFolderError, match="chatbot models rollback"):
        registry.path(registry.live_id())

    assert registry.rollback() == "starter"
    assert registry.live_id() == "starter"


def test_an_empty_live_file_means_the_starter(registry: Registry, tmp_path: Path) -> None:
    """A file that lost its line does not stop the bot."""
    (tmp_path / "home" / "models" / "live").write_text("", encoding="utf-8")

    assert registry.live_id() == "starter"


@pytest.mark.parametrize(
    "model_id", ["../runs/one", "/etc", ".", "..", "", "live", "history", "a/b", "one\n", "x" * 65]
)
def test_an_id_is_a_plain_name(registry: Registry, tmp_path: Path, model_id: str) -> None:
    """An id can never lead out of the models folder, neither to read from nor to write to."""
    with pytest.raises(ModelFolderError):
        registry.path(model_id)
    with pytest.raises(UsageError):
        registry.add(tmp_path / "runs" / "one", model_id)


def test_an_unknown_id_names_the_list(registry: Registry) -> None:
    """A mistyped id is shown with the command that lists the right ones."""
    with pytest.raises(ModelFolderError, match="no model 'oen'; `chatbot models list`"):
        registry.path("oen")


def test_a_taken_id_is_refused(registry: Registry, tmp_path: Path) -> None:
    """Models are never overwritten, the shipped one least of all: a reply row must lead to what produced it."""
    with pytest.raises(UsageError, match="already"):
        registry.add(tmp_path / "runs" / "two", "one")
    with pytest.raises(UsageError, match="cannot be a model id"):
        registry.add(tmp_path / "runs" / "two", "starter")


def test_nothing_half_copied_is_left(registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fills up while copying leaves no folder behind and says so in one line."""

    def full(source: Path, target: Path) -> None:
        target.mkdir()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copytree", full)

    with pytest.raises(ChatbotError, match="No space left"):
        registry.add(tmp_path / "runs" / "two", "three")

    assert sorted(p.name for p in (tmp_path / "home" / "models").iterdir()) == ["one", "two"]


def test_an_unsound_folder_is_not_added(registry: Registry, tmp_path: Path) -> None:
    """What would not pass `promote` does not enter the registry."""
    with pytest.raises(ModelFolderError):
        registry.add(tmp_path / "runs", "three")
