"""Build the wheel, install it at the locked versions into an empty environment, and use it there.

Run by `make wheel-check` and CI: what people install is what must work, not the checkout.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NEEDED = (
    "chatbot/migrations/env.py",
    "chatbot/migrations/versions/0001_conversations.py",
    "chatbot/rules.yaml",
    "chatbot/starter/model.safetensors",
    "training/recipes/retrain.yaml",
    "training/data/dialogues.en.jsonl",
    "training/data/frozen.zh.jsonl",
    "training/data/prompts.en.jsonl",
    "training/data/red_team.jsonl",
    "adapters/terminal.py",
)
OWNERS = """
from importlib.metadata import packages_distributions
owners = packages_distributions()
assert [owners[root] for root in ("chatbot", "adapters", "training")] == [["familect"]] * 3, owners
"""


def run(*command: str | Path, stdin: str = "", **environment: str) -> str:
    """Output of a command that must succeed."""
    done = subprocess.run(
        list(map(str, command)),
        input=stdin,
        capture_output=True,
        text=True,
        cwd=tempfile.gettempdir(),
        env={**os.environ, **environment},
    )
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))} failed with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def main() -> None:
    """Exit with a message if anything is missing or does not work."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT)
        (wheel,) = folder.glob("familect-*.whl")
        names = set(zipfile.ZipFile(wheel).namelist())
        missing = [name for name in NEEDED if name not in names]
        strangers = {name.split("/")[0] for name in names} - {"chatbot", "adapters", "training"}
        if missing or any(not name.endswith(".dist-info") for name in strangers):
            sys.exit(f"the wheel lacks {missing} or holds more than it should: {sorted(strangers)}")
        venv.create(folder / "venv", with_pip=True)
        python, chatbot = folder / "venv/bin/python", folder / "venv/bin/chatbot"
        run(python, "-m", "pip", "install", "--quiet", "--constraint", ROOT / "constraints.txt", wheel)
        home = str(folder / "home")
        run(python, "-c", OWNERS)
        assert "COMMAND" in run(chatbot, "--help")
        replies = run(chatbot, "chat", stdin="hi\nwhat is your name?\n", CHATBOT_HOME=home).splitlines()
        assert len(replies) == 2, replies
        assert all(replies), replies
        assert run(python, "-m", "chatbot", "db", "check", CHATBOT_HOME=home).strip() == "the database is sound"
        assert "starter" in run(chatbot, "models", "list", CHATBOT_HOME=home)
    print(f"{wheel.name}: built, installed and talked to")


if __name__ == "__main__":
    main()
