"""Recall: what the person told in this talk, given back when they ask for it.

In: a history and a text. Out: the answer in the language of the question, or None where it asks nothing of the kind or
there is doubt. Only the person's own turns count, and of two that disagree the later one. A net makes such answers up;
a hand-written one cannot know. It knows no model.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from zlib import crc32

from chatbot.matching import wording
from chatbot.text import clean, is_chinese
from chatbot.told import KIN_ZH, Fact, asks_for_name, head, same, told

_LONGEST_QUESTION = 120  # characters
_OPENERS = (
    r"(?:(?:hello|hi|ok|so|well|and|but|now|wait|please) ){0,2}(?:(?:(?:do|can) )?(?:you )?(?:still |even )?"
    r"(?:remember|know|recall|tell me|remind me of|remind me) )?"
)
_REMEMBER = "(?:(?<=remember )|(?<=know )|(?<=recall )|(?<=tell me )|(?<=remind me of ))my"
_IS = "what (?:is|are|was) my"
_THING = r"(?P<s>[a-z]+(?: [a-z]+)?)"
_QUESTIONS = (
    ("name", rf"(?:{_IS} (?:full |first |real )?|{_REMEMBER} )name(?: again)?|what my name is|who (?:am i|i am)|"
     "what (?:am i called|i am called|do you call me|do people call me|did i say my name (?:is|was))"),
    ("named", rf"(?:{_IS}|{_REMEMBER}) {_THING} name|what my {_THING.replace('<s>', '<t>')} name is"),
    ("named", rf"what (?:is|was) my {_THING} (?:called|named)"),
    ("named", rf"what my {_THING} is (?:called|named)|what (?:is|was) the name of my {_THING.replace('<s>', '<t>')}"),
    ("home", "where (?:do i|i) live(?: in)?|where (?:am i|i am) living"
     "|(?:what|which) (?:city|town|country) do i live in"),
    ("origin", "where (?:am i|i am|do i come|i come) from|(?:what|which) (?:country|city|town) am i from"),
    ("job", rf"what (?:do i|i) do for (?:a living|work)|what do i work as"
     rf"|(?:{_IS}|{_REMEMBER}) (?:job|profession|occupation)"
     "|what my (?:job|profession|occupation) is"),
    ("doing", "what (?:do i|i) do"),
    ("age", rf"how old (?:am i|i am)|(?:{_IS}|{_REMEMBER}) age"),
    ("favourite", rf"(?:{_IS}|{_REMEMBER}) (?P<s>favorite [a-z]+(?: [a-z]+)?)"
     r"|what my (?P<t>favorite [a-z]+(?: [a-z]+)?) (?:is|are)"),
)  # fmt: skip
_OPENERS_ZH = "(?:那|你还?|你?还?(?:记得|知道)|告诉我|请告诉我|你说){0,2}"
_QUESTIONS_ZH = (
    ("name", "我叫什么(?:名字)?|我是谁|我的?名字(?:是|叫)什么|(?:记得|知道|告诉我)我的?名字|你(?:该|应该)叫我什么"),
    ("home", "我(?:现在)?(?:家)?住在?哪(?:里|儿|个城市)?|我家在哪(?:里|儿)?"),
    ("origin", "我是哪(?:里|儿)的?人|我来自哪(?:里|儿)?|我是从哪(?:里|儿)?来的?"),
    ("job", "我是(?:做|干)什么(?:工作)?的|我的?(?:工作|职业)是什么|我(?:做|干)什么工作"),
    ("age", "我(?:今年)?(?:几岁|多大|多少岁)了?|(?:记得|知道)我的年龄|我的年龄是多少"),
    ("favourite", "我最(?:喜欢|爱)(?P<s>[^是]{0,2}的[^是]{1,6})(?:是|叫)(?:什么|哪个|谁|哪里)"),
    ("named", f"(?:我家?的(?P<s>[^的叫我你不]{{1,5}}?)|我家?(?P<k>{KIN_ZH}))(?:的?名字)?(?:叫|是)什么(?:名字)?"
     f"|(?:记得|知道|告诉我)(?:我家?的(?P<t>[^的叫我你不]{{1,5}}?)|我家?(?P<l>{KIN_ZH}))的?名字"),
)  # fmt: skip
_NOT_NAMED = re.compile("last|first|full|middle|nick|user|real|maiden|family|own|pen|second|favorite")
# In doubt it had better not be said that nothing was told: the person spoke of it, one way or another.
_TOUCHED = {
    "name": r"\bmy name\b|call me|called|\b(?:hi|hello|hey),? i(?:'?m| am)\b|我叫|名字|叫我|我姓",
    "home": r"\bi(?:'m| am)? (?:live|living|moved)|\bmy (?:home|town|city)\b|我.{0,3}住|我家|搬",
    "origin": r"\bi(?:'m| am)\b.{0,12}\bfrom\b|\bborn\b|\bcome from\b|我来自|我是.+人|老家|出生",
    "job": r"\bi(?:'m| am)(?: \w+)? an? (?!bit\b|little\b)|\bwork|\bjob\b|我是|工作|上班",
    "age": r"\d|years old|\bage\b|birthday|\bi(?:'m| am) \w+(?:teen|ty)\b|岁|生日",
}
_SAID = {
    "name": ("Your name is {v}.", "{v}. That's your name, you told me.", "Your name is {v}, I was listening."),
    "named": ("Your {s} is called {v}.", "{v}. That's what your {s} is called.", "Your {s}'s name is {v}."),
    "home": ("You live in {v}.", "You told me you live in {v}."),
    "origin": ("You're from {v}.", "You told me you're from {v}."),
    "job": ("You're {v}.", "You told me you're {v}."),
    "age": ("You're {v}.", "You told me you're {v}."),
    "favourite": ("Your {s}? {V}.", "{V}, you told me. That's your {s}."),
}
_SAID_ZH = {
    "name": ("你叫{v}。", "你叫{v}，我记着呢。", "{v}呀，你的名字我记得。"),
    "named": ("你的{s}叫{v}。", "叫{v}，你跟我说过。", "你的{s}叫{v}，我记得。"),
    "home": ("你住在{v}。", "你说过你住在{v}。"),
    "origin": ("你是{v}人。", "你说过，你是{v}人。"),
    "job": ("你是{v}。", "你说过你是{v}。"),
    "age": ("你{v}岁。", "你说过你{v}岁。"),
    "favourite": ("你最喜欢{s}是{v}。", "是{v}，你说过的。"),
}
_ASKED_OF = {
    "name": "your name", "named": "your {s}'s name", "home": "where you live", "origin": "where you're from",
    "job": "what you do for a living", "age": "how old you are", "favourite": "your {s}",
}  # fmt: skip
_ASKED_OF_ZH = {
    "name": "你叫什么", "named": "你的{s}叫什么", "home": "你住在哪里", "origin": "你是哪里人", "job": "你是做什么的",
    "age": "你多大", "favourite": "你最喜欢{s}是什么",
}  # fmt: skip
_UNTOLD = (
    "I don't think you've told me {q} yet. Will you?",
    "I don't know {q} yet. Tell me!",
)
_UNTOLD_NAME = (
    "You haven't told me your name yet, I think. What is it?",
    "I don't know your name yet. What's your name?",
)
_UNTOLD_ZH = ("你好像还没告诉我{q}呢。愿意告诉我吗？", "我还不知道{q}。跟我说说吧？")
_UNTOLD_NAME_ZH = ("你好像还没告诉我你的名字呢。你叫什么？", "我还不知道你的名字。怎么称呼你？")


@dataclass(frozen=True, slots=True)
class Recalled:
    """What to say; `kind` is what was asked for ("name", "job"), with "-untold" where it was never told."""

    text: str
    kind: str


def recall(history: Sequence[str], text: str, seed: int | None = None) -> Recalled | None:
    """The answer to a question about what the person told in this talk; wording drawn by `seed`."""
    *said, question = _sentences(text) or [""]
    if len(question) > _LONGEST_QUESTION or any(part.endswith(("?", "？")) for part in said):
        return None
    asked = _question(question)
    if asked is None:
        return None
    kind, about = asked
    if kind == "doing" and (said or re.search(r"\b(?:now|then|today|btw|tho|though)\b", question.lower())):
        return None  # that wants advice
    turns = _turns(history)
    if said:
        turns.append((history[-1] if history else "", " ".join(said)))
    chinese = is_chinese(question)
    found = _found(told(turns), "job" if kind == "doing" else kind, about, chinese)
    draw = (seed or 0) + crc32("\n".join(history).encode("utf-8", "replace"))
    if found is None:
        return None if kind == "doing" or _touched(kind, about, chinese, turns) else _untold(kind, about, chinese, draw)
    lines = (_SAID_ZH if chinese else _SAID)[found.kind]
    value = found.value
    return Recalled(
        lines[draw % len(lines)].format(v=value, V=value[:1].upper() + value[1:], s=found.about or about), found.kind
    )


def _sentences(text: str) -> list[str]:
    if len(text) > 2 * _LONGEST_QUESTION:
        return []
    return [part for part in re.split(r"(?<=[.!?。！？])\s*", clean(text)) if part]


def _turns(history: Sequence[str]) -> list[tuple[str, str]]:
    """The person's turns, oldest first, each behind what the bot said before."""
    places = range(len(history) - 2, -1, -2)
    return [(history[place - 1] if place else "", history[place]) for place in reversed(places)]


