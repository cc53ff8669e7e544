"""The task `chat`: from dialogue files to what the loop needs.

It writes into the run folder what `training.run` draws of the data: `data.json`, `tokens/`, `known.jsonl`.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from chatbot.checkpoint import KNOWN_FILE, sha256
from chatbot.errors import UsageError
from chatbot.exporting import add_graphs
from chatbot.model import ModelConfig
from chatbot.tokenizer import Tokenizer
from training.batches import PreparedData
from training.corpus import Dialogue, ReadReport, asked_otherwise, held_out, read_dialogues
from training.dataset import ExampleSet, TokenisedCorpus, tokenise
from training.evaluate import evaluation_set, prompts
from training.known import KnownPart
from training.recipe import Recipe
from training.vocabulary import train_tokenizer, with_markers

_VALIDATION_DIALOGUES = 250  # of the held-out ones: enough for the curve, quick enough to watch it


def data_files(recipe: Recipe) -> list[Path]:
    """The files of dialogues; UsageError if none are named or one is not there."""
    paths = [Path(path).expanduser() for path in recipe.data.paths]
    if not paths:
        raise UsageError(f"recipe {recipe.name} names no data; add --data PATH...")
    missing = [str(path) for path in paths if not path.is_file()]
    if missing:
        raise UsageError(f"no such data file: {', '.join(missing)}; give dialogue files (.jsonl, .jsonl.zst) to --data")
    return paths


def fitted(config: ModelConfig, tokenizer: Tokenizer) -> ModelConfig:
    """`config` for the vocabulary of this run."""
    return replace(config, vocabulary_size=len(tokenizer))


def prepare(recipe: Recipe, folder: Path, tokenizer: Tokenizer | None) -> PreparedData:
    """Read, split by dialogue and tokenise the data, or take what an earlier start of this run left in `folder`.

    UsageError if a file is missing, unreadable or has changed since, or if nothing is left to train on.
    """
    paths = data_files(recipe)
    hashes = {str(path): sha256(path) for path in paths}
    facts_path = folder / "data.json"
    if facts_path.exists():
        facts = json.loads(facts_path.read_text(encoding="utf-8"))
        if facts["files"] != hashes:
            raise UsageError(f"the data has changed since {folder} was started; restore it, or name another --out")
        known = Tokenizer.load(folder / "tokenizer.json")
        corpus = TokenisedCorpus.load(folder / "tokens")
    else:
        known = with_markers(tokenizer, recipe) if tokenizer else train_tokenizer(recipe, paths)
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


def finish(recipe: Recipe, folder: Path, data: PreparedData, device: str) -> None:
    """Give the model its graphs."""
    if asked := prompts(data.validation):
        add_graphs(folder / "model", asked)


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
    asked = (each for dialogue in known.watch(dialogues) for each in (dialogue, *asked_otherwise(dialogue)))
    corpus = tokenise(asked, tokenizer, recipe.data, recipe.seed)
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
