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

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError

from chatbot.checkpoint import KNOWN_FILE, LoadedModel, load_model_folder, save_model_folder, sha256
from chatbot.errors import ChatbotError, UsageError
from chatbot.exporting import add_graphs
from chatbot.model import ModelConfig, Seq2Seq
from chatbot.tokenizer import Tokenizer
from training.blend import blended
from training.corpus import Dialogue, ReadReport, held_out, read_dialogues
from training.dataset import ExampleSet, TokenisedCorpus, tokenise
from training.evaluate import evaluation_set, prompts, score_replies
from training.known import KnownPart
from training.plot import draw_losses
from training.processes import denormals_flushed, first_goes_first, joined, pick_device, rank
from training.recipe import Recipe
from training.trainer import StepReport, Trainer, TrainState

_TOKENIZER_SAMPLE = 60_000  # dialogues: more text hardly moves the merges
_VALIDATION_DIALOGUES = 250  # of the held-out ones: enough for the curve, quick enough to watch it


@dataclass(frozen=True, slots=True)
class PreparedData:
    """What the loop needs; `facts` goes into `data.json` and the model's provenance."""

    training: ExampleSet
    validation: ExampleSet
    tokenizer: Tokenizer
    facts: Mapping[str, Any]


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
    _data_files(recipe)
    start = load_model_folder(_start_folder(recipe)) if recipe.start_from else None
    config = start.model.config if start else ModelConfig(**asdict(recipe.model))
    begin = time.time()
    with joined(pick_device(device)):
        with first_goes_first():
            if rank() == 0:
                _claim(folder, recipe, resume)
            data = prepare(recipe, folder, start.tokenizer if start else None)
        torch.manual_seed(recipe.seed)
        model = Seq2Seq(replace(config, vocabulary_size=len(data.tokenizer), dropout=recipe.model.dropout))
        old = start.model.state_dict() if start else None
        if old:
            model.load_state_dict(old)

        def validate(current: Seq2Seq) -> float:
            with blended(current, old, recipe.optimiser.blend):
                nats, tokens = score_replies(current, data.validation)
            return float(nats.sum() / max(1, tokens.sum()))

        def save(current: Seq2Seq) -> None:
            facts = {**_origin(start, data), "seconds": round(time.time() - begin, 1)}
            with blended(current, old, recipe.optimiser.blend):
                _save(folder / "model", current, data, trainer, facts)

        teacher = start.model if start and recipe.optimiser.rehearse else None
        trainer = Trainer(
            recipe, model, data.training, validate, folder, device=device, save_model=save, teacher=teacher
        )
        if resume:
            trainer.resume()
        began(trainer, data)
        state = _run(trainer, folder, heard)
    if rank() == 0:
        _finish(folder, data)
    return state


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


def _finish(folder: Path, data: PreparedData) -> None:
    draw_losses(folder / "metrics.jsonl", folder / "loss.png")
    if asked := prompts(data.validation):
        add_graphs(folder / "model", asked)


def _save(path: Path, model: Seq2Seq, data: PreparedData, trainer: Trainer, facts: Mapping[str, Any]) -> None:
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


def _data_files(recipe: Recipe) -> list[Path]:
    paths = [Path(path).expanduser() for path in recipe.data.paths]
    if not paths:
        raise UsageError(f"recipe {recipe.name} names no data; add --data PATH...")
    missing = [str(path) for path in paths if not path.is_file()]
    if missing:
        raise UsageError(f"no such data file: {', '.join(missing)}; give dialogue files (.jsonl, .jsonl.zst) to --data")
    return paths


