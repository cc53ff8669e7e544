"""Settings: one YAML file, checked against dataclasses; secrets come from the environment only.

`build` turns a mapping into a dataclass and refuses what it does not know, naming the nearest known key; recipes
and decode settings go through it too.
"""

from __future__ import annotations

import difflib
import os
import re
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import yaml

from chatbot.access import Access, Limits
from chatbot.errors import UsageError
from chatbot.learnable import CHOICES, DEFAULT_POLICY, PERSONAL, Blocklist, Personal, Rule

T = TypeVar("T")
_SCIENTIFIC = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d{1,2}")  # 1e-3, which YAML 1.1 reads as a text


def _nearest(key: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(sorted(known))}"


def _wrong(where: str, value: object, wanted: str) -> UsageError:
    shown = repr(value) if len(repr(value)) <= 60 else repr(value)[:57] + "..."
    return UsageError(f"{where} is {shown}; it must be {wanted}")


def _typed(value: Any, hint: Any, where: str, file: str) -> Any:
    """`value` as the type `hint` asks for; whole numbers and 1e-3 pass as floats, nothing else is bent."""
    if is_dataclass(hint):
        return build(typing.cast(type[Any], hint), value, file, where + ".")
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in {typing.Union, types.UnionType}:
        if value is None and type(None) in arguments:
            return None
        inner = next(argument for argument in arguments if argument is not type(None))
        return _typed(value, inner, where, file)
    if origin is typing.Literal:
        if value not in arguments:
            raise _wrong(f"{file}: {where}", value, "one of " + ", ".join(map(str, arguments)))
        return value
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise _wrong(f"{file}: {where}", value, "a list")
        return tuple(_typed(item, arguments[0], f"{where}[{i}]", file) for i, item in enumerate(value))
    if origin in {dict, Mapping}:
        if not isinstance(value, Mapping):
            raise _wrong(f"{file}: {where}", value, "a mapping")
        return {str(k): _typed(v, arguments[1], f"{where}.{' '.join(str(k).split())}", file) for k, v in value.items()}
    if hint in {Any, object}:
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63:
        return float(value)
    if hint is float and isinstance(value, str) and _SCIENTIFIC.fullmatch(value):
        return float(value)
    wrong_kind = not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool)
    if wrong_kind or value != value:  # not-a-number passes every comparison of a range
        names = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
        raise _wrong(f"{file}: {where}", value, names.get(hint, str(hint)))
    return value


def build(cls: type[T], values: Any, file: str, prefix: str = "") -> T:
    """An instance of dataclass `cls` from a mapping; UsageError names the key, the file and the nearest known key."""
    if values is None:
        values = {}
    if not isinstance(values, Mapping):
        raise _wrong(f"{file}: {prefix.rstrip('.') or 'the document'}", values, "a mapping of keys to values")
    hints = get_type_hints(cls)
    known = [item.name for item in fields(typing.cast(Any, cls))]
    for key in values:
        if key not in known:
            raise UsageError(f"{file}: unknown key {prefix + str(key)!r}; {_nearest(str(key), known)}")
    for item in fields(typing.cast(Any, cls)):
        if item.name not in values and item.default is MISSING and item.default_factory is MISSING:
            raise UsageError(f"{file}: {prefix + item.name!r} is missing; it has no default")
    return cls(**{key: _typed(value, hints[key], prefix + key, file) for key, value in values.items()})


def read_yaml(path: Path) -> Any:
    """The document in a YAML file; UsageError in one line if it cannot be read or parsed."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}; check the path and its permissions") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    return _parse_yaml(text, str(path))


def _parse_yaml(text: str, where: str) -> Any:
    """The value of a YAML document; UsageError in one line that begins with `where` and has the number of the line."""
    try:
        return yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = f" line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UsageError(f"{where}{line} is not YAML: {error.problem or error.context}") from error
    except yaml.reader.ReaderError as error:
        line = f" line {text.count(chr(10), 0, error.position) + 1}"
        raise UsageError(f"{where}{line} is not YAML: character U+{error.character:04X} is not allowed") from error
    except RecursionError:
        raise UsageError(f"{where} is nested too deeply to be a configuration") from None
    except Exception as error:  # PyYAML lets through what its converters raise: for 2020-99-99, for "!!bool x"
        raise UsageError(f"{where} holds a value that YAML cannot convert: {error}") from error


def parse_assignments(assignments: Sequence[str]) -> dict[str, Any]:
    """``["model.cell=gru", "seed=7"]`` as nested mappings; values are read as YAML. UsageError without a "="."""
    tree: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals or not key:
            raise UsageError(f"--set {assignment!r} is not key=value, such as --set temperature=0.7")
        node = tree
        *parents, leaf = key.split(".")
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                raise UsageError(f"--set {assignment!r}: {parent!r} already has a value of its own")
        node[leaf] = _parse_yaml(value, f"--set {assignment!r}")
    return tree


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` laid over `base`, mappings merged key by key."""
    result = dict(base)
    for key, value in over.items():
        old = result.get(key)
        result[key] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return result


@dataclass(frozen=True, slots=True)
class ChatSettings:
    """How the bot talks."""

    model: str | None = None  # a registry id, a folder, "echo" or "retrieval"; none: the live model
    device: typing.Literal["auto", "cpu", "cuda", "mps"] = "auto"
    history_turns: int = 40  # turns of the conversation that the engine gets to see
    decoding: Mapping[str, Any] = field(default_factory=dict)  # over the model's own decode defaults

    def __post_init__(self) -> None:
        if not 1 <= self.history_turns <= 100:
            raise UsageError(f"chat.history_turns is {self.history_turns}; it must be from 1 to 100")


