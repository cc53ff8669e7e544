"""Expressions that are compiled when a text first holds what they need: most never do, and compiling is slow.

In: patterns as `rules.yaml` has them. Out: whether a text matches. What a pattern needs is read off it, erring on the
side of needing nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

Needed = frozenset[str] | None  # texts of which one has to be there; None: nothing can be said
_PART = re.compile(
    r"(?:(?P<run>[^\W_]+)|(?P<open>\((?:\?(?:<?[=!]|:))?)|(?P<bar>\|)|(?P<close>\))|(?P<name>\{[a-z_]+\})"
    r"|\[\^?\]?(?:\\.|[^\]\\])*\]|\\.|.)(?P<many>\?|\{\d*,?\d*\})?",
    re.DOTALL,
)
_MAY_BE_MISSING = re.compile(r"\?|\{0*[,}]")


class Expression:
    """Any of some `patterns`, as one regular expression of their `sources`; "{name}" in a pattern is one of `named`.

    Without `patterns` nothing is known of what it needs.
    """

    def __init__(
        self, wrapper: str, sources: Sequence[str], patterns: Sequence[str], named: Mapping[str, Expression]
    ) -> None:
        self.source = wrapper % "|".join(sources)
        self._patterns, self._named = patterns, named
        self._compiled: re.Pattern[str] | None = None

    @cached_property
    def needed(self) -> Needed:
        """Texts of which one has to be there."""
        return _any_of([needed(pattern, self._named) for pattern in self._patterns]) if self._patterns else None

    def compiled(self) -> re.Pattern[str]:
        """Ready to search with; re.error if the patterns are none."""
        if self._compiled is None:
            self._compiled = re.compile(self.source)
        return self._compiled

    def matches(self, text: str) -> bool:
        """Whether it is found anywhere in `text`."""
        return self._possible(text) and self.compiled().search(text) is not None

    def replaced(self, text: str, by: str) -> str:
        """`text` with `by` in place of what is found."""
        return self.compiled().sub(by, text) if self._possible(text) else text

    def _possible(self, text: str) -> bool:
        return bool(self._compiled) or self.needed is None or any(word in text for word in self.needed)


@dataclass(slots=True)
class _Group:
    """An open bracket: what its alternatives so far need, and the best that the one being read does."""

    looks_around: bool = False
    alternatives: list[Needed] = field(default_factory=list)
    needs: Needed = None


def needed(pattern: str, named: Mapping[str, Expression]) -> Needed:
    """What a text must hold for `pattern` to match."""
    if pattern.isalnum():
        return frozenset((pattern,))
    groups = [_Group()]
    for part in _PART.finditer(pattern):
        may_be_missing = _MAY_BE_MISSING.match(part["many"] or "") is not None
        found: Needed = None
        if run := part["run"]:
            sure = run[:-1] if may_be_missing else run  # "words?": it is the last letter that may be missing
            found = frozenset((sure,)) if sure else None
        elif part["open"]:
            groups.append(_Group(looks_around=part["open"] not in {"(", "(?:"}))
            continue
        elif part["bar"]:
            groups[-1].alternatives.append(groups[-1].needs)
            groups[-1].needs = None
            continue
        elif part["close"] and len(groups) > 1:
            group = groups.pop()
            found = None if group.looks_around or may_be_missing else _any_of((*group.alternatives, group.needs))
        elif part["name"] and not may_be_missing:
            words = named.get(part["name"][1:-1])
            found = words.needed if words else None
        groups[-1].needs = _better(groups[-1].needs, found)
    return _any_of((*groups[0].alternatives, groups[0].needs)) if len(groups) == 1 else None


def _any_of(alternatives: Sequence[Needed]) -> Needed:
    sure = [words for words in alternatives if words is not None]
    return frozenset[str]().union(*sure) if len(sure) == len(alternatives) else None


def _better(one: Needed, other: Needed) -> Needed:
    """The one that fewer texts will hold: its shortest text is longer."""
    if one is None or other is None:
        return one or other
    return max(one, other, key=lambda words: (min(map(len, words)), -len(words)))
