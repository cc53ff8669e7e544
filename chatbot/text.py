"""Text as the model sees it: one line, no control characters, valid Unicode. It knows no tokens and no language."""

from __future__ import annotations

import re
import unicodedata

# Bidirectional overrides and zero-width characters change what people see without changing what they mean; the
# zero-width joiner (U+200D) stays, because emoji families are built with it.
_INVISIBLE = re.compile("[\u200b\u200c\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]")
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_SPACE = re.compile(r"\s+")


def clean(text: str) -> str:
    """The canonical form of `text`: NFC, white space folded to single spaces, invisible characters dropped.

    Lone surrogates become U+FFFD, so that the result always encodes as UTF-8. Never raises; may return "".
    """
    valid = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    # Composed last: a mark may only meet its letter once the invisible character between them is gone.
    normal = unicodedata.normalize("NFC", _CONTROL.sub(" ", _INVISIBLE.sub("", valid)))
    return _SPACE.sub(" ", normal).strip()


_HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0003134f]")


def is_chinese(text: str) -> bool:
    """Whether a reply to `text` had better be Chinese: it holds at least one Han character."""
    return _HAN.search(text) is not None
