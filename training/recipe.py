"""A recipe: everything that decides a training run, in one YAML file, checked before work starts."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import yaml

from chatbot.config import build, merge, parse_assignments, read_yaml
from chatbot.decoding import DecodingOptions
from chatbot.errors import UsageError
from chatbot.model.config import ModelConfig
from chatbot.sides import SIDES
from training.loss import LOSSES
from training.makers import MAKERS
from training.methods import METHODS, SCHEDULES


@dataclass(frozen=True, slots=True)
class DataRecipe:
    """Which dialogues, and how much of each."""

    paths: tuple[str, ...] = ()  # dialogue files; --data on the command line replaces them
    weights: Mapping[str, float] = field(default_factory=dict)  # source -> share of its replies seen in one epoch
    rename: Mapping[str, str] = field(default_factory=dict)  # source or persona -> marker it is trained under
    max_reply_copies: int = 20  # an exact reply counts at most this often: generic replies are what dullness is
    min_quality: float = 0.0  # dialogues rated below this (key "q") are left out
    held_out_per_mille: int = 10  # dialogues kept for validation, chosen by their id
    context_turns: int = 3  # turns the encoder reads
    max_source_tokens: int = 64
    max_target_tokens: int = 40
    noise: float = 0.3  # share of contexts read lower-cased, without punctuation or with a typing error
    reversed: float = 0.0  # share of pairs also read the other way: the reply, and what it answers is to be guessed
    blank: float = 0.0  # share of replies also learnt with nothing before them


@dataclass(frozen=True, slots=True)
class PairsRecipe:
    """Text-to-text pairs, of `task: pairs`: where they come from, and how each side is read."""

    maker: str = ""  # of `training.makers.MAKERS`, where no file is given
    count: int = 0  # pairs to make or take at most; 0: all that there are
    tokens: str = "characters"  # of `chatbot.sides.SIDES`
    shared: bool = False  # one vocabulary for both sides, and one embedding
    vectors: bool = False  # the source is no text: numbers between spaces, vectors between slashes
    swap: bool = False  # the other way round: the target is read
    only_chinese: bool = False  # pairs with anything else than Chinese characters and punctuation are left out
    one_answer: bool = False  # a source that was there before is left out, whatever its target
    reverse_source: bool = False  # read from its end
    fill_source: int = 0  # tokens up to which a shorter source is filled with padding, which is read like a token
    buckets: tuple[tuple[int, int], ...] = ()  # longest source and target of each; pairs beyond the last are left out
    asked: tuple[str, ...] = ()  # sources that are answered in the report besides


@dataclass(frozen=True, slots=True)
class ModelRecipe(ModelConfig):
    """Sizes and kinds of the model. Ignored, but for dropout, when the run starts from another model."""

    vocabulary_size: int = 8192


@dataclass(frozen=True, slots=True)
class OptimiserRecipe:
    """AdamW (Loshchilov and Hutter 2019), linear warm-up, cosine to zero, unless told otherwise."""

    method: str = "adamw"  # of `training.methods.METHODS`
    schedule: str = "cosine"  # of `training.methods.SCHEDULES`
    decay: float = 0.97  # of the schedule stalled: the rate's factor where the loss has not fallen
    loss: str = "token"  # of `training.loss.LOSSES`
    own_outputs: float = 0.0  # share of the decoder's inputs that are its own outputs, not the target's
    enough: float = 0.0  # mean loss of the steps between two evaluations that ends the run; 0: none does
    steps: int = 1000
    learning_rate: float = 2e-3
    warmup_steps: int = 100
    weight_decay: float = 0.01
    clip: float = 1.0  # largest gradient norm
    batch_tokens: int = 2500  # target tokens in a batch
    batch_pairs: int = 0  # pairs in a batch, in place of that; 0: as many as batch_tokens allows
    accumulate: int = 1  # batches a step
    label_smoothing: float = 0.1
    softmax_draws: int = 0  # draws of the sampled softmax, for speed; 0: the full softmax, with label smoothing
    ema: float = 0.999  # decay of the averaged weights that are saved; 0 keeps the last ones
    blend: float = 1.0  # share of the new weights in what is saved; the rest are those that the run started from
    rehearse: bool = False  # on all but the log's rows, stay near the answers of the model started from
    evaluate_every: int = 500
    patience: int = 0  # evaluations without improvement before stopping; 0 never stops early
    checkpoint_every: int = 250


@dataclass(frozen=True, slots=True)
class AnswerRecipe:
    """How the finished model answers unless told otherwise."""

    source: str = "other"
    known: bool = False  # questions of that source's dialogues, asked again, get the reply that stands there
    decoding: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Recipe:
    """A whole run."""

    name: str
    description: str = ""
    seed: int = 1
    start_from: str | None = None  # a model folder to continue from: its sizes and tokenizer are kept
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    task: Literal["chat", "pairs"] = "chat"  # dialogues, or one text to another
    data: DataRecipe = field(default_factory=DataRecipe)
    pairs: PairsRecipe = field(default_factory=PairsRecipe)
    model: ModelRecipe = field(default_factory=ModelRecipe)
    optimiser: OptimiserRecipe = field(default_factory=OptimiserRecipe)
    answer: AnswerRecipe = field(default_factory=AnswerRecipe)

    def __post_init__(self) -> None:
        for name, (least, most) in _RANGES.items():
            section, _, key = name.rpartition(".")
            value = getattr(getattr(self, section) if section else self, key)
            if not least <= value <= most:
                raise UsageError(f"recipe {self.name}: {name} is {value}; it must be from {least:g} to {most:g}")
        for source, share in self.data.weights.items():
            if not 0 <= share <= 1000:
                raise UsageError(f"recipe {self.name}: data.weights.{source!r} is {share}; it must be from 0 to 1000")
        for name, known in _CHOICES.items():
            section, _, key = name.rpartition(".")
            value = getattr(getattr(self, section), key)
            if value and value not in known:
                raise UsageError(f"recipe {self.name}: {name} is {value!r}; known: {', '.join(known)}")
        _TASK_CHECKS[self.task](self)
        if self.optimiser.rehearse and self.optimiser.softmax_draws:
            raise UsageError(
                f"recipe {self.name}: optimiser.rehearse compares whole distributions; set optimiser.softmax_draws=0"
            )
        build(DecodingOptions, self.answer.decoding, f"recipe {self.name}", "answer.decoding.")

    def as_dict(self) -> dict[str, Any]:
        """The resolved recipe, ready for YAML or JSON."""
        plain: dict[str, Any] = yaml.safe_load(yaml.safe_dump(_plain(asdict(self))))
        return plain


def _check_chat(recipe: Recipe) -> None:
    if recipe.model.vocabulary_size < _FEWEST_SUBWORDS:
        raise UsageError(
            f"recipe {recipe.name}: model.vocabulary_size is {recipe.model.vocabulary_size}; it must be from "
            f"{_FEWEST_SUBWORDS} to 65535"
        )
    if recipe.model.source_vocabulary_size or recipe.model.source_features:
        raise UsageError(f"recipe {recipe.name}: talk has one vocabulary for both sides; that is for task=pairs")
    if recipe.pairs != PairsRecipe():
        raise UsageError(f"recipe {recipe.name}: pairs is for task=pairs; this one has task=chat")


def _check_pairs(recipe: Recipe) -> None:
    pairs, model = recipe.pairs, recipe.model
    if recipe.start_from or recipe.optimiser.rehearse or recipe.answer.known:
        raise UsageError(f"recipe {recipe.name}: start_from, rehearse and known are for task=chat")
    if pairs.tokens == "subwords" and model.vocabulary_size < _FEWEST_SUBWORDS:
        raise UsageError(
            f"recipe {recipe.name}: model.vocabulary_size is {model.vocabulary_size}; subwords need {_FEWEST_SUBWORDS}"
        )
    if not recipe.data.paths and pairs.maker and pairs.count < 1 and pairs.maker not in _FIXED_MAKERS:
        raise UsageError(f"recipe {recipe.name}: pairs.count is 0; say how many {pairs.maker} to make")
    if pairs.vectors == (model.source_features == 0):
        raise UsageError(f"recipe {recipe.name}: pairs.vectors and model.source_features go together: 0 means text")
    if pairs.vectors and (pairs.shared or pairs.reverse_source):
        raise UsageError(f"recipe {recipe.name}: a source of vectors cannot be shared with the target or reversed")
    if 0 < model.positions < recipe.data.max_source_tokens:
        raise UsageError(
            f"recipe {recipe.name}: model.positions is {model.positions}, data.max_source_tokens "
            f"{recipe.data.max_source_tokens}; a source must not be longer than there are positions"
        )
    for bucket in pairs.buckets:
        if (
            len(bucket) != 2
            or min(bucket) < 1
            or list(map(max, zip(*pairs.buckets, strict=True))) != list(pairs.buckets[-1])
        ):
            raise UsageError(
                f"recipe {recipe.name}: pairs.buckets are pairs of the longest source and target, such as [[10, 15], "
                f"[20, 25]], the largest last; one is {list(bucket)}"
            )


_TASK_CHECKS = {"chat": _check_chat, "pairs": _check_pairs}
_FEWEST_SUBWORDS = 300  # markers and all bytes, and some merges
_FIXED_MAKERS = ("words", "digits", "chinese")
_CHOICES: Mapping[str, Collection[str]] = {
    "pairs.maker": MAKERS,
    "pairs.tokens": SIDES,
    "optimiser.method": METHODS,
    "optimiser.schedule": SCHEDULES,
    "optimiser.loss": LOSSES,
}
_MANY = 2**31
_RANGES: Mapping[str, tuple[float, float]] = {
    "seed": (0, 2**32 - 1),
    "data.max_reply_copies": (1, _MANY),
    "data.held_out_per_mille": (0, 999),
    "data.context_turns": (1, 1000),
    "data.max_source_tokens": (4, 100_000),
    "data.max_target_tokens": (2, 100_000),
    "data.noise": (0, 1),
    "data.reversed": (0, 1),
    "data.blank": (0, 1),
    "model.vocabulary_size": (10, 65535),
    "pairs.count": (0, _MANY),
    "pairs.fill_source": (0, 100_000),
    "optimiser.decay": (1e-6, 1),
    "optimiser.own_outputs": (0, 1),
    "optimiser.enough": (0, 100),
    "optimiser.batch_pairs": (0, _MANY),
    "optimiser.steps": (1, _MANY),
    "optimiser.learning_rate": (1e-12, 100),
    "optimiser.warmup_steps": (0, _MANY),
    "optimiser.weight_decay": (0, 100),
    "optimiser.clip": (1e-12, 1e12),
    "optimiser.batch_tokens": (1, _MANY),
    "optimiser.accumulate": (1, _MANY),
    "optimiser.label_smoothing": (0, 0.999),
    "optimiser.softmax_draws": (0, 2**24),
    "optimiser.ema": (0, 0.999999),
    "optimiser.blend": (0, 1),
    "optimiser.evaluate_every": (1, _MANY),
    "optimiser.patience": (0, _MANY),
    "optimiser.checkpoint_every": (1, _MANY),
}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def shipped_recipes() -> dict[str, Path]:
    """Name -> path of the recipes that travel with the project."""
    folder = Path(str(files("training"))) / "recipes"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def load_recipe(name_or_path: str, assignments: Sequence[str] = ()) -> Recipe:
    """The recipe of a shipped name or a YAML path, with ``key=value`` assignments laid over it.

    UsageError if there is none of that name, a key is unknown or a value is out of its range.
    """
    shipped = shipped_recipes()
    path = shipped.get(name_or_path, Path(name_or_path).expanduser())
    if not path.exists():
        raise UsageError(f"no recipe {name_or_path!r}; shipped: {', '.join(shipped)}; or give the path of a YAML file")
    document = read_yaml(path)
    if not isinstance(document, Mapping):
        raise UsageError(f"{path} holds no recipe; `chatbot train --help` shows one")
    merged = merge({"name": path.stem, **document}, parse_assignments(assignments))
    return build(Recipe, merged, str(path))
