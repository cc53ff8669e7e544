"""Several processes of one run, started by torchrun with the same command."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

from tiny import losses, tiny_recipe
from yaml import safe_dump

from chatbot.checkpoint import load_model_folder


def test_two_processes_make_one_run(tmp_path: Path, dialogue_file: Path) -> None:
    """Both prepare, train and finish; one folder, one line a step, and checkpoints that one process can resume."""
    recipe = tiny_recipe(dialogue_file, optimiser={"steps": 5, "accumulate": 2, "batch_tokens": 31})
    (tmp_path / "mine.yaml").write_text(safe_dump(recipe.as_dict()), encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-addr", "127.0.0.1"]
    command = ["-m", "chatbot", "train", str(tmp_path / "mine.yaml"), "--out", str(tmp_path / "run"), "--device", "cpu"]

    done = subprocess.run(
        [*launcher, "--master-port", str(port), *command],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env={**os.environ, "GLOO_SOCKET_IFNAME": "lo", "PYTHONPATH": os.getcwd()},
    )

    assert done.returncode == 0, done.stderr
    assert [step for step, _ in losses(tmp_path / "run")] == [1, 2, 3, 4, 5]
    load_model_folder(tmp_path / "run" / "model")
    state = json.loads((tmp_path / "run" / "checkpoints" / "00000004" / "state.json").read_text(encoding="utf-8"))
    assert (state["step"], state["epoch"] * 1000 + state["position"]) == (4, 16)
