"""Familect: a chatbot that learns to talk like your people.

The public names; importing this package loads no model library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chatbot.messages import Message, Reply

if TYPE_CHECKING:
    from chatbot.engine import Engine, load_engine

__all__ = ["Engine", "Message", "Reply", "load_engine"]


def __getattr__(name: str) -> Any:
    """Import the engine only when somebody asks for it: `chatbot --help` must not pay for it."""
    if name in {"Engine", "load_engine"}:
        from chatbot import engine

        return getattr(engine, name)
    raise AttributeError(f"module 'chatbot' has no attribute {name!r}")
