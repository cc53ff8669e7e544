"""What can be the value of a fact: what is a name, a place or a job, and not another word in its place.

In: the words behind "my name is" and its like. Out: them as they are said back, or "". It knows no model.
"""

from __future__ import annotations

import re
from functools import cache

_MOST_WORDS, _MOST_CHARACTERS = 4, 12


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_ENDS = _words(
    """
    not from please but in at on with for too instead btw lol haha now actually again though since because
    near after before right currently these today by if when or so then yes no and
    """
)
_FUNCTION = _words(
    """
    a an the my your his her its our their i im you he she it we they me him them us what who which how why
    where when if that this these those not no yes very too just really quite kind like as of to be been is
    are was were do does did have has had can could would should than then here there some any every more
    most something nothing anything everything someone nobody none secret unknown also always never ever
    """
)
_NO_NAMES = _words(
    """
    tired bored scared upset drunk stuck worried stressed confused depressed anxious german french english american
    weird strange boring long short funny hard difficult easy common rare unusual beautiful pretty nice ugly
    stupid dumb silly cool great important private hidden later back maybe tomorrow tonight soon crazy old
    anytime whatever whenever sometime mad names lazy fine ok okay good bad sad happy sick hungry sleepy busy
    angry new home lonely ready done late early alive dead lost hurt single sorry sure afraid free hi hello
    hey yeah nope guess lol idk dunno bye stop help thanks wrong correct nevermind off out over up down glad
    well awake alone
    """
)
_JOBS = _words(
    """
    accountant actor actress architect artist baker barber barista bartender biologist bookseller builder
    butcher carer carpenter cashier chef chemist cleaner clerk coach consultant cook dancer dentist designer
    detective developer doctor driver editor electrician engineer farmer firefighter fisherman florist
    gardener geologist hairdresser historian journalist judge lawyer lecturer librarian lifeguard linguist
    manager mathematician mechanic midwife miner model musician nanny nurse optician painter paramedic
    pharmacist philosopher photographer physicist physiotherapist pilot plumber poet policeman policewoman
    postman potter programmer psychologist psychiatrist receptionist researcher sailor salesman scientist
    sculptor secretary shepherd singer soldier statistician student surgeon tailor teacher technician
    therapist tiler translator tutor vet veterinarian waiter waitress welder writer author butler freelancer
    plasterer professor pianist violinist guitarist composer officer assistant
    """
)
_NO_PLACES = _words(
    """
    fear peace hope hell pain misery constant moment past darkness silence denial poverty family background
    house flat future
    """
)
_NO_NAMES_ZH = "[了过着个做得是在去来给人帮停住醒].*|滴滴|名字|秘密|东西|.*的.*|.*(?:外卖|车|吃饭|起床|回家)"
_NO_PLACES_ZH = (
    "(?:好|男|女|大|老|病|机器|商|工|本地|外国|主持|坏|年轻|普通|成年|打工|单身|聪明|正常|外地|内向的?|外向的?|中年|"
    "候选|负责|当地|孤独|有钱|军|证|诗|猎|盲)|.*[个的这那很有].*"
)
_JOBS_ZH = (
    "护士|医生|大?学生|中学生|高中生|初中生|研究生|警察|农民|工人|司机|作家|画家|记者|编辑|歌手|演员|程序员|会计|军人|翻译|经理|"
    "公务员|教授|木匠|导游|[^的]{1,4}师|[务售管服消演球理厨递船飞行咨教研][^的]?员"
)


def value_of(kind: str, text: str, chinese: bool) -> str:
    """The value as it is said back, "" if it is none."""
    return _value_zh(kind, text) if chinese else _value(kind, text)


def is_job_zh(value: str) -> bool:
    """Whether it is what somebody does for a living."""
    return _compiled(f"[^的]{{0,4}}(?:{_JOBS_ZH})").fullmatch(value) is not None


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


def _value(kind: str, text: str) -> str:
    kept: list[str] = []
    for word in text.split():
        if word.lower() in _ENDS:
            break
        kept.append(word)
    if not kept or len(kept) > _MOST_WORDS:
        return ""
    lower = {word.lower() for word in kept}
    if kind in ("name", "named"):
        return "" if kind == "name" and lower & _NO_NAMES else _name(kept, lower)
    if kind == "age":
        return text if not text.isdigit() or 3 <= int(text) <= 120 else ""
    if kind == "job":
        return _job(kept)
    if kind in ("home", "origin"):
        return _place(kept, lower)
    return (
        ""
        if lower
        & (_FUNCTION - {"a", "an", "the", "of", "to"} | {"weird", "boring", "leaving", "gone", "dead", "broken"})
        else " ".join(kept)
    )


def _name(kept: list[str], lower: set[str]) -> str:
    letters = all(_compiled(r"[^\W\d_](?:[^\W_]|['.-])*").fullmatch(word) for word in kept)
    return " ".join(map(_capital, kept)) if len(kept) <= 3 and letters and not lower & _FUNCTION else ""


def _place(kept: list[str], lower: set[str]) -> str:
    described = kept[0].lower() in ("a", "an", "the")
    if lower & ((_FUNCTION - {"a", "an", "the", "of"}) | _NO_PLACES) or (described and len(kept) == 1):
        return ""
    return " ".join(kept if described else [word if word in ("of", "the") else _capital(word) for word in kept])


def _job(kept: list[str]) -> str:
    described = {word.lower() for word in kept[1:]}
    if len(kept) < 2 or kept[-1].lower() not in _JOBS or described & (_FUNCTION | {"bad", "good", "terrible", "great"}):
        return ""
    return " ".join([kept[0].lower(), *kept[1:]])


def _capital(word: str) -> str:
    return word[:1].upper() + word[1:]


def _value_zh(kind: str, text: str) -> str:
    value = _compiled("(?:就好了?|就行了?|就可以了?|好了|[啊呀哦吧呢啦哈了])+$").sub("", text).strip()
    if not value or len(value) > _MOST_CHARACTERS or _compiled("[什怎谁啥吗么哪你我他她它不没？?]").search(value):
        return ""
    if kind in ("name", "named"):
        fits = _compiled(r"[\u3400-\u9fff·]{1,6}|[A-Za-z][A-Za-z '-]{0,11}").fullmatch(value)
        return _capital(value) if fits and not _compiled(_NO_NAMES_ZH).fullmatch(value) else ""
    if kind == "job":
        return value if is_job_zh(value) else ""
    if kind == "origin":
        place = _compiled(r"[\u3400-\u9fff]{2,8}").fullmatch(value)
        return value if place and not _compiled(_NO_PLACES_ZH).fullmatch(value) else ""
    return value
