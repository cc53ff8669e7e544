"""The graphs of a model folder: they say what the model says, alone or in a batch, and torch is not asked."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import save_tiny_model, tiny_model

from chatbot import engine, exporting
from chatbot.checkpoint import load_model_folder, verify_model_folder
from chatbot.decoding import decode, options_from
from chatbot.engine import accelerated, load_engine
from chatbot.errors import ModelFolderError, UsageError
from chatbot.exporting import add_graphs, equal_tokens
from chatbot.graphs import GRAPHS, build_graphs, known_architecture
from chatbot.model import ModelConfig
from chatbot.registry import Registry
from chatbot.runtime import TorchRuntime
from chatbot.runtime_onnx import OnnxRuntime
from chatbot.tokenizer import Tokenizer

ROOT = Path(__file__).resolve().parent.parent.parent
SOURCES = [[6, 3, *(range(20 + n, 20 + n + size))] for n, size in enumerate((1, 11, 4, 19, 7, 2, 13))]
KINDS: list[dict[str, object]] = [
    {"max_tokens": 11},
    {"beam_size": 3, "max_tokens": 13},
    {"temperature": 0.9, "top_p": 0.9, "candidates": 4, "seed": 5},
]
ARCHITECTURES: list[dict[str, Any]] = [
    {},
    {"cell": "gru"},
    {"attention": "additive", "encoder_layers": 2, "decoder_layers": 3},
    {"cell": "gru", "attention": "additive", "decoder_layers": 2},
]


def decided(tokenizer: Tokenizer, **changes: Any) -> Any:
    """A tiny model with pronounced likes and dislikes: near ties would make tests of sameness a gamble."""
    model: Any = tiny_model(len(tokenizer), embedding_size=17, encoder_units=13, decoder_units=23, **changes)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(3)
        model.output_bias.normal_()
        model.combine.bias.normal_()
    return model


def runtimes(folder: Path, precision: str) -> tuple[TorchRuntime, OnnxRuntime]:
    """The folder behind both runtimes, its graphs in `precision`."""
    add_graphs(folder, SOURCES, precision)
    return TorchRuntime(folder, "cpu"), OnnxRuntime(folder)


def scores(runtime: Any, sources: Sequence[Sequence[int]], said: Sequence[int]) -> Any:
    """The scores behind each of the tokens `said`, every source saying the same: (T, B, V)."""
    state, found = runtime.encode(sources), []
    for token in said:
        after, state = runtime.step(np.full(len(sources), token, dtype=np.int64), state)
        found.append(after)
    return np.stack(found)


@pytest.mark.parametrize("changes", ARCHITECTURES, ids=str)
def test_both_runtimes_say_the_same(tmp_path: Path, tokenizer: Tokenizer, changes: dict[str, Any]) -> None:
    """Greedy, beam and draws by seed give the same tokens in full precision, and scores that hardly differ in 8 bits.

    A batch of sources of all lengths, for which torch pads and the graphs do not.
    """
    folder = save_tiny_model(tmp_path / "tiny", tokenizer, decided(tokenizer, **changes))
    model, exact = runtimes(folder, "fp32")
    expected, spread = scores(model, SOURCES, (1, 30, 21)), scores(model, SOURCES, (1, 30, 21)).std()

    np.testing.assert_allclose(scores(exact, SOURCES, (1, 30, 21)), expected, atol=1e-4 * spread)
    for kind in KINDS:
        options = [options_from(kind)] * len(SOURCES)
        assert [r.tokens for r in decode(exact, SOURCES, options)] == [
            r.tokens for r in decode(model, SOURCES, options)
        ]
    errors = []
    for precision in ("fine", "int8"):
        _, rounded = runtimes(folder, precision)
        errors.append(np.abs(scores(rounded, SOURCES, (1, 30, 21)) - expected).mean() / spread)
    assert errors[0] < errors[1] < 0.05


@pytest.mark.parametrize("precision", ["int8", "fine", "fp32"])
def test_rows_do_not_influence_one_another(tmp_path: Path, tokenizer: Tokenizer, precision: str) -> None:
    """A batch of requests of all lengths and kinds gets what each gets alone: same tokens, same score to the bit."""
    folder = save_tiny_model(tmp_path / "tiny", tokenizer, decided(tokenizer, decoder_layers=2))
    _, runtime = runtimes(folder, precision)
    options = [options_from(KINDS[number % 3]) for number in range(len(SOURCES))]

    together = decode(runtime, SOURCES, options)

    assert together == [decode(runtime, [s], [o])[0] for s, o in zip(SOURCES, options, strict=True)]


def test_the_quickest_precision_that_agrees_is_kept(
    tmp_path: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What 8 bits cannot do falls to the next; the folder says what it holds, and is sound."""
    folder = save_tiny_model(tmp_path / "tiny", tokenizer, decided(tokenizer))
    shares = iter([(989, 1000), (990, 1000)])
    monkeypatch.setattr(exporting, "equal_tokens", lambda *asked: next(shares))

    made = add_graphs(folder, SOURCES)

    assert made is not None
    assert (made.precision, made.equal_tokens, made.tokens) == ("fine", 0.99, 1000)
    assert verify_model_folder(folder)["graphs"] == {"precision": "fine", "equal_tokens": 0.99, "tokens": 1000}
    assert {f"{name}.onnx" for name in GRAPHS} <= {file.name for file in folder.iterdir()}
    assert [file for file in tmp_path.iterdir() if file.name.startswith(".")] == []


