"""Text-to-text pairs: read, cleaned, split, tokenised and learnt; and what is refused before work starts."""

from __future__ import annotations

import json
import re
from datetime import date, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zstandard
from tiny import losses

from chatbot.checkpoint import load_model_folder
from chatbot.cli import main
from chatbot.config import build, merge
from chatbot.errors import UsageError
from chatbot.model import Transformer
from chatbot.sides import SIDES, PairTokenizer, load_tokenizer
from training.loss import LOSSES
from training.makers import MAKERS
from training.methods import METHODS, SCHEDULES, slower
from training.pairs import Pair, PairReport, read_pairs, split_pairs
from training.pairset import PairSet, buckets_of, tokenise_pairs, vectors
from training.pairtask import bleu
from training.recipe import OptimiserRecipe, Recipe, load_recipe, shipped_recipes
from training.run import train

SMALL: dict[str, Any] = {
    "name": "small",
    "task": "pairs",
    "precision": "fp32",
    "data": {"held_out_per_mille": 0, "max_source_tokens": 19, "max_target_tokens": 17},
    "pairs": {"maker": "words", "asked": ["mans"]},
    "model": {"vocabulary_size": 53, "embedding_size": 13, "encoder_units": 7, "decoder_units": 11, "dropout": 0.0},
    "optimiser": {
        "steps": 5,
        "batch_pairs": 4,
        "warmup_steps": 0,
        "evaluate_every": 2,
        "checkpoint_every": 2,
        "label_smoothing": 0.0,
    },
    "answer": {"decoding": {"no_repeat_ngram": 0, "max_tokens": 11}},
}
DATES: dict[str, Any] = {"pairs": {"maker": "dates", "count": 101, "asked": []}}


def recipe(*changes: dict[str, Any]) -> Recipe:
    """`SMALL` with changes laid over it."""
    plan = SMALL
    for change in changes:
        plan = merge(plan, change)
    return build(Recipe, plan, "small")


def tokens_of(pairs: list[Pair], kind: str = "characters", **more: Any) -> PairTokenizer:
    """A tokenizer with a side for the sources and one for the targets of `pairs`."""
    target, source = (SIDES[kind].learn([str(pair[side]) for pair in pairs], 400) for side in (1, 0))
    return PairTokenizer(kind, target, source, **more)


def pairs_in(path: Path, text: str) -> tuple[list[Pair], PairReport]:
    """What a file of this text holds, and what its reading met."""
    path.write_text(text, encoding="utf-8")
    report = PairReport()
    return list(read_pairs([path], report)), report


def test_every_kind_of_file_gives_the_same_pairs(tmp_path: Path) -> None:
    """TSV with and without a third column, JSON of two kinds, and an E/M corpus, plain or compressed."""
    wanted = [Pair("a b", "c"), Pair("你好", "嗨")]
    texts = {
        "a.tsv": "a b\tc\n你好\t嗨\n",
        "b.tsv": "a b\tc\tCC-BY\n你好\t嗨\tCC-BY\n",
        "c.jsonl": '{"source": "a b", "target": "c"}\n\n{"turns": ["你好", "嗨", "odd one"]}\n',
        "d.conv": "E\nM a b\nM c\nE\nM 你好\nM 嗨\n",
    }

    for name, text in texts.items():
        assert pairs_in(tmp_path / name, text)[0] == wanted, name
    packed = tmp_path / "e.conv.zst"
    packed.write_bytes(zstandard.compress(texts["d.conv"].encode()))
    assert list(read_pairs([packed], PairReport())) == wanted


def test_bad_lines_are_counted_and_a_file_without_pairs_is_refused(tmp_path: Path) -> None:
    """What is no pair is left out with its line; weights that make no sense, too; nothing at all is an error."""
    found, report = pairs_in(
        tmp_path / "a.jsonl",
        'nonsense\n{"source": "a"}\n{"source": 1, "target": "b"}\n{"source": "a", "target": "b", "weight": -1}\n'
        '{"source": "a", "target": "b", "weight": 2.5}\n{"turns": "ab"}\n[]\n',
    )

    assert found == [Pair("a", "b", 2.5)]
    assert sum(report.left_out.values()) == 6
    assert report.problems[0] == 'a.jsonl line 1: no JSON with "source" and "target", or "turns"'
    with pytest.raises(UsageError, match=r"b\.tsv holds no pair"):
        pairs_in(tmp_path / "b.tsv", "alone\n")


