"""Graphs for a model folder, and the proof that they say what the model says.

In: a folder and prompts that the model has not learnt from. The folder has graphs afterwards, in the quickest precision
that chooses the model's own token nearly always; none if the architecture is not one of `chatbot.graphs`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from chatbot.checkpoint import copy_for_change, load_model_folder, put_in_place, seal, set_in_config
from chatbot.errors import UsageError
from chatbot.graphs import GRAPHS, PRECISIONS, build_graphs, known_architecture
from chatbot.model import EncoderDecoder, ModelConfig
from chatbot.runtime_onnx import OnnxRuntime
from chatbot.sides import SIDES_FILE

LEAST_EQUAL = 0.99  # of the tokens that the graphs choose
_LONGEST = 24  # tokens of a reply that are compared
_AT_A_TIME = 16


@dataclass(frozen=True, slots=True)
class Graphs:
    """What kind of graphs a folder has, and the share of `tokens` compared that they choose as the model does."""

    precision: str
    equal_tokens: float
    tokens: int


def add_graphs(folder: Path, prompts: Sequence[Sequence[int]], precision: str = "auto") -> Graphs | None:
    """Give the folder new graphs and return what they are, None if none; whole or not at all.

    `prompts` are sources as token ids. A `precision` other than "auto" is taken without looking at the outcome.
    UsageError if there are no prompts.
    """
    if not prompts:
        raise UsageError("graphs are compared with their model on dialogues that it has not seen; there are none")
    loaded = load_model_folder(folder)
    weights = {name: weight.numpy() for name, weight in loaded.model.state_dict().items()}
    sizes, usual = asdict(loaded.model.config), asdict(ModelConfig(1))
    building = copy_for_change(folder)
    _remove(building)
    made = None
    if known_architecture(sizes, usual, weights) and not (folder / SIDES_FILE).exists():
        for kind in PRECISIONS if precision == "auto" else (precision,):
            for name, graph in build_graphs(sizes, weights, kind).items():
                (building / f"{name}.onnx").write_bytes(graph.SerializeToString())
            seal(building)
            equal, tokens = equal_tokens(loaded.model, OnnxRuntime(building), prompts)
            made = Graphs(kind, round(equal / tokens, 4), tokens)
            if precision != "auto" or equal >= LEAST_EQUAL * tokens:
                break
            _remove(building)
            made = None
    set_in_config(building, "graphs", asdict(made) if made else None)
    seal(building)
    put_in_place(building, folder)
    return made


def _remove(folder: Path) -> None:
    for name in GRAPHS:
        (folder / f"{name}.onnx").unlink(missing_ok=True)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Torch's threads wait for one another without rest: beside any other work two are far slower than one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@_one_thread()
@torch.inference_mode()
def equal_tokens(model: EncoderDecoder, runtime: OnnxRuntime, prompts: Sequence[Sequence[int]]) -> tuple[int, int]:
    """How many tokens of the replies of `runtime`, each the likeliest, `model` would have said there; and of how many.

    The model's own replies are not asked for: step by step it takes a hundred times as long as all steps at once.
    """
    equal = tokens = 0
    ordered = sorted(prompts, key=len)
    for start in range(0, len(ordered), _AT_A_TIME):
        sources = ordered[start : start + _AT_A_TIME]
        said_BT = _likeliest(runtime, sources)
        lengths_B = torch.tensor([len(source) for source in sources])
        source_BS = torch.zeros(len(sources), int(lengths_B.max()), dtype=torch.long)
        for row, source in zip(source_BS, sources, strict=True):
            row[: len(source)] = torch.as_tensor(source)
        inputs_BT = torch.from_numpy(np.roll(said_BT, 1, axis=1))
        inputs_BT[:, 0] = runtime.bos_id
        chosen_BT = model.logits(model(source_BS, lengths_B, inputs_BT)).argmax(dim=2).numpy()
        ended_BT = np.cumsum(said_BT == runtime.eos_id, axis=1) - (said_BT == runtime.eos_id)
        equal += int(((said_BT == chosen_BT) & (ended_BT == 0)).sum())
        tokens += int((ended_BT == 0).sum())
    return equal, tokens


def _likeliest(runtime: OnnxRuntime, sources: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    """The likeliest token of each step, what comes behind an end mark included: (B, T)."""
    state, said = runtime.encode(sources), [np.full(len(sources), runtime.bos_id, dtype=np.int64)]
    for _ in range(_LONGEST):
        scores, state = runtime.step(said[-1], state)
        said.append(scores.argmax(axis=1))
    return np.stack(said[1:], axis=1)
