"""A model folder behind the functions that decoding needs, served by torch: numpy in, numpy out.

For GPUs, and for folders without graphs (`chatbot.runtime_onnx` serves the others on a CPU). The one file on the reply
path that imports torch. It knows no text and no search. Calls must not overlap: one
thread drives a runtime (`chatbot.batching` sees to that); the state of a request is handed in and out.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from chatbot.checkpoint import load_model_folder
from chatbot.errors import UsageError
from chatbot.model import DecoderState

T = TypeVar("T")
_DEVICES = ("auto", "cpu", "cuda", "mps")
_log = logging.getLogger(__name__)


def choose_device(name: str) -> torch.device:
    """The device called `name`; "auto" takes CUDA, then MPS, then the CPU. UsageError if it is not there."""
    if name not in _DEVICES:
        raise UsageError(f"device is {name!r}; it must be one of {', '.join(_DEVICES)}")
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        name = next(device for device in ("cuda", "mps", "cpu") if present[device])
    if not present[name]:
        raise UsageError(f"device is {name}, but torch finds none on this machine; use --device cpu or --device auto")
    return torch.device(name)


class TorchRuntime:
    """A loaded model folder on one device: bf16 on CUDA, full precision elsewhere.

    When CUDA runs out of memory, the model moves to the CPU for good, one warning is logged, and the call is answered.
    """

    workers = 1

    def __init__(self, folder: Path, device: str = "auto", model_id: str | None = None) -> None:
        self.device = choose_device(device)
        loaded = load_model_folder(folder, model_id)
        self.model_id = loaded.model_id
        self.tokenizer = loaded.tokenizer
        self.config = loaded.config
        self.bos_id = loaded.tokenizer.bos_id
        self.eos_id = loaded.tokenizer.eos_id
        self.never_ids = tuple(sorted(loaded.tokenizer.marker_ids - {self.eos_id}))
        self._model = loaded.model
        self._on_device(lambda: self._model.to(self.device))

    def encode(self, sources: Sequence[Sequence[int]]) -> DecoderState:
        """Read the sources, each at least one id long: the state before the first token, one row a source."""
        lengths_B = torch.tensor([len(source) for source in sources])
        rows = [torch.as_tensor(source) for source in sources]  # ids, or vectors where the source is no text
        source_BS = rows[0].new_zeros(len(rows), int(lengths_B.max()), *rows[0].shape[1:])
        for row, source_S in enumerate(rows):
            source_BS[row, : len(source_S)] = source_S
        return self._on_device(lambda: self._model.encode(source_BS.to(self.device), lengths_B))

    def step(self, tokens_N: NDArray[np.int64], state: DecoderState) -> tuple[NDArray[np.float32], DecoderState]:
        """Scores (N, V) of the token after `tokens_N`, in an array of the caller's own, and the state after it."""
        tokens = torch.from_numpy(tokens_N)

        def call() -> tuple[NDArray[np.float32], DecoderState]:
            logits_NV, after = self._model.step(tokens.to(self.device), self._here(state))
            return logits_NV.float().cpu().numpy(), after

        return self._on_device(call)

    def select(self, state: DecoderState, rows_N: NDArray[np.int64]) -> DecoderState:
        """The state of `rows_N`, in that order, repeats allowed."""
        rows = torch.from_numpy(rows_N)
        return self._on_device(lambda: self._here(state).select(rows.to(self.device)))

    def _here(self, state: DecoderState) -> DecoderState:
        """`state` on the model's device: the same one, unless the model moved while the request was under way."""
        if state.memory_BSM.device.type == self.device.type:
            return state
        memory, keys, mask = (part.to(self.device) for part in state[:3])
        hidden = tuple(part.float().to(self.device) for part in state.hidden)
        return DecoderState(memory.float(), keys.float(), mask, hidden)

    def _on_device(self, call: Callable[[], T]) -> T:
        try:
            with torch.inference_mode(), self._precision():
                return call()
        except torch.OutOfMemoryError:
            if self.device.type == "cpu":
                raise
        # Outside the handler: the exception holds the frames, and with them the memory, of the call that failed.
        _log.warning("%s is out of memory: the model now answers on the CPU, more slowly", self.device.type)
        self.device = torch.device("cpu")
        with torch.inference_mode():
            self._model.to(self.device)
            torch.cuda.empty_cache()
            return call()

    def _precision(self) -> AbstractContextManager[Any]:
        if self.device.type == "cuda":
            return torch.autocast("cuda", dtype=torch.bfloat16)
        return nullcontext()
