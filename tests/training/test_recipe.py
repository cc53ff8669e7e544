"""Recipes: the shipped ones load, mistakes are named before any work starts."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from chatbot.errors import UsageError
from training.recipe import Recipe, load_recipe, shipped_recipes


@pytest.mark.parametrize("name", sorted(shipped_recipes()))
def test_shipped_recipes_load(name: str) -> None:
    """Every recipe that ships is valid and says what it is for."""
    recipe = load_recipe(name)

    assert name == recipe.name
    assert recipe.description


def test_assignments_go_over_the_file(tmp_path: Path) -> None:
    """--set wins over the file, the file over the defaults; 1e-3 is a number."""
    path = tmp_path / "mine.yaml"
    path.write_text("seed: 5\noptimiser: {steps: 11, clip: 2}\n", encoding="utf-8")

    recipe = load_recipe(str(path), ["optimiser.steps=13", "optimiser.learning_rate=1e-3", "data.weights.spc=2"])

    assert (recipe.name, recipe.seed) == ("mine", 5)
    assert (recipe.optimiser.steps, recipe.optimiser.clip, recipe.optimiser.learning_rate) == (13, 2.0, 0.001)
    assert recipe.data.weights == {"spc": 2.0}


def test_a_recipe_survives_writing(tmp_path: Path) -> None:
    """`as_dict`, written as YAML and loaded, is the same recipe: what a run folder holds can be run again."""
    recipe = load_recipe("starter", ["answer.decoding.temperature=0.7"])
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe.as_dict(), allow_unicode=True), encoding="utf-8")

    assert recipe == load_recipe(str(path))


@pytest.mark.parametrize(
    ("assignment", "part"),
    [
        ("optimiser.stpes=3", "did you mean 'steps'?"),
        ("optimiser.steps=0", "optimiser.steps is 0; it must be from 1"),
        ("optimiser.steps=many", "optimiser.steps is 'many'"),
        ("optimiser.learning_rate=-0.1", "optimiser.learning_rate is -0.1"),
        ("optimiser.learning_rate=.nan", "optimiser.learning_rate is nan"),
        ("optimiser.learning_rate=.inf", "optimiser.learning_rate is inf"),
        ("optimiser.label_smoothing=1", "optimiser.label_smoothing is 1.0"),
        ("optimiser.ema=1", "optimiser.ema is 1.0"),
        ("optimiser.warmup_steps=-1", "optimiser.warmup_steps is -1"),
        ("optimiser.weight_decay=-1", "optimiser.weight_decay is -1.0"),
        ("seed=-1", "seed is -1"),
        ("data.max_source_tokens=3", "data.max_source_tokens is 3; it must be from 4"),
        ("data.noise=1.5", "data.noise is 1.5"),
        ("data.held_out_per_mille=1000", "data.held_out_per_mille is 1000"),
        ("data.weights.spc=-2", "data.weights.'spc' is -2"),
        ("model.vocabulary_size=65536", "model.vocabulary_size is 65536"),
        ("model.cell=elman", "model.cell is 'elman'; known: lstm, gru, rnn"),
        ("answer.decoding.temprature=1", "unknown key 'answer.decoding.temprature'; did you mean 'temperature'?"),
        ("answer.decoding.temperature=hot", "answer.decoding.temperature is 'hot'"),
        ("precision=fp16", "precision is 'fp16'"),
        ("nonsense=1", "unknown key 'nonsense'"),
        ("nonsense", "is not key=value"),
    ],
)
def test_mistakes_are_named(assignment: str, part: str) -> None:
    """A wrong key or value is refused in one line that names it."""
    with pytest.raises(UsageError) as caught:
        load_recipe("starter", [assignment])

    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_options_that_exclude_each_other_are_refused() -> None:
    """Rehearsal compares whole distributions, which a sampled softmax does not have."""
    with pytest.raises(UsageError, match=r"optimiser\.rehearse"):
        load_recipe("retrain", ["optimiser.softmax_draws=11"])


@pytest.mark.parametrize("content", ["", "- a\n- b\n", "text"])
def test_a_file_that_is_no_recipe_is_refused(tmp_path: Path, content: str) -> None:
    """An empty file, a list and a text are named as no recipe."""
    path = tmp_path / "mine.yaml"
    path.write_text(content, encoding="utf-8")

    with pytest.raises(UsageError, match=r"mine\.yaml holds no recipe"):
        load_recipe(str(path))


def test_an_unknown_name_lists_the_shipped_ones() -> None:
    """A name that is neither shipped nor a path says what there is."""
    with pytest.raises(UsageError, match=r"no recipe 'startr'; shipped: .*retrain, .*starter"):
        load_recipe("startr")


def test_recipes_need_a_name() -> None:
    """A recipe is built with a name, in code too."""
    assert Recipe(name="x").as_dict()["name"] == "x"
