"""Every cell, attention and form against torch's own modules, a closed form, or the published equation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tiny import padded
from torch import nn
from torch.nn import functional as F

from chatbot.errors import UsageError
from chatbot.model import DecoderState, EncoderDecoder, ModelConfig, Seq2Seq, build_model
from chatbot.model.attention import ATTENTIONS
from chatbot.model.cells import CELLS, Steps, layered, stacked
from chatbot.model.forms import FORMS
from chatbot.model.transformer import DecoderLayer, EncoderLayer, Transformer, rotate

Array = NDArray[np.float64]
SIZES: dict[str, Any] = {"embedding_size": 13, "encoder_units": 7, "decoder_units": 11, "dropout": 0.0}
WITHOUT = [name for name, form in FORMS.items() if not form.attends]
# One of each cell, attention and form, in company that shows what they could get wrong together.
FAMILY: list[dict[str, Any]] = [
    {"cell": "rnn", "form": "sutskever", "attention": "none", "tied_output": False},
    {"cell": "gru", "form": "cho", "attention": "none", "encoder_layers": 2, "decoder_layers": 2},
    {"cell": "lstm", "form": "luong", "attention": "dot", "decoder_units": 14, "source_vocabulary_size": 17},
    {"cell": "lstm", "form": "luong", "attention": "multi-head", "decoder_units": 12, "heads": 3},
    {"cell": "rnn", "form": "luong", "attention": "location", "positions": 9},
    {"cell": "lstm", "form": "luong-feeding", "attention": "general", "decoder_layers": 2, "start_attention": True},
    {"cell": "gru", "form": "bahdanau", "attention": "additive"},
    {"cell": "lstm", "form": "grammar", "attention": "additive", "encoder_layers": 2, "decoder_layers": 2},
    {"cell": "gru", "form": "robertson", "attention": "location", "positions": 9, "tied_output": False},
    {"form": "luong", "encoder_units": 11, "bidirectional": False, "tied_cells": True, "bridge": "copy"},
    {"architecture": "transformer", "embedding_size": 12, "heads": 3, "decoder_layers": 2},
    {"architecture": "transformer", "embedding_size": 12, "heads": 2, "order": "learned", "positions": 11},
]
FAMILY_IDS = [
    f"{kind.get('architecture', kind.get('cell'))}-{kind.get('form', '')}-{n}" for n, kind in enumerate(FAMILY)
]
ROWS, TARGET = [[3, 5, 7, 2], [11, 13]], [1, 17, 19, 4, 6]


def make(seed: int = 5, **kind: Any) -> EncoderDecoder:
    """A small member of the family in evaluation mode."""
    torch.manual_seed(seed)
    return build_model(ModelConfig(23, **{**SIZES, **kind})).eval()


def recurrent(**kind: Any) -> Seq2Seq:
    """One of those with cells."""
    model = make(**kind)
    assert isinstance(model, Seq2Seq)
    return model


def close(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Equal but for the order of additions in single precision."""
    return torch.allclose(a, b, atol=3e-6, rtol=1e-5)


def stepwise(model: EncoderDecoder, rows: list[list[int]], tokens: list[int], extra: int = 0) -> torch.Tensor:
    """Scores (B, T, V) of feeding `tokens` to every row, step by step."""
    with torch.inference_mode():
        state, scores = model.encode(*padded(rows, extra=extra)), []
        for token in tokens:
            logits_BV, state = model.step(torch.full((len(rows),), token), state)
            scores.append(logits_BV)
    return torch.stack(scores, dim=1)


@pytest.mark.parametrize("kind", FAMILY, ids=FAMILY_IDS)
def test_teacher_forcing_equals_stepping(kind: dict[str, Any]) -> None:
    """The pass over all steps and the step-by-step decode, cached or not, are the same function."""
    model = make(**kind)

    with torch.inference_mode():
        forced = model.logits(model(*padded(ROWS), torch.tensor([TARGET, TARGET])))

    assert close(stepwise(model, ROWS, TARGET), forced)


@pytest.mark.parametrize("kind", FAMILY, ids=FAMILY_IDS)
def test_company_and_padding_change_nothing(kind: dict[str, Any]) -> None:
    """A source gives the same scores alone and in a batch, whatever stands behind its end."""
    model = make(**kind)

    together = stepwise(model, ROWS, TARGET, extra=3)

    assert close(torch.cat([stepwise(model, [row], TARGET) for row in ROWS]), together)


