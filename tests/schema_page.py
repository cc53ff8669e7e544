"""docs/schema.md, made from the tables: `python tests/schema_page.py` writes it, a test compares it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import CheckConstraint, Column, Table, UniqueConstraint, make_url

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # run as a script, it stands beside no package

from chatbot.schema import _head
from chatbot.tables import metadata

PAGE = Path(__file__).resolve().parent.parent / "docs" / "schema.md"
POSTGRESQL = make_url("postgresql://").get_dialect()()
# What a row of each table is.
ROWS = {
    "chat": "a chat, or a thread in one, by the keyed hash of the platform's id",
    "person": "somebody on one platform, by the keyed hash of the platform's id",
    "import_batch": "a file that was imported, and whose words it holds",
    "message": "what a person or the bot said, with all that produced a reply; never deleted, only emptied",
    "inbox": "a messenger's message from its arrival until its reply is out",
    "consent": "a decision about learning from one person in one chat; the latest counts, none is changed",
    "feedback": "a person's rating of a reply",
    "correction": "what a reply should have been; the latest counts",
    "review": "what waits for somebody to look at it, and what was decided",
    "dataset": "a data set that a model was trained on",
    "dataset_item": "a message in a data set",
    "model": "a model that was trained here, its parent and its figures",
    "shadow_reply": "what another model would have said",
    "erasure": "that somebody's words were erased, how many and when, not which",
}
_INTRODUCTION = """# The tables

Made from `chatbot/tables.py`, revision {head}, by `python tests/schema_page.py`; a test compares them. Types as
PostgreSQL has them; SQLite keeps times as UTC without a zone and JSON as text. Why something is as it is stands beside
it in the code. The index of texts is not among them: [decisions/search.md](decisions/search.md).
"""


def page() -> str:
    """The whole document."""
    parts = [_INTRODUCTION.format(head=_head())]
    parts += ["\n".join(_section(table)) + "\n" for table in metadata.sorted_tables]
    return "\n".join(parts)


def _section(table: Table) -> Iterator[str]:
    yield f"## {table.name}\n"
    yield f"A row is {ROWS[table.name]}.\n"
    yield "| column | type | null | points to |"
    yield "|---|---|---|---|"
    for column in table.columns:
        kind = column.type.compile(dialect=POSTGRESQL).lower()
        key = " (key)" if column.primary_key else ""
        yield f"| `{column.name}`{key} | {kind} | {'yes' if column.nullable else 'no'} | {_target(column)} |"
    rules = sorted(_rules(table))
    if rules:
        yield ""
        yield from rules


def _target(column: Column[object]) -> str:
    return ", ".join(f"`{key.target_fullname}`" for key in column.foreign_keys)


def _rules(table: Table) -> Iterator[str]:
    for constraint in table.constraints:
        if isinstance(constraint, UniqueConstraint):
            yield f"- unique: {', '.join(f'`{column.name}`' for column in constraint.columns)}"
        if isinstance(constraint, CheckConstraint):
            yield f"- check: `{constraint.sqltext}`"
    for index in table.indexes:
        where = index.dialect_options["postgresql"]["where"]
        condition = "" if where is None else f" where `{where}`"
        yield f"- index: {', '.join(f'`{column.name}`' for column in index.columns)}{condition}"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
