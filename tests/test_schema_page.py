"""The page about the tables says what the tables are."""

from __future__ import annotations

from schema_page import PAGE, page


def test_the_page_is_the_tables() -> None:
    """docs/schema.md is what `python tests/schema_page.py` writes."""
    assert PAGE.read_text(encoding="utf-8") == page()
