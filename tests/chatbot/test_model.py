"""The model against spelled-out arithmetic, and the promises that batching and streaming rest on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import padded, tiny_model

from chatbot.errors import UsageError
from chatbot.model import AdditiveAttention, DecoderState, GeneralAttention, ModelConfig

KINDS = [
    {"cell": cell, "attention": attention, "encoder_layers": layers, "decoder_layers": layers}
    for cell in ("gru", "lstm")
    for attention in ("general", "additive")
    for layers in (1, 2)
]
rows_of_ids = st.lists(st.lists(st.integers(0, 22), min_size=1, max_size=7), min_size=1, max_size=5)


def close(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Equal but for the order of additions in single precision."""
    return torch.allclose(a, b, atol=2e-6, rtol=1e-5)


def run(kind: dict[str, Any], rows: list[list[int]], tokens: list[int], extra: int = 0) -> torch.Tensor:
    """Scores (B, T, V) of feeding `tokens` to every row, step by step."""
    model = tiny_model(**kind)
    with torch.inference_mode():
        state = model.encode(*padded(rows, extra=extra))
        scores = []
        for token in tokens:
            logits_BV, state = model.step(torch.full((len(rows),), token), state)
            scores.append(logits_BV)
    return torch.stack(scores, dim=1)


def test_general_attention_is_luongs() -> None:
    """Scores are h^T W m over the square root of the decoder's units, element for element."""
    rng = np.random.default_rng(3)
    attention = GeneralAttention(5, 7)
    query, memory = rng.normal(size=(2, 3, 5)).astype(np.float32), rng.normal(size=(2, 4, 7)).astype(np.float32)
    weight = attention.project.weight.detach().numpy()
    expected = [[[h @ weight @ m / np.sqrt(5) for m in memory[b]] for h in query[b]] for b in range(2)]

    scores = attention(torch.from_numpy(query), attention.keys(torch.from_numpy(memory)))

    assert close(torch.tensor(np.array(expected, dtype=np.float32)), scores)


def test_additive_attention_is_bahdanaus() -> None:
    """Scores are v^T tanh(W h + U m), element for element."""
    rng = np.random.default_rng(3)
    attention = AdditiveAttention(5, 7)
    query, memory = rng.normal(size=(2, 3, 5)).astype(np.float32), rng.normal(size=(2, 4, 7)).astype(np.float32)
    v, w, u = (part.weight.detach().numpy() for part in (attention.energy, attention.query, attention.project))
    expected = [[[(v @ np.tanh(w @ h + u @ m))[0] for m in memory[b]] for h in query[b]] for b in range(2)]

    scores = attention(torch.from_numpy(query), attention.keys(torch.from_numpy(memory)))

    assert close(torch.tensor(np.array(expected, dtype=np.float32)), scores)


def test_step_is_the_published_arithmetic() -> None:
    """One GRU step by hand in numpy: gates, attention, combination, tied output."""
    model = tiny_model(cell="gru")
    with torch.inference_mode():
        state = model.encode(*padded([[3, 5, 7], [2]]))
        logits, _ = model.step(torch.tensor([11, 13]), state)
    weights = {name: value.detach().double().numpy() for name, value in model.named_parameters()}
    for row, token in enumerate((11, 13)):
        x = weights["embedding.weight"][token] * np.sqrt(model.config.embedding_size)
        h = state.hidden[0][0, row].double().numpy()
        from_x = weights["decoder.weight_ih_l0"] @ x + weights["decoder.bias_ih_l0"]
        from_h = weights["decoder.weight_hh_l0"] @ h + weights["decoder.bias_hh_l0"]
        r, z = (1 / (1 + np.exp(-(from_x[i : i + 11] + from_h[i : i + 11]))) for i in (0, 11))
        h = (1 - z) * np.tanh(from_x[22:] + r * from_h[22:]) + z * h
        memory = state.memory_BSM[row, : (3, 1)[row]].double().numpy()
        energy = np.exp(memory @ weights["attention.project.weight"].T @ h / np.sqrt(len(h)))
        context = (energy / energy.sum()) @ memory
        features = np.tanh(weights["combine.weight"] @ np.concatenate((context, h)) + weights["combine.bias"])

        expected = weights["embedding.weight"] @ features + weights["output_bias"]

        assert np.allclose(expected, logits[row].numpy(), atol=1e-5)


