"""The documents cannot rot: what they name exists, what exists is named, and their examples run."""

from __future__ import annotations

import argparse
import ast
import itertools
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from adapters import ADAPTERS
from chatbot.cli import build_parser
from chatbot.config import Settings, build
from chatbot.decoding import DecodingOptions
from chatbot.wording import ENGLISH
from training.recipe import Recipe, shipped_recipes

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("chatbot", "adapters", "training")
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "training").rglob("*.md")])
TEXTS = {str(page.relative_to(ROOT)): page.read_text(encoding="utf-8") for page in PAGES}
EVERYTHING = "\n".join(TEXTS.values())
ARCHITECTURE = TEXTS["docs/architecture.md"]
CONFIGURATION = TEXTS["docs/configuration.md"]
SOURCES = [path for package in (*PACKAGES, "migrations") for path in sorted((ROOT / package).rglob("*.py"))]
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in SOURCES
    if not path.is_relative_to(ROOT / "migrations")
}
STARTER = (ROOT / "chatbot" / "starter" / "config.json").is_file()

_FENCE = re.compile(
    r"^(?:<!-- (?P<mark>run[^>]*?) -->\n)?(?P<indent> *)```(?P<kind>\w*)\n(?P<body>.*?)^ *```$", re.M | re.S
)


class Fence(NamedTuple):
    """A fenced block: the page it is on, what its mark says ("" without one), its language, its text."""

    page: str
    mark: str
    kind: str
    body: str


FENCES = [
    Fence(page, match["mark"] or "", match["kind"], match["body"])
    for page, text in TEXTS.items()
    for match in _FENCE.finditer(text)
]


def commands(parser: argparse.ArgumentParser, name: str = "chatbot") -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Every command that does something, with its own parser."""
    groups = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not groups:
        yield name, parser
    for group in groups:
        for word, below in group.choices.items():
            yield from commands(below, f"{name} {word}")


COMMANDS = dict(commands(build_parser()))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_its_section(command: str) -> None:
    """The section of a command names all its options and arguments, and no option that it does not have."""
    match = re.search(rf"^### `{command}`\n(.*?)(?=^##|\Z)", CONFIGURATION, re.M | re.S)
    assert match is not None
    section = match[1]
    actions = [action for action in COMMANDS[command]._actions if action.dest != "help"]
    options = {option for action in actions for option in action.option_strings}
    arguments = {str(action.metavar or action.dest) for action in actions if not action.option_strings}

    assert options == set(re.findall(r"(?<=[`\s])--?[a-z][\w-]*", section)) - {"-wal", "-shm"}
    assert {name for name in arguments if name not in section} == set()


def test_sections_are_of_commands() -> None:
    """There is no section about a command that is not there."""
    assert set(re.findall(r"^### `(chatbot [\w -]+)`$", CONFIGURATION, re.M)) == COMMANDS.keys()


def command_lines() -> Iterator[tuple[str, list[str]]]:
    """Every call of `chatbot` in a block of commands, with its page: the words up to a pipe or redirection."""
    for fence in FENCES:
        lines = fence.body.splitlines() if fence.kind in {"sh", "console"} else []
        for line in lines:
            if fence.kind == "console" and not line.startswith("$ "):
                continue
            lexer = shlex.shlex(line.removeprefix("$ "), posix=True, punctuation_chars=True)
            lexer.whitespace_split = True
            for is_separator, words in itertools.groupby(lexer, lambda word: word in {"|", ">", "&&"}):
                call = list(words)
                if not is_separator and "chatbot" in call:
                    yield fence.page, call[call.index("chatbot") + 1 :]


@pytest.mark.parametrize(("page", "words"), list(command_lines()))
def test_command_lines_are_right(page: str, words: list[str]) -> None:
    """What a reader copies from a page is taken by the parser, and a recipe it names is there."""
    parsed = build_parser().parse_args(words)

    assert parsed.command != "train" or parsed.recipe in shipped_recipes() or parsed.recipe.endswith(".yaml")


def leaves(tree: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """The keys of nested mappings, joined by dots, with their values."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        found |= leaves(value, f"{before}{key}.") if isinstance(value, dict) and value else {f"{before}{key}": value}
    return found


