"""A model folder behind the functions that decoding needs, served by ONNX Runtime on the CPU, without torch.

The graphs are those of `chatbot.graphs`; the embedding is read row by row from the weights' own file. Rows do not
influence one another, to the last bit in 8 bits: sources are encoded, and attended to, one at a time, and the scales
of the other products are a row's own. One session serves all threads; each call computes on the thread that makes it.
It knows no text and no search.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from chatbot.checkpoint import verify_model_folder
from chatbot.errors import ModelFolderError
from chatbot.tokenizer import Tokenizer

Ids = NDArray[np.int64]
Array = NDArray[np.float32]


class OnnxState(NamedTuple):
    """All that requests carry from step to step: for each row the (keys, memory) of its request, and hidden states."""

    attended: tuple[tuple[Array, Array], ...]  # rows of one request stand together and share theirs
    hidden: tuple[Array, ...]  # each (N, H)


class OnnxRuntime:
    """A loaded model folder that has graphs. Calls may overlap; `workers` of them at a time use all cores."""

    def __init__(self, folder: Path, model_id: str | None = None) -> None:
        with ThreadPoolExecutor(1) as aside:  # checksums are added up while the library is being loaded
            verified = aside.submit(verify_model_folder, folder)
            import onnxruntime

            self.config: Mapping[str, Any] = verified.result()
        self.model_id = model_id or folder.name
        self.tokenizer = Tokenizer.load(folder / "tokenizer.json")
        self.bos_id = self.tokenizer.bos_id
        self.eos_id = self.tokenizer.eos_id
        self.never_ids = tuple(sorted(self.tokenizer.marker_ids - {self.eos_id}))
        self.workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self._embedding_VE = mapped_embedding(folder)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        # The graphs are written as they shall run; what more is tried takes longer than it gains.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        self._encoder, self._cells, self._attention, self._output = (
            onnxruntime.InferenceSession(folder / f"{name}.onnx", options, providers=["CPUExecutionProvider"])
            for name in ("encoder", "cells", "attention", "output")
        )
        self._states = [i.name for i in self._cells.get_inputs()[1:]]

    def encode(self, sources: Sequence[Sequence[int]]) -> OnnxState:
        """Read the sources, each at least one id long: the state before the first token, one row a source."""
        read = []
        for source in sources:
            embedded = self._embedding_VE[np.asarray(source)][:, None]
            read.append(self._encoder.run(["keys", "memory", *self._states], {"embedded": embedded}))
        return OnnxState(
            tuple((keys, memory) for keys, memory, *_ in read),
            tuple(map(np.concatenate, zip(*(states for _, _, *states in read), strict=True))),
        )

    def step(self, tokens_N: Ids, state: OnnxState) -> tuple[Array, OnnxState]:
        """Scores (N, V) of the token after `tokens_N`, in an array of the caller's own, and the state after it."""
        feeds = dict(zip(self._states, state.hidden, strict=True))
        hidden = self._cells.run(None, {"embedded": self._embedding_VE[tokens_N], **feeds})
        output_NH = hidden[-1 if self.config["model"]["cell"] == "gru" else -2]
        contexts, start = [], 0
        for _, rows in groupby(map(id, state.attended)):
            keys, memory = state.attended[start]
            end = start + sum(1 for _ in rows)
            feeds = {"query": output_NH[start:end], "keys": keys, "memory": memory}
            contexts += self._attention.run(None, feeds)
            start = end
        context_NM = contexts[0] if len(contexts) == 1 else np.concatenate(contexts)
        (scores_NV,) = self._output.run(None, {"output": output_NH, "context": context_NM})
        return scores_NV, OnnxState(state.attended, tuple(hidden))

    def select(self, state: OnnxState, rows_N: Ids) -> OnnxState:
        """The state of `rows_N`, in that order, repeats allowed."""
        return OnnxState(
            tuple(state.attended[row] for row in rows_N.tolist()), tuple(part[rows_N] for part in state.hidden)
        )


def mapped_embedding(folder: Path) -> NDArray[np.float16]:
    """The embedding (V, E) in half precision, mapped from the safetensors file that holds it, not read."""
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            entry = json.loads(file.read(size)).get("embedding.weight")
        if entry and entry["dtype"] == "F16":
            start = 8 + size + entry["data_offsets"][0]
            return np.memmap(path, np.float16, "r", start, tuple(entry["shape"]))
    raise ModelFolderError(f"{folder} holds no embedding in half precision; restore it, or `chatbot models rollback`")
