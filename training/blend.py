"""Weights between those a run started from and those it came to: new skill, and most of the old one.

WiSE-FT (Wortsman et al. 2022, arXiv 2109.01903): the average of a model and its fine-tuned self is often better than
both, for the two lie in one valley of the loss.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch

from chatbot.model import EncoderDecoder


@contextmanager
def blended(model: EncoderDecoder, start: Mapping[str, torch.Tensor] | None, share: float) -> Iterator[None]:
    """While it is open, `model` has `share` of its own weights and the rest of `start`'s, its `state_dict`.

    Without a start, or with a share of 1, nothing is changed.
    """
    if start is None or share == 1:
        yield
        return
    own = {name: weight.detach().clone() for name, weight in model.state_dict().items()}
    with torch.no_grad():
        for name, weight in model.state_dict().items():
            weight.lerp_(start[name].to(weight.device), 1 - share)
    try:
        yield
    finally:
        model.load_state_dict(own)
