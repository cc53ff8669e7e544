"""One training run from a recipe to a model folder.

The run folder, an interface that other tools may rely on:

    recipe.yaml        the recipe as resolved, with --set and --data laid in
    data.json          each data file with its sha256, licence and counts; what was left out and why
    tokens/            the tokenised data, so that --resume starts at once
    known.jsonl        with answer.known: the exchanges that the model takes along (`training.known`)
    tokenizer.json     as trained on this data (or taken from the model the run started from)
    checkpoints/       <step>/state.safetensors and state.json, the last two
    metrics.jsonl      one object a step: see `training.trainer.StepReport`
    loss.png           the curve
    model/             the best model so far, a model folder (`chatbot.checkpoint`)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError

from chatbot.checkpoint import KNOWN_FILE, LoadedModel, load_model_folder, save_model_folder
from chatbot.errors import ChatbotError, UsageError
from chatbot.model import EncoderDecoder, ModelConfig, build_model
from chatbot.tokenizer import Tokenizer
from training import chattask, pairtask
from training.batches import PreparedData
from training.blend import blended
from training.evaluate import score_replies
from training.plot import draw_losses
from training.processes import denormals_flushed, first_goes_first, joined, pick_device, rank
from training.recipe import Recipe
from training.trainer import StepReport, Trainer, TrainState
from training.vocabulary import grown

_VALIDATION_DIALOGUES = 250  # of the held-out ones: enough for the curve, quick enough to watch it


@denormals_flushed()
def train(
    recipe: Recipe,
    folder: Path,
    *,
    resume: bool = False,
    device: str = "auto",
    heard: Callable[[StepReport], None] = lambda report: None,
    began: Callable[[Trainer, PreparedData], None] = lambda trainer, data: None,
) -> TrainState:
    """Run `recipe` in `folder`; the model is in `folder/model` afterwards.

    With `resume` it goes on from the newest checkpoint and gives the losses of a run that never stopped. UsageError
    if the folder holds another run, or `resume` finds a different recipe.
    """
    task = TASKS[recipe.task]
    task.check(recipe)
    start = load_model_folder(_start_folder(recipe)) if recipe.start_from else None
    config = _config(recipe, start)
    begin = time.time()
    with joined(pick_device(device)):
        with first_goes_first():
            if rank() == 0:
                _claim(folder, recipe, resume)
            data = task.prepare(recipe, folder, start.tokenizer if start else None)
        torch.manual_seed(recipe.seed)
        model = build_model(replace(task.fitted(config, data.tokenizer), dropout=recipe.model.dropout))
        if old := grown(start.model.state_dict(), data.tokenizer) if start else None:
            model.load_state_dict(old)

        def validate(current: EncoderDecoder) -> float:
            with blended(current, old, recipe.optimiser.blend):
                nats, tokens = score_replies(current, data.validation)
            return float(nats.sum() / max(1, tokens.sum()))

        def save(current: EncoderDecoder) -> None:
            facts = {**_origin(start, data), "seconds": round(time.time() - begin, 1)}
            with blended(current, old, recipe.optimiser.blend):
                _save(folder / "model", current, data, trainer, facts)

        teacher = deepcopy(model) if start and recipe.optimiser.rehearse else None
        trainer = Trainer(
            recipe, model, data.training, validate, folder, device=device, save_model=save, teacher=teacher
        )
        if resume:
            trainer.resume()
        began(trainer, data)
        state = _run(trainer, folder, heard)
    if rank() == 0:
        _finish(task, recipe, folder, data, device)
    return state


def _finish(task: Task, recipe: Recipe, folder: Path, data: PreparedData, device: str) -> None:
    draw_losses(folder / "metrics.jsonl", folder / "loss.png")
    task.finish(recipe, folder, data, device)


def _config(recipe: Recipe, start: LoadedModel | None) -> ModelConfig:
    """What is to be built; UsageError if its parts do not go together, before there is any work."""
    config = start.model.config if start else ModelConfig(**asdict(recipe.model))
    with torch.device("meta"):  # where building costs nothing
        build_model(config)
    return config


def _run(trainer: Trainer, folder: Path, heard: Callable[[StepReport], None]) -> TrainState:
    """`Trainer.train`, with the machine's limits in plain words."""
    try:
        return trainer.train(heard)
    except torch.OutOfMemoryError as error:
        raise ChatbotError(
            f"the GPU's memory is full at step {trainer.state.step}; train again with optimiser.batch_tokens below "
            f"{trainer.recipe.optimiser.batch_tokens}, and optimiser.accumulate to make up for it"
        ) from error
    except (OSError, SafetensorError) as error:
        raise ChatbotError(f"{folder} cannot be written: {error}; make room there and go on with --resume") from error


