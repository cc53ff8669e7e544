"""Everything as small as it can be for tests of models and training: sizes are small, distinct primes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from chatbot.checkpoint import save_model_folder
from chatbot.config import build
from chatbot.model import ModelConfig, Seq2Seq
from chatbot.tokenizer import Tokenizer
from training.recipe import Recipe

TEXTS = (
    "hi there, how are you?",
    "what is your name?",
    "my name is Familect",
    "你好，你叫什么名字？",
    "tell me a joke",
)
SIZES: Mapping[str, Any] = {"embedding_size": 13, "encoder_units": 7, "decoder_units": 11, "dropout": 0.0}


def tiny_tokenizer() -> Tokenizer:
    """Trained on `TEXTS`: 256 bytes, 8 markers, the rest merges."""
    return Tokenizer.train(TEXTS * 3, 311, ["other", "familect", "reverse"])


def tiny_model(vocabulary_size: int = 23, seed: int = 5, **changes: Any) -> Seq2Seq:
    """A model with random weights in evaluation mode."""
    torch.manual_seed(seed)
    return Seq2Seq(ModelConfig(vocabulary_size, **{**SIZES, **changes})).eval()


def save_tiny_model(path: Path, tokenizer: Tokenizer, model: Seq2Seq | None = None) -> Path:
    """`tiny_model`, or `model`, as a model folder."""
    save_model_folder(
        path,
        model or tiny_model(len(tokenizer)),
        tokenizer,
        provenance={"parent": None},
        source="familect",
        decoding={"max_tokens": 17},
        context={"context_turns": 3, "max_source_tokens": 29, "rename": {}},
    )
    return path


def small_talk(count: int) -> list[dict[str, Any]]:
    """Records of dialogues, each with an id, a source and four turns."""
    return [
        {
            "id": f"talk-{number}",
            "source": ("familect", "other")[number % 2],
            "license": "CC0-1.0",
            "turns": [TEXTS[number % 5], f"reply {'abcdefg'[number % 7]}", "ok", TEXTS[(number + 2) % 5]],
        }
        for number in range(count)
    ]


def write_dialogues(path: Path, records: Iterable[Mapping[str, Any]]) -> Path:
    """A dialogue file of `records`."""
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def tiny_recipe(file: Path, /, **changes: Mapping[str, Any]) -> Recipe:
    """A recipe that runs in a second; `changes` are keys of its sections: ``optimiser={"steps": 3}``."""
    plan: dict[str, dict[str, Any]] = {
        "data": {"paths": [str(file)], "max_source_tokens": 29, "max_target_tokens": 17},
        "model": {"vocabulary_size": 311, **SIZES},
        "optimiser": {
            "steps": 7,
            "warmup_steps": 2,
            "batch_tokens": 101,
            "evaluate_every": 3,
            "checkpoint_every": 2,
            "ema": 0.9,
        },
    }
    for section, values in changes.items():
        plan[section] = {**plan.get(section, {}), **values}
    return build(Recipe, {"name": "tiny", "precision": "fp32", **plan}, "tiny")


def losses(folder: Path) -> list[tuple[int, float]]:
    """Step and loss of each line of a run's `metrics.jsonl`."""
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [(line["step"], line["loss"]) for line in map(json.loads, lines)]


def padded(rows: Sequence[Sequence[int]], padding: int = 0, extra: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of ids as (B, S) behind `padding`, `extra` columns wider than needed, and their lengths (B,)."""
    width = max(map(len, rows)) + extra
    source_BS = torch.full((len(rows), width), padding, dtype=torch.long)
    for row, ids in zip(source_BS, rows, strict=True):
        row[: len(ids)] = torch.tensor(ids)
    return source_BS, torch.tensor([len(row) for row in rows])