def test_graphs_that_say_something_else_are_not_kept(
    tmp_path: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Graphs of another model's weights agree in no precision: those that were there before go, and torch answers."""
    folder = save_tiny_model(tmp_path / "tiny", tokenizer, decided(tokenizer))
    add_graphs(folder, SOURCES, "fp32")
    other = {
        name: w.numpy()
        for name, w in tiny_model(len(tokenizer), 17, embedding_size=17, encoder_units=13, decoder_units=23)
        .state_dict()
        .items()
    }
    monkeypatch.setattr(exporting, "build_graphs", lambda sizes, weights, kind: build_graphs(sizes, other, kind))

    assert add_graphs(folder, SOURCES) is None

    assert "graphs" not in verify_model_folder(folder)
    assert not list(folder.glob("*.onnx"))
    assert load_engine(folder).reply_sync([], "hi").model_id == "tiny"


def test_the_share_of_equal_tokens_is_counted_right(tmp_path: Path, tokenizer: Tokenizer) -> None:
    """Against itself all are equal; against a model with one token barred, all but where the graphs say that token."""
    folder = save_tiny_model(tmp_path / "tiny", tokenizer, decided(tokenizer))
    _, runtime = runtimes(folder, "fp32")
    model = load_model_folder(folder).model
    said = np.concatenate(
        [row[: [*row, runtime.eos_id].index(runtime.eos_id) + 1] for row in exporting._likeliest(runtime, SOURCES)]
    )
    often = int(np.bincount(said).argmax())

    equal, tokens = equal_tokens(model, runtime, SOURCES)
    with torch.no_grad():
        model.output_bias[often] = -1e9
    others, _ = equal_tokens(model, runtime, SOURCES)

    assert equal == tokens == len(said)
    assert tokens - others == (said == often).sum() > 0


def test_an_unknown_architecture_has_no_graphs(tokenizer: Tokenizer) -> None:
    """A parameter or a kind that the graphs do not compute, or one that is missing, is not passed over."""
    model = tiny_model(len(tokenizer))
    weights = {name: weight.numpy() for name, weight in model.state_dict().items()}
    sizes, usual = asdict(model.config), asdict(ModelConfig(1))

    assert known_architecture(sizes, usual, weights)
    assert not known_architecture({**sizes, "cell": "rnn"}, usual, weights)
    assert not known_architecture({**sizes, "form": "cho"}, usual, weights)
    assert not known_architecture(sizes, usual, {**weights, "gate.weight": weights["combine.weight"]})
    assert not known_architecture({**sizes, "decoder_layers": 2}, usual, weights)


def test_nothing_to_compare_on_is_refused(model_folder: Path) -> None:
    """Without prompts nothing would be known of the graphs, so there are none."""
    with pytest.raises(UsageError, match="there are none"):
        add_graphs(model_folder, [])


def test_a_damaged_graph_is_refused(tmp_path: Path, tokenizer: Tokenizer) -> None:
    """A byte that has changed is noticed before the graph is opened."""
    folder = save_tiny_model(tmp_path / "tiny", tokenizer, decided(tokenizer))
    add_graphs(folder, SOURCES, "int8")
    path = folder / "cells.onnx"
    path.write_bytes(path.read_bytes()[:-1] + b"\0")

    with pytest.raises(ModelFolderError, match=r"cells\.onnx has changed"):
        load_engine(folder)


def test_the_live_model_changes_between_runtimes(tmp_path: Path, tokenizer: Tokenizer, home: Path) -> None:
    """A running engine goes from a folder with graphs to one without and back."""
    registry = Registry(home)
    for name in ("with", "without"):
        folder = save_tiny_model(tmp_path / name, tokenizer, decided(tokenizer, seed=len(name)))
        if name == "with":
            add_graphs(folder, SOURCES, "fp32")
        registry.add(folder, name)
    registry.promote("with")
    running = load_engine(device="cpu")

    replies = [running.reply_sync([], "hi")]
    registry.promote("without")
    replies.append(running.reply_sync([], "hi"))
    registry.rollback()
    replies.append(running.reply_sync([], "hi"))
    running.close()

    assert [reply.model_id for reply in replies] == ["with", "without", "with"]
    assert replies[0].text == replies[2].text != replies[1].text


@pytest.mark.parametrize("command", [["reply", "hi"], ["chat"], ["chat", "--no-log"]], ids=" ".join)
def test_the_reply_path_never_imports_torch(
    tmp_path: Path, tokenizer: Tokenizer, home: Path, command: list[str]
) -> None:
    """A process that has answered from a folder with graphs holds neither torch nor what only training needs."""
    folder = save_tiny_model(tmp_path / "tiny", tokenizer, decided(tokenizer))
    add_graphs(folder, SOURCES, "int8")
    code = (
        "import sys\n"
        "from chatbot.cli import main\n"
        "main(['db', 'upgrade', '--quiet'])\n"
        f"assert main({[*command, '--model', str(folder)]!r}) == 0\n"
        "print(sorted({name.split('.')[0] for name in sys.modules}), file=sys.stderr)\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", code], input="hello\n", capture_output=True, text=True, cwd=ROOT, timeout=60
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    loaded = set(ast.literal_eval(done.stderr.splitlines()[-1]))
    assert "onnxruntime" in loaded
    assert loaded & {"torch", "safetensors", "onnx", "matplotlib", "training"} == set()


@pytest.mark.parametrize(
    ("build", "there"),
    [("cuda: Optional[str] = None\nhip = None", False), ("cuda: Optional[str] = '12.8'\nhip = None", True)],
)
def test_a_gpu_is_found_without_importing_torch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, build: str, there: bool
) -> None:
    """A driver and a build of torch that can use it; without either, the graphs answer."""
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("raise ImportError")
    (tmp_path / "torch" / "version.py").write_text(build)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.setattr(sys, "platform", "linux")

    monkeypatch.setattr(engine, "_ACCELERATORS", (str(tmp_path),))
    assert accelerated() is there
    monkeypatch.setattr(engine, "_ACCELERATORS", (str(tmp_path / "absent"),))
    assert not accelerated()


def test_the_starter_answers_without_torch() -> None:
    """The model that is shipped has graphs that agree with it."""
    config = json.loads((ROOT / "chatbot" / "starter" / "config.json").read_text(encoding="utf-8"))

    assert config["graphs"]["equal_tokens"] >= exporting.LEAST_EQUAL
    assert config["graphs"]["tokens"] > 1000