def _question(text: str) -> tuple[str, str] | None:
    """What is asked for, and whose."""
    line = re.sub("什$", "什么", wording(text).removeprefix("?"))  # 么 is taken for a filler there
    chinese = is_chinese(line)
    if not ("我" in line if chinese else {"my", "i", "me"} & set(line.split())):
        return None
    for kind, pattern in _patterns(chinese):
        if match := pattern.fullmatch(line):
            about = next((value for name, value in match.groupdict().items() if value), "")
            if kind == "named":
                about = about if chinese else _owner(about)
                if not about or _NOT_NAMED.fullmatch(about.split()[-1]) or about.startswith("favorite"):
                    return None
            return kind, about
    return None


@cache
def _patterns(chinese: bool) -> list[tuple[str, re.Pattern[str]]]:
    openers, questions = (_OPENERS_ZH, _QUESTIONS_ZH) if chinese else (_OPENERS, _QUESTIONS)
    return [(kind, re.compile(f"{openers}(?:{pattern})")) for kind, pattern in questions]


def _owner(thing: str) -> str:
    """ "cat" of "cats name", for apostrophes are gone."""
    return thing[:-1] if thing.endswith("s") and not thing.endswith("ss") else thing


def _found(facts: Sequence[Fact], kind: str, about: str, chinese: bool) -> Fact | None:
    """The latest fact that answers; names and ages in figures may have been told in the other language."""
    fit = [
        fact
        for fact in facts
        if fact.kind == kind and (fact.chinese == chinese or kind == "name" or (kind == "age" and fact.value.isdigit()))
    ]
    if not about:
        return fit[-1] if fit else None
    exact = [fact for fact in fit if same(fact.about, about)]
    close = [fact for fact in fit if same(head(fact.about), about)] if kind == "named" else []
    return next(reversed(exact or close), None)


