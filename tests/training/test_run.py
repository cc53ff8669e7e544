"""A whole run through its outer interface: the run folder, the command line, kill and resume."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tiny import losses, small_talk, tiny_recipe, write_dialogues

from chatbot.checkpoint import load_model_folder
from chatbot.cli import main
from chatbot.errors import ChatbotError, UsageError
from training.recipe import Recipe
from training.run import train


def recipe_file(path: Path, recipe: Recipe) -> str:
    """`recipe` as a YAML file; its path."""
    path.write_text(yaml.safe_dump(recipe.as_dict(), allow_unicode=True), encoding="utf-8")
    return str(path)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line with which a command is refused, exit code 2."""
    assert main(arguments) == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert error.startswith("chatbot: ")
    assert error.count("\n") == 1
    return error


def test_the_run_folder_is_as_drawn(tmp_path: Path, dialogue_file: Path) -> None:
    """Everything the docstring of `training.run` draws is there, and the model says where it comes from."""
    with dialogue_file.open("a", encoding="utf-8") as stream:
        stream.write("not json\n")
    recipe = tiny_recipe(dialogue_file, data={"held_out_per_mille": 100}, answer={"source": "familect", "known": True})

    state = train(recipe, tmp_path / "run", device="cpu")

    names = (
        "recipe.yaml",
        "data.json",
        "tokens",
        "tokenizer.json",
        "known.jsonl",
        "checkpoints",
        "metrics.jsonl",
        "loss.png",
        "model",
    )
    assert {*names} == {path.name for path in (tmp_path / "run").iterdir()}
    assert (tmp_path / "run" / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert [step for step, _ in losses(tmp_path / "run")] == [1, 2, 3, 4, 5, 6, 7]
    facts = json.loads((tmp_path / "run" / "data.json").read_text(encoding="utf-8"))
    assert facts["left_out"] == {"not JSON": 1}
    assert facts["dialogues"] == 23
    provenance = load_model_folder(tmp_path / "run" / "model").provenance
    # A model is passed on: the same recipe and data, but files by name only.
    assert str(tmp_path) not in json.dumps(provenance)
    assert [dialogue_file.name] == provenance["recipe"]["data"].pop("paths")
    expected = recipe.as_dict()
    del expected["data"]["paths"]
    assert expected == provenance["recipe"]
    assert list(facts["files"].values()) == list(provenance["data"].pop("files").values())
    del facts["files"]
    assert (facts, None, "fp32") == (provenance["data"], provenance["parent"], provenance["precision"])
    assert state.best_loss == provenance["valid_loss_per_token"]
    known = (tmp_path / "run" / "known.jsonl").read_text(encoding="utf-8")
    assert known == (tmp_path / "run" / "model" / "known.jsonl").read_text(encoding="utf-8")
    assert {json.loads(line)["source"] for line in known.splitlines()} == {"familect"}


def test_a_run_can_start_from_a_model(tmp_path: Path, dialogue_file: Path) -> None:
    """`start_from` keeps sizes and tokenizer, begins near the old losses, names its parent and its permissions."""
    permitted = {"turns": ["hi there", "hello"], "permissions": ["letter 17", 3, "letter 18"]}
    file = write_dialogues(tmp_path / "permitted.jsonl", [*small_talk(23), permitted])
    first = tiny_recipe(file, optimiser={"steps": 41, "learning_rate": 0.01})
    train(first, tmp_path / "first", device="cpu")
    start: dict[str, dict[str, Any]] = {
        "model": {"decoder_units": 5},
        "optimiser": {"rehearse": True, "steps": 3, "learning_rate": 1e-6},
    }
    recipe = Recipe(**{**vars_of(tiny_recipe(dialogue_file, **start)), "start_from": str(tmp_path / "first" / "model")})

    train(recipe, tmp_path / "second", device="cpu")

    old, new = (load_model_folder(tmp_path / name / "model") for name in ("first", "second"))
    assert old.model.config == new.model.config
    assert old.tokenizer.encode("hi there") == new.tokenizer.encode("hi there")
    assert new.provenance["parent"] == "model"
    assert old.provenance["permissions"] == new.provenance["permissions"] == ["letter 17", "letter 18"]
    # Rehearsal alone: the distance from a teacher that we still equal.
    assert losses(tmp_path / "second")[0][1] < 0.01


def test_a_run_can_stop_half_way_between_old_and_new(tmp_path: Path, dialogue_file: Path) -> None:
    """With `blend`, what is saved lies between the start and what the run came to, by that share."""
    train(tiny_recipe(dialogue_file), tmp_path / "first", device="cpu")
    weights = {}
    for share in (0.25, 1.0):
        recipe = tiny_recipe(dialogue_file, optimiser={"steps": 2, "evaluate_every": 2, "blend": share})
        recipe = Recipe(**{**vars_of(recipe), "start_from": str(tmp_path / "first" / "model")})
        train(recipe, tmp_path / str(share), device="cpu")
        weights[share] = load_model_folder(tmp_path / str(share) / "model").model.state_dict()
    start = load_model_folder(tmp_path / "first" / "model").model.state_dict()

    for name, old in start.items():
        assert torch.allclose(weights[0.25][name], old + 0.25 * (weights[1.0][name] - old), atol=2e-3), name
    assert any(not torch.equal(weights[1.0][name], old) for name, old in start.items())


def test_a_start_without_the_marker_for_reversed_pairs_gets_it(tmp_path: Path, dialogue_file: Path) -> None:
    """The vocabulary grows by the one marker, which begins as "other" does; all that was there stays as it was."""
    train(tiny_recipe(dialogue_file), tmp_path / "first", device="cpu")
    recipe = tiny_recipe(dialogue_file, data={"reversed": 0.5}, optimiser={"steps": 1, "learning_rate": 1e-9})
    recipe = Recipe(**{**vars_of(recipe), "start_from": str(tmp_path / "first" / "model")})

    train(recipe, tmp_path / "second", device="cpu")

    old, new = (load_model_folder(tmp_path / name / "model") for name in ("first", "second"))
    assert old.tokenizer.sources | {"reversed": len(old.tokenizer)} == new.tokenizer.sources
    assert old.tokenizer.encode("<source:reversed>") == new.tokenizer.encode("<source:reversed>")
    before, after = (loaded.model.embedding.weight for loaded in (old, new))
    assert torch.allclose(before, after[:-1], atol=1e-3)
    assert torch.allclose(before[old.tokenizer.source_id("other")], after[-1], atol=1e-3)


def vars_of(recipe: Recipe) -> dict[str, Any]:
    """The fields of a recipe."""
    return {name: getattr(recipe, name) for name in Recipe.__dataclass_fields__}


def test_training_leaves_the_process_as_it_was(tmp_path: Path, dialogue_file: Path) -> None:
    """After a run, small numbers are as small as before it: what speeds up training is not left on."""
    during: list[float] = []
    tiny = sys.float_info.min

    train(tiny_recipe(dialogue_file), tmp_path / "run", device="cpu", heard=lambda report: during.append(tiny / 2))

    assert set(during) <= {0.0, tiny / 2}
    assert tiny / 2 > 0


def test_a_failed_start_leaves_no_claim(tmp_path: Path) -> None:
    """A missing data file, no data at all or sizes that cannot be: refused before the folder is anybody's."""
    recipe = tiny_recipe(tmp_path / "absent.jsonl")
    with pytest.raises(UsageError, match=r"no such data file: .*absent\.jsonl"):
        train(recipe, tmp_path / "run")
    with pytest.raises(UsageError, match="names no data; add --data"):
        train(tiny_recipe(tmp_path, data={"paths": []}), tmp_path / "run")
    talk = write_dialogues(tmp_path / "talk.jsonl", small_talk(3))
    with pytest.raises(UsageError, match=r"model\.dropout is 2\.0"):
        train(tiny_recipe(talk, model={"dropout": 2.0}), tmp_path / "run")

    assert not (tmp_path / "run").exists()


def test_a_folder_belongs_to_one_run(tmp_path: Path, dialogue_file: Path) -> None:
    """A second start, another recipe or changed data are refused; a finished run may be resumed and does nothing."""
    recipe = tiny_recipe(dialogue_file, optimiser={"steps": 2})
    train(recipe, tmp_path / "run", device="cpu")
    before = losses(tmp_path / "run")

    with pytest.raises(UsageError, match="already holds a run; add --resume"):
        train(recipe, tmp_path / "run")
    with pytest.raises(UsageError, match="started with another recipe"):
        train(tiny_recipe(dialogue_file), tmp_path / "run", resume=True)
    assert train(recipe, tmp_path / "run", resume=True, device="cpu").step == 2
    assert before == losses(tmp_path / "run")
    with dialogue_file.open("a", encoding="utf-8") as stream:
        stream.write('{"turns": ["new", "line"]}\n')
    with pytest.raises(UsageError, match="the data has changed"):
        train(recipe, tmp_path / "run", resume=True)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path, dialogue_file: Path) -> None:
    """A file where the run folder should be is refused in one line."""
    with pytest.raises(UsageError, match="cannot hold a run"):
        train(tiny_recipe(dialogue_file), dialogue_file / "run")


