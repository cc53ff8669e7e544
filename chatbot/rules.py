"""The safety layer outside the model: hand-written answers for what no model should improvise on.

In goes what a person wrote (`Rules.before`) or what the bot is about to say (`Rules.after`); out comes None, or
the rule that matched and the line to send instead. Words, patterns and answers are data, in `rules.yaml` beside
this file; `chatbot.reading` reads text past its disguises, this module matches in bounded time. It knows nothing of
models, chats or storage, keeps nothing of what it reads and may be used from any thread.
"""

from __future__ import annotations

import difflib
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from chatbot.errors import UsageError
from chatbot.literals import Expression
from chatbot.reading import NEEDS, Reader, View

_LANGUAGES = ("en", "zh")
_SECTIONS = ("lookalikes", "spellings", "words", "harmless", "before", "after")
# Up to four words, up to six characters of Chinese, the end and the start of a sentence.
_BUILT_IN_WORDS = {
    "gap": "(?:(?<= )[a-z0-9]{1,15} ){0,4}",
    "any": "[^|]{0,6}",
    "end": r"(?= ?\||$)",
    "start": r"(?:^|(?<=\|)|(?<=\| ))",
}
_WRAPPERS = {"en": r"\b(?:%s)(?!\w)", "zh": "(?:%s)", "raw": "(?:%s)"}
_NAME = re.compile(r"\{([a-z_]+)\}")
_UNBOUNDED = re.compile(r"(?<!\\)[*+]|\{\d+,\}")


@dataclass(frozen=True, slots=True)
class RuleHit:
    """A rule that matched, by name, and the line to send in place of what was asked or generated."""

    rule: str
    reply: str


class Rules:
    """The rules in force, in order: the first that matches decides. Make one with `Rules.load`."""

    def __init__(self, reader: Reader, before: Sequence[_Rule], after: Sequence[_Rule]) -> None:
        self._reader = reader
        self._before = before
        self._after = after

    @classmethod
    def load(cls, path: str | Path | None = None) -> Rules:
        """Read a rules file; None means the one shipped with this module.

        Raises `UsageError` naming the file and what is wrong with it.
        """
        source = Path(__file__).with_name("rules.yaml") if path is None else Path(path)
        try:
            # The shipped patterns are checked by a test instead.
            return cls(*_parse(source.read_text("utf-8"), check=path is not None))
        except OSError as fault:
            problem = f"cannot be read ({fault.strerror})"
        except UnicodeDecodeError as fault:
            problem = f"is not UTF-8 at byte {fault.start}"
        except yaml.MarkedYAMLError as fault:
            line = fault.problem_mark.line + 1 if fault.problem_mark else 1
            problem = f"is not YAML at line {line}: {fault.problem}"
        except (yaml.YAMLError, ValueError, RecursionError):
            problem = "is not YAML"
        except _BrokenRulesError as fault:
            problem = str(fault)
        raise UsageError(f"rules file {source}: {problem}; mend it as docs/safety.md describes")

    def before(self, text: str) -> RuleHit | None:
        """Judge what a person wrote, any string at all. None: let the model answer."""
        return self._first(self._before, text)

    def after(self, text: str) -> RuleHit | None:
        """Judge what the bot is about to say. None: say it; otherwise say the hit's `reply` in its place."""
        return self._first(self._after, text)

    def _first(self, rules: Sequence[_Rule], text: str) -> RuleHit | None:
        view = self._reader.read(text)
        hit = next((rule for rule in rules if rule.matches(view)), None)
        if hit is None:
            return None
        choices = hit.replies["zh" if NEEDS["zh"].search(view.raw) else "en"]
        # By what was read, not by a generator: the same words get the same answer, on every machine.
        return RuleHit(hit.name, choices[zlib.crc32(view.words.encode()) % len(choices)])


class _BrokenRulesError(Exception):
    """What is wrong inside a rules file; `Rules.load` adds the file's name and shows it to the operator."""


@dataclass(frozen=True, slots=True)
class _Rule:
    """Expressions by what they read ("en" and "zh" the words, "raw" the raw text), replies by language."""

    name: str
    expressions: Mapping[str, Expression]
    replies: Mapping[str, Sequence[str]]

    def matches(self, view: View) -> bool:
        """Whether any expression is found."""
        for key, expression in self.expressions.items():
            text = view.raw if key == "raw" else view.words
            if NEEDS[key].search(text) and expression.matches(text):
                return True
        return False