def _save(path: Path, model: EncoderDecoder, data: PreparedData, trainer: Trainer, facts: Mapping[str, Any]) -> None:
    recipe = trainer.recipe
    save_model_folder(
        path,
        model,
        data.tokenizer,
        provenance={
            **facts,
            # Models are passed on: names of files, not where they lay on somebody's disk.
            "recipe": replace(
                recipe,
                start_from=recipe.start_from and Path(recipe.start_from).name,
                data=replace(recipe.data, paths=tuple(Path(path).name for path in recipe.data.paths)),
            ).as_dict(),
            "data": {**data.facts, "files": {Path(path).name: digest for path, digest in data.facts["files"].items()}},
            "step": trainer.state.step,
            "valid_loss_per_token": trainer.state.best_loss,
            "torch": torch.__version__,
            "precision": trainer.precision,
        },
        source=recipe.answer.source,
        decoding=recipe.answer.decoding,
        context={
            "context_turns": recipe.data.context_turns,
            "max_source_tokens": recipe.data.max_source_tokens,
            "rename": dict(recipe.data.rename),
        },
        known=path.with_name(KNOWN_FILE) if recipe.answer.known else None,
    )


def _origin(start: LoadedModel | None, data: PreparedData) -> dict[str, Any]:
    """The parent, and what platforms have permitted: for the data, or for a parent, whose children carry it on."""
    inherited = start.provenance.get("permissions", ()) if start else ()
    return {
        "parent": start.model_id if start else None,
        "permissions": sorted({*inherited, *data.facts.get("permissions", ())}),
    }


def _start_folder(recipe: Recipe) -> Path:
    from chatbot.config import home
    from chatbot.registry import Registry

    named = Path(str(recipe.start_from)).expanduser()
    return named if named.is_dir() else Registry(home()).path(str(recipe.start_from))


def _claim(folder: Path, recipe: Recipe, resume: bool) -> None:
    """Write the resolved recipe into an empty folder, or check that the one there is the same."""
    path = folder / "recipe.yaml"
    resolved = yaml.safe_dump(recipe.as_dict(), sort_keys=False, allow_unicode=True)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.write_text(resolved, encoding="utf-8")
            return
        known = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{folder} cannot hold a run: {error.strerror}; name another --out") from error
    if not resume:
        raise UsageError(f"{folder} already holds a run; add --resume to go on, or name another --out")
    if known != resolved:
        raise UsageError(f"{folder} was started with another recipe; compare recipe.yaml there, or name another --out")


@dataclass(frozen=True, slots=True)
class Task:
    """What sets one kind of run apart: is its data named, the data, the vocabulary's sizes, what comes last."""

    check: Callable[[Recipe], object]
    prepare: Callable[[Recipe, Path, Tokenizer | None], PreparedData]
    fitted: Callable[[ModelConfig, Tokenizer], ModelConfig]
    finish: Callable[[Recipe, Path, PreparedData, str], object]


TASKS: Mapping[str, Task] = {
    "chat": Task(chattask.data_files, chattask.prepare, chattask.fitted, chattask.finish),
    "pairs": Task(pairtask.check, pairtask.prepare, pairtask.fitted, pairtask.score),
}
