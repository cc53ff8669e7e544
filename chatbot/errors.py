"""Every error this project raises on purpose, and who gets to see it.

The text says what is wrong, with the value, and then what to do next, with the command. The command line prints
it as one line; nothing here knows how.
"""


class ChatbotError(Exception):
    """Something failed while running; the command line prints the text and exits with 1."""


class UsageError(ChatbotError):
    """A user's mistake: wrong flag, configuration, path or format. Printed as one line, exit code 2."""


class ModelFolderError(UsageError):
    """A model folder that cannot be trusted or read: bytes changed, a shard missing, another format version."""


class DatabaseError(ChatbotError):
    """The store cannot be used now: disk full, read-only, locked, damaged. Shown with the way out."""


class DatabaseOutdatedError(UsageError):
    """The database is behind or ahead of this code; the text names the command that mends it."""


class EngineBusyError(ChatbotError):
    """The engine's queue is full or the deadline passed; people get a polite line instead of a reply."""
