"""What several commands open first: the settings, the store behind a current database, the registry."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chatbot.registry import Registry
    from chatbot.store import ConversationStore


def open_store() -> ConversationStore:
    """The configured database; DatabaseOutdatedError if it is behind or ahead of this code."""
    from chatbot.config import database_url, home
    from chatbot.identity import load_key
    from chatbot.schema import require_current
    from chatbot.store import ConversationStore

    home().mkdir(parents=True, exist_ok=True)
    require_current(database_url())
    return ConversationStore(database_url(), load_key(home()))


def open_registry() -> Registry:
    """The models under the home folder."""
    from chatbot.config import home
    from chatbot.registry import Registry

    return Registry(home())
