"""Personal data out of the pairs that training reads, by pattern: placeholders such as ``[email]`` in its place.

In: the turns of one pair. Out: the turns with the same placeholder for the same thing wherever it occurs in them, and
``[email 2]`` for the next of its kind; what was replaced is counted. It sees nothing but the copy it is given.

Patterns find what has a form. They miss what has none, such as a first name that nobody listed, and take some
harmless numbers for telephone numbers: too much replaced is the smaller harm.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from chatbot.learnable import Personal
from chatbot.text import is_chinese

_TOP_LEVEL = (
    "ai|app|at|au|be|biz|br|ca|cc|ch|cn|co|com|de|dev|edu|es|eu|fr|gg|gov|in|info|io|it|jp|kr|link|me|net|nl|org|pl|"
    "pt|ru|se|shop|site|tk|to|tv|tw|uk|us|xyz"
)
_STREETS_EN = "street|st|avenue|ave|road|rd|lane|ln|drive|dr|boulevard|blvd|court|terrace|square|crescent"
_STREETS_DE = "stra(?:ß|ss)e|str\\.|weg|gasse|allee|platz|ufer|damm"
_NOT_OF_A_STREET = "the|a|an|of|in|on|at|my|your|this|that|down|along|is|are|was|and|or|to"
# Borders of ASCII words: Chinese is written without spaces, and "电话是138..." is no one word.
_BEGIN, _END = r"(?<![a-z0-9_.])", r"(?![a-z0-9_])"
_REST_OF_LINK = r"[^\s<>\"'，。！？）\u4e00-\u9fff]"
_PATTERNS: Mapping[Personal, str] = {
    "link": rf"{_BEGIN}(?:[a-z][a-z0-9+.-]{{1,15}}://|www\.){_REST_OF_LINK}+"
    rf"|(?<![@a-z0-9_.-])(?:[a-z0-9][a-z0-9-]{{0,62}}\.){{1,4}}(?:{_TOP_LEVEL})(?:/{_REST_OF_LINK}*|(?![a-z0-9_.-]*[a-z0-9_@]))",
    "email": r"[a-z0-9_.+%-]{1,64}\s?@\s?[a-z0-9-]{1,63}(?:\.[a-z0-9-]{1,63}){1,6}|mailto:\S+",
    "user": rf"<[@#][!&]?\d{{5,25}}>|{_BEGIN}@\w[\w.-]{{0,62}}\w(?:#\d{{4}})?(?::[\w.-]*\w)?",
    "account": rf"{_BEGIN}[a-z]{{2}}\d{{2}}(?:\s?[a-z0-9]{{4}}){{2,7}}(?:\s?[a-z0-9]{{1,3}})?{_END}",
    "card": r"(?<!\d)\d(?:[ -]?\d){12,18}(?!\d)",
    "address": rf"(?<!\w)\d{{1,5}}[a-z]?,?\s(?:(?!(?:{_NOT_OF_A_STREET})\s)[^\W\d][\w'.-]{{0,30}}\s){{1,3}}"
    rf"(?:{_STREETS_EN})\b\.?(?:,?\s[^\W\d]\w{{1,30}}){{0,2}}(?:,?\s[a-z]{{2}}\s\d{{5}}(?:-\d{{4}})?)?"
    rf"|\b[^\W\d][\w-]{{0,40}}\s?(?:{_STREETS_DE})\s\d{{1,4}}\s?[a-z]?\b(?:,?\s\d{{5}}\s[^\W\d][\w-]{{1,40}})?"
    r"|(?<!\w)[a-z]{1,2}\d[a-z\d]?\s\d[a-z]{2}(?!\w)"
    r"|[\u4e00-\u9fff]{1,12}(?:路|街|道|巷|弄|胡同)\s?\d{1,5}\s?(?:号|號|弄)(?:[\d\u4e00-\u9fff-]{0,12}(?:室|楼|单元|栋|层))?",
    "phone": rf"{_BEGIN}(?:\+|\(\+?)?\d(?:[ ./()-]{{0,3}}\d){{6,16}}{_END}",
}
_DATE = re.compile(r"\d{4}[-./]\d{1,2}[-./]\d{1,2}|\d{1,2}[-./]\d{1,2}[-./]\d{4}")
_PLACEHOLDER = r"\[(?:link|email|user|account|card|address|phone|name)(?: \d+)?\]"


class Scrubber:
    """Replaces what is of these kinds; `names` is the operator's list. `replaced` counts, as it goes, by kind."""

    def __init__(self, kinds: Iterable[Personal], names: Sequence[str] = ()) -> None:
        self.replaced: Counter[str] = Counter()
        patterns = {**_PATTERNS, "name": _any_of(names)}
        wanted = set(kinds)
        # A placeholder is passed over, so that no later pattern finds something in it.
        self._patterns = [
            (kind, re.compile(f"(?P<done>{_PLACEHOLDER})|{pattern}", re.IGNORECASE))
            for kind, pattern in patterns.items()
            if kind in wanted and pattern
        ]

    def turns(self, texts: Sequence[str]) -> tuple[str, ...]:
        """The texts of one pair without personal data."""
        known: dict[str, dict[str, str]] = {}
        return tuple(self._text(text, known) for text in texts)

    def _text(self, text: str, known: dict[str, dict[str, str]]) -> str:
        for kind, pattern in self._patterns:
            text = pattern.sub(self._by(kind, known.setdefault(kind, {})), text)
        return text

    def _by(self, kind: str, known: dict[str, str]) -> Callable[[re.Match[str]], str]:
        def replace(match: re.Match[str]) -> str:
            found = match[0]
            if match["done"] or not _IS.get(kind, bool)(found):
                return found
            self.replaced[kind] += 1
            same = "".join(found.split()).casefold()
            number = f" {len(known) + 1}" if known else ""
            return known.setdefault(same, f"[{kind}{number}]")

        return replace


def is_bare(text: str) -> bool:
    """Whether nothing but placeholders and signs is left of a text."""
    return not any(sign.isalnum() for sign in re.sub(_PLACEHOLDER, "", text))


def _any_of(names: Sequence[str]) -> str:
    """A pattern for whole words in any case; in Chinese, where words have no borders, for any place."""
    found = sorted({name.strip() for name in names if name.strip()}, key=lambda name: (-len(name), name))
    return "|".join(re.escape(name) if is_chinese(name) else rf"(?<!\w){re.escape(name)}(?!\w)" for name in found)


def _digits(text: str) -> Iterator[int]:
    return (int(sign) for sign in text if sign.isdecimal())


def _is_card(text: str) -> bool:
    """Luhn's check: of every second digit from the right, the digits of its double are summed (ISO/IEC 7812-1)."""
    total = 0
    for place, digit in enumerate(reversed(list(_digits(text)))):
        total += digit if place % 2 == 0 else sum(divmod(2 * digit, 10))
    return total % 10 == 0


def _is_account(text: str) -> bool:
    """The check of an IBAN: letters as numbers, the first four signs moved to the end, modulo 97 (ISO 13616-1)."""
    signs = "".join(text.split()).upper()
    return signs.isascii() and int("".join(str(int(sign, 36)) for sign in signs[4:] + signs[:4])) % 97 == 1


def _is_phone(text: str) -> bool:
    """Not a date; and fewer than eight digits only behind a plus: seven and less are mostly something else."""
    count = sum(1 for _ in _digits(text))
    return _DATE.fullmatch(text) is None and (count >= 8 or "+" in text)


_IS: Mapping[str, Callable[[str], bool]] = {"card": _is_card, "account": _is_account, "phone": _is_phone}
