"""The benchmarks run and measure what they say; how fast anything is, no test asks."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.__main__ import main, marks, with_figures
from benchmarks.train_textbook import TextbookSeq2Seq, TutorialSeq2Seq
from benchmarks.train_work import flops
from chatbot.model import ModelConfig, Seq2Seq
from training.loss import LossModule

_ROOT = Path(__file__).resolve().parent.parent
_ROWS = {
    "reply": [
        "textbook",
        "ours, torch, greedy",
        "ours, graphs in 8 bits, greedy",
        "ours, text in and out, greedy $",
        "ours, graphs in `fine`, greedy",
        "ours, torch, beam 5",
        "ours, graphs in 8 bits, beam 5",
        "ours, text in and out, greedy, batching",
        "ours, this model",
        "ours, the shipped model",
    ],
    "train": [
        "chat-classic, 50 pairs: textbook",
        "chat-classic, 50 pairs: tutorial",
        "chat-classic, 50 pairs: ours, attention fed into the cells",
        "chat-classic, 250 pairs: ours, sampled softmax",
        "2x512, 128 pairs: the same loop on our batches",
        "2x512, 128 pairs: ours, full softmax, fp32",
        "2x512, 128 pairs: ours, sampled softmax, fp32",
        "2x512, 32k words, 128 pairs: ours, sampled softmax",
        "10 tokens a sentence",
        "100 tokens a sentence",
        "100 pairs",
    ],
    "start": [
        "`chatbot db upgrade`",
        "to the first prompt",
        "to the first reply",
        "Python itself",
        "import of numpy and ONNX Runtime",
        "import of the rest",
        "opening the database",
        "reading the rules",
        "loading the model",
        "the first reply",
        "peak of a chat process",
    ],
    "known": ["making the index", "loading it", "a known question", "an unknown one", "three neighbours"],
    "importing": ["reading", "preview", "import $", "import again", "export --format log", "export $"],
    "storage": [
        "`history\\(\\)`",
        "all that `reply` adds",
        "a rare word",
        "Chinese, two",
        "the first search",
        "messages acknowledged",
    ],
}


@pytest.mark.parametrize("section", _ROWS)
def test_a_quick_run_prints_every_row(section: str) -> None:
    """The real command measures every row that the document promises: all figures finite and above zero."""
    command = [sys.executable, "-m", "benchmarks", section, "--quick"]

    run = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, timeout=300)

    assert run.returncode == 0, run.stderr
    assert "cores" in run.stdout.splitlines()[0]
    assert "A quick run" in run.stdout
    tables = re.findall(r"^\| ([^|]+) \|(.*)\|$", run.stdout, flags=re.MULTILINE)
    for name in _ROWS[section]:
        rows = [cells for title, cells in tables if re.match(name, title + " ")]
        assert len(rows) == 1, (name, run.stdout)
        figures = [float(figure) for figure in re.findall(r"nan|inf|-?\d+(?:\.\d+)?(?:e[+-]\d+)?", rows[0])]
        assert figures
        assert all(math.isfinite(figure) and figure > 0 for figure in figures), (name, rows[0])


def test_a_quick_run_of_delivery_loses_and_doubles_nothing() -> None:
    """Each message gets through, and after a kill -9 in the middle all of them are answered or known as unknown."""
    command = [sys.executable, "-m", "benchmarks", "delivery", "--quick"]

    run = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, timeout=300)

    assert run.returncode == 0, run.stderr
    speed = r"^\| (\d+) \| [\w' ]+ \| (\d+) \| ([\d.]+) \| (\d+) \| (\d+) \| [\d.]+ \| [\d.]+ \| ([\d.]+) \| (\d+) \|$"
    speeds = re.findall(speed, run.stdout, re.M)
    assert len(speeds) == 2, run.stdout
    assert all(float(figure) > 0 for row in speeds for figure in row), run.stdout
    row = re.search(r"^\| telegram \| (.*) \|$", run.stdout, re.M)
    assert row is not None, run.stdout
    said, taken, answered, lost, doubled, unknown, kills = map(int, row[1].split(" | "))
    assert (taken, lost, doubled) == (said, 0, 0), run.stdout
    assert said - unknown <= answered <= said
    assert kills > 0


def test_the_textbook_computes_our_loss() -> None:
    """With the same weights and batch, padded targets included, the two training loops compared see one loss."""
    size = ModelConfig(13, embedding_size=5, encoder_units=3, decoder_units=7, encoder_layers=2, decoder_layers=2)
    ours, textbook = Seq2Seq(size).eval(), TextbookSeq2Seq(size).eval()
    with torch.no_grad():
        ours.output_bias.normal_()
    textbook.load_state_dict(
        {_name_in_textbook(name): weight for name, weight in ours.state_dict().items()}
        | {"output.weight": ours.embedding.weight}
    )
    source = torch.randint(5, 13, (3, 5))
    inputs, targets = torch.randint(5, 13, (3, 4)), torch.randint(5, 13, (3, 4))
    targets[0, 2:] = -1
    lengths, taught = torch.tensor([5, 2, 4]), torch.zeros(3, dtype=torch.bool)

    expected = LossModule(ours, label_smoothing=0.0)(source, lengths, inputs, targets, taught)
    actual = textbook(source, lengths, inputs, targets)

    torch.testing.assert_close(actual, expected)


def test_the_tutorial_computes_the_textbooks_loss() -> None:
    """A pair at a time, in one direction: reading token by token changes nothing."""
    size = ModelConfig(13, 5, 3, 7, encoder_layers=2, decoder_layers=2, bidirectional=False)
    textbook, tutorial = TextbookSeq2Seq(size), TutorialSeq2Seq(size)
    tutorial.load_state_dict(textbook.state_dict())
    call = (torch.randint(5, 13, (1, 5)), torch.tensor([5]), *torch.randint(5, 13, (2, 1, 4)))

    torch.testing.assert_close(tutorial(*call), textbook(*call))


@pytest.mark.parametrize("bidirectional", [True, False])
def test_the_operations_of_a_token_are_those_that_torch_counts(bidirectional: bool) -> None:
    """Forward, all but the bridge: the share of the peak rests on it. In doubles, as it counts no fused LSTM."""
    size = ModelConfig(300, 40, 24, 48, encoder_layers=2, decoder_layers=3, bidirectional=bidirectional)
    kind = TextbookSeq2Seq if bidirectional else TutorialSeq2Seq
    model, source, target = kind(size), torch.randint(5, 300, (1, 6)), torch.randint(5, 300, (1, 9))
    with FlopCounterMode(display=False) as counter:
        model.double()(source, torch.tensor([6]), target, target)

    bridge = 2 * 2 * size.memory_units * size.decoder_layers * size.decoder_units
    assert counter.get_total_flops() - bridge == pytest.approx(9 * flops(size, 6, 9, 300) / 3)


def _name_in_textbook(name: str) -> str:
    """Where the textbook model keeps one of our weights."""
    cell = re.fullmatch(r"decoder\.(\w+)_l(\d)", name)
    if cell:
        return f"cells.{cell[2]}.{cell[1]}"
    return {"attention.project.weight": "keys.weight", "output_bias": "output.bias"}.get(name, name)


def test_writing_replaces_the_figures_and_nothing_else() -> None:
    """What stands between the marks goes, the text around it stays, and the document can be written again."""
    document = "".join(f"{begin}\nold\n{end}\nafter\n" for begin, end in map(marks, ("reply", "storage")))

    once = with_figures(document, "storage", "new")

    assert once == document[::-1].replace("old"[::-1], "new"[::-1], 1)[::-1]
    assert with_figures(once, "storage", "old") == document


def test_the_document_has_a_place_for_the_figures() -> None:
    """`--write docs/benchmarks.md` finds its two marks, once each, for every section."""
    document = (_ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")

    for block in (*_ROWS, "storage-postgresql"):
        assert [document.count(mark) for mark in marks(block)] == [1, 1], block


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["memory"], "no section 'memory'"),
        (["reply", "--database", "postgresql://x"], "for `storage` alone"),
        (["reply", "--million"], "for `train` alone"),
        (["--write", "FILE"], "no place for figures"),
        (["--write", "FILE/none"], "cannot be read"),
    ],
)
def test_wrong_use_is_refused_before_anything_runs(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2 and the reason, and a document without marks stays as it was."""
    file = tmp_path / "document.md"
    file.write_text("text", encoding="utf-8")

    with pytest.raises(SystemExit) as left:
        main([argument.replace("FILE", str(file)) for argument in arguments])

    assert left.value.code == 2
    assert said in capsys.readouterr().err
    assert file.read_text(encoding="utf-8") == "text"