def test_a_full_disk_says_so(tmp_path: Path, dialogue_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When nothing more can be written, the run ends in one line that says how to go on, and does go on."""
    recipe = tiny_recipe(dialogue_file)

    def full(*ignored: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("training.trainer.save_file", full)
        with pytest.raises(ChatbotError, match="No space left on device; make room there and go on with --resume"):
            train(recipe, tmp_path / "run", device="cpu")

    assert train(recipe, tmp_path / "run", resume=True, device="cpu").step == 7


def test_data_that_leaves_nothing_is_refused(tmp_path: Path) -> None:
    """If every dialogue is rated too low, the run says so instead of training on air."""
    talk = write_dialogues(tmp_path / "talk.jsonl", [{"turns": ["hi", "hello"], "q": -1}])

    with pytest.raises(UsageError, match="leaves nothing to train on"):
        train(tiny_recipe(talk), tmp_path / "run", device="cpu")


def test_the_command_line_trains(tmp_path: Path, dialogue_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Progress goes to stderr, one line an evaluation; the result to stdout."""
    path = recipe_file(tmp_path / "mine.yaml", tiny_recipe(tmp_path / "elsewhere"))
    arguments = ("train", path, "--data", str(dialogue_file), "--out", str(tmp_path / "run"), "--device", "cpu")

    assert main(arguments) == 0

    out, error = capsys.readouterr()
    assert out.startswith(f"{tmp_path / 'run' / 'model'}: held-out loss ")
    assert out.count("\n") == 1
    assert [line[:7] for line in error.splitlines() if line.startswith("step")] == ["step 3:", "step 6:", "step 7:"]
    assert "replies to learn from, cpu fp32" in error


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["train", "startr"], "no recipe 'startr'; shipped:"),
        (["train", "starter"], "recipe starter names no data; add --data PATH..."),
        (["train", "starter", "--data", "absent.jsonl"], "no such data file: absent.jsonl"),
        (["train", "starter", "--set", "optimiser.stpes=3"], "did you mean 'steps'?"),
        (["train", "starter", "--set", "optimiser.steps"], "is not key=value"),
        (["evaluate", "absent", "--data", "absent.jsonl"], "absent.jsonl cannot be read: No such file"),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], part: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2 and one line that names the mistake."""
    assert part in refused(capsys, *arguments)


def test_kill_and_resume_gives_the_losses_of_an_unbroken_run(tmp_path: Path, dialogue_file: Path) -> None:
    """SIGKILL of a real `chatbot train` in the middle, then --resume: every logged loss is bit for bit the same."""
    recipe = tiny_recipe(
        dialogue_file, model={"dropout": 0.2}, optimiser={"steps": 89, "checkpoint_every": 7, "evaluate_every": 11}
    )
    path, out = recipe_file(tmp_path / "mine.yaml", recipe), tmp_path / "broken"
    command = [sys.executable, "-m", "chatbot", "train", path, "--out", str(out), "--device", "cpu", "--threads", "1"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("step 22:"):
                process.kill()
                break
    assert process.returncode == -signal.SIGKILL
    assert 22 <= len(losses(out)) < 89

    train(recipe, out, resume=True, device="cpu")
    train(recipe, tmp_path / "whole", device="cpu")

    assert losses(tmp_path / "whole") == losses(out)
    whole, resumed = (load_model_folder(folder / "model") for folder in (tmp_path / "whole", out))
    assert whole.provenance["valid_loss_per_token"] == resumed.provenance["valid_loss_per_token"]
