"""From dialogues to batches: what the model reads in training is what it reads when it answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import tiny_tokenizer

from training import dataset
from training.batches import Batch
from training.corpus import Dialogue
from training.dataset import ExampleSet, TokenisedCorpus, roughen, tokenise
from training.recipe import DataRecipe

TINY = tiny_tokenizer()
turns = st.text("ab c你!", min_size=1, max_size=11).map(str.strip).filter(bool)
dialogues_of = st.lists(st.lists(turns, min_size=2, max_size=5), min_size=1, max_size=5)


def talk(*lines: str, source: str = "familect", name: str = "", **more: Any) -> Dialogue:
    """A dialogue of `lines`."""
    return Dialogue(name or " ".join(lines), source, "CC0-1.0", lines, **more)


def examples_of(dialogues: Sequence[Dialogue], seed: int = 3, **recipe: Any) -> ExampleSet:
    """The examples of `dialogues`, without noise unless asked for."""
    plan = DataRecipe(**{"noise": 0.0, "max_source_tokens": 29, **recipe})
    return ExampleSet(tokenise(dialogues, TINY, plan, seed), TINY, plan, seed)


def rows(batch: Batch) -> list[tuple[list[int], list[int]]]:
    """Source and target ids of each row, without padding."""
    pairs = zip(batch.source_BS, batch.lengths_B, batch.target_BT, strict=True)
    return [(source[:length].tolist(), target[target >= 0].tolist()) for source, length, target in pairs]


@given(lines=dialogues_of, limit=st.integers(4, 31), context_turns=st.integers(1, 4))
def test_contexts_are_the_tokenizers(lines: list[list[str]], limit: int, context_turns: int) -> None:
    """Every example's source is `Tokenizer.encode_context` of the turns before it, its target the turn itself."""
    dialogues = [talk(*turn) for turn in lines]
    examples = examples_of(dialogues, max_source_tokens=limit, context_turns=context_turns, max_reply_copies=10**6)
    expected = [
        (
            TINY.encode_context(turn[max(0, at - context_turns) : at - 1], turn[at - 1], "familect", limit),
            [*TINY.encode(turn[at]), TINY.eos_id],
        )
        for turn in lines
        for at in range(1, len(turn))
    ]

    found: list[Any] = [None] * len(examples)
    for places, batch in examples.in_order(53):
        for place, row in zip(places, rows(batch), strict=True):
            found[place] = row

    assert expected == found


def test_batches_are_padded_and_shifted() -> None:
    """Sources end in padding, targets in -1 behind the end mark; the input is the target one step later."""
    examples = examples_of([talk("a", "b c a b", "a b", "c")])
    batch = examples.batch(np.arange(3), 0, clean=True)

    for source, length, given_ids, target in zip(
        batch.source_BS, batch.lengths_B, batch.input_BT, batch.target_BT, strict=True
    ):
        assert (source[length:] == TINY.pad_id).all()
        size = int((target >= 0).sum())
        assert target[size - 1] == TINY.eos_id
        assert (target[size:] == -1).all()
        assert [TINY.bos_id, *target[: size - 1]] == given_ids[:size].tolist()
    assert int((batch.target_BT >= 0).sum()) == batch.target_tokens


@pytest.mark.parametrize("exact_from", [1, 10**9])
def test_an_epoch_shows_everything_once(monkeypatch: pytest.MonkeyPatch, exact_from: int) -> None:
    """At weight 1 every example is in an epoch exactly once, however batches are cut."""
    monkeypatch.setattr(dataset, "EXACT_FROM", exact_from)
    examples = examples_of([talk("a" * n, "b" * (n % 7 + 1), "c") for n in range(1, 60)], max_reply_copies=1009)

    for epoch in range(3):
        batches = examples.epoch(epoch, 41)

        assert list(range(len(examples))) == sorted(np.concatenate(batches).tolist())


def test_exact_lengths_need_no_padding(monkeypatch: pytest.MonkeyPatch) -> None:
    """Large sets are cut into batches of one source length, with noise too, so that nothing is padded."""
    monkeypatch.setattr(dataset, "EXACT_FROM", 1)
    examples = examples_of([talk("a" * n, "Bb, c!", "c") for n in range(1, 60)], noise=0.5, max_reply_copies=1009)

    for positions in examples.epoch(1, 41):
        batch = examples.batch(positions, 1)

        assert (batch.lengths_B == batch.source_BS.shape[1]).all()


