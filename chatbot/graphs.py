"""The model as ONNX graphs, written node by node: what a reply needs, with no torch in it.

In: weights as numpy arrays, and the sizes, of `chatbot.model.seq2seq.Seq2Seq`. Out: graphs, four a model:

encoder      embedded source (S, 1, E), one at a time -> keys, memory, and the first hidden states
cells        embedded tokens (N, E) and hidden states -> hidden states
attention    the cells' output (R, H) of the rows of one request, its keys and memory -> context (R, M)
output       the cells' output (N, H) and context (N, M) -> scores (N, V)

In "int8" a matrix has a scale a column, and what it is multiplied with a scale a row, so that what a row gives does not
depend on the rows beside it, to the last bit: integer sums have no order. A row goes in as two digits of 7 bits, one
below the other, which costs next to nothing where fetching the weights is what takes the time, and leaves only the
weights' own rounding. Seven bits, since CPUs without VNNI add pairs of products up in 16. In "fine" the matrices that
lose most have two digits as well, and the encoder keeps full precision; in "fp32" everything does.
It knows no runtime and no files.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[Any]
Weights = Mapping[str, NDArray[np.float32]]
GRAPHS = ("encoder", "cells", "attention", "output")
PRECISIONS = ("int8", "fine", "fp32")  # quickest first
_READ = {"vocabulary_size", "embedding_size", "cell", "attention", "dropout"}
_READ |= {f"{side}_{what}" for side in ("encoder", "decoder") for what in ("units", "layers")}
_OPSET, _IR = 21, 10
_LARGEST_WEIGHT = 127
_DIGIT = 63  # the largest of a digit, either way; 64 stands for 0
_TINY = 1e-9


class _Graph:
    """Nodes and constants as they are added; values go by name."""

    def __init__(
        self, name: str, precision: str, inputs: Mapping[str, Sequence[int | str]], half: Sequence[str] = ()
    ) -> None:
        self._name, self.precision = name, precision
        self._inputs = [
            helper.make_tensor_value_info(n, TensorProto.FLOAT16 if n in half else TensorProto.FLOAT, shape)
            for n, shape in inputs.items()
        ]
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._split: dict[str, tuple[str, str]] = {}

    def add(self, op: str, *inputs: str | Array | float, outputs: int = 1, **attributes: Any) -> list[str]:
        """A node; arrays and numbers among its inputs become constants. Returns the names of its outputs."""
        names = [value if isinstance(value, str) else self._constant(value) for value in inputs]
        found = [f"value{len(self._nodes)}_{number}" for number in range(outputs)]
        self._nodes.append(helper.make_node(op, names, found, **attributes))
        return found

    def one(self, op: str, *inputs: str | Array | float, **attributes: Any) -> str:
        """A node with one output."""
        return self.add(op, *inputs, **attributes)[0]

    def linear(self, x: str, weight_OI: Array, bias_O: Array | None = None, fine: bool = False) -> str:
        """x W^T + b for rows x (N, I); `fine` for a matrix that loses much by one digit a weight."""
        if self.precision != "fp32":
            fine &= self.precision == "fine"
            digits_NI, scale_N1 = self._digits(x)
            weight_IO, scale_O = quantised(weight_OI.T)
            if fine:
                rest_IO = (weight_OI.T / scale_O - weight_IO) * (2 * _LARGEST_WEIGHT)
                weight_IO = np.concatenate((weight_IO, np.round(rest_IO).astype(np.int8)), axis=1)
            sums = self.one("MatMulInteger", digits_NI, weight_IO, np.array(_DIGIT + 1, np.uint8))
            whole = self._joined(self.one("Cast", sums, to=TensorProto.FLOAT), 0, 2 * _DIGIT)
            if fine:
                whole = self._joined(whole, 1, 2 * _LARGEST_WEIGHT)
            y = self.one("Mul", self.one("Mul", whole, scale_N1), scale_O)
        else:
            y = self.one("MatMul", x, self.weight(weight_OI.T))
        return y if bias_O is None else self.one("Add", y, bias_O)

    def weight(self, values: Array) -> str:
        """A large constant, stored in half precision where that loses nothing: what comes from a model folder."""
        half = np.ascontiguousarray(values, np.float16)
        return self.one("Cast", half if (half == values).all() else values, to=TensorProto.FLOAT)

    def finish(self, **outputs: str) -> onnx.ModelProto:
        """The model; the graph's outputs are called as the keyword arguments."""
        self._nodes += [helper.make_node("Identity", [value], [name]) for name, value in outputs.items()]
        graph = helper.make_graph(
            self._nodes,
            self._name,
            self._inputs,
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
            self._constants,
        )
        opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=_IR, producer_name="familect")

    def _digits(self, x: str) -> tuple[str, str]:
        """Rows (N, I) as their high digits with the low ones below (2 N, I), and the high digit's worth (N, 1)."""
        if x not in self._split:
            largest_N1 = self.one("ReduceMax", self.one("Abs", x), np.array([-1], np.int64), keepdims=1)
            scale_N1 = self.one("Mul", self.one("Max", largest_N1, _TINY), 1 / _DIGIT)
            exact = self.one("Div", x, scale_N1)
            high = self.one("Round", exact)
            low = self.one("Round", self.one("Mul", self.one("Sub", exact, high), float(2 * _DIGIT)))
            shifted = self.one("Add", self.one("Concat", high, low, axis=0), float(_DIGIT + 1))
            self._split[x] = self.one("Cast", shifted, to=TensorProto.UINT8), scale_N1
        return self._split[x]

    def _joined(self, digits: str, axis: int, base: int) -> str:
        high, low = self.add("Split", digits, outputs=2, axis=axis, num_outputs=2)
        return self.one("Add", high, self.one("Mul", low, 1 / base))

    def _constant(self, value: Array | float) -> str:
        array = np.asarray(value, np.float32) if isinstance(value, float) else np.asarray(value)
        name = f"constant{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(array, name))
        return name


