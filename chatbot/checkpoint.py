"""A model folder: weights, config, tokenizer, provenance, checksums. Written whole or not at all; nothing is unpickled.

config.json         format version, model sizes, decode defaults, source marker to answer with, context limits
model.safetensors   weights in half precision; large models are cut into model-00001-of-00003.safetensors ...
tokenizer.json      the `tokenizers` library's own format
*.onnx              optional: the graphs that answer on a CPU without torch (`chatbot.graphs`, `chatbot.exporting`)
known.jsonl         optional: dialogues whose questions are answered as they stand (`chatbot.known`)
known.npz           and their index (`chatbot.knownindex`), which is made anew where it is missing
provenance.json     where it comes from: recipe, data with hashes and licences, parent, figures
checksums.json      sha256 of each of the above
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chatbot.errors import ModelFolderError, UsageError

if TYPE_CHECKING:
    from chatbot.model import EncoderDecoder
    from chatbot.tokenizer import Tokenizer

FORMAT_VERSION = 1
KNOWN_FILE = "known.jsonl"
_SHARD_BYTES = 16 * 2**20


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model folder in memory; `model` is on the CPU, in full precision, in evaluation mode."""

    model_id: str
    model: EncoderDecoder
    tokenizer: Tokenizer
    config: Mapping[str, Any]
    provenance: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Provenance:
    """What a model was trained on: the model it began from, and the hashes of its data files."""

    parent: str | None
    data_hashes: tuple[str, ...]


