"""Perplexities against sums spelled out by hand, and the counting they are divided by."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from tiny import padded, small_talk, tiny_model, tiny_tokenizer, write_dialogues

from chatbot.checkpoint import sha256
from chatbot.cli import main
from training.corpus import Dialogue
from training.evaluate import Likelihood, count_words, evaluate_model, likelihood_by_source
from training.recipe import DataRecipe

TINY = tiny_tokenizer()
DIALOGUES = (
    Dialogue("1", "familect", "", ("hi", "hello there!", "你好", "ok 12")),
    Dialogue("2", "other", "", ("tell me a joke", "no")),
    Dialogue("3", "familect", "", ("a", "b", "c", "only this counts"), last_only=True),
    Dialogue("4", "other", "", ("x", "rated low"), quality=-3.0),
    Dialogue("5", "spc", "", ("a", "bb " * 37)),
)
RECIPE = DataRecipe(max_source_tokens=29)


def nats_by_hand(dialogue: Dialogue, at: int) -> tuple[float, int]:
    """Negative log-probability and tokens of one turn, one step at a time."""
    model = tiny_model(len(TINY))
    turns = dialogue.turns
    source = TINY.encode_context(turns[max(0, at - 3) : at - 1], turns[at - 1], dialogue.source, 29)
    total, given, ids = 0.0, TINY.bos_id, [*TINY.encode(turns[at]), TINY.eos_id]
    with torch.inference_mode():
        state = model.encode(*padded([source]))
        for token in ids:
            scores, state = model.step(torch.tensor([given]), state)
            total -= scores.double().log_softmax(dim=1)[0, token].item()
            given = token
    return total, len(ids)


def test_likelihoods_are_sums_over_tokens() -> None:
    """For each source: nats, tokens, replies and words are those of its replies, taken one by one."""
    table = likelihood_by_source(tiny_model(len(TINY)), TINY, DIALOGUES, RECIPE)

    for source in ("familect", "other", "spc"):
        expected = [
            (*nats_by_hand(dialogue, at), count_words(dialogue.turns[at]))
            for dialogue in DIALOGUES
            for at in range(1, len(dialogue.turns))
            if dialogue.source == source and (not dialogue.last_only or at == len(dialogue.turns) - 1)
        ]
        found = table[source]
        assert sum(nats for nats, _, _ in expected) == pytest.approx(found.nats, rel=1e-5)
        assert sum(tokens for _, tokens, _ in expected) == found.tokens
        assert sum(words for _, _, words in expected) == found.words
        assert len(expected) == found.replies


def test_sources_add_up() -> None:
    """ "all" is the sum of the sources, and comes first."""
    table = dict(likelihood_by_source(tiny_model(len(TINY)), TINY, DIALOGUES, RECIPE))

    assert next(iter(table)) == "all"
    everything = table.pop("all")
    assert everything == sum(table.values(), Likelihood())
    assert everything.replies == 7


def test_the_order_of_dialogues_does_not_matter() -> None:
    """Batching by length puts every reply's nats to the right source, in any order."""
    forward = likelihood_by_source(tiny_model(len(TINY)), TINY, DIALOGUES, RECIPE)
    backward = likelihood_by_source(tiny_model(len(TINY)), TINY, DIALOGUES[::-1], RECIPE)

    for source, row in forward.items():
        assert row.nats == pytest.approx(backward[source].nats, rel=1e-5)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("hello there", 2),
        ("Hello, there!", 4),
        ("don't", 1),
        ("rock 'n' roll", 5),
        ("你好吗？", 4),
        ("我是 Familect。", 4),
        ("3.14", 3),
        ("...", 3),
        ("こんにちは", 1),
        ("naïve café", 2),
        ("", 0),
    ],
)
def test_words_are_counted_as_documented(text: str, words: int) -> None:
    """Runs of letters and digits, single punctuation marks, Han characters one by one."""
    assert words == count_words(text)


def test_perplexities_share_a_numerator() -> None:
    """exp(nats / n) with n tokens, words + replies, characters + replies; bits are base two."""
    row = Likelihood(nats=6.0, replies=2, tokens=12, words=4, characters=22)

    assert math.exp(0.5) == pytest.approx(row.per_token)
    assert math.exp(1.0) == pytest.approx(row.per_word)
    assert math.exp(0.25) == pytest.approx(row.per_character)
    assert 0.25 / math.log(2) == pytest.approx(row.bits_per_character)
    assert Likelihood().per_token == 1
    assert Likelihood(nats=1e9, tokens=1, replies=1).per_token == math.inf


def test_the_command_prints_a_table_and_json(
    model_folder: Path, dialogue_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One row a source; --json gives the same figures under their names."""
    expected = evaluate_model(model_folder, [dialogue_file], "cpu")
    command = ("evaluate", str(model_folder), "--data", str(dialogue_file), "--device", "cpu")

    assert main(command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert main((*command, "--json")) == 0
    found = json.loads(capsys.readouterr().out)

    assert [line.split()[0] for line in lines] == ["source", "all", "familect", "other"]
    assert f"{expected['all'].per_word:.2f}" in lines[1].split()
    assert expected["other"].per_word == found["sources"]["other"]["perplexity_per_word"]
    assert expected["all"].nats / expected["all"].tokens == found["sources"]["all"]["loss_per_token"]


def test_an_unknown_model_is_one_line(dialogue_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A name that is neither a folder nor in the registry: exit code 2 and where to look."""
    assert main(("evaluate", "absent", "--data", str(dialogue_file))) == 2

    assert "there is no model 'absent'" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["model", "data", "context"])
def test_mistakes_are_one_line(
    kind: str, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A changed model, rubbish for data, a config of somebody's own: exit code 2 and one line."""
    data = write_dialogues(tmp_path / "talk.jsonl", small_talk(3))
    if kind == "model":
        (model_folder / "model.safetensors").write_bytes(b"changed")
    elif kind == "data":
        data.write_bytes(b"\xff\xfe\x00")
    else:
        path = model_folder / "config.json"
        path.write_text(path.read_text(encoding="utf-8").replace("context_turns", "contxt_turns"), encoding="utf-8")
        sums = json.loads((model_folder / "checksums.json").read_text(encoding="utf-8"))
        sums["files"]["config.json"] = sha256(path)
        (model_folder / "checksums.json").write_text(json.dumps(sums), encoding="utf-8")

    assert main(("evaluate", str(model_folder), "--data", str(data), "--device", "cpu")) == 2

    out, error = capsys.readouterr()
    assert out == ""
    assert error.count("\n") == 1
    assert {"model": "checksum differs", "data": "holds no dialogue", "context": "did you mean 'context_turns'?"}[
        kind
    ] in error