@pytest.mark.parametrize("exact_from", [1, 10**9])
def test_batches_keep_their_bound(monkeypatch: pytest.MonkeyPatch, exact_from: int) -> None:
    """No batch holds more padded target tokens than asked for, unless a single reply does."""
    monkeypatch.setattr(dataset, "EXACT_FROM", exact_from)
    examples = examples_of([talk("a" * n, "b " * (n % 13 + 1)) for n in range(1, 60)])

    for positions in examples.epoch(0, 17):
        shape = examples.batch(positions, 0).target_BT.shape

        assert shape[0] * shape[1] <= 17 or shape[0] == 1


def test_evaluation_batches_are_full() -> None:
    """In evaluation, too, a batch holds as many replies as its bound allows, whatever the longest reply may be."""
    examples = examples_of([talk("a", "b") for _ in range(40)], max_target_tokens=1024, max_reply_copies=101)

    assert [len(positions) for positions, _ in examples.in_order(60)] == [20, 20]


def test_weights_scale_what_an_epoch_shows() -> None:
    """A share of 2.5 shows an example two or three times, 0 never; sources without a share once."""
    dialogues = [talk(f"{'ab'[n % 2]} {n}", "b", source=("familect", "other", "reverse")[n % 3]) for n in range(300)]
    examples = examples_of(dialogues, weights={"familect": 2.5, "reverse": 0.0, "nobody": 7.0}, max_reply_copies=301)

    counts = Counter(np.concatenate(examples.epoch(0, 401)).tolist())

    by_source = {name: [counts[i] for i in range(n, 300, 3)] for n, name in enumerate(("familect", "other", "reverse"))}
    assert {2, 3} == set(by_source["familect"])
    assert 220 < sum(by_source["familect"]) < 280
    assert {1} == set(by_source["other"])
    assert {0} == set(by_source["reverse"])


def test_a_dialogue_of_small_share_is_shown_in_few_epochs() -> None:
    """A quarter of the epochs shows one of share 0.25, whatever its source weighs besides."""
    tokenizer = tiny_tokenizer()
    recipe = DataRecipe(weights={"familect": 2.0})
    rare = [replace(Dialogue("a", "familect", "x", ("hi there", "hello")), share=0.25)]
    examples = ExampleSet(tokenise(rare, tokenizer, recipe, 1), tokenizer, recipe, 1)

    shown = [sum(len(batch) for batch in examples.epoch(epoch, 100)) for epoch in range(200)]

    assert 0.35 < sum(shown) / len(shown) < 0.65


def test_batches_are_a_function_of_seed_and_epoch() -> None:
    """The same seed and epoch give the same batches, array for array; another epoch or seed gives others."""
    dialogues = [talk("a" * (n % 7 + 1), f"B{n}!", "c") for n in range(60)]

    def contents(seed: int, epoch: int) -> list[Any]:
        examples = examples_of(dialogues, seed=seed, noise=0.5)
        return [rows(examples.batch(positions, epoch)) for positions in examples.epoch(epoch, 31)]

    assert contents(3, 1) == contents(3, 1)
    assert contents(3, 1) != contents(3, 2)
    assert contents(3, 1) != contents(5, 1)


def test_noise_and_missing_markers_stay_in_their_share() -> None:
    """Some contexts are roughened and some lose their source; targets never change; `clean` leaves all alone."""
    examples = examples_of([talk("Hello, You!", f"Reply {n}!") for n in range(300)], noise=0.4)
    everything = np.arange(300)
    plain = TINY.encode_context([], "Hello, You!", "familect", 29)

    noisy, clean = rows(examples.batch(everything, 0)), rows(examples.batch(everything, 0, clean=True))

    assert all(source == plain for source, _ in clean)
    assert 80 < sum(source[1:] != plain[1:] for source, _ in noisy) < 160
    assert 10 < sum(source[0] == TINY.source_id("other") for source, _ in noisy) < 60
    assert [target for _, target in clean] == [target for _, target in noisy]


@given(text=st.text(min_size=1, max_size=11), seed=st.integers(0, 1000))
def test_roughening_leaves_something(text: str, seed: int) -> None:
    """Whatever is roughened is not empty afterwards."""
    assert roughen(text, np.random.default_rng(seed))


def test_only_the_last_turn_of_a_lesson_is_learnt() -> None:
    """With `last_only` the other turns are context: one example, marked as taught."""
    examples = examples_of([talk("a", "b", "c", "a b", last_only=True), talk("c", "a")])
    batch = examples.batch(np.arange(2), 0, clean=True)

    assert [[*TINY.encode("a b"), TINY.eos_id], [*TINY.encode("a"), TINY.eos_id]] == [
        target for _, target in rows(batch)
    ]
    assert batch.taught_B.tolist() == [True, False]


