"""The loop: log -> data set -> train -> compare -> gate -> promote. `retrain` is the whole of it.

Each step writes one artefact into the run folder:

    log.jsonl       the snapshot: every pair with its row ids; its sha256 stands in the database and the provenance
    lessons.jsonl   the pairs as they are taught: with their context, without it, and behind other talk
    model/ ...      the run of `training.run`
    report.md       the comparison with the serving model and the gate's verdict, to be read
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.resources import files
from pathlib import Path

from chatbot.checkpoint import KNOWN_FILE, LoadedModel, load_model_folder, verify_model_folder
from chatbot.config import LearnSettings
from chatbot.errors import ChatbotError, ModelFolderError, UsageError
from chatbot.learnable import LearnablePair
from chatbot.registry import STARTER, Registry
from chatbot.store import ConversationStore
from chatbot.text import clean
from chatbot.tokenizer import REVERSED, Tokenizer
from training.corpus import Dialogue, held_out, read_dialogues
from training.evaluate import likelihood_by_source
from training.export import Snapshot, export_pairs
from training.recipe import AnswerRecipe, DataRecipe, Recipe
from training.run import train
from training.trainer import StepReport

# With fewer pairs than this, holding some out would mean not learning what somebody took the trouble to teach.
_ENOUGH_TO_HOLD_OUT = 200
_RECENT_PER_MILLE = 100
_LESSONS_PER_REHEARSAL = 0.7  # how many lessons are seen for each reply that is rehearsed, at least
_ASKED_AGAIN = 200  # pairs that are put to the candidate as questions
_FIXED_QUESTIONS = ("hi", "how are you?", "what's your name?", "tell me a joke", "I'm sad", "你好", "你叫什么名字？")


@dataclass(frozen=True, slots=True)
class Comparison:
    """Perplexity per word before and after, on what must not be lost and on what was to be learnt."""

    frozen_before: float
    frozen_after: float
    recent_before: float
    recent_after: float
    recent_held_out: bool  # False: the recent set is what was taught, too little to hold any of it out
    asked: int
    reproduced: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """What `retrain` did: the candidate's id, whether it serves now, why, and on what grounds."""

    model_id: str
    promoted: bool
    reason: str
    base: str  # the model it was trained from and compared with
    comparison: Comparison
    snapshot: Snapshot
    run: Path


def shipped_dialogues(kind: str) -> list[Path]:
    """The dialogue files that travel with the project: kind "dialogues" to rehearse, "frozen" to compare on."""
    return sorted(Path(str(files("training") / "data")).glob(f"{kind}.*.jsonl"))


def retrain(
    store: ConversationStore,
    registry: Registry,
    settings: LearnSettings,
    recipe: Recipe,
    run: Path,
    *,
    device: str = "auto",
    heard: Callable[[StepReport], None] = lambda report: None,
) -> Verdict:
    """Learn from the log and let the better model serve. ChatbotError if the log holds nothing to learn from."""
    serving = registry.live_id()
    _verify_fresh(run, registry)
    base = untainted_base(store, registry, serving)
    pairs: list[LearnablePair] = []
    turns = recipe.data.context_turns
    snapshot = export_pairs(store, settings, run / "log.jsonl", turns, run.name, told=pairs.append)
    _verify_lessons(snapshot, serving, base)
    taught, recent, is_held_out = _split(pairs)
    replay = [*shipped_dialogues("dialogues"), *map(Path, settings.replay)]
    for copy in (run / "lessons.jsonl", run / "tokens"):
        store.remember_copy(copy, of=snapshot.path)
    lessons = _write_lessons(taught, replay, run / "lessons.jsonl", recipe.seed, snapshot.permissions)
    folder = registry.path(base)
    data = replace(_readable_by(folder, recipe), paths=tuple(map(str, (lessons, *replay))))
    recipe = replace(recipe, start_from=str(folder), data=data, answer=_answering_as(folder, recipe))
    train(recipe, run, device=device, heard=heard)
    before, after = load_model_folder(registry.path(base)), load_model_folder(run / "model")
    comparison = compare(before, after, recent, is_held_out, taught, run / "model")
    promoted, reason = gate(comparison, settings.max_frozen_worsening)
    if base != serving and not promoted:
        reason += f"; {serving}, which is tainted, answers until `chatbot models promote {base}`"
    model_id = registry.add(run / "model", run.name).name
    metrics = {**asdict(comparison), "reason": reason, **_grounds(snapshot, settings)}
    state = store.record_model(model_id, parent=base, dataset=snapshot.dataset, metrics=metrics, run=run.name)
    if state == "tainted":
        promoted, reason = False, "words that it learnt from were taken back meanwhile; run `chatbot retrain` again"
        store.clean_copies()
    if promoted:
        registry.promote(model_id)
        store.mark_serving(model_id)
    verdict = Verdict(model_id, promoted, reason, base, comparison, snapshot, run)
    _write_report(verdict, registry)
    return verdict