@given(
    kind=st.sampled_from(KINDS),
    rows=rows_of_ids,
    extra=st.integers(0, 3),
    tokens=st.lists(st.integers(0, 22), max_size=3),
)
def test_padding_changes_nothing(kind: dict[str, Any], rows: list[list[int]], extra: int, tokens: list[int]) -> None:
    """A source gives the same scores alone and in any batch, whatever stands behind its end."""
    together = run(kind, rows, [1, *tokens], extra)

    alone = [run(kind, [row], [1, *tokens])[0] for row in rows]

    assert close(torch.stack(alone), together)


def test_padding_tokens_do_not_matter() -> None:
    """What id the padding has makes no difference, bit by bit."""
    model = tiny_model()
    with torch.inference_mode():
        first, _ = model.step(torch.tensor([1, 1]), model.encode(*padded([[3, 5, 7], [2]], padding=0)))
        second, _ = model.step(torch.tensor([1, 1]), model.encode(*padded([[3, 5, 7], [2]], padding=19)))

    assert torch.equal(first, second)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_teacher_forcing_equals_stepping(kind: dict[str, Any]) -> None:
    """The fused training pass and the step-by-step decode are the same function."""
    rows, target = [[3, 5, 7, 2], [11, 13]], [1, 17, 19, 4, 6]
    model = tiny_model(**kind)

    with torch.inference_mode():
        forced = model.logits(model(*padded(rows), torch.tensor([target, target])))

    assert close(run(kind, rows, target), forced)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_interleaved_decodes_equal_separate_ones(kind: dict[str, Any]) -> None:
    """The modules keep nothing of a request: two decodes in turns give bit for bit what they give apart."""
    model = tiny_model(**kind)

    def decode(state: DecoderState) -> Any:
        token = torch.tensor([1])
        for _ in range(5):
            logits, state = model.step(token, state)
            token = logits.argmax(dim=1)
            yield logits

    with torch.inference_mode():
        apart = [list(decode(model.encode(*padded([row])))) for row in ([3, 5, 7], [2, 11])]
        both = zip(*(decode(model.encode(*padded([row]))) for row in ([3, 5, 7], [2, 11])), strict=True)
        first, second = zip(*both, strict=True)

    assert all(torch.equal(a, b) for a, b in zip(apart[0], first, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(apart[1], second, strict=True))


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_select_reorders_repeats_and_drops(cell: str) -> None:
    """After select([2, 0, 2]) the rows go on as the third, first and third row would have."""
    model = tiny_model(cell=cell, decoder_layers=2)
    with torch.inference_mode():
        _, state = model.step(torch.tensor([1, 1, 1]), model.encode(*padded([[3, 5], [7], [2, 11, 13]])))
        whole, _ = model.step(torch.tensor([17, 17, 17]), state)

        chosen, _ = model.step(torch.tensor([17, 17, 17]), state.select(torch.tensor([2, 0, 2])))

    assert close(whole[[2, 0, 2]], chosen)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_gradients_reach_every_weight(kind: dict[str, Any]) -> None:
    """No weight is idle: each gets a gradient that is not zero, from one ragged batch."""
    model = tiny_model(**kind).train()

    loss = model.logits(model(*padded([[3, 5, 7], [2]]), torch.tensor([[1, 4], [1, 6]]))).square().sum()
    torch.autograd.backward([loss])

    idle = [name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert idle == []


def test_dropout_is_off_in_evaluation_and_on_in_training() -> None:
    """Dropout makes training passes differ and leaves evaluation alone."""
    model = tiny_model(dropout=0.5, encoder_layers=2, decoder_layers=2)
    call = (*padded([[3, 5, 7]]), torch.tensor([[1, 4]]))

    assert torch.equal(model(*call), model(*call))
    model.train()
    assert not torch.equal(model(*call), model(*call))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vocabulary_size": 0}, "model.vocabulary_size is 0"),
        ({"decoder_layers": -3}, "model.decoder_layers is -3"),
        ({"encoder_units": 2.5}, "model.encoder_units is 2.5"),
        ({"embedding_size": True}, "model.embedding_size is True"),
        ({"cell": "elman"}, "model.cell is 'elman'; known: lstm, gru, rnn"),
        ({"attention": "soft"}, "model.attention is 'soft'; known: general, additive"),
        ({"dropout": 1.0}, "model.dropout is 1.0"),
        ({"dropout": float("nan")}, "model.dropout is nan"),
        ({"dropout": "much"}, "model.dropout is 'much'"),
    ],
)
def test_wrong_sizes_name_key_and_value(changes: dict[str, Any], message: str) -> None:
    """A config that cannot be built is refused at once, naming the key and its value."""
    with pytest.raises(UsageError) as caught:
        ModelConfig(**{"vocabulary_size": 23, **changes})

    assert message in str(caught.value)