def test_a_cut_reply_has_no_end_mark() -> None:
    """A reply over the limit keeps its beginning and does not teach to stop there; one that fits ends."""
    long, short = "ab!ab!ab!ab!", "ab"
    examples = examples_of([talk("a", long), talk("a", short)], max_target_tokens=5)

    cut, whole = (target for _, target in rows(examples.batch(np.arange(2), 0, clean=True)))

    assert TINY.encode(long)[:5] == cut
    assert [*TINY.encode(short), TINY.eos_id] == whole


def test_repeated_replies_count_a_few_times() -> None:
    """An exact reply is a target at most `max_reply_copies` times; below the quality bound nothing is."""
    dialogues = [talk(f"a {'b' * n}", "ok", name=str(n)) for n in range(9)]
    dialogues.append(talk("c", "good", quality=2.0))
    dialogues.append(talk("c", "bad", quality=0.5))

    examples = examples_of(dialogues, max_reply_copies=2, min_quality=1.0)

    assert len(examples) == 3


def test_renamed_sources_share_a_marker() -> None:
    """`rename` maps a source to the marker it is trained under; unknown ones fall to "other"."""
    examples = examples_of([talk("a", "b", source="log"), talk("a", "c", source="x")], rename={"log": "familect"})

    assert [TINY.source_id("familect"), TINY.source_id("other")] == examples.source_ids.tolist()


def test_a_saved_corpus_is_the_same(tmp_path: Path) -> None:
    """The arrays in a run folder come back equal, whatever the number of dialogues read at a time."""
    corpus = tokenise([talk("a", "b c"), talk("c", "你好", "b")], TINY, DataRecipe(), 3)

    corpus.save(tmp_path / "tokens")
    loaded = TokenisedCorpus.load(tmp_path / "tokens")

    for name in (
        "tokens",
        "noisy_tokens",
        "turn_starts",
        "noisy_starts",
        "dialogue_starts",
        "sources",
        "taught",
        "kept",
    ):
        assert np.array_equal(getattr(corpus, name), getattr(loaded, name))


def test_reading_in_pieces_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The piece size bounds the memory and nothing else."""
    dialogues = [talk(f"a {n}", "b") for n in range(7)]
    whole = tokenise(dialogues, TINY, DataRecipe(), 3)
    monkeypatch.setattr(dataset, "_CHUNK", 2)

    pieces = tokenise(dialogues, TINY, DataRecipe(), 3)

    assert np.array_equal(whole.tokens, pieces.tokens)
    assert np.array_equal(whole.turn_starts, pieces.turn_starts)


def test_nothing_gives_nothing() -> None:
    """No dialogues make an empty corpus, not an error: the run says what that means."""
    examples = examples_of([])

    assert (len(examples), examples.epoch(0, 101)) == (0, [])
    assert list(examples.in_order(101)) == []


def test_frequencies_count_every_token() -> None:
    """One count for each id of the vocabulary."""
    counts = examples_of([talk("a a", "a")]).frequencies()

    assert (len(TINY), 3) == (len(counts), int(counts.sum()))
    assert int(counts[TINY.encode("a")[0]]) == 3


def test_reversed_and_blank_examples() -> None:
    """From the reply, under its marker, to the turn it answers; and the reply with nothing but the source before it."""
    tokenizer = TINY.with_sources(["reversed"])
    plan = DataRecipe(noise=0.0, reversed=1.0, blank=1.0)
    pair = talk("a b", "c a", "b")
    examples = ExampleSet(tokenise([pair], tokenizer, plan, 3), tokenizer, plan, 3)
    read = [tokenizer.source_id("reversed"), tokenizer.bot_id]

    positions = np.sort(np.concatenate(examples.epoch(0, 10**6)))
    odd = rows(examples.batch(positions[2:], 0, anonymous=0.0))

    assert np.arange(6).tolist() == positions.tolist()
    expected = [
        ([*read, *tokenizer.encode("c a")], [*tokenizer.encode("a b"), tokenizer.eos_id]),
        ([*read, *tokenizer.encode("b")], [*tokenizer.encode("c a"), tokenizer.eos_id]),
        ([tokenizer.source_id("familect")], [*tokenizer.encode("c a"), tokenizer.eos_id]),
        ([tokenizer.source_id("familect")], [*tokenizer.encode("b"), tokenizer.eos_id]),
    ]
    assert expected == odd


def test_nothing_is_reversed_without_its_marker() -> None:
    """A tokenizer of before, which has no such marker, gets the pairs as they are."""
    examples = examples_of([talk("a b", "c a", "b")], reversed=1.0)

    assert np.sort(np.concatenate(examples.epoch(0, 10**6))).tolist() == [0, 1]