def untainted_base(store: ConversationStore, registry: Registry, serving: str) -> str:
    """The newest model to learn on from: the serving one, or its nearest ancestor that saw nothing taken back."""
    for model_id in store.untainted(serving):
        try:
            registry.path(model_id)
        except ModelFolderError:
            continue  # deleted since
        return model_id
    return STARTER


def _grounds(snapshot: Snapshot, settings: LearnSettings) -> dict[str, object]:
    """What is kept with a model of its data: the rules it was read under, and what these and the scrubbing did."""
    return {
        "left_out": dict(snapshot.left_out),
        "replaced": dict(snapshot.replaced),
        "policy": dict(settings.policy),
        "permissions": list(snapshot.permissions),
    }


def _verify_lessons(snapshot: Snapshot, serving: str, base: str) -> None:
    """ChatbotError if there is nothing to learn from."""
    if snapshot.pairs:
        return
    why = ", ".join(f"{count} {reason}" for reason, count in snapshot.left_out.items()) or "the log is empty"
    way_out = "rate replies with /good or teach with /teach, then retrain"
    if base != serving:
        way_out = f"{serving} learnt from words that were taken back: `chatbot models promote {base}` lets it go"
    raise ChatbotError(f"nothing to learn from ({why}); {way_out}")


def _answering_as(folder: Path, recipe: Recipe) -> AnswerRecipe:
    """The recipe's way of answering, with the known exchanges and decode settings of the model in `folder`."""
    decoding = {**verify_model_folder(folder)["decoding"], **recipe.answer.decoding}
    return replace(recipe.answer, known=(folder / KNOWN_FILE).exists(), decoding=decoding)


def _readable_by(folder: Path, recipe: Recipe) -> DataRecipe:
    """The recipe's way with data, less the reversed pairs if the model in `folder` was never shown any.

    A few hundred steps do not teach it, and ranking by what is half learnt is worse than ranking without.
    """
    knows = REVERSED in Tokenizer.load(folder / "tokenizer.json").sources
    return recipe.data if knows else replace(recipe.data, reversed=0.0, blank=0.0)


def _verify_fresh(run: Path, registry: Registry) -> None:
    """UsageError, before any work, if the run folder is another run's or its name cannot become the model's id."""
    if (run / "recipe.yaml").exists():
        raise UsageError(f"{run} already holds a run; name another --out")
    try:
        registry.check_new(run.name)
    except UsageError as error:
        raise UsageError(f"{error}; the model is called as its run folder, so name another --out") from error


def _split(pairs: list[LearnablePair]) -> tuple[list[LearnablePair], list[Dialogue], bool]:
    """Split by chat: what is taught, the recent set as dialogues, and whether that was held out of the teaching."""
    taught: list[LearnablePair] = []
    apart: list[LearnablePair] = []
    for pair in pairs:
        (apart if held_out(f"chat-{pair.chat}", _RECENT_PER_MILLE) else taught).append(pair)
    if len(pairs) < _ENOUGH_TO_HOLD_OUT or not 0 < len(apart) < len(pairs) // 2:
        return pairs, [_dialogue(pair) for pair in pairs], False
    return taught, [_dialogue(pair) for pair in apart], True


def _write_lessons(
    taught: Sequence[LearnablePair], replay: Sequence[Path], path: Path, seed: int, permissions: Sequence[str]
) -> Path:
    lessons = _lessons(taught, random.Random(seed))
    # A few lessons would drown in the rehearsal, which is seen at the same time: all turns but the first of a dialogue.
    rehearsed = sum(len(dialogue.turns) - 1 for dialogue in read_dialogues(replay))
    times = max(1, round(_LESSONS_PER_REHEARSAL * rehearsed / len(lessons)))
    with path.open("w", encoding="utf-8") as stream:
        for turns in lessons * times:
            record = {"source": "log", "license": "private", "learn": "last", "turns": turns}
            if permissions:
                record["permissions"] = list(permissions)
            stream.write(json.dumps(record, ensure_ascii=False) + "\n")
    return path