def quantised(weight: Array) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """A matrix (..., I, O) as whole numbers, and the scale of each column (..., O)."""
    scale = np.maximum(np.abs(weight).max(axis=-2), _TINY).astype(np.float32) / np.float32(_LARGEST_WEIGHT)
    return np.round(weight / scale[..., None, :]).astype(np.int8), scale


def known_architecture(config: Mapping[str, Any], usual: Mapping[str, Any], weights: Weights) -> bool:
    """Whether these graphs compute what this model computes: kinds that are known, and no parameter but theirs.

    `usual` are the default model's sizes and kinds: whatever is not read here has to be as it is there.
    """
    kinds = config["cell"] in {"lstm", "gru"} and config["attention"] in {"general", "additive"}
    return kinds and all(config[n] == usual[n] for n in usual.keys() - _READ) and _names(config) == set(weights)


def build_graphs(config: Mapping[str, Any], weights: Weights, precision: str) -> dict[str, onnx.ModelProto]:
    """The graphs of a model by name, in one of `PRECISIONS`."""
    return {
        "encoder": _encoder(config, weights, precision),
        "cells": _cells(config, weights, precision),
        "attention": _attention(config, weights, precision),
        "output": _output(config, weights, precision),
    }


def state_names(config: Mapping[str, Any]) -> list[str]:
    """The hidden states of the decoder, as inputs and outputs call them: h0, c0, h1, ..., or h0, h1, ... of a GRU."""
    kinds = "hc" if config["cell"] == "lstm" else "h"
    return [f"{kind}{layer}" for layer in range(config["decoder_layers"]) for kind in kinds]


def _names(config: Mapping[str, Any]) -> set[str]:
    """The parameters of a model of these kinds and sizes."""
    parts = [f"{kind}_{side}_l" for kind in ("weight", "bias") for side in ("ih", "hh")]
    names = {f"decoder.{part}{layer}" for part in parts for layer in range(config["decoder_layers"])}
    names |= {
        f"encoder.{part}{layer}{way}"
        for part in parts
        for layer in range(config["encoder_layers"])
        for way in ("", "_reverse")
    }
    names |= {f"bridges.{number}.weight" for number in range(2 if config["cell"] == "lstm" else 1)}
    inner = ("project", "query", "energy") if config["attention"] == "additive" else ("project",)
    names |= {f"attention.{part}.weight" for part in inner}
    return names | {"embedding.weight", "combine.weight", "combine.bias", "output_bias"}


def _gates(part: Array, order: Sequence[int]) -> Array:
    """The gates of a cell's weights, first axis, in another order."""
    gates = np.split(part, len(order))
    return np.concatenate([gates[number] for number in order])


