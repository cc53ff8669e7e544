"""Model folders: what is written is read, what was tampered with is refused in one line, old ones survive a crash."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import save_tiny_model, tiny_model

from chatbot import checkpoint
from chatbot.checkpoint import load_model_folder, sha256, verify_model_folder
from chatbot.errors import ModelFolderError
from chatbot.tokenizer import Tokenizer


def rewrite(folder: Path, name: str, change: Callable[[dict[str, Any]], None]) -> None:
    """Change a JSON file of a model folder, and its checksum with it: somebody's deliberate edit."""
    path = folder / name
    value = json.loads(path.read_text(encoding="utf-8"))
    change(value)
    path.write_text(json.dumps(value), encoding="utf-8")
    if name != "checksums.json":
        rechecksum(folder)


def rechecksum(folder: Path) -> None:
    """Make `checksums.json` agree with whatever is in the folder."""
    files = {file.name: sha256(file) for file in folder.iterdir() if file.name != "checksums.json"}
    (folder / "checksums.json").write_text(json.dumps({"files": files}), encoding="utf-8")


def refused(folder: Path) -> str:
    """The line with which loading `folder` is refused."""
    with pytest.raises(ModelFolderError) as caught:
        load_model_folder(folder)
    text = str(caught.value)
    assert "\n" not in text
    assert str(folder) in text
    return text


def test_saved_and_loaded_are_equal(tmp_path: Path, tokenizer: Tokenizer) -> None:
    """Weights come back as half precision holds them, with config, tokenizer and provenance."""
    model = tiny_model(len(tokenizer), cell="gru", attention="additive", decoder_layers=2)
    save_tiny_model(tmp_path / "mine", tokenizer, model)

    loaded = load_model_folder(tmp_path / "mine")

    assert ("mine", model.config) == (loaded.model_id, loaded.model.config)
    for name, weight in model.state_dict().items():
        assert torch.equal(weight.half().float(), loaded.model.state_dict()[name])
    assert not loaded.model.training
    assert tokenizer.encode("hi there") == loaded.tokenizer.encode("hi there")
    assert (loaded.config["source"], loaded.config["decoding"]) == ("familect", {"max_tokens": 17})
    assert load_model_folder(tmp_path / "mine", "other-id").model_id == "other-id"