def split_of(tmp_path: Path, text: str, **changes: Any) -> Any:
    """The split of a TSV file by a recipe."""
    (tmp_path / "pairs.tsv").write_text(text, encoding="utf-8")
    return split_pairs(recipe({"data": {"paths": [str(tmp_path / "pairs.tsv")]}}, changes))


def test_a_source_is_held_out_with_all_its_targets(tmp_path: Path) -> None:
    """The share is what was asked for, no source stands on both sides, and the order of the lines plays no part."""
    lines = [f"{number % 50}\tx{number}\n" for number in range(100)]
    first = split_of(tmp_path, "".join(lines), data={"held_out_per_mille": 200})
    second = split_of(tmp_path, "".join(reversed(lines)), data={"held_out_per_mille": 200})

    assert len(first.held_out) == 20
    assert {pair.source for pair in first.held_out}.isdisjoint({pair.source for pair in first.training})
    assert sorted(first.held_out) == sorted(second.held_out)


def test_cleaning_is_the_recipes(tmp_path: Path) -> None:
    """Turned round, only Chinese, one answer a question, the same pair once: each thing left out is counted."""
    text = "早安\t晚上好。\n早安\t你好\n嗨Siri\t你好\n早安\t晚上好。\n"

    plain = split_of(tmp_path, text)
    chinese = split_of(tmp_path, text, pairs={"only_chinese": True, "one_answer": True})
    swapped = split_of(tmp_path, text, pairs={"swap": True})

    assert len(plain.training) == 3
    assert chinese.training == [Pair("早安", "晚上好。")]
    assert chinese.report.left_out == {"there already": 2, "not Chinese alone": 1}
    assert swapped.training[0] == Pair("晚上好。", "早安")


@pytest.mark.parametrize("maker", MAKERS)
def test_makers_make_what_they_say(maker: str) -> None:
    """As many as asked for, the same again with the same seed, other ones with another, none empty, no source twice."""
    first, again, other = (list(islice(MAKERS[maker](41, seed), 41)) for seed in (1, 1, 2))

    assert first == again
    assert all(source and target for source, target in first)
    if maker not in ("words", "digits", "chinese"):
        assert first != other
        assert len({source for source, _ in first}) == 41


def test_dates_mean_the_same_on_both_sides() -> None:
    """An independent reading of every kind of date, by its format, is the ISO date beside it."""
    formats = [*("%d/%m/%y", "%d.%m.%y", "%d %m %y", "%d.%m.%Y", "%b %d, %Y", "%B %d, %Y", "%B %d %Y", "%d %B %Y")]
    formats += ["%d %B, %Y", "%d %b %Y", "%d %b, %Y", "%d, %b %Y", "%A, %B %d, %Y", "%A, %d %B %Y"]
    met: set[str] = set()
    for source, iso in MAKERS["dates"](997, 7):
        readings = {}
        for form in formats:
            try:
                read = datetime.strptime(source, form).date()
            except ValueError:
                continue
            readings[form] = read.replace(year=read.year - 100) if read.year > 2026 else read
        assert set(readings.values()) == {date.fromisoformat(iso)}, source
        met.update(readings)

    assert met == set(formats)


def test_a_title_is_in_the_paragraph() -> None:
    """The place and who it was are said in the sentence with the deed, and another place or person is named, too."""
    for source, title in MAKERS["headlines"](53, 3):
        where = title.rpartition(" in ")[2]
        assert any(where in sentence and title.split()[0].lower() in sentence.lower() for sentence in source.split("."))


@pytest.mark.parametrize("kind", SIDES)
def test_sides_come_back(kind: str, tmp_path: Path) -> None:
    """Each side's text survives ids, saving and loading; alphabets are apart; markers that are typed stay text."""
    pairs = [Pair("man <s>", "Frauen, 3 km!"), Pair("你好", "嗨。")]
    tokens = tokens_of(pairs, kind, reverse=True, fill=9)
    tokens.save(tmp_path / "tokenizer.json")
    loaded = load_tokenizer(tmp_path)
    assert isinstance(loaded, PairTokenizer)

    for known in (tokens, loaded):
        assert known.source is not None
        assert known.reverse
        assert kind == "subwords" or len(known) != len(known.source)
        for pair in pairs:
            read = known.encode_source([pair.source], 97)[0]
            assert len(read) >= 9
            assert known.decode(known.target.encode(pair.target)) == pair.target
            assert known.source.decode(read[::-1]) == pair.source
            assert known.encode_context(["before"], pair.source, "other", 97) == read
            assert not set(known.target.encode(pair.target)) & known.marker_ids