def load_provenance(path: Path) -> Provenance:
    """The origin of the model in a folder; ModelFolderError if there is none to be read."""
    known = _read_json(path / "provenance.json")
    data, parent = known.get("data"), known.get("parent")
    files = data.get("files") if isinstance(data, dict) else None
    hashes = files.values() if isinstance(files, dict) else ()
    return Provenance(parent if isinstance(parent, str) else None, tuple(str(digest) for digest in hashes))


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelFolderError(
            f"{path.parent} is no model folder: {path.name} is missing; `chatbot models list` shows what there is"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise ModelFolderError(f"{path} cannot be read: {error}; restore it, or `chatbot models rollback`") from error
    if not isinstance(value, dict):
        raise ModelFolderError(f"{path} does not hold a JSON object")
    return value


def verify_model_folder(path: Path) -> dict[str, Any]:
    """Check format version and every file's checksum; return the config, or raise ModelFolderError.

    The text names the file that is missing or changed and what to do.
    """
    if path.is_file():
        raise ModelFolderError(f"{path} is a file, not a model folder; pickled checkpoints are never loaded")
    config = _read_json(path / "config.json")
    version = config.get("format_version")
    if version != FORMAT_VERSION:
        raise ModelFolderError(
            f"{path} has format version {version!r}, this program reads {FORMAT_VERSION}; "
            "upgrade familect or train the model again"
        )
    files = _read_json(path / "checksums.json").get("files")
    if not isinstance(files, dict) or "config.json" not in files or "tokenizer.json" not in files:
        raise ModelFolderError(f"{path}/checksums.json lists no files; restore the folder from its source")
    for name, expected in files.items():
        if Path(name).name != name:
            raise ModelFolderError(f"{path}/checksums.json names {name!r}, which is not a plain file name")
        if not (path / name).is_file():
            raise ModelFolderError(f"{path} lacks {name}; restore it, or `chatbot models rollback`")
        try:
            found = sha256(path / name)
        except OSError as error:
            raise ModelFolderError(f"{path / name} cannot be read: {error.strerror}; check its permissions") from error
        if found != expected:
            raise ModelFolderError(
                f"{path / name} has changed since it was saved (checksum differs); "
                "restore it, or `chatbot models rollback`"
            )
    if not any(name.endswith(".safetensors") for name in files):
        raise ModelFolderError(f"{path} holds no .safetensors weights; pickled weights are never loaded")
    return config


def load_model_folder(path: Path, model_id: str | None = None) -> LoadedModel:
    """Verify and load the folder at `path`; `model_id` defaults to its name. Raises ModelFolderError."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from chatbot.model import ModelConfig, build_model
    from chatbot.sides import load_tokenizer

    config = verify_model_folder(path)
    files = _read_json(path / "checksums.json")["files"]
    try:
        with torch.device("meta"):  # sizes only: first weights, drawn at random, would take longer than all the rest
            model = build_model(ModelConfig(**config["model"]))
        weights: dict[str, Any] = {}
        for name in sorted(files):
            if name.endswith(".safetensors"):
                weights.update(load_file(path / name))
        model.load_state_dict({name: weight.float() for name, weight in weights.items()}, assign=True)
    except (SafetensorError, RuntimeError, TypeError, KeyError, UsageError) as error:
        reason = " ".join(str(error).split())
        raise ModelFolderError(
            f"{path} does not hold the weights its config describes ({reason}); "
            "restore it from its source, or train again"
        ) from error
    tokenizer = load_tokenizer(path)
    if len(tokenizer) != model.config.vocabulary_size:
        raise ModelFolderError(
            f"{path}/tokenizer.json has {len(tokenizer)} tokens, the model {model.config.vocabulary_size}; "
            "restore the folder from its source"
        )
    return LoadedModel(
        model_id=model_id or path.name,
        model=model.eval(),
        tokenizer=tokenizer,
        config=config,
        provenance=_read_json(path / "provenance.json"),
    )


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def save_model_folder(
    path: Path,
    model: EncoderDecoder,
    tokenizer: Tokenizer,
    *,
    provenance: Mapping[str, Any],
    source: str,
    decoding: Mapping[str, Any],
    context: Mapping[str, Any],
    known: Path | None = None,
) -> None:
    """Write the folder beside its place and rename it, so that a reader sees all of it or nothing.

    `source` is the marker to answer with, `decoding` the defaults of `chatbot.decoding.DecodingOptions`, `context`
    how contexts were cut in training: `context_turns`, `max_source_tokens`, `rename` (source -> marker).
    `known` is a dialogue file to take along.
    An older folder at `path` is replaced, and stays what it was until the new one is complete.
    """
    building = path.with_name(f".{path.name}.new")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    _write_weights(building, model)
    tokenizer.save(building / "tokenizer.json")
    if known is not None:
        from chatbot.known import KnownExchanges

        shutil.copyfile(known, building / KNOWN_FILE)
        KnownExchanges(building / KNOWN_FILE).save_index()
    _write_json(
        building / "config.json",
        {
            "format_version": FORMAT_VERSION,
            "model": asdict(model.config),
            "source": source,
            "decoding": dict(decoding),
            "context": dict(context),
        },
    )
    _write_json(building / "provenance.json", provenance)
    seal(building)
    put_in_place(building, path)


def has_graphs(path: Path) -> bool:
    """Whether the folder at `path`, sound or not, says that it can answer without torch."""
    try:
        return "graphs" in _read_json(path / "config.json")
    except ModelFolderError:
        return False


def copy_for_change(path: Path) -> Path:
    """A copy of the folder beside it, to be changed, sealed and put in place."""
    building = path.with_name(f".{path.name}.new")
    shutil.rmtree(building, ignore_errors=True)
    shutil.copytree(path, building)
    return building


def set_in_config(path: Path, key: str, value: object) -> None:
    """Change one key of a folder's config; None takes it out."""
    config = {**_read_json(path / "config.json"), key: value}
    _write_json(path / "config.json", {name: kept for name, kept in config.items() if kept is not None})


def seal(path: Path) -> None:
    """Write the checksums of what is in the folder."""
    files = {file.name: sha256(file) for file in sorted(path.iterdir()) if file.name != "checksums.json"}
    _write_json(path / "checksums.json", {"files": files})


def put_in_place(building: Path, path: Path) -> None:
    """Rename a complete folder to `path`; an older one there stays what it is until then."""
    old = path.with_name(f".{path.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if path.exists():
        path.rename(old)
    building.rename(path)
    shutil.rmtree(old, ignore_errors=True)


def _write_weights(folder: Path, model: EncoderDecoder) -> None:
    import torch
    from safetensors.torch import save_file

    shards: list[dict[str, Any]] = [{}]
    used = 0
    for name, weight in model.state_dict().items():
        half = weight.detach().cpu().to(torch.float16).contiguous()
        size = half.numel() * 2
        if used and used + size > _SHARD_BYTES:
            shards.append({})
            used = 0
        shards[-1][name] = half
        used += size
    for number, shard in enumerate(shards, start=1):
        name = "model.safetensors" if len(shards) == 1 else f"model-{number:05}-of-{len(shards):05}.safetensors"
        save_file(shard, folder / name)
