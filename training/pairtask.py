"""The task `pairs`: from pairs to what the loop needs, and from the finished model to what it has learnt.

It writes into the run folder, besides what `training.run` draws: `source.json` and `sides.json`, the tokens of the
source and how both sides are read, and `result.json`, what `score` found.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from chatbot.checkpoint import load_model_folder, sha256
from chatbot.decoding import decode, options_from
from chatbot.errors import UsageError
from chatbot.model import EncoderDecoder, ModelConfig
from chatbot.runtime import TorchRuntime
from chatbot.sides import SIDES, PairTokenizer, load_tokenizer
from chatbot.text import is_chinese
from chatbot.tokenizer import Tokenizer
from chatbot.writing import whole_file
from training.batches import PreparedData
from training.evaluate import score_replies
from training.pairs import Pair, PairSplit, split_pairs
from training.pairset import PairCorpus, PairSet, buckets_of, tokenise_pairs, vectors
from training.recipe import Recipe

_VALIDATION_PAIRS = 500  # of the held-out ones: enough for the curve, quick enough to watch it
_TRAINING_ASKED = 2000  # training pairs that are asked again at the end, spread evenly
_ASKED_AT_ONCE = 250
RESULT_FILE = "result.json"


@dataclass(frozen=True, slots=True)
class PreparedPairs(PreparedData):
    """With the pairs themselves, for the score at the end."""

    split: PairSplit


def check(recipe: Recipe) -> None:
    """UsageError if there is neither a file of pairs nor a maker of them."""
    missing = [path for path in recipe.data.paths if not Path(path).expanduser().is_file()]
    if missing:
        raise UsageError(
            f"no such data file: {', '.join(missing)}; give files of pairs (.tsv, .jsonl, .conv) to --data"
        )
    if not recipe.data.paths and not recipe.pairs.maker:
        raise UsageError(f"recipe {recipe.name} names no data; add --data PATH...")


def fitted(config: ModelConfig, tokenizer: Tokenizer) -> ModelConfig:
    """`config` for the vocabularies of this run."""
    assert isinstance(tokenizer, PairTokenizer)
    apart = 0 if tokenizer.source is None or tokenizer.shared else len(tokenizer.source)
    return replace(config, vocabulary_size=len(tokenizer), source_vocabulary_size=apart)


def prepare(recipe: Recipe, folder: Path, tokenizer: Tokenizer | None) -> PreparedPairs:
    """Read or make the pairs, tokenise them, or take what an earlier start of this run left in `folder`.

    UsageError if nothing is left to train on, the data has changed, or the tokens in `folder` are not of this recipe.
    """
    split = split_pairs(recipe)
    digest = hashlib.sha256()
    for pair in (*split.training, *split.held_out):
        digest.update("\t".join(map(str, pair)).encode())
    files = {str(path): sha256(Path(path).expanduser()) for path in recipe.data.paths}
    files = files or {f"made: {recipe.pairs.maker}": digest.hexdigest()}
    facts_path = folder / "data.json"
    if facts_path.exists():
        facts = json.loads(facts_path.read_text(encoding="utf-8"))
        known = load_tokenizer(folder)
        if facts["files"] != files:
            raise UsageError(f"the data has changed since {folder} was started; restore it, or name another --out")
        if not isinstance(known, PairTokenizer) or known.kind != recipe.pairs.tokens:
            raise UsageError(f"{folder} holds the tokens of another run; name another --out")
        fitting = _fitting(split.training, known, recipe)[0]
    else:
        known = _learn_tokens(recipe, split.training)
        fitting, long = _fitting(split.training, known, recipe)
        split.report.left_out.update({"longer than the limits": long} if long else {})
        if not fitting:
            raise UsageError(
                f"recipe {recipe.name}: none of {long} pairs fits data.max_source_tokens "
                f"{recipe.data.max_source_tokens}, data.max_target_tokens {recipe.data.max_target_tokens} and a bucket"
            )
        tokenise_pairs(fitting, known, recipe).save(folder / "tokens")
        known.save(folder / "tokenizer.json")
        facts = {
            "files": files,
            "pairs": len(fitting),
            "held_out": len(split.held_out),
            "left_out": dict(split.report.left_out),
            "problems": split.report.problems,
        }
        _write_json(facts_path, facts)  # last, and at once: it says that the others are complete
    training = PairSet(PairCorpus.load(folder / "tokens"), known, recipe)
    watched = (split.held_out or fitting)[:_VALIDATION_PAIRS]
    validation = PairSet(tokenise_pairs(watched, known, recipe), known, recipe)
    return PreparedPairs(training, validation, known, facts, PairSplit(fitting, split.held_out, split.report))


def _learn_tokens(recipe: Recipe, pairs: Sequence[Pair]) -> PairTokenizer:
    """The tokens of both sides, of the pairs that are learnt alone."""
    kind = SIDES[recipe.pairs.tokens]
    size = recipe.model.vocabulary_size
    targets = [pair.target for pair in pairs]
    sources = [pair.source for pair in pairs]
    target = kind.learn([*sources, *targets] if recipe.pairs.shared else targets, size)
    source = None
    if not recipe.pairs.vectors:
        source = target if recipe.pairs.shared else kind.learn(sources, recipe.model.source_vocabulary_size or size)
    reading = recipe.pairs
    return PairTokenizer(reading.tokens, target, source, reverse=reading.reverse_source, fill=reading.fill_source)


def _fitting(pairs: Sequence[Pair], tokens: PairTokenizer, recipe: Recipe) -> tuple[list[Pair], int]:
    """The pairs whose sides are within the limits and a bucket, and how many are not."""
    limits = recipe.data
    if tokens.source is None:
        read = [len(vectors(pair.source, recipe.model.source_features)) for pair in pairs]
    else:
        read = [len(ids) for ids in tokens.source.encode_batch([pair.source for pair in pairs])]
    said = [len(ids) for ids in tokens.target.encode_batch([pair.target for pair in pairs])]
    places = buckets_of(np.array(read, np.int64), np.array(said, np.int64), recipe.pairs.buckets)
    kept = [
        pair
        for pair, source, target, bucket in zip(pairs, read, said, places, strict=True)
        if source <= limits.max_source_tokens and target < limits.max_target_tokens and bucket >= 0
    ]
    return kept, len(pairs) - len(kept)


def score(recipe: Recipe, folder: Path, data: PreparedData, device: str) -> Mapping[str, Any]:
    """Ask the finished model in `folder` what it was taught, what it was not, and what the recipe wants to know.

    Answers are those that a user would get: of the model folder, by `chatbot.decoding`, with the folder's settings.
    """
    assert isinstance(data, PreparedPairs)
    runtime, model = TorchRuntime(folder / "model", device), load_model_folder(folder / "model").model
    training = data.split.training
    step = max(1, math.ceil(len(training) / _TRAINING_ASKED))
    result: dict[str, Any] = {
        "training": _asked(runtime, model, data, recipe, training[::step]),
        "held_out": _asked(runtime, model, data, recipe, data.split.held_out),
        "asked": dict(zip(recipe.pairs.asked, answers(runtime, recipe.pairs.asked, recipe), strict=True)),
    }
    if recipe.pairs.buckets:
        result["buckets"] = _by_bucket(model, data, recipe)
    _write_json(folder / RESULT_FILE, result)
    return result


def answers(runtime: TorchRuntime, sources: Sequence[str], recipe: Recipe) -> list[str]:
    """What the model says to each of `sources`."""
    tokenizer = runtime.tokenizer
    assert isinstance(tokenizer, PairTokenizer)
    options = options_from(recipe.answer.decoding)
    said: list[str] = []
    for begin in range(0, len(sources), _ASKED_AT_ONCE):
        texts = sources[begin : begin + _ASKED_AT_ONCE]
        rows: list[Any]
        if tokenizer.source is None:
            rows = [vectors(text, recipe.model.source_features) for text in texts]
        else:
            rows = tokenizer.encode_source(texts, recipe.data.max_source_tokens)
        said += [tokenizer.decode(result.tokens) for result in decode(runtime, rows, [options] * len(rows))]
    return said


def _asked(
    runtime: TorchRuntime, model: EncoderDecoder, data: PreparedPairs, recipe: Recipe, pairs: Sequence[Pair]
) -> Mapping[str, Any] | None:
    """Share of exact answers, BLEU, and perplexity a token; None of no pairs. A source with several targets is one."""
    if not pairs:
        return None
    wanted: dict[str, list[str]] = {}
    for pair in pairs:
        wanted.setdefault(pair.source, []).append(pair.target)
    said = answers(runtime, list(wanted), recipe)
    right = sum(answer in targets for answer, targets in zip(said, wanted.values(), strict=True))
    assert isinstance(data.tokenizer, PairTokenizer)
    corpus = tokenise_pairs(pairs, data.tokenizer, recipe)
    nats, tokens = score_replies(model, PairSet(corpus, data.tokenizer, recipe))
    return {
        "asked": len(wanted),
        "exact": right,
        "bleu": bleu(said, list(wanted.values())) if any(map(_is_sentence, said)) else None,
        "loss_per_token": float(nats.sum() / tokens.sum()),
        "perplexity": _exp(nats.sum() / tokens.sum()),
        "examples": [list(item) for item in zip(list(wanted)[:5], said[:5], strict=True)],
    }


def _is_sentence(text: str) -> bool:
    return " " in text or (len(text) > 1 and is_chinese(text))


def bleu(said: Sequence[str], wanted: Iterable[Sequence[str]]) -> float | None:
    """sacrebleu's corpus BLEU (Post 2018) with all references; None where it is not installed."""
    try:
        from sacrebleu.metrics.bleu import BLEU
    except ImportError:
        return None
    references = list(wanted)
    most = max(map(len, references))
    columns = [[targets[place] if place < len(targets) else "" for targets in references] for place in range(most)]
    chinese = sum(is_chinese(targets[0]) for targets in references) > len(references) / 2
    return float(BLEU(tokenize="zh" if chinese else "13a").corpus_score(list(said), columns).score)


def _by_bucket(model: EncoderDecoder, data: PreparedPairs, recipe: Recipe) -> list[Mapping[str, Any]]:
    """Pairs and perplexity of the held-out part, or of the training part if nothing is held out, by bucket."""
    pairs = data.split.held_out or data.split.training
    assert isinstance(data.tokenizer, PairTokenizer)
    examples = PairSet(tokenise_pairs(pairs, data.tokenizer, recipe), data.tokenizer, recipe)
    nats, tokens = score_replies(model, examples)
    rows: list[Mapping[str, Any]] = []
    for place, bucket in enumerate(recipe.pairs.buckets):
        here = examples.buckets == place
        perplexity = _exp(nats[here].sum() / tokens[here].sum()) if here.any() else None
        rows.append({"bucket": list(bucket), "pairs": int(here.sum()), "perplexity": perplexity})
    return rows


def _exp(nats: float) -> float:
    return math.exp(min(700.0, nats))


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    with whole_file(path) as stream:
        stream.write(json.dumps(value, ensure_ascii=False, indent=2) + "\n")
