"""Keyed hashes and the file of their key."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from chatbot.errors import UsageError
from chatbot.identity import KEY_FILE, keyed_hash, load_key


def test_key_is_made_once_and_private(tmp_path: Path) -> None:
    """The first call makes 32 bytes in a file of mode 0600, the second reads the same; nothing else is left."""
    home = tmp_path / "home"

    first, second = load_key(home), load_key(home)

    assert first == second
    assert len(first) == 32
    assert stat.S_IMODE((home / KEY_FILE).stat().st_mode) == 0o600
    assert [file.name for file in home.iterdir()] == [KEY_FILE]


def test_keys_differ_between_homes(tmp_path: Path) -> None:
    """Two installations cannot match each other's people."""
    assert load_key(tmp_path / "one") != load_key(tmp_path / "two")


@pytest.mark.parametrize("content", [b"", b"abc", b"zz" * 32, b"\xff\xfe", b"00" * 31])
def test_damaged_key_is_refused(tmp_path: Path, content: bytes) -> None:
    """A key that is not 64 hexadecimal digits is never used nor replaced, and the file is named."""
    path = tmp_path / KEY_FILE
    path.write_bytes(content)
    path.chmod(0o600)

    with pytest.raises(UsageError, match=r"identity\.key is damaged .* restore it from a backup"):
        load_key(tmp_path)

    assert path.read_bytes() == content


def test_key_others_may_read_is_refused(tmp_path: Path) -> None:
    """A key open to other users is refused with the command that closes it."""
    load_key(tmp_path)
    (tmp_path / KEY_FILE).chmod(0o644)

    with pytest.raises(UsageError, match="chmod 600"):
        load_key(tmp_path)


def test_home_that_is_a_file_is_refused(tmp_path: Path) -> None:
    """A state folder that cannot hold a key gives one clear line."""
    home = tmp_path / "home"
    home.write_text("")

    with pytest.raises(UsageError, match="CHATBOT_HOME"):
        load_key(home)


def test_hash_depends_on_key_and_every_part() -> None:
    """Another key, another part or another border between parts gives another hash; lone surrogates are hashed."""
    key, other = b"k" * 32, b"o" * 32
    hashes = [
        keyed_hash(key, "ab", "c"),
        keyed_hash(key, "a", "bc"),
        keyed_hash(key, "abc"),
        keyed_hash(key, "ab", "c", ""),
        keyed_hash(other, "ab", "c"),
        keyed_hash(key, "\ud800"),
    ]

    assert len(set(hashes)) == len(hashes)
    assert all(len(value) == 64 for value in hashes)
    assert keyed_hash(key, "ab", "c") == hashes[0]