def test_large_models_are_cut_into_shards(
    tmp_path: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several shards load as one model; without one of them the folder is refused, naming it."""
    monkeypatch.setattr(checkpoint, "_SHARD_BYTES", 1009)
    model = tiny_model(len(tokenizer))
    folder = save_tiny_model(tmp_path / "mine", tokenizer, model)
    shards = sorted(folder.glob("model-*-of-*.safetensors"))

    loaded = load_model_folder(folder)

    assert len(shards) > 2
    assert torch.equal(model.embedding.weight.half().float(), loaded.model.embedding.weight)
    shards[1].unlink()
    assert f"lacks {shards[1].name}" in refused(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json", "provenance.json"])
def test_a_flipped_byte_is_noticed(model_folder: Path, name: str) -> None:
    """One changed byte in any file is refused, naming the file and the way out."""
    path = model_folder / name
    data = bytearray(path.read_bytes())
    # In JSON a byte inside a text, so that it still parses.
    place = len(data) // 2 if name == "model.safetensors" else next(i for i, b in enumerate(data) if chr(b).islower())
    data[place] ^= 1
    path.write_bytes(data)

    message = refused(model_folder)

    assert name in message or "format version" in message


def test_a_missing_file_is_named(model_folder: Path) -> None:
    """Each file that is missing is named."""
    for name in ("model.safetensors", "tokenizer.json", "provenance.json", "checksums.json", "config.json"):
        copy = model_folder.with_name(f"without-{name}")
        shutil.copytree(model_folder, copy)
        (copy / name).unlink()

        assert name in refused(copy)


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_another_format_version_is_refused(model_folder: Path, version: object) -> None:
    """A folder of another format is named with both versions, and not guessed at."""
    rewrite(model_folder, "config.json", lambda config: config.update(format_version=version))

    message = refused(model_folder)

    assert f"format version {version!r}, this program reads 1" in message


class Evil:
    """Unpickling this would leave a file behind."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("unpickled",)


def test_nothing_is_ever_unpickled(model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pickle in place of the weights, under their name or its own, is refused and not run."""
    monkeypatch.chdir(tmp_path)
    weights = model_folder / "model.safetensors"
    weights.write_bytes(pickle.dumps(Evil()))

    assert "checksum differs" in refused(model_folder)
    rechecksum(model_folder)
    assert "does not hold the weights" in refused(model_folder)
    weights.rename(model_folder / "pytorch_model.bin")
    rechecksum(model_folder)
    assert "pickled weights are never loaded" in refused(model_folder)
    assert not (tmp_path / "unpickled").exists()


def test_a_file_is_not_a_folder(tmp_path: Path) -> None:
    """A checkpoint file of another program is refused as such."""
    torch.save({"weights": torch.zeros(3)}, tmp_path / "model.pt")

    assert "is a file, not a model folder" in refused(tmp_path / "model.pt")


def test_an_empty_or_absent_folder_is_no_model(tmp_path: Path) -> None:
    """The text says that it is no model folder and where to look for one."""
    assert "is no model folder: config.json is missing; `chatbot models list`" in refused(tmp_path)
    assert "is no model folder" in refused(tmp_path / "absent")


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "sub/file", "..", "", "\0"])
def test_checksums_cannot_point_outside(model_folder: Path, name: str) -> None:
    """A list of files that names a path is refused before anything there is opened."""
    (model_folder.parent / "outside").write_text("secret", encoding="utf-8")
    rewrite(model_folder, "checksums.json", lambda sums: sums["files"].update({name: "0"}))

    message = refused(model_folder)

    assert "not a plain file name" in message or "lacks" in message


@pytest.mark.parametrize(
    "change",
    [
        lambda config: config["model"].update(decoder_units=13),
        lambda config: config["model"].update(vocabulary_size=7),
        lambda config: config["model"].update(decoder_layers=2),
        lambda config: config["model"].update(cell="gru"),
        lambda config: config["model"].update(cell="rnn"),
        lambda config: config["model"].update(cell=[]),
        lambda config: config["model"].update(dropout="much"),
        lambda config: config["model"].update(unknown=1),
        lambda config: config["model"].pop("vocabulary_size"),
        lambda config: config.update(model=None),
        lambda config: config.pop("model"),
    ],
)
def test_a_config_that_does_not_fit_the_weights_is_refused(
    model_folder: Path, change: Callable[[dict[str, Any]], None]
) -> None:
    """Sizes or kinds other than the stored weights', or no sizes at all, end in one line."""
    rewrite(model_folder, "config.json", change)

    assert "does not hold the weights its config describes" in refused(model_folder)


def test_a_tokenizer_of_another_size_is_refused(model_folder: Path, tokenizer: Tokenizer) -> None:
    """A vocabulary that the model has no scores for is noticed at loading, not in the first reply."""
    Tokenizer.train(["hi"], 277, ["other"]).save(model_folder / "tokenizer.json")
    rechecksum(model_folder)

    assert f"the model {len(tokenizer)}" in refused(model_folder)


@pytest.mark.parametrize("content", [b"", b"[1]", b'"x"', b"\xff", b"[" * 100_000, b"{"])
@pytest.mark.parametrize("name", ["config.json", "checksums.json"])
def test_broken_json_is_refused(model_folder: Path, name: str, content: bytes) -> None:
    """A list, half a file, another encoding, absurd nesting: one line that names the file."""
    (model_folder / name).write_bytes(content)

    assert name in refused(model_folder)


def test_an_unreadable_file_is_named(model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that the system does not let us read is named with the reason."""

    def denied(path: Path) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(checkpoint, "sha256", denied)

    with pytest.raises(ModelFolderError, match=r"config\.json cannot be read: Permission denied"):
        verify_model_folder(model_folder)


def test_saving_again_replaces_the_whole_folder(model_folder: Path, tokenizer: Tokenizer) -> None:
    """Nothing of the older folder is left, and nothing stands beside the new one."""
    (model_folder / "stray").write_text("old", encoding="utf-8")

    save_tiny_model(model_folder, tokenizer, tiny_model(len(tokenizer), seed=7))

    assert not (model_folder / "stray").exists()
    assert [path for path in model_folder.parent.iterdir() if path.name.startswith(".")] == []
    verify_model_folder(model_folder)


def test_a_failure_in_the_middle_leaves_the_old_model(
    model_folder: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk while saving loses nothing, and the next saving succeeds over the debris."""
    before = sha256(model_folder / "model.safetensors")

    def full(path: Path, value: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "_write_json", full)
        with pytest.raises(OSError, match="No space"):
            save_tiny_model(model_folder, tokenizer, tiny_model(len(tokenizer), seed=7))

    verify_model_folder(model_folder)
    assert before == sha256(model_folder / "model.safetensors")
    save_tiny_model(model_folder, tokenizer, tiny_model(len(tokenizer), seed=7))
    verify_model_folder(model_folder)


def test_a_kill_in_the_middle_leaves_the_old_model(model_folder: Path) -> None:
    """SIGKILL while the new weights are being written: the old folder is whole."""
    code = (
        "import os, signal, sys, pathlib\n"
        "from chatbot import checkpoint\n"
        "loaded = checkpoint.load_model_folder(pathlib.Path(sys.argv[1]))\n"
        "checkpoint._write_json = lambda path, value: os.kill(os.getpid(), signal.SIGKILL)\n"
        "checkpoint.save_model_folder(pathlib.Path(sys.argv[1]), loaded.model, loaded.tokenizer,\n"
        "    provenance={}, source='other', decoding={}, context={})\n"
    )
    before = sha256(model_folder / "model.safetensors")

    done = subprocess.run([sys.executable, "-c", code, str(model_folder)], check=False, timeout=60)

    assert done.returncode == -signal.SIGKILL
    verify_model_folder(model_folder)
    assert before == sha256(model_folder / "model.safetensors")