@dataclass(frozen=True, slots=True)
class LearnSettings:
    """What `chatbot retrain` may read and when it promotes."""

    policy: Mapping[str, Rule] = field(default_factory=lambda: DEFAULT_POLICY)  # platform -> rule, over the shipped
    permissions: Mapping[str, str] = field(default_factory=dict)  # platform -> reference to what it has permitted
    block: Blocklist = field(default_factory=Blocklist)
    scrub: tuple[Personal, ...] = PERSONAL  # what is replaced in all that training reads
    names: tuple[str, ...] = ()  # names of people and places to be replaced
    per_person: int = 2000  # newest pairs of one person that are learnt; 0 is no limit
    per_hour: int = 200  # of one person's pairs from the same hour
    same_reply: int = 20  # of one person's pairs with the same reply
    replay: tuple[str, ...] = ()  # dialogue files of your own to rehearse beside the shipped ones
    max_frozen_worsening: float = 0.03  # share by which perplexity on the frozen set may grow

    def __post_init__(self) -> None:
        # Naming one platform must not loosen the rule of another.
        object.__setattr__(self, "policy", {**DEFAULT_POLICY, **self.policy})
        for platform, rule in self.policy.items():
            if rule not in CHOICES.get(platform, (rule,)):
                raise UsageError(
                    f"learn.policy.{platform} is {rule}, which the platform's terms rule out;"
                    f" it must be one of {', '.join(CHOICES[platform])}"
                )
            if rule == "permitted" and not self.permissions.get(platform, "").strip():
                raise UsageError(
                    f"learn.policy.{platform} is permitted, on no ground: name the platform's permission under"
                    f" learn.permissions.{platform}, or set the rule to never"
                )
        for name in ("per_person", "per_hour", "same_reply"):
            if not 0 <= getattr(self, name) <= 10**9:
                raise UsageError(f"learn.{name} is {getattr(self, name)}; it must be from 0 to 1000000000")

    def permission(self, platform: str) -> str | None:
        """The reference that training on a platform's words rests on; None where none is needed."""
        return self.permissions[platform] if self.policy.get(platform) == "permitted" else None


@dataclass(frozen=True, slots=True)
class RetentionSettings:
    """How long words are kept. 0 is for ever."""

    days: int = 0  # messages, replies and corrections
    copies_days: int = 0  # backups, and what else cannot be cleaned row by row

    def __post_init__(self) -> None:
        for name in ("days", "copies_days"):
            if not 0 <= getattr(self, name) <= 36500:
                raise UsageError(f"retention.{name} is {getattr(self, name)}; it must be from 0 to 36500")


@dataclass(frozen=True, slots=True)
class RunSettings:
    """What `chatbot run` starts, and how it ends."""

    adapters: tuple[str, ...] = ()  # those started when the command names none
    drain_seconds: float = 8.0  # how long messages are still answered after SIGTERM

    def __post_init__(self) -> None:
        if not 0 <= self.drain_seconds <= 3600:
            raise UsageError(f"run.drain_seconds is {self.drain_seconds:g}; it must be from 0 to 3600")


@dataclass(frozen=True, slots=True)
class TelegramSettings:
    """Handed to the adapter, which checks the values. The token is in the environment."""

    ambient: bool = False  # answer all talk in groups, not only what is addressed to the bot
    merge_burst_s: float = 0.0  # pauses in what somebody writes in one go, which gets one answer; 0: each its own
    webhook_url: str = ""  # the public https address that Telegram calls; "": poll
    webhook_host: str = "127.0.0.1"  # the address to listen on behind it
    webhook_port: int = 8080


@dataclass(frozen=True, slots=True)
class DiscordSettings:
    """Handed to the adapter, which checks the values. The token is in the environment."""

    message_content: bool = False  # ask for the privileged intent
    ambient: tuple[int, ...] = ()  # ids of channels where everything is answered
    merge_burst_s: float = 0.0  # as for Telegram


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything `config.yaml` may hold."""

    chat: ChatSettings = field(default_factory=ChatSettings)
    learn: LearnSettings = field(default_factory=LearnSettings)
    retention: RetentionSettings = field(default_factory=RetentionSettings)
    run: RunSettings = field(default_factory=RunSettings)
    access: Access = field(default_factory=Access)
    limits: Limits = field(default_factory=Limits)
    telegram: TelegramSettings = field(default_factory=TelegramSettings)
    discord: DiscordSettings = field(default_factory=DiscordSettings)
    platforms: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # of adapters from other packages


def home() -> Path:
    """`CHATBOT_HOME`, else the platform's folder for user data; created on first use by whoever writes there."""
    if value := os.environ.get("CHATBOT_HOME"):
        return Path(value).expanduser().absolute()
    from platformdirs import user_data_path

    return user_data_path("familect", appauthor=False)


def database_url() -> str:
    """`CHATBOT_DATABASE_URL`, else the embedded SQLite file in the home folder."""
    named = os.environ.get("CHATBOT_DATABASE_URL")
    if named:
        return named
    from sqlalchemy import URL  # writes a path with "?" or "%" in it as the URL it has to be

    return URL.create("sqlite", database=str(home() / "chatbot.db")).render_as_string(hide_password=False)


def settings_file() -> Path:
    """The file `CHATBOT_CONFIG` names, else `config.yaml` in the home folder, where there may be none."""
    named = os.environ.get("CHATBOT_CONFIG")
    return Path(named).expanduser() if named else home() / "config.yaml"


def load_settings() -> Settings:
    """What the configuration file says, else the built-in defaults; UsageError if a file is named and not there."""
    path = settings_file()
    if not os.environ.get("CHATBOT_CONFIG") and not path.exists():
        return Settings()
    return build(Settings, read_yaml(path), str(path))