def plain(value: Any) -> Any:
    """A dataclass as the mapping that YAML would hold for it."""
    if is_dataclass(value):
        return {item.name: plain(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, tuple) else value


def block(page: str, title: str) -> str:
    """The YAML block that begins with the comment `title`."""
    (found,) = (fence.body for fence in FENCES if fence.page == page and fence.body.startswith(f"# all {title}\n"))
    return found


@pytest.mark.parametrize(
    ("page", "title", "defaults"),
    [
        ("docs/configuration.md", "of config.yaml", Settings()),
        ("docs/configuration.md", "decode settings", DecodingOptions()),
        ("docs/training.md", "of a recipe", Recipe(name="x")),
    ],
)
def test_every_key_stands_with_its_default(page: str, title: str, defaults: Any) -> None:
    """The block holds every key there is, each with its default and a comment, and can be used as it stands."""
    text = block(page, title)
    written = yaml.safe_load(text)
    known = leaves(plain(defaults))
    known.pop("name", None)  # a recipe's name is its file's
    bare = [line for line in text.splitlines()[1:] if "#" not in line and not line.endswith(":")]

    assert leaves(written) == known
    assert bare == []
    assert (
        build(type(defaults), {"name": "x", **written} if isinstance(defaults, Recipe) else written, page) == defaults
    )


def test_every_variable_is_documented() -> None:
    """Whatever the program reads from the environment under a name of its own is in the table, and nothing else is."""
    read = {name for path in SOURCES for name in re.findall(r'"(CHATBOT_[A-Z_]+)"', path.read_text(encoding="utf-8"))}

    assert set(re.findall(r"^\| `(CHATBOT_[A-Z_]+)` \|", CONFIGURATION, re.M)) == read


def test_every_slash_command_and_adapter_is_documented() -> None:
    """People find the commands of a chat, and the platforms, in the documents too."""
    names = {f"/{word}" for word in re.findall(r"/([a-z]+)", ENGLISH.help)}

    assert {name for name in names if f"`{name}" not in CONFIGURATION} == set()
    assert {name for name in ADAPTERS if f"adapters/{name}.py" not in ARCHITECTURE} == set()


def layers() -> list[list[str]]:
    """The modules of each row of the layer table, lowest first; rows of the same layer stay apart."""
    rows = re.findall(r"^\| \d [\w ]+ \| ([^|]*) \|", ARCHITECTURE, re.M)
    return [re.findall(r"`([\w.]+)`", row) for row in rows]


def test_the_layer_table_is_complete() -> None:
    """Every module stands in exactly one row of the table, and no module that does not exist."""
    listed = [module for row in layers() for module in row]

    assert sorted(listed) == sorted(MODULES.keys() - {"chatbot"})


def test_the_layer_table_is_true() -> None:
    """No module imports from a row below its own."""
    place = {module: number for number, row in enumerate(layers()) for module in row}
    wrong = []
    for module, row in place.items():
        for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{alias.name}" for alias in node.names] + [str(node.module)]
                wrong += [f"{module} -> {name}" for name in names if place.get(name, -1) > row]

    assert wrong == []


def test_files_and_functions_named_exist() -> None:
    """A `file.py: name` in the documents leads to that class, method, function or constant."""
    missing = []
    for path, name in re.findall(r"`((?!tests/test_|tests/\w+/)[\w/]+/\w+\.py)(?::\s+([\w.]+))?`", EVERYTHING):
        file = ROOT / path
        if not file.is_file():
            missing.append(path)
        elif name and name not in set(names_in(file)):
            missing.append(f"{path}: {name}")

    assert missing == []


def names_in(file: Path) -> Iterator[str]:
    """What a module defines: its functions, classes, methods and constants."""
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (target.id for target in targets if isinstance(target, ast.Name))
        if isinstance(node, ast.ClassDef):
            inside = (item for item in node.body if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef))
            yield from (f"{node.name}.{item.name}" for item in inside)