def prepare(recipe: Recipe, folder: Path, tokenizer: Tokenizer | None) -> PreparedData:
    """Read, split by dialogue and tokenise the data, or take what an earlier start of this run left in `folder`.

    UsageError if a file is missing, unreadable or has changed since, or if nothing is left to train on.
    """
    paths = _data_files(recipe)
    hashes = {str(path): sha256(path) for path in paths}
    facts_path = folder / "data.json"
    if facts_path.exists():
        facts = json.loads(facts_path.read_text(encoding="utf-8"))
        if facts["files"] != hashes:
            raise UsageError(f"the data has changed since {folder} was started; restore it, or name another --out")
        known = Tokenizer.load(folder / "tokenizer.json")
        corpus = TokenisedCorpus.load(folder / "tokens")
    else:
        known = tokenizer or _train_tokenizer(recipe, paths)
        corpus, counts = _tokenised(recipe, paths, known, folder)
        facts = {"files": hashes, **counts}
        corpus.save(folder / "tokens")
        known.save(folder / "tokenizer.json")
        building = facts_path.with_suffix(".tmp")
        building.write_text(json.dumps(facts, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
        building.replace(facts_path)  # last, and at once: it says that the others are complete
    training = ExampleSet(corpus, known, recipe.data, recipe.seed)
    if not len(training):
        raise UsageError("the data leaves nothing to train on: no reply in any dialogue that is not held out")
    return PreparedData(training, evaluation_set(_validation_part(recipe, paths), known, recipe.data), known, facts)


def _validation_part(recipe: Recipe, paths: Sequence[Path]) -> list[Dialogue]:
    """Held-out dialogues by the hash of their id: mixes the files and sources, the same in every run."""
    apart = (d for d in read_dialogues(paths) if held_out(d.id, recipe.data.held_out_per_mille))
    found = list(islice(apart, 20 * _VALIDATION_DIALOGUES))
    found.sort(key=lambda dialogue: hashlib.sha256(dialogue.id.encode()).digest())
    # A handful of dialogues holds none out: better a curve on the same ones than none.
    return found[:_VALIDATION_DIALOGUES] or list(islice(read_dialogues(paths), _VALIDATION_DIALOGUES))


def _tokenised(
    recipe: Recipe, paths: Sequence[Path], tokenizer: Tokenizer, folder: Path
) -> tuple[TokenisedCorpus, Mapping[str, Any]]:
    """The training part as tokens, and the counts for `data.json`; the known exchanges go into `folder`."""
    report, licences, permissions = ReadReport(), Counter[str](), set[str]()
    dialogues = _training_part(paths, recipe.data.held_out_per_mille, report, licences, permissions)
    known = KnownPart(recipe.answer.source)
    corpus = tokenise(known.watch(dialogues), tokenizer, recipe.data, recipe.seed)
    if recipe.answer.known:
        known.write(folder / KNOWN_FILE)
    return corpus, {
        "licences": dict(licences),
        "permissions": sorted(permissions),
        "dialogues": report.dialogues,
        "turns": report.turns,
        "left_out": dict(report.skipped),
        "problems": report.problems,
    }


def _training_part(
    paths: Sequence[Path], per_mille: int, report: ReadReport, licences: Counter[str], permissions: set[str]
) -> Iterator[Dialogue]:
    for dialogue in read_dialogues(paths, report):
        permissions.update(dialogue.permissions)
        if not held_out(dialogue.id, per_mille):
            licences[f"{dialogue.source}: {dialogue.license}"] += 1
            yield dialogue


def _train_tokenizer(recipe: Recipe, paths: Sequence[Path]) -> Tokenizer:
    """Learn the vocabulary from an even sample of every file; markers for every source that occurs."""
    markers: set[str] = set()
    share = max(1, _TOKENIZER_SAMPLE // len(paths))

    def texts() -> Iterator[str]:
        for path in paths:
            for number, dialogue in enumerate(read_dialogues([path])):
                markers.add(recipe.data.rename.get(dialogue.source, dialogue.source))
                if number < share:
                    yield from dialogue.turns

    sample = list(texts())
    names = sorted({*markers, *recipe.data.rename.values(), recipe.answer.source, "other"})
    return Tokenizer.train(sample, recipe.model.vocabulary_size, names)
