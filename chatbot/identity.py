"""Keyed hashes of people and chats, and the key they are made with. Standard library only.

The key lies in the state folder, outside the database: who has only the database cannot try out known ids. Without
the key nobody's rows can be found again, so it belongs into the same backups, on another medium.
"""

from __future__ import annotations

import hmac
import os
import secrets
import tempfile
from pathlib import Path

from chatbot.errors import UsageError

KEY_FILE = "identity.key"
KEY_BYTES = 32


def keyed_hash(key: bytes, *parts: str) -> str:
    """HMAC-SHA256 of the parts as 64 hexadecimal digits; every part counts for itself ("ab","c" is not "a","bc")."""
    digest = hmac.new(key, digestmod="sha256")
    for part in parts:
        raw = part.encode("utf-8", "surrogatepass")
        digest.update(len(raw).to_bytes(8, "big") + raw)
    return digest.hexdigest()


def load_key(home: Path, *, new: bool = True) -> bytes:
    """The 32 bytes of `home/identity.key`, made with mode 0600 on first use; `new` says that it may be made.

    Raises UsageError where the file cannot be read or made, is open to other users, or does not hold a key.
    """
    path = home / KEY_FILE
    try:
        if not path.exists():
            if not new:
                raise UsageError(
                    f"the identity key {path} is missing, and the database knows people by it: put it back from a"
                    " backup (with another key nobody's rows can be found or erased), or set CHATBOT_DATABASE_URL to a"
                    " new database"
                )
            _create(path)
        mode = path.stat().st_mode
        text = path.read_bytes().strip()
    except OSError as error:
        raise UsageError(
            f"the identity key {path} cannot be used ({error.strerror}): make it readable and its folder writable,"
            " or set CHATBOT_HOME to a folder of your own"
        ) from error
    if mode & 0o077:
        raise UsageError(f"other users may read the identity key {path}: run `chmod 600 {path}`")
    try:
        key = bytes.fromhex(text.decode("ascii"))
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise UsageError(
            f"the identity key {path} is damaged ({len(text)} characters, not {2 * KEY_BYTES} hexadecimal digits):"
            " restore it from a backup; without it nobody's rows can be found"
        )
    return key


def _create(path: Path) -> None:
    """Write a new key; where two processes do so at once, both end with the first one's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # A link appears with its content in place, so no reader ever sees half a key. mkstemp makes mode 0600.
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{KEY_FILE}.")
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_hex(KEY_BYTES) + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.link(temporary, path)
    except FileExistsError:
        pass
    finally:
        os.unlink(temporary)
