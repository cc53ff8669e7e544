"""What a model looked at: the weights of its attention while it answers, as a picture."""

from __future__ import annotations

from pathlib import Path

import torch

from chatbot.checkpoint import load_model_folder
from chatbot.errors import UsageError
from chatbot.sides import PairTokenizer
from chatbot.text import clean

_MOST_STEPS = 60


def attention_map(folder: Path, text: str) -> tuple[list[str], list[str], torch.Tensor]:
    """The tokens of `text`, those of the greedy answer, and the weights (answer, source) they were found with.

    UsageError if the folder is no model of pairs, or one without attention.
    """
    loaded = load_model_folder(folder)
    tokens, model = loaded.tokenizer, loaded.model
    if not isinstance(tokens, PairTokenizer) or tokens.source is None:
        raise UsageError(f"{folder} is no model of text pairs")
    source = tokens.encode_source([clean(text)], _MOST_STEPS)[0]
    rows, said = [], [tokens.bos_id]
    with torch.inference_mode():
        state = model.encode(torch.tensor([source]), torch.tensor([len(source)]))
        while len(said) <= _MOST_STEPS and said[-1] != tokens.eos_id:
            features, state, weights = model.decode(torch.tensor([said[-1:]]), state)
            if weights is None:
                raise UsageError(f"{folder} is a model without attention to show")
            rows.append(weights[0, 0])
            said.append(int(model.logits(features[0, 0]).argmax()))
    read = [tokens.source.decode([token]) or "␣" for token in source]
    return read, [tokens.decode([token]) or "·" for token in said[1:]], torch.stack(rows)


def draw_attention(folder: Path, text: str, picture: Path) -> None:
    """`attention_map` as a PNG."""
    from matplotlib.figure import Figure

    source, answer, weights = attention_map(folder, text)
    figure = Figure(figsize=(2 + 0.25 * len(source), 1.5 + 0.25 * len(answer)), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(weights.numpy(), cmap="Greys", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(len(source)), source)
    axes.set_yticks(range(len(answer)), answer)
    axes.set_xlabel("read")
    axes.set_ylabel("said")
    figure.savefig(picture, dpi=120)
