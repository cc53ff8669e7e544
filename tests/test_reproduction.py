"""The table of docs/family.md: its rows are real recipes, and a row that ran is told as it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks.family import ROWS, main, table
from chatbot.errors import UsageError
from chatbot.model import build_model
from training.attentionmap import attention_map
from training.recipe import load_recipe

_ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_row_can_be_built(row: object) -> None:
    """Recipe and settings of a row go together."""
    assert hasattr(row, "recipe")
    assert hasattr(row, "sets")
    recipe = load_recipe(row.recipe, row.sets)
    with torch.device("meta"):
        build_model(recipe.model)


def test_a_row_runs_once_and_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A row that is there is not run again: what stands in the table is what its run wrote down."""
    folder = tmp_path / "words"
    folder.mkdir()
    facts = {"processor_seconds": 61.4, "steps": 5000, "loss": 2e-5, "seed": 3, "commit": "abc", "weights": 200_000}
    part = {"asked": 7, "exact": 6, "bleu": None, "loss_per_token": 1e-6, "perplexity": 1.25}
    (folder / "row.json").write_text(json.dumps(facts), encoding="utf-8")
    result = {"training": part, "held_out": None, "asked": {"upp": "down"}}
    (folder / "result.json").write_text(json.dumps(result), encoding="utf-8")
    document = tmp_path / "family.md"
    document.write_text("<!-- figures: family -->\nold\n<!-- /figures: family -->\n", encoding="utf-8")

    assert main(["words", "--out", str(tmp_path), "--write", str(document)]) == 0

    line = "| words | `chatbot train words` | 0.2 M | 61 s | 5000 | 1e-06 | 6 of 7 | - | - | - | 3 | abc |"
    assert line in capsys.readouterr().out
    assert line in document.read_text(encoding="utf-8")
    assert "upp → down" in table(tmp_path)
    assert "| dates | not run yet |" in table(tmp_path)


def test_a_row_without_its_file_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What others' data is needed for is said, and the rest goes on."""
    assert main(["chat-classic", "--out", str(tmp_path)]) == 0

    assert "chat-classic: left out, there is no sample_nofenci.conv" in capsys.readouterr().err


def test_the_document_has_a_place_for_the_table() -> None:
    """`make reproduce` finds its marks, once."""
    text = (_ROOT / "docs" / "family.md").read_text(encoding="utf-8")

    assert text.count("<!-- figures: family -->") == text.count("<!-- /figures: family -->") == 1


def test_a_map_shows_where_the_model_looked(tmp_path: Path) -> None:
    """Each step of the answer has weights over the source that sum to one; a model without attention is refused."""
    from training.run import train

    sets = ["optimiser.steps=1", "model.encoder_units=8", "model.decoder_units=8"]
    train(load_recipe("words", [*sets, "model.form=luong", "model.attention=general"]), tmp_path / "with")
    train(load_recipe("words", sets), tmp_path / "without")

    source, answer, weights = attention_map(tmp_path / "with" / "model", "king")

    assert source[:4] == list("king")
    assert weights.shape == (len(answer), len(source))
    assert torch.allclose(weights.sum(dim=1), torch.ones(len(answer)))
    with pytest.raises(UsageError, match="without attention"):
        attention_map(tmp_path / "without" / "model", "king")