_LSTM_OF_ONNX, _GRU_OF_ONNX = (0, 3, 1, 2), (1, 0, 2)  # torch has i f g o and r z n; ONNX i o f g and z r n
_SIGMOIDS_FIRST = (0, 1, 3, 2)  # i f o g


def _embedded(graph: _Graph, config: Mapping[str, Any]) -> str:
    """What the cells read of the embedding's rows (see `Seq2Seq._embed`)."""
    return graph.one("Mul", graph.one("Cast", "embedded", to=TensorProto.FLOAT), math.sqrt(config["embedding_size"]))


def _encoder(config: Mapping[str, Any], weights: Weights, precision: str) -> onnx.ModelProto:
    """One source at a time: ONNX Runtime's LSTM of 8 bits has one scale for all that it is given."""
    graph = _Graph("encoder", precision, {"embedded": ("S", 1, config["embedding_size"])}, half=["embedded"])
    x, last = _embedded(graph, config), []
    for layer in range(config["encoder_layers"]):
        y, *last = _encoder_layer(graph, config, weights, layer, x)
        x = graph.one("Reshape", y, np.array([0, 1, -1], np.int64))  # (S, ways, 1, H) -> (S, 1, M)
    memory_SM = graph.one("Squeeze", x, np.array([1], np.int64))
    keys_SH = graph.linear(memory_SM, weights["attention.project.weight"])
    outputs = {"memory": memory_SM, "keys": keys_SH}
    if config["attention"] == "general":
        scaled = graph.one("Mul", keys_SH, 1 / math.sqrt(config["decoder_units"]))
        outputs["keys"] = graph.one("Transpose", scaled, perm=[1, 0])
    for number, (kind, state) in enumerate(zip("hc", last, strict=False)):
        both_1M = graph.one("Reshape", state, np.array([1, -1], np.int64))
        first = graph.linear(both_1M, weights[f"bridges.{number}.weight"])
        layers = config["decoder_layers"]
        parts = graph.add("Split", first, outputs=layers, axis=1, num_outputs=layers) if layers > 1 else [first]
        outputs |= {f"{kind}{layer}": part for layer, part in enumerate(parts)}
    return graph.finish(**outputs)


def _encoder_layer(graph: _Graph, config: Mapping[str, Any], weights: Weights, layer: int, x: str) -> list[str]:
    """Y (S, 2, 1, H) and the last states (2, 1, H) of a layer, both ways."""
    lstm = config["cell"] == "lstm"
    order = _LSTM_OF_ONNX if lstm else _GRU_OF_ONNX

    def both(part: str) -> Array:
        ways = (weights[f"encoder.{part}_l{layer}{way}"] for way in ("", "_reverse"))
        return np.stack([_gates(weight, order) for weight in ways])

    bias = np.concatenate((both("bias_ih"), both("bias_hh")), axis=1)
    common: dict[str, Any] = {"direction": "bidirectional", "hidden_size": config["encoder_units"]}
    common["outputs"] = 3 if lstm else 2
    if not lstm:
        common["linear_before_reset"] = 1
    if not lstm or graph.precision != "int8":
        matrices = (graph.weight(both(f"weight_{side}")) for side in ("ih", "hh"))
        return graph.add("LSTM" if lstm else "GRU", x, *matrices, bias, **common)
    (w, w_scale), (r, r_scale) = (quantised(both(f"weight_{side}").transpose(0, 2, 1)) for side in ("ih", "hh"))
    # Its activations have 8 bits: as bytes, the weights are added up in 32 bits everywhere, and no slower row by row.
    w_bytes, r_bytes = ((weight + np.int16(128)).astype(np.uint8) for weight in (w, r))
    zeros = np.full(w_scale.shape, 128, np.uint8)
    inputs = (x, w_bytes, r_bytes, bias, "", "", "", "", w_scale, zeros, r_scale, zeros)
    return graph.add("DynamicQuantizeLSTM", *inputs, domain="com.microsoft", **common)


