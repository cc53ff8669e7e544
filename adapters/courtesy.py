"""What an adapter says by itself, to somebody whose message is not answered: pure text in two languages."""

from __future__ import annotations

import re

_CHINESE = re.compile("[\u3400-\u9fff]")


def too_fast(text: str) -> str:
    """For somebody over the limit, in the language of what they wrote."""
    if _CHINESE.search(text):
        return "你写得太快，我跟不上了：请稍等一分钟再继续。"
    return "You write faster than I can answer: please wait a minute, then go on."


def text_only(language: str | None) -> str:
    """For a message without text, in the language whose code, such as "zh-hans", the platform gives for a person."""
    if (language or "").lower().startswith("zh"):
        return "我只能读文字：请写给我。"
    return "I can only read text: please write to me in words."
