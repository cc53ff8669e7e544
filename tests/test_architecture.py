"""The rules of docs/architecture.md, read from its table and held against every import in the code."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from chatbot.conversation import Conversations
from chatbot.store import ConversationStore

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("chatbot", "adapters", "training")

# Which modules may import a library, anywhere in them; a name ending in "." or "_" for all that begin so.
LIBRARIES: Mapping[str, tuple[str, ...]] = {
    "torch": (
        "chatbot.model",
        "chatbot.model.",
        "chatbot.checkpoint",
        "chatbot.exporting",
        "chatbot.runtime",
        "training.",
        "chatbot.cli.learn",
    ),
    "onnx": ("chatbot.graphs",),
    "onnxruntime": ("chatbot.runtime_onnx",),
    "safetensors": ("chatbot.checkpoint", "training.run", "training.trainer"),
    "tokenizers": ("chatbot.tokenizer", "chatbot.sides"),
    "sqlalchemy": (
        "chatbot.config",  # only to write a path as a URL, inside the function
        "chatbot.tables",
        "chatbot.textindex",
        "chatbot.database",
        "chatbot.records",
        "chatbot.pairs",
        "chatbot.inbox",
        "chatbot.lineage",
        "chatbot.rights",
        "chatbot.learning",
        "chatbot.imports",
        "chatbot.archive",
        "chatbot.search",
        "chatbot.store",
        "chatbot.schema",
        "chatbot.transfer",
    ),
    "alembic": ("chatbot.schema",),
    "prompt_toolkit": ("adapters.terminal",),
    "telegram": ("adapters.telegram", "adapters.telegram_"),
    "discord": ("adapters.discord", "adapters.discord_"),
    "aiohttp": ("adapters.telegram_", "adapters.discord_"),
    "rapidfuzz": ("chatbot.known", "chatbot.knownindex", "chatbot.ranking", "chatbot.retrieval", "training.talk"),
    "matplotlib": ("training.plot", "training.attentionmap"),
    "tqdm": ("chatbot.cli.learn", "chatbot.cli.lint"),
    "numpy": (
        "chatbot.decoding",
        "chatbot.graphs",
        "chatbot.exporting",
        "chatbot.knownindex",
        "chatbot.ranking",
        "chatbot.runtime",
        "chatbot.runtime_onnx",
        "training.",
    ),
}
# These may import the library only inside a function: importing the module must stay cheap.
INSIDE_FUNCTIONS = {
    ("chatbot.checkpoint", "torch"),
    ("chatbot.checkpoint", "safetensors"),
    ("chatbot.config", "sqlalchemy"),
    ("chatbot.config", "platformdirs"),
    ("chatbot.knownindex", "rapidfuzz"),
    ("chatbot.ranking", "rapidfuzz"),
    ("chatbot.runtime_onnx", "onnxruntime"),
    ("chatbot.cli.learn", "torch"),
    ("chatbot.cli.learn", "tqdm"),
    ("chatbot.cli.lint", "tqdm"),
    ("training.plot", "matplotlib"),
    ("training.attentionmap", "matplotlib"),
}
PRINTERS = ("chatbot.cli", "adapters.terminal", "adapters.streams")


def module_files() -> dict[str, Path]:
    """Every module of ours by its dotted name."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = path
    return found


FILES = module_files()
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in FILES.items()}


def names_of(node: ast.AST) -> Iterator[str]:
    """The modules that an import statement names, ours as far down as they are modules."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports are absolute"
        module = node.module or ""
        for alias in node.names:
            yield f"{module}.{alias.name}" if f"{module}.{alias.name}" in FILES else module


def imports(tree: ast.Module, *, at_import: bool = False) -> set[str]:
    """All that a module imports, type checking left out; `at_import`: what is not inside a function."""
    found: set[str] = set()
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            waiting.extend(node.orelse)
            continue
        if at_import and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        found.update(names_of(node))
        waiting.extend(ast.iter_child_nodes(node))
    return found


def imports_of_libraries(name: str) -> set[str]:
    """The top names of all that a module imports."""
    return {other.split(".")[0] for other in imports(TREES[name])}


def documented_layers() -> dict[str, int]:
    """Module -> layer, as the table of docs/architecture.md says."""
    layers: dict[str, int] = {}
    for row in re.findall(
        r"^\| (\d) [^|]*\|([^|]*)\|", (ROOT / "docs/architecture.md").read_text(encoding="utf-8"), re.M
    ):
        for name in re.findall(r"`([a-z_.0-9]+)`", row[1]):
            assert name not in layers, f"{name} stands in two rows"
            layers[name] = int(row[0])
    return layers


def test_every_module_stands_in_the_table() -> None:
    """The table of the architecture names every module once, and no module that is not there."""
    assert set(FILES) - {"chatbot"} == set(documented_layers())


@pytest.mark.parametrize("name", sorted(set(FILES) - {"chatbot"}))
def test_imports_point_down(name: str) -> None:
    """A module imports from its own layer or those below, never from above."""
    layers = documented_layers()

    above = {
        other
        for other in imports(TREES[name])
        if other.split(".")[0] in PACKAGES and layers.get(other, -1) > layers[name]
    }

    assert above == set()


def test_adapters_know_only_the_border() -> None:
    """Of our code, an adapter imports values and the adapters' common ground: no store, no model, no other platform."""
    common = {"base", "streams", "lanes", "admission", "courtesy", "aside"}
    allowed = {"chatbot.messages", "chatbot.errors", "chatbot.access", *(f"adapters.{name}" for name in common)}
    for name in FILES:
        if name.startswith("adapters."):
            platform = name.split("_")[0]
            ours = {other for other in imports(TREES[name]) if other.split(".")[0] in PACKAGES}

            assert {other for other in ours - allowed if other.split("_")[0] != platform} == set(), name