def _cells(config: Mapping[str, Any], weights: Weights, precision: str) -> onnx.ModelProto:
    sizes: dict[str, Sequence[int | str]] = {"embedded": ("N", config["embedding_size"])}
    sizes |= dict.fromkeys(state_names(config), ("N", config["decoder_units"]))
    graph = _Graph("cells", precision, sizes, half=["embedded"])
    x, outputs = _embedded(graph, config), dict[str, str]()
    for layer in range(config["decoder_layers"]):
        parts = {name: weights[f"decoder.{name}_l{layer}"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")}
        if config["cell"] == "lstm":
            x, c = _lstm_cell(graph, x, f"h{layer}", f"c{layer}", parts)
            outputs |= {f"next_h{layer}": x, f"next_c{layer}": c}
        else:
            x = _gru_cell(graph, x, f"h{layer}", parts)
            outputs[f"next_h{layer}"] = x
    return graph.finish(**outputs)


def _lstm_cell(graph: _Graph, x: str, h: str, c: str, parts: Weights) -> tuple[str, str]:
    """h' and c' (N, H): Hochreiter and Schmidhuber 1997 with forget gates, as `torch.nn.LSTM` documents it."""
    ordered = {name: _gates(part, _SIGMOIDS_FIRST) for name, part in parts.items()}
    from_x = graph.linear(x, ordered["weight_ih"], ordered["bias_ih"] + ordered["bias_hh"], fine=True)
    gates = graph.one("Add", from_x, graph.linear(h, ordered["weight_hh"]))
    units = parts["weight_hh"].shape[1]
    sigmoids, new = graph.add("Split", gates, np.array([3 * units, units], np.int64), outputs=2, axis=1)
    enter, forget, leave = graph.add("Split", graph.one("Sigmoid", sigmoids), outputs=3, axis=1, num_outputs=3)
    kept = graph.one("Mul", forget, c)
    next_c = graph.one("Add", kept, graph.one("Mul", enter, graph.one("Tanh", new)))
    return graph.one("Mul", leave, graph.one("Tanh", next_c)), next_c


def _gru_cell(graph: _Graph, x: str, h: str, parts: Weights) -> str:
    """h' (N, H): Cho et al. 2014, with the reset gate behind the matrix, as `torch.nn.GRU` documents it."""
    units = parts["weight_hh"].shape[1]
    cut = np.array([2 * units, units], np.int64)
    from_x, new_x = graph.add(
        "Split", graph.linear(x, parts["weight_ih"], parts["bias_ih"], fine=True), cut, outputs=2, axis=1
    )
    from_h, new_h = graph.add("Split", graph.linear(h, parts["weight_hh"], parts["bias_hh"]), cut, outputs=2, axis=1)
    both = graph.one("Sigmoid", graph.one("Add", from_x, from_h))
    reset, update = graph.add("Split", both, outputs=2, axis=1, num_outputs=2)
    new = graph.one("Tanh", graph.one("Add", new_x, graph.one("Mul", reset, new_h)))
    return graph.one("Add", new, graph.one("Mul", update, graph.one("Sub", h, new)))


def _attention(config: Mapping[str, Any], weights: Weights, precision: str) -> onnx.ModelProto:
    """For one request, so that the length of others' sources is of no account; see `chatbot.model` for the formulas."""
    units, general = config["decoder_units"], config["attention"] == "general"
    sizes: dict[str, Sequence[int | str]] = {"query": ("R", units), "memory": ("S", 2 * config["encoder_units"])}
    sizes["keys"] = (units, "S") if general else ("S", units)
    graph = _Graph("attention", precision, sizes)
    if general:
        scores_RS = graph.one("MatMul", "query", "keys")
    else:
        query_RH = graph.linear("query", weights["attention.query.weight"])
        query_R1H = graph.one("Unsqueeze", query_RH, np.array([1], np.int64))
        joint_RSH = graph.one("Tanh", graph.one("Add", query_R1H, "keys"))
        scores_RS1 = graph.one("MatMul", joint_RSH, weights["attention.energy.weight"].T.copy())
        scores_RS = graph.one("Squeeze", scores_RS1, np.array([2], np.int64))
    return graph.finish(context=graph.one("MatMul", graph.one("Softmax", scores_RS, axis=1), "memory"))


def _output(config: Mapping[str, Any], weights: Weights, precision: str) -> onnx.ModelProto:
    sizes = {"output": ("N", config["decoder_units"]), "context": ("N", 2 * config["encoder_units"])}
    graph = _Graph("output", precision, sizes)
    joint = graph.one("Concat", "context", "output", axis=1)
    features = graph.one("Tanh", graph.linear(joint, weights["combine.weight"], weights["combine.bias"], fine=True))
    return graph.finish(scores=graph.linear(features, weights["embedding.weight"], weights["output_bias"]))