def test_unknown_characters_and_nothing_are_read() -> None:
    """A character that was never seen is one known token; an empty source is one token, too; a long one is cut."""
    tokens = tokens_of([Pair("ab", "c")])
    assert tokens.source is not None

    unknown = tokens.encode_source(["z"], 7)[0]
    assert unknown == tokens.encode_source(["€"], 7)[0]
    assert tokens.source.decode(unknown) == ""
    assert len(tokens.encode_source([""], 7)[0]) == 1
    assert len(tokens.encode_source(["ab" * 50], 7)[0]) == 7


def test_a_pair_set_shows_everything_once() -> None:
    """By tokens, by number, or by buckets, an epoch holds each pair once; in a batch each row is its pair."""
    pairs = [Pair("ab" * (n % 5 + 1), "xyz"[: n % 3 + 1] * (n % 4 + 1)) for n in range(47)]
    tokens = tokens_of(pairs)
    for change in (
        {"optimiser": {"batch_pairs": 0, "batch_tokens": 31}},
        {"optimiser": {"batch_pairs": 5}},
        {"optimiser": {"batch_pairs": 5}, "pairs": {"buckets": [[4, 4], [10, 12]]}},
    ):
        plan = recipe(change)
        examples = PairSet(tokenise_pairs(pairs, tokens, plan), tokens, plan)
        epoch = examples.epoch(3, plan.optimiser.batch_tokens)

        assert sorted(np.concatenate(epoch).tolist()) == list(range(47))
        assert all(len(np.unique(examples.buckets[batch])) == 1 for batch in epoch)
        for rows in epoch:
            batch = examples.batch(rows, 3)
            for row, length, target, given in zip(
                batch.source_BS, batch.lengths_B, batch.target_BT, batch.input_BT, strict=True
            ):
                said = target[target >= 0]
                assert Pair(tokens.source.decode(row[:length].tolist()), tokens.decode(said[:-1].tolist())) in pairs  # type: ignore[union-attr]
                assert said[-1] == tokens.eos_id
                assert given[: len(said)].tolist() == [tokens.bos_id, *said[:-1]]
        assert examples.frequencies().sum() == sum(len(pair.target) + 1 for pair in pairs)


def test_buckets_are_the_smallest_that_fit() -> None:
    """Both sides have to fit; what fits nowhere has no bucket."""
    found = buckets_of(np.array([1, 5, 5, 1, 9, 11]), np.array([1, 1, 9, 9, 12, 1]), ((4, 4), (10, 12)))

    assert found.tolist() == [0, 1, 1, 1, 1, -1]


def test_losses_are_spelled_out() -> None:
    """Means over tokens, over the sums of answers, and over the means of answers, each with weights."""
    nats, rows = torch.tensor([1.0, 2.0, 4.0, 7.0, 8.0]), torch.tensor([0, 0, 0, 1, 2])
    weight = torch.tensor([1.0, 3.0, 0.0])

    assert LOSSES["token"](nats, rows, weight).item() == pytest.approx((1 + 2 + 4 + 3 * 7) / 6)
    assert LOSSES["example"](nats, rows, weight).item() == pytest.approx((7 + 3 * 7) / 4)
    assert LOSSES["step"](nats, rows, weight).item() == pytest.approx((7 / 3 + 3 * 7) / 4)