def test_the_store_and_the_model_do_not_know_each_other() -> None:
    """Nothing of layer 3 and 4 that serves models imports the store, and the other way round."""
    store = {name for name in FILES if "sqlalchemy" in imports_of_libraries(name)} - {"chatbot.config"}
    model = {f"chatbot.{n}" for n in ("model", "decoding", "checkpoint", "registry", "seq2seq", "engine")}
    model |= {f"chatbot.{n}" for n in ("graphs", "exporting", "runtime", "runtime_onnx")}
    assert store
    assert model <= set(FILES)
    for name in store:
        assert imports(TREES[name]) & model == set(), name
    for name in model:
        assert imports(TREES[name]) & store == set(), name


@pytest.mark.parametrize("library", sorted(LIBRARIES))
def test_libraries_stay_where_they_belong(library: str) -> None:
    """A library is imported by the modules that the table above names, by nothing else."""
    users = {name for name in TREES if library in imports_of_libraries(name)}
    allowed = LIBRARIES[library]

    strangers = {n for n in users if not any(n == a or (a.endswith((".", "_")) and n.startswith(a)) for a in allowed)}

    assert strangers == set()


@pytest.mark.parametrize(("name", "library"), sorted(INSIDE_FUNCTIONS))
def test_heavy_libraries_wait_for_the_call(name: str, library: str) -> None:
    """Where a cheap module needs a heavy library, it imports it inside the function that does."""
    assert not any(n.split(".")[0] == library for n in imports(TREES[name], at_import=True))