def _dialogue(pair: LearnablePair) -> Dialogue:
    return Dialogue(f"log-{pair.message_ids[-1]}", "log", "private", (pair.context[-1], pair.reply), last_only=True)


def _lessons(pairs: Sequence[LearnablePair], rng: random.Random) -> list[list[str]]:
    """Each pair in its context, alone, and behind other talk: the same question comes up in other places, too."""
    lessons: list[list[str]] = []
    for pair in pairs:
        question = pair.context[-1]
        lessons.append([question, pair.reply])
        if len(pair.context) > 1:
            lessons.append([*pair.context, pair.reply])
        for _ in range(2):
            other = rng.choice(pairs)
            if other is not pair:
                lessons.append([other.context[-1], other.reply, question, pair.reply])
    return lessons


def compare(
    before: LoadedModel,
    after: LoadedModel,
    recent: Sequence[Dialogue],
    recent_held_out: bool,
    pairs: Sequence[LearnablePair],
    candidate: Path,
) -> Comparison:
    """Both models on the frozen and the recent set, and the candidate asked again what it was taught."""
    frozen = list(read_dialogues(shipped_dialogues("frozen")))

    def per_word(loaded: LoadedModel, dialogues: Sequence[Dialogue]) -> float:
        recipe = DataRecipe(**loaded.config["context"])
        return likelihood_by_source(loaded.model, loaded.tokenizer, dialogues, recipe)["all"].per_word

    asked = pairs[-_ASKED_AGAIN:]
    answers = _answers(candidate, [(pair.context[:-1], pair.context[-1]) for pair in asked])
    reproduced = sum(clean(pair.reply) == answer for pair, answer in zip(asked, answers, strict=True))
    return Comparison(
        per_word(before, frozen),
        per_word(after, frozen),
        per_word(before, recent),
        per_word(after, recent),
        recent_held_out,
        len(asked),
        reproduced,
    )


def _answers(model: Path, questions: Sequence[tuple[Sequence[str], str]]) -> list[str]:
    from chatbot.engine import load_engine

    engine = load_engine(model)
    try:
        return [engine.reply_sync(history, text).text for history, text in questions]
    finally:
        engine.close()


def gate(comparison: Comparison, max_worsening: float) -> tuple[bool, str]:
    """Whether the candidate may serve, and the reason in words."""
    worsening = comparison.frozen_after / comparison.frozen_before - 1
    # Asked this way round, a comparison with what is not a number keeps the candidate out.
    if not worsening <= max_worsening:
        return False, f"perplexity on the frozen set grew by {worsening:.1%}, more than {max_worsening:.1%}"
    if not comparison.recent_after < comparison.recent_before:
        return False, "it predicts the recent talk no better than the serving model"
    return True, f"better on recent talk, and {worsening:+.1%} perplexity on the frozen set"


def _write_report(verdict: Verdict, registry: Registry) -> None:
    c, base = verdict.comparison, verdict.base
    kind = "held out" if c.recent_held_out else "as taught; too few to hold any out"
    old = _answers(registry.path(base), [((), question) for question in _FIXED_QUESTIONS])
    new = _answers(verdict.run / "model", [((), question) for question in _FIXED_QUESTIONS])
    lines = [
        f"# {verdict.model_id}: {'promoted' if verdict.promoted else 'kept out'}",
        "",
        f"{verdict.reason}. Learnt from {verdict.snapshot.pairs} pairs of the log "
        f"(sha256 {verdict.snapshot.sha256}); left out: {dict(verdict.snapshot.left_out) or 'nothing'}. "
        f"Replaced by placeholders: {dict(verdict.snapshot.replaced) or 'nothing'}. "
        f"Platforms' permissions it rests on: {'; '.join(verdict.snapshot.permissions) or 'none needed'}.",
        "",
        f"| perplexity per word | {base} | {verdict.model_id} |",
        "|---|---|---|",
        f"| frozen set | {c.frozen_before:.2f} | {c.frozen_after:.2f} |",
        f"| recent talk ({kind}) | {c.recent_before:.2f} | {c.recent_after:.2f} |",
        "",
        f"Of {c.asked} taught questions asked again, {c.reproduced} were answered word for word.",
        "",
        f"| asked | {base} | {verdict.model_id} |",
        "|---|---|---|",
        *(f"| {q} | {a} | {b} |" for q, a, b in zip(_FIXED_QUESTIONS, old, new, strict=True)),
    ]
    (verdict.run / "report.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
