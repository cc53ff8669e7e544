"""What a person told of themselves in a talk: a name, a cat's name, where they live, what they do.

In: the person's turns, each with what the bot said before it. Out: facts, oldest first. Whatever is not said outright
is no fact. It knows no model.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from chatbot.matching import wording
from chatbot.text import clean, is_chinese
from chatbot.values import is_job_zh, value_of

_LONGEST_TURN = 600  # characters that are read of each turn


@dataclass(frozen=True, slots=True)
class Fact:
    """`value` as it is said back; `about` whose or what, as typed: "cat", "favourite colour"."""

    kind: str
    value: str
    about: str = ""
    chinese: bool = False


_NO_KIN = "last|first|full|middle|nick|user|real|maiden|family|own|pen|stage|second"
_KIN = (
    "cat|kitten|dog|puppy|rabbit|bunny|hamster|horse|pony|parrot|bird|fish|turtle|snake|brother|sister|mother|father|mom|"
    "mum|dad|son|daughter|husband|wife|boyfriend|girlfriend|friend|best friend|uncle|aunt|cousin|nephew|niece|grandma|"
    "grandpa|grandmother|grandfather|boss|teacher|neighbour|neighbor|colleague|roommate|flatmate|baby"
)
KIN_ZH = (
    "小?猫咪?|猫猫|小?狗|狗狗|兔子|仓鼠|乌龟|鹦鹉|金鱼|老?妈妈?|老?爸爸?|哥哥|弟弟|姐姐|妹妹|儿子|女儿|老公|老婆|男朋友|"
    "女朋友|好?朋友|同学|老师|老板|同桌|爷爷|奶奶|外婆|外公|室友"
)
_LEAD = (
    r"(?:(?:hi|hello|hey|yes|yeah|no|nope|well|oh|ok|okay|actually|sorry|by the way|btw|please|i mean|i said|i told you"
    r"|remember(?: that)?|also|just|in fact|nice to meet you) ){0,3}"
)
_LEAD_ZH = "(?:你好|嗨|其实|不对|不是|不|对了|嗯|哦|好的|是的|记住|告诉你|那|我说|对){0,2}"
_UNREAL = (
    r"\b(?:if|suppose|imagine|pretend|wish|(?<!\bi )(?:said|says|asked|asks|wrote|sang|sings|called me))\b"
    "|如果|假如|要是|假装|他说|她说|问我"
)
_TENS = "twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety"
_ONES = "one|two|three|four|five|six|seven|eight|nine"
_TEENS = "ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen|seventeen|eighteen|nineteen"
_AM = r"i(?:'m| am|m)"
_IS = r"(?:'s| is|s)"
_PATTERNS = (
    ("name", rf"(?:my (?:full |first |real |actual )?name{_IS}|the name{_IS}|(?:you can |you may )?call me|{_AM} called"
     r"|(?:everyone|everybody|people|they all|my friends) calls? me|i go by) (?P<v>.+)"),
    ("named", r"my (?P<s>[a-z]+(?: [a-z]{2,})??)(?:'s|s'|s)? name(?:'s| is) (?P<v>.+)"),
    ("named", r"the name of my (?P<s>[a-z]+(?: [a-z]+)?) is (?P<v>.+)"),
    ("named", rf"my (?P<s>[a-z]+(?: [a-z]{{2,}})??){_IS} (?:called|named) (?P<v>.+)"),
    ("named", r"i(?:'ve| have)?(?: also)? ?(?:have|got|own)? an? (?P<s>(?:[a-z]+ )?[a-z]+) (?:called|named) (?P<v>.+)"),
    ("named", r"(?:(?:he|she|it)(?:'s| is) (?:called|named)|(?:his|her|its) name(?:'s| is)) (?P<v>.+)"),
    ("home", rf"(?:i(?: now| currently)? live|{_AM} (?:now |currently )?living) in (?P<v>.+)"),
    ("origin", rf"(?:{_AM}(?: originally)?|i(?: originally)? come) from (?P<v>.+)"),
    ("job", rf"(?:{_AM}|i work as|i(?:'m| am) working as|my job is(?: being)?) (?P<v>an? .+)"),
    ("age", rf"(?:{_AM}|i(?: have)? just turned|i turned) (?P<v>\d{{1,3}}|(?:{_TENS})(?:[- ](?:{_ONES}))?|{_TEENS})"
     r"(?: ?(?:years?|yrs?)[ -]old| ?y/?o)?(?: now| today)?"),
    ("favourite", r"my (?P<s>(?:favou?rite|fave?) [a-z]+(?: [a-z]+)?) (?:is|are) (?P<v>.+)"),
    ("favourite", r"(?P<v>.+?) (?:is|are) my (?P<s>(?:favou?rite|fave?) [a-z]+)"),
)  # fmt: skip
_PATTERNS_ZH = (
    ("name", "(?:我的?(?:名字|大名)?(?:叫做?|是叫)|我的?名字是|(?:你可以|你就|大家都|请|就)?叫我)(?P<v>.+)"),
    ("named", f"(?:我的(?P<s>[^的叫]{{1,5}})|我家?的?(?P<t>{KIN_ZH}))(?:的?名字)?(?:名叫|叫做?|是叫)(?P<v>.+)"),
    ("named", f"(?:我的(?P<s>[^的叫]{{1,5}})|我家?的?(?P<t>{KIN_ZH}))的?名字是(?P<v>.+)"),
    (
        "named",
        "我(?:家里?)?(?:还)?(?:有|养了?)一?(?:[只条个位匹头])?(?P<s>[^的叫]{1,4}?)(?:的?名字)?(?:名叫|叫做?)(?P<v>.+)",
    ),
    ("named", "(?:[它他她](?:的名字)?(?:名叫|叫做?|是叫)|[它他她]的?名字是|名叫|名字叫|叫)(?P<v>.+)"),
    ("home", "(?:我(?:现在|目前)?(?:家)?住在|我家在)(?P<v>.+)"),
    ("origin", "我是(?P<v>.{2,6})人|我来自(?P<w>.+)"),
    ("job", "(?:我是(?:一?[名个位])?|我的?(?:工作|职业)是)(?P<v>.+)"),
    ("age", r"我(?:今年|已经)?(?P<v>\d{1,3}|[一二三四五六七八九十]{1,4})岁了?"),
    ("favourite", "我最(?:喜欢|爱)(?P<s>[^是]{0,2}的[^是]{1,6})是(?P<v>.+)"),
)
_ASKED = (
    r"\b(?:what is your name|what's your name|your name\?|call you\?|who are you\?|your name yet)|"
    "你叫什么|怎么称呼|你的名字|你是谁|叫你什么|你的名字呢"
)


def told(turns: Sequence[tuple[str, str]]) -> list[Fact]:
    """The facts in the person's turns; each comes with the bot's line before it."""
    facts: list[Fact] = []
    about = ""
    for before, turn in turns:
        name = _introduced(before, turn)
        for sentence in _sentences(turn):
            for clause in _clauses(sentence):
                about = _speaks_of(clause) or about
                facts += _facts(clause, about)
        if name:
            facts.append(Fact("name", name, chinese=is_chinese(turn)))
    return facts


def same(one: str, other: str) -> bool:
    """Whether two things that facts are about have one name, spelling aside."""
    return _canonical(one) == _canonical(other)


def head(about: str) -> str:
    """What it is, without how: "cat" of "little cat"."""
    return about if is_chinese(about) else about.split()[-1] if about.split() else ""


@cache
def _canonical(about: str) -> str:
    if is_chinese(about):
        plain = re.sub(r"[小老咪的]|最", "", about) or about
        return re.sub(r"(.)\1", r"\1", plain)
    words = wording(about.replace("'s", "")).split()
    return " ".join(word.rstrip("s") for word in words)


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)


def _sentences(turn: str) -> Iterator[str]:
    """What the person states: no questions, nothing imagined, nothing that others said."""
    text = clean(turn[:_LONGEST_TURN]).replace("\u2019", "'")
    for match in _compiled(r"((?:[^.!?。！？…~～]|\.(?=\w))+)([.!?。！？…~～]*)").finditer(text):
        if not set(match[2]) & set("?？") and not _compiled(_UNREAL).search(match[1]):
            yield match[1]


def _clauses(sentence: str) -> Iterator[str]:
    cut = r"[,;:，；、：()（）\"“”]|\s-+\s|\b(?:and|but|so|because|though|while|which|who)\b(?=[^,]* )"
    for part in _compiled(cut).split(sentence):
        if part.strip():
            yield part.strip()


def _speaks_of(clause: str) -> str:
    """Of whom "his name is" goes on to speak."""
    if is_chinese(clause):
        match = _compiled(f"我(?:家里?)?(?:有|养了?)一?[只条个位匹头]?({KIN_ZH})$|我家?的?({KIN_ZH})").search(clause)
        return (match[1] or match[2]) if match else ""
    match = _compiled(rf"\b(?:my|(?:have|got|'ve) an?(?: [a-z]+)??) ({_KIN})\b").search(clause)
    return match[1].lower() if match else ""


def _facts(clause: str, about: str) -> Iterator[Fact]:
    chinese = is_chinese(clause)
    for kind, pattern in _PATTERNS_ZH if chinese else _PATTERNS:
        line = clause.replace(" ", "") if chinese else clause
        if not (match := _compiled((_LEAD_ZH if chinese else _LEAD) + pattern).fullmatch(line)):
            continue
        groups = match.groupdict()
        value = groups.get("v") or groups.get("w") or ""
        value = value_of(kind, value, chinese)
        whose = groups.get("s") or groups.get("t") or (about if kind == "named" else "")
        whose = whose if chinese else whose.lower()
        if value and not (
            kind == "named" and (not whose or head(whose) == "name" or _compiled(_NO_KIN).fullmatch(whose))
        ):
            yield Fact(kind, value, whose, chinese)
            return
    kin = None if chinese else _compiled(rf"\bmy (?i:({_KIN})) ((?-i:[A-Z][a-z]+))\b").search(clause)
    if kin and (value := value_of("named", kin[2], chinese=False)):
        yield Fact("named", value, kin[1].lower())


def asks_for_name(line: str) -> bool:
    """Whether the bot asks what to call somebody."""
    return line.rstrip().endswith(("?", "？")) and _compiled(_ASKED).search(line[-200:]) is not None


def _introduced(before: str, turn: str) -> str:
    """The name that a person gives when the bot has just asked for it, or mends: "i'm Tom", "it's Tom", "Tom"."""
    text = clean(turn[:80]).replace("\u2019", "'")
    hello = r"(?i:hi|hello|hey)(?: there)?[,.!]? (?i:i'm|i am|im) ((?-i:[A-Z][a-z]+))\b(?:[.,!].*)?"
    if match := _compiled(hello).fullmatch(text):
        return "" if match[1].endswith(("ish", "ese", "an")) else value_of("name", match[1], chinese=False)
    asked = asks_for_name(before)
    mended = _compiled(r"\byour name\b|你叫|你的名字").search(before[-200:]) and _compiled(r"no\b|不").match(text)
    if not (asked or mended) or text.endswith(("?", "？")):
        return ""
    if is_chinese(text):
        line = _compiled(rf"{_LEAD_ZH}[，,。]?(我是)?([^，,。！!\s]{{1,6}})[。！!]?").fullmatch(text.replace(" ", ""))
        return value_of("name", line[2], chinese=True) if line and line[1] and not is_job_zh(line[2]) else ""
    line = _compiled(
        r"(?:(?:hi|hello|hey|oh|well|sure)[,.!]? |no(?:[,.!] ?| (?=i)))?"
        rf"({_AM} |it(?:'s| is) |this is |its )?([^,.!;]+)[.!]?"
    ).fullmatch(text)
    if not line:
        return ""
    words = line[2].split()
    bare = not line[1] and (not asked or len(words) > 2 or (len(words) == 2 and not line[2].istitle()))
    if bare or any(_compiled(r".{2,}ing|.{4,}ed").fullmatch(word) for word in words):
        return ""
    return value_of("name", line[2], chinese=False)
