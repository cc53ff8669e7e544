"""chatbot models: what there is, what serves, and the way back."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from chatbot.cli.opening import open_registry, open_store
from chatbot.errors import UsageError

_TAINTED = "  tainted: it learnt from words that were taken back"


def add_commands(commands: Any) -> None:
    """Add this group's parsers."""
    models = commands.add_parser("models", help="list, show, promote, roll back or verify models")
    actions = models.add_subparsers(dest="action", metavar="ACTION", required=True)
    actions.add_parser("list", help="every model; * marks the one that answers").set_defaults(run=run_list)
    show = actions.add_parser("show", help="where a model comes from and what it learnt from")
    show.add_argument("model", metavar="ID")
    show.set_defaults(run=run_show)
    add = actions.add_parser("add", help="take in a model folder that `chatbot train` wrote")
    add.add_argument("folder", metavar="FOLDER")
    add.add_argument("model", metavar="ID", help="the name it shall have")
    add.set_defaults(run=run_add)
    promote = actions.add_parser("promote", help="let a model answer from now on")
    promote.add_argument("model", metavar="ID")
    promote.set_defaults(run=run_promote)
    actions.add_parser("rollback", help="go back to the model that answered before").set_defaults(run=run_rollback)
    export = actions.add_parser("export", help="write a folder's graphs anew, with which it answers without torch")
    export.add_argument("folder", metavar="FOLDER", help="a model folder, or the id of a model")
    export.add_argument(
        "--data", nargs="+", metavar="PATH", help="dialogues to compare on (default: the frozen ones shipped)"
    )
    export.set_defaults(run=run_export)
    verify = actions.add_parser("verify", help="check every file against its checksum")
    verify.add_argument("model", metavar="ID", nargs="?", help="default: all")
    verify.set_defaults(run=run_verify)


def run_list(arguments: argparse.Namespace) -> int:
    """`chatbot models list`."""
    tainted = open_store().tainted_models()
    print(f"  {'id':32} {'saved':17} {'MB':>6}  from")
    for info in open_registry().list():
        mark = "*" if info.live else " "
        saved = f"{info.created:%Y-%m-%d %H:%M}"
        parent = f"{info.parent or '-'}{_TAINTED * (info.id in tainted)}"
        print(f"{mark} {info.id:32} {saved:17} {info.size_bytes / 1e6:6.1f}  {parent}")
    return 0


def run_show(arguments: argparse.Namespace) -> int:
    """`chatbot models show`: provenance, and the ids of the messages it learnt from, as JSON."""
    from chatbot.checkpoint import verify_model_folder

    path = open_registry().path(arguments.model)
    config = verify_model_folder(path)
    provenance = json.loads((path / "provenance.json").read_text(encoding="utf-8"))
    store = open_store()
    learnt_from, tainted = store.lineage(arguments.model), arguments.model in store.tainted_models()
    shown = {"id": arguments.model, "path": str(path), "config": config, "provenance": provenance}
    shown["tainted"] = tainted
    print(json.dumps({**shown, "learnt_from_message_ids": learnt_from}, ensure_ascii=False, indent=2))
    return 0


def run_add(arguments: argparse.Namespace) -> int:
    """`chatbot models add`: what of the log it was trained on is known by the hashes of its data."""
    from chatbot.checkpoint import load_provenance

    store = open_store()
    folder, model = Path(arguments.folder), arguments.model
    registry = open_registry()
    registry.check_new(model)
    if store.knows_model(model):
        raise UsageError(f"there was a model {model!r} before, to which replies in the log lead; use another name")
    provenance = load_provenance(folder)
    dataset = store.dataset_of(model, provenance.data_hashes)
    place = registry.add(folder, model)
    state = store.record_model(model, parent=provenance.parent, dataset=dataset, metrics={})
    print(f"{place}; `chatbot models promote {model}` lets it answer")
    if state == "tainted":
        _warn(model)
    return 0


def run_promote(arguments: argparse.Namespace) -> int:
    """`chatbot models promote`."""
    store = open_store()  # first: with a database that cannot be used, nothing is changed
    open_registry().promote(arguments.model)
    store.mark_serving(arguments.model)
    print(f"{arguments.model} answers from now on; undo with `chatbot models rollback`")
    if arguments.model in store.tainted_models():
        _warn(arguments.model)
    return 0


def _warn(model: str) -> None:
    print(f"{model} is tainted: it learnt from words that were taken back; see docs/privacy.md", file=sys.stderr)


def run_rollback(arguments: argparse.Namespace) -> int:
    """`chatbot models rollback`; tainted models are passed over."""
    store = open_store()
    model_id = open_registry().rollback(store.tainted_models())
    store.mark_serving(model_id)
    print(f"{model_id} answers again")
    return 0


def run_export(arguments: argparse.Namespace) -> int:
    """`chatbot models export`; exit code 1 if the model's architecture has no graphs."""
    from chatbot.checkpoint import verify_model_folder
    from chatbot.config import build
    from chatbot.exporting import add_graphs
    from chatbot.tokenizer import Tokenizer
    from training.corpus import read_dialogues
    from training.evaluate import evaluation_set, prompts
    from training.pipeline import shipped_dialogues
    from training.recipe import DataRecipe

    folder = Path(arguments.folder).expanduser()
    if not folder.is_dir():
        folder = open_registry().path(arguments.folder)
    config = verify_model_folder(folder)
    recipe = build(DataRecipe, config.get("context"), f"{folder / 'config.json'}: context")
    paths = [Path(path).expanduser() for path in arguments.data or shipped_dialogues("frozen")]
    held_out = evaluation_set(list(read_dialogues(paths)), Tokenizer.load(folder / "tokenizer.json"), recipe)
    made = add_graphs(folder, prompts(held_out))
    if made is None:
        print(f"{folder}: no graphs for this architecture; it answers through torch")
        return 1
    print(f"{folder}: {made.precision}, {made.equal_tokens:.2%} of {made.tokens} tokens as the model has them")
    return 0


def run_verify(arguments: argparse.Namespace) -> int:
    """`chatbot models verify`; exit code 1 if a folder is damaged."""
    from chatbot.checkpoint import verify_model_folder
    from chatbot.errors import ModelFolderError

    registry = open_registry()
    sound = True
    for model_id in [arguments.model] if arguments.model else [info.id for info in registry.list()]:
        try:
            verify_model_folder(registry.path(model_id))
            print(f"{model_id}: sound")
        except ModelFolderError as error:
            sound = False
            print(f"{model_id}: {error}")
    return 0 if sound else 1
