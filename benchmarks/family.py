"""`make reproduce`: every system of the family from its recipe, and the table of what came of it for docs/family.md.

    python -m benchmarks.family                     # all rows, into runs/family; a row that is done is not run again
    python -m benchmarks.family dates caption       # those rows
    python -m benchmarks.family --data FOLDER       # where the files are that are not ours: see `_Row.file`
    python -m benchmarks.family --write docs/family.md

A row that was stopped goes on where it was. Without its file, a row is left out, and the table says so.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.__main__ import machine, with_figures
from chatbot.checkpoint import load_model_folder
from training.attentionmap import draw_attention
from training.recipe import load_recipe
from training.run import train

_ATTENTION = ("model.form=luong", "model.attention=general")
_BASIC = ("model.form=sutskever", "model.attention=none", "model.tied_output=false")
_TWIN = (*_ATTENTION, "model.positions=0", "model.bidirectional=true", "model.tied_output=true")
_DEFAULT_MODEL = (
    *("model.form=luong", "model.attention=general", "model.bidirectional=true", "model.bridge=linear"),
    *("model.encoder_layers=1", "model.decoder_layers=1", "model.decoder_units=512", "model.tied_output=true"),
    *("optimiser.method=adamw", "optimiser.learning_rate=0.002", "optimiser.schedule=constant", "optimiser.loss=token"),
    *("optimiser.clip=1.0", "optimiser.softmax_draws=0", "pairs.reverse_source=false"),
)
_CONV, _FRENCH, _CHINESE = "sample_nofenci.conv", "tatoeba_eng_fra_5000.tsv.zst", "tatoeba_eng_cmn.tsv.zst"


@dataclass(frozen=True, slots=True)
class _Row:
    """A line of the table: the recipe, what is set beside it, and a file of the folder given with --data, if any."""

    name: str
    recipe: str
    sets: tuple[str, ...] = ()
    file: str | None = None
    picture: tuple[str, str] | None = None  # a picture of the attention: its file in docs/, and the source shown


ROWS = (
    _Row("words", "words"),
    _Row("dates", "dates"),
    _Row("dates-attention", "dates", _ATTENTION, None, ("attention-dates.png", "Saturday, 9 May 2015")),
    _Row("chat-classic", "chat-classic", (), _CONV),
    _Row("chat", "chat-classic", _DEFAULT_MODEL, _CONV),
    _Row("translate-french", "translate", (), _FRENCH),
    _Row("translate-french-twin", "translate", _TWIN, _FRENCH, ("attention-translate.png", "I don't want to eat.")),
    _Row("translate-chinese", "translate", (), _CHINESE),
    _Row("translate-chinese-twin", "translate", _TWIN, _CHINESE),
    _Row("context", "context"),
    _Row("context-basic", "context", _BASIC),
    _Row("context-attention", "context", _ATTENTION),
    _Row("headline", "headline"),
    _Row("caption", "caption"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is not done yet, print the table, and write it if asked to."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.family", description="Reproduce the family.")
    names = ", ".join(row.name for row in ROWS)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {names} (default: all)")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help=f"holds {_CONV}, {_FRENCH}, {_CHINESE}")
    parser.add_argument("--out", type=Path, default=Path("runs/family"), help="run folders (default: runs/family)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the table between its marks in FILE")
    parsed = parser.parse_args(arguments)
    unknown = [name for name in parsed.rows if name not in {row.name for row in ROWS}]
    if unknown:
        parser.error(f"there is no row {unknown[0]!r}; known: {names}")
    torch.set_num_threads(parsed.threads)
    for row in ROWS:
        if parsed.rows and row.name not in parsed.rows:
            continue
        if row.file and not (parsed.data and (parsed.data / row.file).exists()):
            print(f"{row.name}: left out, there is no {row.file}; name its folder with --data", file=sys.stderr)
        elif not (parsed.out / row.name / "row.json").exists():
            print(f"running: {row.name}", file=sys.stderr)
            _run(row, parsed.out / row.name, parsed.data)
    text = table(parsed.out)
    print(text)
    if parsed.write:
        document = parsed.write.read_text(encoding="utf-8")
        parsed.write.write_text(with_figures(document, "family", text), encoding="utf-8")
        _draw(parsed.out, parsed.write.parent)
    return 0


def _run(row: _Row, folder: Path, data: Path | None) -> None:
    recipe = load_recipe(row.recipe, row.sets)
    if row.file and data:
        recipe = replace(recipe, data=replace(recipe.data, paths=(str(data / row.file),)))
    before = json.loads((folder / "time.json").read_text()) if (folder / "time.json").exists() else 0.0
    begin, busy = time.perf_counter(), time.process_time()
    folder.mkdir(parents=True, exist_ok=True)

    def heard(report: Any) -> None:
        if report.valid_loss is not None:
            print(
                f"{row.name} step {report.step}: {report.loss:.3g}, held out {report.valid_loss:.3g}", file=sys.stderr
            )
            (folder / "time.json").write_text(json.dumps(before + time.process_time() - busy))

    state = train(recipe, folder, resume=(folder / "recipe.yaml").exists(), heard=heard)
    facts = {
        "seconds": time.perf_counter() - begin,
        "processor_seconds": before + time.process_time() - busy,
        "steps": state.step,
        "loss": state.mean_losses[-1],
        "seed": recipe.seed,
        "commit": _commit(),
        "machine": machine(False).splitlines()[0],
        "weights": sum(weight.numel() for weight in load_model_folder(folder / "model").model.parameters()),
    }
    (folder / "row.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def _commit() -> str:
    """The commit the code is of, with a mark if it was changed since."""
    called = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return called.stdout.strip() or "unknown"


def _part(found: Mapping[str, Any] | None) -> list[str]:
    """The cells of one part of a result: exact answers, perplexity, BLEU."""
    if found is None:
        return ["-", "-", "-"]
    bleu = "-" if found["bleu"] is None else f"{found['bleu']:.1f}"
    return [f"{found['exact']} of {found['asked']}", f"{found['perplexity']:.4g}", bleu]


def table(out: Path) -> str:
    """The rows that are done, as Markdown, and the words that were asked besides."""
    lines = [
        "| row | command | weights | processor time | steps | training loss | trained: exact | unseen: exact | unseen: "
        "perplexity | unseen: BLEU | seed | commit |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|---|",
    ]
    notes: list[str] = []
    for row in ROWS:
        folder = out / row.name
        if not (folder / "row.json").exists():
            lines.append(f"| {row.name} | not run yet |" + " - |" * 10)
            continue
        facts = json.loads((folder / "row.json").read_text(encoding="utf-8"))
        result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
        command = " ".join((row.recipe, *(f"--data {row.file}" for _ in [0] if row.file)))
        cells = [
            row.name,
            f"`chatbot train {command}`" + (f" and {len(row.sets)} settings" if row.sets else ""),
            f"{facts['weights'] / 1e6:.1f} M",
            f"{facts['processor_seconds']:.0f} s",
            str(facts["steps"]),
            f"{min(facts['loss'], result['training']['loss_per_token']):.2g}",
            _part(result["training"])[0],
            *_part(result["held_out"]),
            str(facts["seed"]),
            facts["commit"],
        ]
        lines.append("| " + " | ".join(cells) + " |")
        if result["asked"]:
            said = ", ".join(f"{question} → {answer}" for question, answer in result["asked"].items())
            notes.append(f"{row.name}, asked besides: {said}.")
        if "buckets" in result:
            said = ", ".join(
                f"{bucket['bucket'][0]}/{bucket['bucket'][1]}: {bucket['perplexity']:.3g} ({bucket['pairs']})"
                for bucket in result["buckets"]
                if bucket["perplexity"]
            )
            notes.append(f"{row.name}, perplexity of unseen pairs by bucket (pairs): {said}.")
    return "\n".join([*lines, "", *("- " + note for note in notes)])


def _draw(out: Path, docs: Path) -> None:
    for row in ROWS:
        if row.picture and (out / row.name / "row.json").exists():
            draw_attention(out / row.name / "model", row.picture[1], docs / row.picture[0])


if __name__ == "__main__":
    sys.exit(main())
