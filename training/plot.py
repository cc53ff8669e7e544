"""Pictures of a run. matplotlib is imported when something is drawn, not before."""

from __future__ import annotations

import json
from pathlib import Path


def draw_losses(metrics: Path, picture: Path) -> None:
    """The training and validation losses of `metrics.jsonl` as a PNG."""
    from matplotlib.figure import Figure

    lines = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    valid = [(line["step"], line["valid_loss"]) for line in lines if line["valid_loss"] is not None]
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(
        [line["step"] for line in lines],
        [line["loss"] for line in lines],
        lw=0.5,
        alpha=0.6,
        label="training",
    )
    if valid:
        axes.plot(*zip(*valid, strict=True), marker="o", ms=3, label="held out, averaged weights")
    axes.set(xlabel="step", ylabel="loss, nats a token")
    axes.legend()
    figure.savefig(picture, dpi=120)