@pytest.mark.parametrize("kind", FAMILY, ids=FAMILY_IDS)
def test_select_reorders_repeats_and_drops(kind: dict[str, Any]) -> None:
    """After select([1, 0, 1]) the rows go on as the second, first and second row would have: all that goes on moves."""
    model = make(**kind)
    with torch.inference_mode():
        _, state = model.step(torch.tensor([1, 1]), model.encode(*padded(ROWS)))
        whole, _ = model.step(torch.tensor([17, 17]), state)

        chosen, _ = model.step(torch.tensor([17, 17, 17]), state.select(torch.tensor([1, 0, 1])))

    assert not close(whole[0], whole[1])
    assert close(whole[[1, 0, 1]], chosen)


@pytest.mark.parametrize("kind", FAMILY, ids=FAMILY_IDS)
def test_gradients_reach_every_weight(kind: dict[str, Any]) -> None:
    """No weight is idle: each gets a gradient that is not zero, from one ragged batch."""
    model = make(**kind).train()

    torch.autograd.backward([model.logits(model(*padded(ROWS), torch.tensor([TARGET, TARGET]))).square().sum()])

    idle = [name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert idle == []


@pytest.mark.parametrize("kind", FAMILY, ids=FAMILY_IDS)
def test_its_own_outputs_are_what_it_would_say(kind: dict[str, Any]) -> None:
    """Unrolled without own outputs it is teacher forcing; with nothing else, the greedy decode, whatever was given."""
    model = make(**kind)
    given = torch.tensor([TARGET, TARGET])
    with torch.inference_mode():
        said = [given[:, 0]]
        state = model.encode(*padded(ROWS))
        for _ in TARGET:
            logits, state = model.step(said[-1], state)
            said.append(logits.argmax(dim=1))

        taught = model.unroll(*padded(ROWS), given, 0.0)
        own = model.unroll(*padded(ROWS), given, 1.0)

        assert close(model(*padded(ROWS), given), taught)
        assert torch.equal(torch.stack(said[1:], dim=1), model.logits(own).argmax(dim=2))


@pytest.mark.parametrize("name", CELLS)
def test_a_step_is_torchs(name: str) -> None:
    """One step after the other, two layers of each cell compute what torch's fused module does."""
    torch.manual_seed(3)
    cell = CELLS[name]()
    kind: Any = cell.module
    module = kind(5, 7, 2, batch_first=True)
    x, first = torch.randn(3, 4, 5), tuple(torch.randn(2, 3, 7) for _ in range(cell.states))
    steps, layers, outputs = Steps(cell, module), layered(first), []
    for from_input in steps.from_input(x).unbind(1):
        output, layers = steps.advance(from_input, layers)
        outputs.append(output)

    expected, last = module(x, cell.hidden(first))

    assert close(expected, torch.stack(outputs, dim=1))
    assert close(torch.stack(tuple(last) if cell.states > 1 else (last,)), torch.stack(stacked(layers)))


def queries(units: int = 6, memory: int = 6) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A query (2, 3, units), a memory (2, 5, memory), and a mask that hides the end of the second row."""
    torch.manual_seed(7)
    mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    return torch.randn(2, 3, units), torch.randn(2, 5, memory), mask


def test_dot_attention_is_torchs() -> None:
    """Contexts are those of torch's scaled dot-product attention."""
    query, memory, mask = queries()
    attention = ATTENTIONS["dot"](6, 6)

    context, weights = attention.read(query, memory, attention.keys(memory), mask)

    assert close(F.scaled_dot_product_attention(query, memory, memory, attn_mask=mask[:, None]), context)
    assert close(weights.sum(dim=2), torch.ones(2, 3))
    assert not weights[1, :, 3:].any()


def test_multi_head_attention_is_torchs() -> None:
    """Contexts and mean weights are those of `torch.nn.MultiheadAttention` with the same matrices."""
    query, memory, mask = queries(6, 4)
    ours = ATTENTIONS["multi-head"](6, 4, heads=3)
    theirs = nn.MultiheadAttention(6, 3, bias=False, kdim=4, vdim=4, batch_first=True)
    weights = dict(ours.named_parameters())
    with torch.no_grad():
        for place, name in (("q_proj_weight", "query"), ("out_proj.weight", "output")):
            theirs.get_parameter(place).copy_(weights[f"{name}.weight"])
        keys, values = weights["project.weight"].chunk(2)
        theirs.get_parameter("k_proj_weight").copy_(keys)
        theirs.get_parameter("v_proj_weight").copy_(values)

    context, shares = ours.read(query, memory, ours.keys(memory), mask)
    expected, expected_shares = theirs(query, memory, memory, key_padding_mask=~mask)

    assert close(expected, context)
    assert close(expected_shares, shares)


def test_location_attention_is_luongs() -> None:
    """Weights are softmax(W h) over the positions that are there, whatever stands on them: equation 9."""
    query, memory, mask = queries()
    attention = ATTENTIONS["location"](6, 6, positions=8)
    weight, bias = (part.detach() for part in attention.parameters())

    context, shares = attention.read(query, memory, attention.keys(memory), mask)

    for row, length in enumerate((5, 3)):
        for step in range(3):
            energy = torch.exp(weight[:length] @ query[row, step] + bias[:length])
            assert close(energy / energy.sum(), shares[row, step, :length])
            assert close((energy / energy.sum()) @ memory[row, :length], context[row, step])


def test_a_source_beyond_the_positions_is_refused() -> None:
    """Where positions are numbered, more of them are an error that says how many there are."""
    for kind in (FAMILY[4], FAMILY[11]):
        with pytest.raises(UsageError, match=rf"12 tokens .* {kind['positions']} positions"):
            make(**kind).step(torch.tensor([1]), make(**kind).encode(*padded([[3] * 12])))


def gru(weights: dict[str, Array], x: Array, h: Array) -> Array:
    """Cho et al. 2014, section 2.3, in the order of torch's gates."""
    from_x = weights["decoder.weight_ih_l0"] @ x + weights["decoder.bias_ih_l0"]
    from_h = weights["decoder.weight_hh_l0"] @ h + weights["decoder.bias_hh_l0"]
    units = len(h)
    r, z = (1 / (1 + np.exp(-(from_x[i : i + units] + from_h[i : i + units]))) for i in (0, units))
    fresh: Array = (1 - z) * np.tanh(from_x[2 * units :] + r * from_h[2 * units :]) + z * h
    return fresh


def maxout(weights: dict[str, Array], *parts: Array) -> Array:
    """The larger of each two neighbours of a linear map."""
    both = weights["combine.maxout.linear.weight"] @ np.concatenate(parts) + weights["combine.maxout.linear.bias"]
    larger: Array = both.reshape(-1, 2).max(axis=1)
    return larger


def attended(weights: dict[str, Array], query: Array, memory: Array) -> Array:
    """The context of additive or location scores, whichever the weights are of."""
    if "attention.score.weight" in weights:
        scores = (weights["attention.score.weight"] @ query + weights["attention.score.bias"])[: len(memory)]
    else:
        joint = weights["attention.query.weight"] @ query + memory @ weights["attention.project.weight"].T
        scores = np.tanh(joint) @ weights["attention.energy.weight"][0]
    shares = np.exp(scores) / np.exp(scores).sum()
    context: Array = shares @ memory
    return context


def published(form: str, weights: dict[str, Array], words: list[Array], h: Array, memory: Array) -> list[Array]:
    """Features of each step of a decoder with one GRU, spelled out as the papers have it; additive attention."""

    def linear(name: str, *parts: Array) -> Array:
        mapped: Array = weights[f"combine.{name}.weight"] @ np.concatenate(parts) + weights[f"combine.{name}.bias"]
        return mapped

    features: list[Array] = []
    context, attentional = np.zeros(memory.shape[1]), np.zeros(len(words[0]))
    for y in words:
        before = h
        if form == "cho":
            h = gru(weights, np.concatenate((y, memory[0])), h)
            features.append(maxout(weights, h, y, memory[0]))
        elif form == "bahdanau":
            context = attended(weights, before, memory)
            h = gru(weights, np.concatenate((y, context)), h)
            features.append(maxout(weights, before, y, context))
        elif form == "luong-feeding":
            h = gru(weights, np.concatenate((y, attentional)), h)
            attentional = np.tanh(linear("linear", attended(weights, h, memory), h))
            features.append(attentional)
        elif form == "grammar":
            h = gru(weights, np.concatenate((y, context)), h)
            context = attended(weights, h, memory)
            features.append(linear("linear", context, h))
        else:
            context = attended(weights, np.concatenate((y, h)), memory)
            h = gru(weights, np.maximum(linear("join", y, context), 0), h)
            features.append(h)
    return features


@pytest.mark.parametrize("form", ["cho", "bahdanau", "luong-feeding", "grammar", "robertson"])
def test_a_form_is_the_published_one(form: str) -> None:
    """Three steps by hand in numpy give the features that the model has, with what is fed back from step to step."""
    attention = {"cho": "none", "robertson": "location"}.get(form, "additive")
    positions, tied = (9 if form == "robertson" else 0), form != "robertson"
    model = recurrent(cell="gru", form=form, attention=attention, positions=positions, tied_output=tied)
    tokens = [1, 17, 4]
    with torch.inference_mode():
        state = model.encode(*padded([[3, 5, 7]]))
        features, _, _ = model.decode(torch.tensor([tokens]), state)
    weights = {name: value.detach().double().numpy() for name, value in model.named_parameters()}
    words = [weights["embedding.weight"][token] * np.sqrt(13) for token in tokens]

    expected = published(
        form, weights, words, state.hidden[0][0, 0].double().numpy(), state.memory_BSM[0].double().numpy()
    )

    assert np.allclose(expected, features[0].numpy(), atol=1e-5)


def test_the_summary_is_chos() -> None:
    """c = tanh(V h + b) of the encoder's last state, both directions: appendix A.1.1."""
    model = recurrent(cell="gru", form="cho", attention="none")
    with torch.inference_mode():
        state = model.encode(*padded([[3, 5, 7]]))
        _, last = model.encoder(model.embedding(torch.tensor([[3, 5, 7]])) * 13**0.5)
        weight, bias = model.get_parameter("combine.summary.weight"), model.get_parameter("combine.summary.bias")

        expected = torch.tanh(weight @ torch.cat((last[0, 0], last[1, 0])) + bias)

    assert close(expected, state.memory_BSM[0, 0])


def test_attention_from_the_initial_state() -> None:
    """With it, what is fed back at first is the attentional state of the initial one; without it, nothing."""
    for form in ("luong-feeding", "grammar"):
        without, with_it = (
            recurrent(form=form, attention="additive", start_attention=start).encode(*padded(ROWS))
            for start in (False, True)
        )

        assert not without.hidden[-1].any()
        assert with_it.hidden[-1].all()
        assert torch.equal(without.hidden[0], with_it.hidden[0])


def test_tied_cells_are_one_set_of_weights() -> None:
    """The decoder's cells are the encoder's: fewer weights, saved once, and the decoder starts where it ended."""
    kind = {"encoder_units": 11, "bidirectional": False, "bridge": "copy"}
    tied, apart = recurrent(**kind, tied_cells=True), recurrent(**kind)
    state = tied.encode(*padded([[3, 5, 7]]))
    _, (h, _) = tied.encoder(tied.embedding(torch.tensor([[3, 5, 7]])) * 13**0.5)

    assert {name.split(".")[0] for name in apart.state_dict()} - {name.split(".")[0] for name in tied.state_dict()} == {
        "decoder"
    }
    assert close(h, state.hidden[0])


def test_sides_of_their_own() -> None:
    """A source with its own vocabulary has its own matrix; one of vectors a linear map; the output may have its own."""
    apart = recurrent(source_vocabulary_size=41, tied_output=False)
    vectors = recurrent(source_features=3)

    assert apart.encode(*padded([[40]])).memory_BSM.shape == (1, 1, 14)
    assert apart.output_weight.shape == (23, 13)
    assert apart.output_weight is not apart.embedding.weight
    rows = torch.randn(2, 4, 3)
    short = vectors.encode(rows[1:, :2], torch.tensor([2])).memory_BSM
    assert close(vectors.encode(rows, torch.tensor([4, 2])).memory_BSM[1:, :2], short)


def torch_layer(ours: EncoderLayer, theirs: nn.Module) -> None:
    """Put our weights where torch's layer keeps them."""
    names = {"self_attn": "itself", "multihead_attn": "source"}
    norms = {"norm1": "itself_norm", "norm2": "source_norm", "norm3": "wide_norm"}
    if not isinstance(ours, DecoderLayer):
        norms["norm2"] = norms.pop("norm3")
    with torch.no_grad():
        for place, name in {**norms, "linear1": "wide", "linear2": "narrow"}.items():
            for kind in ("weight", "bias"):
                theirs.get_parameter(f"{place}.{kind}").copy_(ours.get_parameter(f"{name}.{kind}"))
        for place, name in names.items():
            if hasattr(ours, name):
                for kind in ("weight", "bias"):
                    parts = tuple(ours.get_parameter(f"{name}.{part}.{kind}") for part in ("query", "remembered"))
                    theirs.get_parameter(f"{place}.in_proj_{kind}").copy_(torch.cat(parts))
                    theirs.get_parameter(f"{place}.out_proj.{kind}").copy_(ours.get_parameter(f"{name}.output.{kind}"))


def test_the_transformer_is_torchs() -> None:
    """With learned positions, encoder and decoder compute what torch's own pre-norm layers do."""
    model = make(**FAMILY[11])
    assert isinstance(model, Transformer)
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(std=0.3)  # biases and norms, too
    assert model.places is not None
    source, target = torch.tensor([[3, 5, 7, 2]]), torch.tensor([TARGET])
    encoder = nn.TransformerEncoderLayer(12, 2, 7, 0.0, norm_first=True, batch_first=True)
    decoder = nn.TransformerDecoderLayer(12, 2, 11, 0.0, norm_first=True, batch_first=True)
    torch_layer(model.encoder[0], encoder)  # type: ignore[arg-type]  # a ModuleList does not say what it holds
    torch_layer(model.decoder[0], decoder)  # type: ignore[arg-type]

    places, scale = model.places.weight, 12**0.5
    memory = model.encoder_norm(encoder(model.embedding(source) * scale + places[:4]))
    mask = nn.Transformer.generate_square_subsequent_mask(5)
    decoded = decoder(model.embedding(target) * scale + places[:5], memory, tgt_mask=mask)

    assert close(model.decoder_norm(decoded), model(source, torch.tensor([4]), target))


def test_rotary_positions_are_relative() -> None:
    """Each pair of units turns by its own angle, and the product of two depends on how far apart they stand alone."""
    torch.manual_seed(3)
    query, key = torch.randn(4, dtype=torch.double), torch.randn(4, dtype=torch.double)

    def at(vector: torch.Tensor, place: int) -> torch.Tensor:
        return rotate(vector.expand(1, 1, 1, 4), place)[0, 0, 0]

    turned = torch.complex(query[:2], query[2:]) * torch.exp(1j * torch.tensor([3.0, 3 / 100], dtype=torch.double))
    assert torch.allclose(torch.cat((turned.real, turned.imag)), at(query, 3), atol=1e-6)
    assert torch.allclose(at(query, 2) @ at(key, 7), at(query, 11) @ at(key, 16), atol=1e-6)
    assert not torch.allclose(at(query, 2) @ at(key, 7), at(query, 2) @ at(key, 8))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"form": "tutor"}, "model.form is 'tutor'; known: luong, "),
        ({"attention": "none"}, "form luong attends; give it an attention, or set form to one of sutskever, cho"),
        ({"form": "cho"}, "form cho has no attention; set attention=none, not general"),
        ({"attention": "dot"}, "as many units in the query (11) as in the memory (14)"),
        ({"attention": "multi-head", "heads": 3}, "heads is 3; it must divide the 11 units"),
        ({"attention": "location"}, "set model.positions"),
        ({"tied_cells": True}, "tied_cells wants an encoder and a decoder of one shape"),
        ({"bridge": "copy"}, "bridge copy wants an encoder and a decoder of one shape"),
        (
            {"tied_cells": True, "bidirectional": False, "encoder_units": 11, "form": "grammar"},
            "cannot read what form grammar feeds back",
        ),
        ({"form": "sutskever", "attention": "none"}, "reads 11 units, the embedding has 13"),
        ({"source_features": 3, "source_vocabulary_size": 5}, "exclude each other"),
        ({"architecture": "transformer", "heads": 5}, "embedding_size is 13, heads 5"),
        ({"architecture": "transformer", "order": "learned"}, "set model.positions"),
        ({"tied_output": 1}, "tied_output is 1; it must be true or false"),
        ({"positions": -1}, "positions is -1; it must be a whole number of at least 0"),
    ],
)
def test_parts_that_do_not_go_together_are_refused(changes: dict[str, Any], message: str) -> None:
    """An impossible combination is one clear line, and nothing is built."""
    with pytest.raises(UsageError) as caught:
        make(**changes)

    assert message in str(caught.value)


def test_states_are_of_one_type() -> None:
    """Whatever the model, a request's state is the same kind of value: runtimes need to know no other."""
    for kind in FAMILY:
        state = make(**kind).encode(*padded(ROWS))

        assert type(state) is DecoderState
        assert all(part.shape[1] == 2 for part in state.hidden)
