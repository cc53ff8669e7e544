"""`chatbot doctor` names the cause and the cure, `chatbot init` begins a configuration, and no log shows a secret."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import yaml
from running import run_here

from adapters.base import Finding
from chatbot import schema
from chatbot.cli import care, journal
from chatbot.config import Settings, load_settings

SECRET = "0123456789:not-a-real-token"


@pytest.fixture(autouse=True)
def no_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """No bot of the developer's is looked at."""
    for name in ("TELEGRAM_BOT_TOKEN", "TELEGRAM_BOT_TOKEN_FILE", "DISCORD_BOT_TOKEN", "DISCORD_BOT_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)


def configure(home: Path, text: str) -> None:
    """Write the configuration."""
    home.mkdir(parents=True, exist_ok=True)
    (home / "config.yaml").write_text(text)


def test_all_is_well(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A line for each thing looked at, none bad, exit code 0; a database is made where there was none."""
    configure(home, "chat: {model: echo}")

    done = run_here(capsys, "doctor")

    assert done.code == 0
    assert [line.split()[0] for line in done.lines] == ["ok"] * 5
    for thing in ("configuration", "disk", "database", "model echo answers", "no platform is set up"):
        assert thing in done.out


@pytest.mark.parametrize(
    ("config", "cause", "cure"),
    [
        ("chats: {}", "unknown key 'chats'", "did you mean 'chat'"),
        ("chat: {model: no-such-model}", "no-such-model", "chatbot models list"),
        ("chat: {model: echo}\nrun: {adapters: [telegrm]}", "there is no adapter 'telegrm'", "telegram"),
    ],
)
def test_a_wrong_setting_is_named(
    home: Path, capsys: pytest.CaptureFixture[str], config: str, cause: str, cure: str
) -> None:
    """The line says what is wrong and how it is mended, the rest is looked at all the same, and the exit code is 1."""
    configure(home, config)

    done = run_here(capsys, "doctor")

    bad = next(line for line in done.lines if line.startswith("BAD"))
    assert done.code == 1
    assert cause in bad
    assert cure in bad
    assert len(done.lines) >= 5


def test_a_database_that_is_behind_is_named(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the command that brings it up to date."""
    configure(home, "chat: {model: echo}")
    run_here(capsys, "doctor")
    monkeypatch.setattr(schema, "_head", lambda: "9999")

    done = run_here(capsys, "doctor")

    assert done.code == 1
    assert "run `chatbot db upgrade`" in done.out


def test_a_full_disk_is_named(home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Before there is nothing left to write the log on."""
    configure(home, "chat: {model: echo}")
    monkeypatch.setattr(care, "_ENOUGH_BYTES", 2**62)

    done = run_here(capsys, "doctor")

    assert "BAD  the disk" in done.out
    assert "free some" in done.out


def test_platforms_say_what_is_wrong_with_them(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each finding of an adapter's module is a line under its name; those with a token are looked at unasked."""
    seen = []

    async def diagnose(settings: object) -> list[Finding]:
        seen.append(settings)
        return [
            Finding(True, "the bot is @b"),
            Finding(False, "privacy mode is off", "write /setprivacy to @BotFather"),
        ]

    monkeypatch.setattr(care, "load", lambda name, attribute: diagnose if name == "telegram" else None)
    monkeypatch.setenv("TELEGRAM_BOT_TOKEN", SECRET)

    done = run_here(capsys, "doctor")

    assert "ok   telegram: the bot is @b\n" in done.out
    assert "BAD  telegram: privacy mode is off: write /setprivacy to @BotFather\n" in done.out
    assert seen == [
        {
            "ambient": False,
            "merge_burst_s": 0.0,
            "webhook_url": "",
            "webhook_host": "127.0.0.1",
            "webhook_port": 8080,
        }
    ]


def test_init_writes_what_can_be_read(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The file holds every key with its default, and the next command is said."""
    done = run_here(capsys, "init")

    assert done.code == 0
    assert load_settings() == Settings()
    assert "chatbot doctor" in done.lines[-1]
    assert all("#" in line or line.endswith(":") for line in (home / "config.yaml").read_text().splitlines())


def test_init_leaves_a_file_alone(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What somebody wrote is not lost."""
    configure(home, "chat: {model: echo}")

    done = run_here(capsys, "init")

    assert (done.code, "exists already" in done.complaint) == (2, True)
    assert (home / "config.yaml").read_text() == "chat: {model: echo}"


def test_the_template_is_the_documented_block() -> None:
    """`chatbot init` writes what docs/configuration.md shows."""
    root = Path(__file__).resolve().parent.parent
    template = (root / "chatbot" / "defaults.yaml").read_text("utf-8")

    assert f"```yaml\n{template}```" in (root / "docs" / "configuration.md").read_text("utf-8")
    assert isinstance(yaml.safe_load(template), dict)


def test_no_secret_is_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens of the environment, and of files that it names, are blotted out of lines, arguments and tracebacks."""
    file = tmp_path / "token"
    file.write_text("another.secret.token\n")
    monkeypatch.setenv("TELEGRAM_BOT_TOKEN", SECRET)
    monkeypatch.setenv("DISCORD_BOT_TOKEN_FILE", str(file))
    formatter = journal.WithoutSecrets("%(message)s", journal.secrets())
    record = logging.LogRecord(
        "httpx", 20, "x.py", 1, "GET https://api/bot%s/getMe another.secret.token", (SECRET,), None
    )
    record.exc_text = f"ValueError: {SECRET}"

    text = formatter.format(record)

    assert text == "GET https://api/bot<secret>/getMe <secret>\nValueError: <secret>"


def test_a_secret_too_short_to_be_one_blots_out_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty or one-letter token would turn every line into nonsense."""
    monkeypatch.setenv("TELEGRAM_BOT_TOKEN", "a")
    monkeypatch.setenv("DISCORD_BOT_TOKEN", "")

    assert journal.secrets() & {"a", ""} == set()