def test_weights_reach_the_loss(tmp_path: Path) -> None:
    """A pair of weight 0 is as good as not there: its target is not learnt."""
    path = tmp_path / "weighed.jsonl"
    lines = [{"source": "a", "target": "b"}, {"source": "c", "target": "d", "weight": 0}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    plan = recipe({"data": {"paths": [str(path)]}, "optimiser": {"steps": 40, "learning_rate": 0.02, "ema": 0.0}})
    train(plan, tmp_path / "run")

    result = json.loads((tmp_path / "run" / "result.json").read_text(encoding="utf-8"))
    assert dict(result["training"]["examples"]) == {"a": "b", "c": "b"}


def test_methods_follow_their_equations() -> None:
    """One step of each method moves a weight by what its paper says, in the first step."""
    plan = OptimiserRecipe(learning_rate=0.5, weight_decay=0.0)
    expected = {"sgd": 0.5 * 3, "rmsprop": 0.5 * 3 / (0.1**0.5 * 3), "adam": 0.5, "adamw": 0.5}
    for name, move in expected.items():
        weight = torch.nn.Parameter(torch.tensor([7.0]))
        optimiser = METHODS[name]([weight], plan, False)
        weight.grad = torch.tensor([3.0])
        optimiser.step()

        assert weight.item() == pytest.approx(7 - move, rel=1e-5), name


def test_the_rate_slows_down_where_the_loss_stalls() -> None:
    """Only a mean loss above each of the last three slows it, by the factor; the other schedules do not care."""
    plan = OptimiserRecipe(learning_rate=0.5, warmup_steps=0, decay=0.9, steps=10)

    assert slower(1.0, 5.0, [1.0, 2.0], plan) == 1.0
    assert slower(0.5, 5.0, [9.0, 1.0, 2.0, 4.0], plan) == pytest.approx(0.45)
    assert slower(0.5, 3.0, [1.0, 2.0, 4.0], plan) == 0.5
    assert SCHEDULES["stalled"](7, 0.45, plan) == pytest.approx(0.225)
    assert SCHEDULES["constant"](7, 0.45, plan) == 0.5


class _StopError(Exception):
    """Stands for a kill."""


@pytest.mark.parametrize("method", METHODS)
def test_every_method_goes_on_as_if_never_stopped(method: str, tmp_path: Path) -> None:
    """Killed and resumed, losses, slowed rate and weights are bit for bit those of an unbroken run."""
    plan = recipe(
        {
            "optimiser": {"method": method, "schedule": "stalled", "steps": 9, "learning_rate": 0.9, "clip": 1e9},
            "model": {"form": "grammar", "attention": "additive", "dropout": 0.2},
        },
        DATES,
    )

    def stop(report: Any) -> None:
        if report.step == 7:
            raise _StopError

    whole = train(plan, tmp_path / "whole")
    with pytest.raises(_StopError):
        train(plan, tmp_path / "stopped", heard=stop)
    resumed = train(plan, tmp_path / "stopped", resume=True)

    assert whole == resumed
    assert losses(tmp_path / "whole") == losses(tmp_path / "stopped")


def test_a_mark_that_is_reached_ends_the_run(tmp_path: Path) -> None:
    """The mean training loss since the last evaluation is what counts."""
    state = train(recipe({"optimiser": {"steps": 50, "enough": 3.5, "learning_rate": 0.02}}), tmp_path / "run")

    assert 2 <= state.step < 50
    assert state.mean_losses[-1] <= 3.5


def test_the_command_trains_and_says_what_was_learnt(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`chatbot train words` with a few steps: a model folder that answers in a chat, and a report on stdout."""
    sets = [f"--set={part}" for part in ("optimiser.steps=150", "optimiser.evaluate_every=150", "model.dropout=0.0")]

    assert main(["train", "words", "--out", str(tmp_path / "run"), *sets]) == 0

    said = capsys.readouterr().out
    assert re.search(r"training: 6 of 6 exact", said)
    assert "mans -> women" in said
    assert main(["reply", "--model", str(tmp_path / "run" / "model"), "king"]) == 0
    assert capsys.readouterr().out == "queen\n"


def test_pictures_are_read_as_vectors(tmp_path: Path) -> None:
    """A source of numbers: a run with rows of eight as source vectors, scored like any other."""
    plan = load_recipe("caption", ["optimiser.steps=3", "model.encoder_units=7", "model.decoder_units=11"])

    train(plan, tmp_path / "run")

    result = json.loads((tmp_path / "run" / "result.json").read_text(encoding="utf-8"))
    assert result["held_out"]["asked"] > 300
    assert vectors("0 1/0.5 2", 2).tolist() == [[0.0, 1.0], [0.5, 2.0]]


def test_a_transformer_trains_and_answers_like_any_other(tmp_path: Path) -> None:
    """Another architecture is a line in the recipe: trained, saved, loaded, and decoded with its cache."""
    plan = recipe(
        {"model": {"architecture": "transformer", "embedding_size": 12, "heads": 2}, "optimiser": {"steps": 120}},
        {"optimiser": {"learning_rate": 0.01, "batch_pairs": 6, "evaluate_every": 120, "ema": 0.0}},
    )

    train(plan, tmp_path / "run")

    result = json.loads((tmp_path / "run" / "result.json").read_text(encoding="utf-8"))
    assert result["training"]["exact"] == 6
    assert isinstance(load_model_folder(tmp_path / "run" / "model").model, Transformer)


def test_buckets_are_scored_one_by_one(tmp_path: Path) -> None:
    """The report has a perplexity for each bucket that held-out pairs fall into, and none for an empty one."""
    change = {"pairs": {"buckets": [[12, 12], [19, 16], [19, 17]]}, "data": {"held_out_per_mille": 300}}

    train(recipe(DATES, change), tmp_path / "run")

    rows = json.loads((tmp_path / "run" / "result.json").read_text(encoding="utf-8"))["buckets"]
    assert [row["bucket"] for row in rows] == [[12, 12], [19, 16], [19, 17]]
    assert [row["perplexity"] is None for row in rows] == [False, False, True]


def test_bleu_is_sacrebleus() -> None:
    """A hundred for what is right, by any reference; Chinese is counted by character."""
    assert bleu(["the cat sat on the mat"], [["a cat", "the cat sat on the mat"]]) == pytest.approx(100)
    assert bleu(["我很好。谢谢你"], [["我很好。谢谢你"]]) == pytest.approx(100)
    half = bleu(["the cat sat on a mat today"], [["the cat sat on the mat today"]])
    assert half is not None
    assert 30 < half < 80


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pairs": {"maker": "poems"}}, "pairs.maker is 'poems'; known: words, dates"),
        ({"pairs": {"tokens": "letters"}}, "pairs.tokens is 'letters'; known: characters, subwords"),
        ({"pairs": {"sides": 2}}, "unknown key 'pairs.sides'; did you mean 'asked'?|unknown key 'pairs.sides'"),
        ({"pairs": {"maker": "dates"}}, "pairs.count is 0; say how many dates"),
        ({"pairs": {"tokens": "subwords"}}, "model.vocabulary_size is 53; subwords need 300"),
        ({"pairs": {"vectors": True}}, "pairs.vectors and model.source_features go together"),
        ({"pairs": {"buckets": [[9, 9], [4, 4]]}}, "the largest last; one is [9, 9]"),
        ({"model": {"form": "bahdanau", "attention": "none"}}, "form bahdanau attends"),
        ({"model": {"attention": "multi-head", "heads": 3}}, "heads is 3; it must divide the 11 units"),
        ({"model": {"attention": "location", "positions": 5}}, "model.positions is 5, data.max_source_tokens 19"),
        ({"optimiser": {"method": "lion"}}, "optimiser.method is 'lion'; known: adamw, adam, rmsprop, sgd"),
        ({"optimiser": {"loss": "word"}}, "optimiser.loss is 'word'; known: token, example, step"),
        ({"task": "chat"}, "it must be from 300 to 65535"),
        ({"task": "chat", "model": {"vocabulary_size": 997}}, "pairs is for task=pairs"),
        ({"start_from": "starter"}, "start_from, rehearse and known are for task=chat"),
        (
            {"data": {"max_target_tokens": 3}},
            "none of 6 pairs fits data.max_source_tokens 19",
        ),
        ({"data": {"paths": ["nowhere.tsv"]}}, "no such data file: nowhere.tsv"),
        ({"pairs": {"maker": ""}}, "names no data; add --data"),
    ],
)
def test_what_cannot_work_is_one_line_before_work_starts(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    """An impossible recipe, an unknown key or kind, targets beyond the limit: said at once, and nothing is trained."""
    with pytest.raises(UsageError) as caught:
        train(recipe(change), tmp_path / "run")

    assert any(part in str(caught.value) for part in message.split("|"))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_too_little_data_is_refused(tmp_path: Path) -> None:
    """An empty file, a file of nothing that may be learnt, and one pair of which a part shall be held out."""
    with pytest.raises(UsageError, match="holds no pair"):
        split_of(tmp_path, "")
    with pytest.raises(UsageError, match="leaves no pair to train on"):
        split_of(tmp_path, "hi\tho\n", pairs={"only_chinese": True})
    with pytest.raises(UsageError, match=r"all 1 pairs would be held out; lower data\.held_out_per_mille, now 900"):
        split_of(tmp_path, "hi\tho\n", data={"held_out_per_mille": 900})
    assert len(split_of(tmp_path, "hi\tho\n").training) == 1


def test_tokens_of_another_run_are_refused(tmp_path: Path) -> None:
    """A run folder whose tokens were exchanged for others is not gone on with."""
    train(recipe(), tmp_path / "run")
    (tmp_path / "run" / "sides.json").unlink()

    with pytest.raises(UsageError, match="holds the tokens of another run"):
        train(recipe(), tmp_path / "run", resume=True)


@pytest.mark.parametrize("name", sorted(name for name in shipped_recipes() if load_recipe(name).task == "pairs"))
def test_shipped_recipes_of_pairs_can_be_built(name: str, tmp_path: Path) -> None:
    """Each runs out of the box, without a file: its pairs are there, and two steps of a small version of it train."""
    sets = ["optimiser.steps=1", "model.encoder_units=8", "model.decoder_units=8", "pairs.count=61"]
    plan = load_recipe(name, sets)

    assert train(plan, tmp_path / "run").step == 1