class _Grammar:
    """Turns the patterns of a rules file into regular expressions, and gathers the words they are made of.

    A pattern is an expression over words in which a space may be missing from the text, "(" only groups, "{name}"
    stands for a list of `words`, and repeats are bounded, so that matching takes time linear in the text.
    """

    def __init__(self, check: bool) -> None:
        self.vocabulary: set[str] = set()
        self._named = dict(_BUILT_IN_WORDS)
        self._lists: dict[str, Expression] = {}
        self._check = check

    def add_words(self, name: str, patterns: object) -> None:
        """Give a list of words a name; lists added later may use it."""
        self._lists[name] = self._either("(?:%s)", patterns, f"words, {name!r}")
        self._named[name] = self._lists[name].source

    def expressions(self, fields: Mapping[str, object], where: str) -> dict[str, Expression]:
        """One expression a key ("en", "zh" or "raw") for its list of patterns."""
        found = {}
        for key, wrapper in _WRAPPERS.items():
            if key in fields:
                found[key] = self._either(wrapper, fields[key], f"{where}, {key}", raw=key == "raw")
                try:
                    if self._check:
                        found[key].compiled()
                except (re.error, OverflowError, RecursionError) as fault:
                    raise _BrokenRulesError(f"{where}, {key}: a pattern is no regular expression: {fault}") from None
        return found

    def _either(self, wrapper: str, patterns: object, where: str, raw: bool = False) -> Expression:
        texts = _texts(patterns, where)
        sources = [self._expression(text, where, raw) for text in texts]
        return Expression(wrapper, sources, () if raw else texts, self._lists)

    def _expression(self, pattern: str, where: str, raw: bool) -> str:
        if _UNBOUNDED.search(pattern):
            raise _BrokenRulesError(f"{where}: {pattern!r} repeats without bound; write {{0,9}} for * and +")
        if raw:
            return pattern
        for stem, last in re.findall(r"([a-z]+?)(?:([a-z])\?)?(?![a-z])", _NAME.sub(" ", pattern)):
            self.vocabulary |= {word for word in (stem, stem + last) if len(word) > 1 or word in "ia"}
        pattern = re.sub(r"\((?!\?)", "(?:", pattern).replace(" ", " ?")
        return _NAME.sub(lambda match: self._lookup(match[1], where), pattern)

    def _lookup(self, name: str, where: str) -> str:
        if name not in self._named:
            raise _BrokenRulesError(f"{where}: no words are named {name!r}{_nearest(name, self._named)}")
        return self._named[name]


def _parse(text: str, check: bool) -> tuple[Reader, list[_Rule], list[_Rule]]:
    """What `Rules` is made of, from a rules file's text. Raises `_BrokenRulesError` or a YAML error."""
    # The base loader leaves every scalar a string ("no", "on", "12" are words here); in C it is ten times faster.
    loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
    book = _mapping(yaml.load(text, Loader=loader), _SECTIONS, "the file")
    grammar = _Grammar(check)
    for name, patterns in _mapping(book.get("words", {}), None, "words").items():
        grammar.add_words(name, patterns)
    spellings = _pairs(book, "spellings")
    harmless = grammar.expressions(_mapping(book.get("harmless", {}), _LANGUAGES, "harmless"), "harmless")
    before, after = ([_rule(entry, grammar, key) for entry in _list(book.get(key), key)] for key in _SECTIONS[4:])
    lookalikes = {ord(key[:1] or " "): value for key, value in _pairs(book, "lookalikes").items()}
    vocabulary = frozenset(grammar.vocabulary | spellings.keys())
    return Reader(lookalikes, vocabulary, spellings, harmless), before, after


def _rule(entry: object, grammar: _Grammar, section: str) -> _Rule:
    """One entry of `before` or `after`."""
    fields = _mapping(entry, ("rule", *_WRAPPERS, "replies"), section)
    name = _texts([fields.get("rule")], f"{section}, key 'rule'")[0]
    where = f"{section}, rule {name!r}"
    expressions = grammar.expressions(fields, where)
    if not expressions:
        raise _BrokenRulesError(f"{where}: has no patterns (keys en, zh, raw)")
    replies = _mapping(fields.get("replies"), _LANGUAGES, f"{where}, replies")
    return _Rule(name, expressions, {key: _texts(replies.get(key), f"{where}, replies {key}") for key in _LANGUAGES})


def _mapping(value: object, known: Iterable[str] | None, where: str) -> dict[str, object]:
    """The value as a mapping with string keys, all of them known (None: any)."""
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise _BrokenRulesError(f"{where}: must be a mapping of names to values")
    for key in value:
        if known is not None and key not in known:
            raise _BrokenRulesError(f"{where}: unknown key {key!r}{_nearest(key, known)}")
    return value


def _pairs(book: Mapping[str, object], key: str) -> dict[str, str]:
    """The section as a mapping of texts to texts, empty where it is left out."""
    return {
        name: _texts([value], f"{key}, {name!r}")[0] for name, value in _mapping(book.get(key, {}), None, key).items()
    }


def _list(value: object, where: str) -> list[object]:
    """The value as a list of at least one thing."""
    if not isinstance(value, list) or not value:
        raise _BrokenRulesError(f"{where}: must be a list, and not empty")
    return value


def _texts(value: object, where: str) -> list[str]:
    """The value as a list of texts, none of them blank."""
    texts = [item for item in _list(value, where) if isinstance(item, str) and item.strip()]
    if texts != value:
        raise _BrokenRulesError(f"{where}: must be text, and not blank")
    return texts


def _nearest(key: str, known: Iterable[str]) -> str:
    """A hint at the known key meant, if one is near."""
    near = difflib.get_close_matches(key, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