def test_invariants_name_tests_that_exist() -> None:
    """There are at least six invariants, each with a test, and every test named is there."""
    section = ARCHITECTURE.partition("## Invariants")[2].partition("\n## ")[0]
    invariants = re.split(r"^\d+\. ", section, flags=re.M)[1:]
    missing = [
        f"{path}::{name}"
        for path, name in re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", section)
        if not (ROOT / path).is_file() or (name and f"def {name}(" not in (ROOT / path).read_text(encoding="utf-8"))
    ]

    assert len(invariants) >= 6
    assert [text for text in invariants if "`tests/" not in text] == []
    assert missing == []


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    prose = re.sub(r"^ *```.*?^ *```$", "", text, flags=re.M | re.S)
    titles = re.findall(r"^#+ (.+)$", prose, re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_relative_links_resolve() -> None:
    """Every link to another page, and to a heading on it, leads somewhere."""
    broken = []
    for page, text in TEXTS.items():
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if re.match(r"\w+:", target):
                continue
            path, _, anchor = target.partition("#")
            file = (ROOT / page).parent / path if path else ROOT / page
            if not file.exists() or (anchor and anchor not in anchors(file.read_text(encoding="utf-8"))):
                broken.append(f"{page}: {target}")

    assert broken == []


def tree_of_readme() -> dict[str, str]:
    """Path -> comment of the README's file tree; folders end with a slash."""
    (body,) = (f.body for f in FENCES if f.page == "README.md" and f.body.startswith("README.md "))
    found: dict[str, str] = {}
    parents: list[str] = []
    for line in body.splitlines():
        name, _, comment = line.strip().partition(" ")
        parents = parents[: (len(line) - len(line.lstrip())) // 2]
        found["".join([*parents, name])] = comment.strip()
        parents.append(name)
    return found


def test_the_file_tree_is_the_tree() -> None:
    """The README lists what there is, each with a comment; of a folder it opens, everything but `__init__.py`."""
    listed = tree_of_readme()
    opened = {""} | {path for path in listed if any(other != path and other.startswith(path) for other in listed)}
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").split()
    there = {
        f"{folder}{path.name}{'/' if path.is_dir() else ''}"
        for folder in opened
        for path in (ROOT / folder).iterdir()
        if not path.name.startswith((".", "__")) and not any(path.match(pattern.rstrip("/")) for pattern in ignored)
    }

    assert sorted(listed) == sorted(there)
    assert [path for path, comment in listed.items() if not comment] == []


def test_the_size_stated_is_the_size() -> None:
    """The README's number of lines is within 5 % of what is counted, and below the ceiling that it names."""
    match = re.search(r"about ([\d,]+) lines.*?ceiling of ([\d,]+)", TEXTS["README.md"], re.S)
    assert match is not None
    stated, ceiling = (int(number.replace(",", "")) for number in match.groups())
    counted = sum(bool(line.strip()) for path in SOURCES for line in path.read_text(encoding="utf-8").splitlines())

    assert counted <= ceiling
    assert abs(counted - stated) <= 0.05 * stated, f"{counted} lines"


def test_contributing_is_short() -> None:
    """Who wants to help reads it to the end."""
    assert len(TEXTS["CONTRIBUTING.md"].splitlines()) < 100


def test_the_version_is_in_the_changelog() -> None:
    """What is released is described."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]

    assert f"\n## [{version}]" in TEXTS["CHANGELOG.md"]


def test_the_model_card_names_every_source() -> None:
    """Each source that the starter's recipes weigh is in the card, and our own dialogues are counted right."""
    card = TEXTS["docs/model-card.md"]
    recipes = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in shipped_recipes().values()]
    named = {source for recipe in recipes for key in ("weights", "rename") for source in recipe["data"].get(key, {})}
    ours = sum(
        len(path.read_text(encoding="utf-8").splitlines())
        for path in (ROOT / "training/data").glob("dialogues.*.jsonl")
    )

    assert {source for source in named - {"log"} if f"`{source}`" not in card} == set()
    assert re.findall(r"^\| `familect` \|.*\| ([\d,]+) \|", card, re.M) == [f"{ours:,}"]


@pytest.mark.parametrize("page", TEXTS)
def test_pages_hold_on_any_machine(page: str) -> None:
    """No page sends a reader to somebody's folder or to one particular package registry."""
    found = re.findall(r"(?<![\w.])/(?:work|tmp|root|home|Users)\b[^\s`]*", TEXTS[page])
    hosts = re.findall(r"pypi\.org|pythonhosted|download\.pytorch\.org|huggingface\.co|localhost", TEXTS[page])

    assert found + hosts == []


@pytest.mark.parametrize("page", sorted(TEXTS))
def test_tests_that_a_page_names_are_there(page: str) -> None:
    """Who looks for what holds a promise finds it."""
    named = set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", TEXTS[page]))
    missing = [
        f"{path}::{name}"
        for path, name in sorted(named)
        if not re.search(rf"^def {name}\(", (ROOT / path).read_text(encoding="utf-8"), re.M)
    ]

    assert missing == []


def test_the_checklist_of_front_ends_is_whole() -> None:
    """Every item is there, in its order, and has a test that holds it, or a reason why nothing is done."""
    sections = re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", TEXTS["docs/frontends.md"], re.M | re.S)
    rows = {name: re.findall(r"^\| (?!\||-)([^|]+) \| (.+) \|(.*)\|$", text, re.M) for name, text in sections}
    numbers = {name: [int(item) for item, *_ in found if item.isdigit()] for name, found in rows.items()}
    lacking = [
        row for found in rows.values() for row in found if "`tests/" not in row[2] and "Not done: " not in row[1]
    ]

    assert numbers == {
        "Telegram": list(range(1, 25)),
        "Discord": list(range(1, 20)),
        "Both": list(range(1, 15)),
        "Terminal": list(range(1, 14)),
    }
    assert lacking == []


def steps(fence: Fence) -> list[tuple[str, str]]:
    """Each command of a console block with the output shown for it."""
    found: list[tuple[str, str]] = []
    for line in fence.body.splitlines(keepends=True):
        if line.startswith("$ "):
            found.append((line[2:], ""))
        else:
            command, output = found.pop()
            found.append((command, output + line))
    return found


@pytest.fixture
def shell(tmp_path: Path) -> dict[str, str]:
    """An environment with a state folder of its own, in which `chatbot` and `python` are this checkout's."""
    (tmp_path / "bin").mkdir()
    for name, call in {"chatbot": "-m chatbot", "python": ""}.items():
        script = tmp_path / "bin" / name
        script.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {call} "$@"\n')
        script.chmod(0o755)
    kept = {key: value for key, value in os.environ.items() if not key.startswith("CHATBOT_")}
    path = f"{tmp_path / 'bin'}{os.pathsep}{kept.get('PATH', '')}"
    return {**kept, "PATH": path, "PYTHONPATH": str(ROOT), "CHATBOT_HOME": str(tmp_path / "home")}


@pytest.mark.parametrize(
    "fence",
    [
        pytest.param(
            fence,
            id=f"{fence.page}-{fence.kind}",
            marks=pytest.mark.skipif("starter" in fence.mark and not STARTER, reason="the starter model is not there"),
        )
        for fence in FENCES
        if fence.mark
    ],
)
def test_examples_run(fence: Fence, shell: dict[str, str], tmp_path: Path) -> None:
    """A marked example does what it shows, "..." being anything; of a model's replies only the lines are counted."""
    calls = steps(fence) if fence.kind == "console" else [(f"python -c {shlex.quote(fence.body)}", "...\n")]
    for command, shown in calls:
        done = subprocess.run(
            ["sh", "-c", command], env=shell, cwd=tmp_path, capture_output=True, encoding="utf-8", timeout=300
        )
        pattern = (
            "[^\n]+\n" * shown.count("\n") if "starter" in fence.mark else re.escape(shown).replace(r"\.\.\.", ".*")
        )

        assert done.returncode == 0, done.stderr
        assert re.fullmatch(pattern, done.stdout), done.stdout


def test_examples_are_there() -> None:
    """The marks are read: a session with the starter model, and examples that need none."""
    marks = [(fence.page, fence.mark) for fence in FENCES if fence.mark]

    assert ("README.md", "run: starter") in marks
    assert sum(mark == "run" for _, mark in marks) >= 3
