"""The service files are true to the program: their commands exist, their times are long enough, nothing is missing."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

from adapters.supervision import _CLOSING_S
from chatbot.cli import build_parser
from chatbot.config import RunSettings

ROOT = Path(__file__).resolve().parent.parent
UNIT = (ROOT / "deploy/familect.service").read_text(encoding="utf-8")
CONTAINER = (ROOT / "deploy/Containerfile").read_text(encoding="utf-8").replace("\\\n", " ")
PROGRAM = "/opt/familect/.venv/bin/chatbot"
systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd here")


def values(key: str) -> list[str]:
    """What the unit sets a key to, each time."""
    return re.findall(rf"^{key}=(.*)$", UNIT, re.M)


def instructions(name: str) -> list[str]:
    """The arguments of an instruction in the container file, each time."""
    return re.findall(rf"^{name} +(.*)$", CONTAINER, re.M)


def analyzed(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """What systemd says of the unit, with a program that is there."""
    unit = folder / "familect.service"
    unit.write_text(UNIT.replace(PROGRAM, sys.executable), encoding="utf-8")
    return subprocess.run(
        ["systemd-analyze", *arguments, str(unit)], capture_output=True, text=True, timeout=60, check=False
    )


@systemd
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    """No key is unknown, no value is of the wrong kind."""
    done = analyzed(tmp_path, "verify", "--man=no")

    assert (done.returncode, "familect.service" in done.stderr) == (0, False), done.stderr


@systemd
def test_the_unit_is_closed_off(tmp_path: Path) -> None:
    """Of ten points of exposure, as systemd counts, the service has no more than two."""
    done = analyzed(tmp_path, "security", "--offline=yes", "--threshold=20", "--no-pager")

    assert done.returncode == 0, done.stdout + done.stderr


def test_the_unit_runs_commands_that_exist() -> None:
    """The parser takes what the unit starts, the bot last."""
    calls = [shlex.split(line) for line in values("ExecStartPre") + values("ExecStart")]

    assert {call[0] for call in calls} == {PROGRAM}
    assert [build_parser().parse_args(call[1:]).command for call in calls] == ["db", "run"]


def test_the_unit_waits_until_the_program_has_ended() -> None:
    """SIGTERM is what drains, and systemd kills only after the time that draining and closing take at most."""
    assert values("KillSignal") == ["SIGTERM"]
    assert int(values("TimeoutStopSec")[0]) > 1.5 * (RunSettings().drain_seconds + _CLOSING_S)


def test_a_wrong_setting_is_not_tried_for_ever() -> None:
    """The exit code of the user's mistakes ends the service; anything else starts it again."""
    assert (values("Restart"), values("RestartPreventExitStatus")) == (["on-failure"], ["2"])


def test_the_page_and_the_unit_name_the_same_places() -> None:
    """Who follows docs/service.md puts everything where the unit looks for it."""
    page = (ROOT / "docs/service.md").read_text(encoding="utf-8")
    settings = dict(value.split("=", 1) for value in values("Environment"))
    places = [*settings.values(), *values("EnvironmentFile"), PROGRAM]

    meant = [place.replace("%S", "/var/lib").replace("%E", "/etc") for place in places]
    assert [place for place in meant if place not in page] == []
    assert f"useradd --system --home-dir /var/lib/familect --shell /usr/sbin/nologin {values('User')[0]}" in page


def test_what_the_container_copies_is_there() -> None:
    """Each source exists and is not kept out of the build; what the wheel needs is among them."""
    sources = [name for line in instructions("COPY") for name in shlex.split(line)[:-1]]
    let_in = re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(encoding="utf-8"), re.M)

    assert [name for name in sources if not (ROOT / name).exists()] == []
    assert [name for name in sources if not any(fnmatch(name, pattern) for pattern in let_in)] == []
    assert {"pyproject.toml", "README.md", "LICENSE", "chatbot", "adapters", "training", "migrations"} <= set(sources)


def test_the_container_holds_the_locked_versions() -> None:
    """No call of pip goes without the constraints; torch's index gives torch and nothing else."""
    calls = re.findall(r"pip install ([^;&]*)", CONTAINER)

    assert len(calls) == 2
    assert all("--constraint constraints.txt" in call for call in calls)
    assert all("--no-deps" in call for call in calls if "--index-url" in call)


def test_the_container_is_nobodys_root_and_keeps_its_state() -> None:
    """What runs is another user, and the state folder is a volume of its own."""
    (user,) = instructions("USER")

    assert re.search(rf"useradd .* {user} ", CONTAINER)
    assert instructions("ENV") == [f"CHATBOT_HOME={instructions('VOLUME')[0]}"]
    assert CONTAINER.index("\nUSER ") < CONTAINER.index("\nENTRYPOINT ")


def test_the_containers_command_exists() -> None:
    """The shell brings the database up to date, and is replaced by the program, which gets the signals."""
    (entry,) = instructions("ENTRYPOINT")
    before, _, after = entry.partition("&&")

    assert build_parser().parse_args(["db", "upgrade", "--quiet"]).command == "db"
    assert "chatbot db upgrade --quiet" in before
    assert after.strip().startswith("exec chatbot ")
    assert instructions("CMD") == ['["run"]']