def _touched(kind: str, about: str, chinese: bool, turns: Sequence[tuple[str, str]]) -> bool:
    """Whether the person may have told it in a way that was not understood."""
    for before, turn in turns:
        if turn.strip() and is_chinese(turn) != chinese and kind not in ("name", "age"):
            return True
        if _question(turn) is not None:
            continue
        if kind == "name" and asks_for_name(before):
            return True
        if kind in _TOUCHED and re.search(_TOUCHED[kind], turn, re.IGNORECASE):
            return True
        if about and _spoken_of(about, turn):
            return True
    return False


def _spoken_of(about: str, turn: str) -> bool:
    if is_chinese(about):
        return about[-1] in turn and "叫" in turn if "的" not in about else about in turn
    words = wording(turn).split()
    return any(same(word, head(about)) for word in words) and bool({"name", "named", "called", "favorite"} & set(words))


def _untold(kind: str, about: str, chinese: bool, draw: int) -> Recalled:
    general, of_names = (_UNTOLD_ZH, _UNTOLD_NAME_ZH) if chinese else (_UNTOLD, _UNTOLD_NAME)
    lines = of_names if kind == "name" else general
    asked = (_ASKED_OF_ZH if chinese else _ASKED_OF)[kind].format(s=about)
    return Recalled(lines[draw % len(lines)].format(q=asked), f"{kind}-untold")