def test_there_are_no_import_circles() -> None:
    """Following imports at module level never comes back to where it began."""
    graph = {name: imports(tree, at_import=True) & set(FILES) - {name} for name, tree in TREES.items()}
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join((*path, name))
        if name not in done:
            for other in graph[name]:
                # A package's __init__ is run first, but it imports its modules; the circle would show there.
                visit(other, (*path, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def test_nobody_imports_the_command_line() -> None:
    """`chatbot.cli` is the composition root: only itself and `python -m chatbot` import it."""
    users = {n for n, tree in TREES.items() if any(i.startswith("chatbot.cli") for i in imports(tree))}

    assert {n for n in users if not n.startswith("chatbot.cli")} == {"chatbot.__main__"}


def test_only_the_command_line_and_the_terminal_print() -> None:
    """`print`, `input` and `exit` are called nowhere else: a library does not talk past its caller."""
    for name, tree in TREES.items():
        if name.startswith(PRINTERS):
            continue
        called = {n.func.id for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}
        ended = {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute) and ast.unparse(n) == "sys.exit"}

        assert called & {"print", "input", "exit", "quit", "breakpoint"} == set(), name
        assert ended == set(), name


def test_help_loads_no_library() -> None:
    """`chatbot --help` and `import chatbot` import neither torch nor anything else that is slow."""
    heavy = {"torch", "sqlalchemy", "alembic", "tokenizers", "matplotlib", "numpy", "prompt_toolkit", "safetensors"}
    heavy |= {"telegram", "discord", "aiohttp", "httpx", "onnx", "onnxruntime"}
    code = (
        "import sys, chatbot\n"
        "from chatbot.cli import main\n"
        "try:\n    main(['--help'])\n"
        "finally:\n    print(sorted({name.split('.')[0] for name in sys.modules}), file=sys.stderr)\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT, timeout=60
    )

    assert done.returncode == 0
    assert "train" in done.stdout
    assert heavy & set(ast.literal_eval(done.stderr.splitlines()[-1])) == set()


# What of the store the training path may call. None gives out a text but the first, and that asks `may_learn`.
TRAINING_MAY_CALL = {"learnable_pairs", "create_dataset", "record_model", "mark_serving", "untainted"}
TRAINING_MAY_CALL |= {"remember_copy", "clean_copies"}
# Who reads what people wrote, in SQL: for talk, for people's own eyes, and `chatbot.pairs` for training;
# `chatbot.search` for `chatbot logs`, `chatbot.imports` to see whether a turn that is there has grown by further lines.
READERS_OF_TEXT = {"chatbot.pairs", "chatbot.store", "chatbot.rights", "chatbot.inbox"}
READERS_OF_TEXT |= {"chatbot.search", "chatbot.imports"}
# Who takes whole rows, whatever their columns: the first for `chatbot export --format log` and back, the second for
# `chatbot db copy`.
READERS_OF_ROWS = {"chatbot.archive", "chatbot.transfer"}


def test_training_reads_the_log_through_one_door() -> None:
    """`may_learn` decides in one place, and training gets at the log by `learnable_pairs` alone."""
    deciding = {n for n, tree in TREES.items() if "may_learn" in calls_of(tree)}
    reading = {n for n, tree in TREES.items() if n.startswith("training") and "learnable_pairs" in calls_of(tree)}
    behind = {name for name in FILES if "sqlalchemy" in imports_of_libraries(name)} - {
        "chatbot.config",
        "chatbot.store",
    }
    store = {name for name in dir(ConversationStore) if not name.startswith("__")}

    assert deciding == {"chatbot.pairs", "chatbot.lineage"}  # the second judges again, for the proof
    assert reading == {"training.export"}
    for name, tree in TREES.items():
        if name.startswith("training") or name == "chatbot.cli.learn":
            assert imports(tree) & behind == set(), name
            assert imports_of_libraries(name) & {"sqlalchemy", "sqlite3", "psycopg"} == set(), name
            assert calls_of(tree) & (store - {"close"}) <= TRAINING_MAY_CALL, name


def test_nobody_else_reads_what_people_wrote() -> None:
    """The column of the words is named in SQL by the modules above alone; what learns has only `chatbot.pairs` of them.

    A new reader is added there on purpose, with what it reads for.
    """
    readers = {
        name
        for name, tree in TREES.items()
        if "sqlalchemy" in imports_of_libraries(name)
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node).endswith(".c.text")
    }

    whole = {n for n in FILES if re.search(r"metadata\.(sorted_)?tables\b", FILES[n].read_text("utf-8"))}

    assert readers == READERS_OF_TEXT
    assert whole == READERS_OF_ROWS
    assert {n for n, tree in TREES.items() if "dump" in calls_of(tree)} == {"chatbot.cli.transfer"}
    assert {name for name, tree in TREES.items() if "LearnablePairs" in calls_of(tree)} == {"chatbot.learning"}


def test_consent_is_given_by_a_persons_own_command_alone() -> None:
    """The ledger is written in one place, called with the sender of the message: no button, no adapter, no talk.

    Besides, whole ledgers are moved with whole rows (READERS_OF_ROWS); others insert into tables that they name.
    """
    writers = {n for n, tree in TREES.items() if "consent" in calls_of(tree)}
    inserting = {n for n in FILES if re.search(r"(insert|update|delete)\(t\.consent\)", FILES[n].read_text("utf-8"))}

    assert writers == {"chatbot.commands"}
    assert inserting == {"chatbot.rights", "chatbot.inbox"}  # the second where a chat gets another id
    assert not [name for name in dir(Conversations) if "consent" in name]
    somewhere = re.compile(r"\binsert\((?!t\.|f\))|(?<!def )insert_many\(")
    unnamed = {n for n in FILES if somewhere.search(FILES[n].read_text("utf-8"))}
    assert unnamed == READERS_OF_ROWS | {"chatbot.imports"}  # the third: chats and people


def calls_of(tree: ast.Module) -> set[str]:
    """The last names of all that a module calls."""
    called = (node.func for node in ast.walk(tree) if isinstance(node, ast.Call))
    return {f.attr if isinstance(f, ast.Attribute) else f.id for f in called if isinstance(f, ast.Attribute | ast.Name)}


@pytest.mark.parametrize("name", sorted(FILES))
def test_modules_and_functions_stay_short(name: str) -> None:
    """A module has at most 300 lines, a function 50, and a module says what it is for."""
    tree, lines = TREES[name], FILES[name].read_text(encoding="utf-8").count("\n")
    long = {
        node.name: (node.end_lineno or 0) - node.lineno + 1
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (node.end_lineno or 0) - node.lineno >= 50
    }

    assert long == {}
    assert lines <= 300
    assert ast.get_docstring(tree)


def test_every_test_states_its_claim() -> None:
    """Each test function has a docstring."""
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                assert ast.get_docstring(node), f"{path.name}: {node.name}"
