"""Lines compared by what they say, not letter by letter: spelling, fillers and light words do not matter.

In: a line of text. Out: `compared` (the line without case and punctuation), `wording` (the same words, however spelt)
and `gist` (the words that carry it, in their order). Two lines with one gist get one answer, so a gist keeps whatever
changes that: names of things, who does it, "not", the kind of question. It knows no dialogues and no model.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from functools import cache

from chatbot.text import clean, is_chinese

_LONGEST = 300  # characters that are compared: a longer line is nobody's known question


class _Plain(dict[int, str]):
    """For `str.translate`: punctuation to spaces, apostrophes to nothing; filled as characters come up."""

    def __missing__(self, code: int) -> str:
        sign = chr(code)
        self[code] = "" if sign in "'\u2019" else " " if unicodedata.category(sign).startswith("P") else sign
        return self[code]


_PLAIN = _Plain()


def compared(text: str) -> str:
    """What of a line is compared: no case, no full-width forms, no punctuation unless there is nothing else."""
    folded = unicodedata.normalize("NFKC", clean(text[-_LONGEST:])).casefold()
    return " ".join(folded.translate(_PLAIN).split()) or folded


# One word, or what people type for it, and the words that it stands for.
_SPELLINGS = """
im:i am|ive:i have|id:i would|ill:i will|dont:do not|dnt:do not|doesnt:does not|didnt:did not|cant:can not
cannot:can not|wont:will not|wouldnt:would not|couldnt:could not|shouldnt:should not|isnt:is not|arent:are not
wasnt:was not|aint:is not|werent:were not|havent:have not|hasnt:has not|hadnt:had not|whats:what is|wats:what is
wat:what|wut:what|hows:how is|wheres:where is|whos:who is|whens:when is|whys:why is|thats:that is|theres:there is
heres:here is|its:it is|lets:let us|youre:you are|youve:you have|youll:you will|youd:you would|theyre:they are
hes:he is|shes:she is|weve:we have|u:you|ya:you|ye:you|yu:you|r:are|ur:your|yr:your|y:why|k:ok|okay:ok|okey:ok|okie:ok
kk:ok|n:and|nd:and|d:the|da:the|b:be|wanna:want to|gonna:going to|gotta:have to|gimme:give me|lemme:let me
dunno:do not know|idk:i do not know|tryna:trying to|pls:please|plz:please|plss:please|thx:thanks|tnx:thanks
thnx:thanks|thks:thanks|ty:thanks|tysm:thanks|bc:because|cuz:because|cos:because|coz:because|abt:about|rn:now
tmr:tomorrow|tmrw:tomorrow|bf:boyfriend|gf:girlfriend|bff:best friend|bday:birthday|fav:favorite|fave:favorite
favourite:favorite|colour:color|mum:mother|mom:mother|moms:mothers|mums:mothers|dads:fathers|mommy:mother|mummy:mother|mama:mother|dad:father|daddy:father
papa:father|kids:children|kid:child|tv:television|telly:television|movie:film|movies:film|hi:hello|hey:hello
heya:hello|hiya:hello|hai:hello|helo:hello|hii:hello|yo:hello|howdy:hello|yeah:yes|yea:yes|yep:yes|yup:yes|yh:yes
nope:no|nah:no|nop:no|goodbye:bye|cya:bye|byebye:bye|gn:good night|goodnight:good night|gm:good morning
goodmorning:good morning|wassup:what is up|sup:what is up|whatsup:what is up|wsup:what is up|hru:how are you
wyd:what are you doing|ily:i love you|everybody:everyone|anybody:anyone|somebody:someone|neighbour:neighbor
neighbours:neighbors|grey:gray|awhile:while|alright:all right|col:cool|realy:really|rly:really|frnd:friend|ppl:people
smth:something|sth:something|alot:a lot|irl:in real life|veggies:vegetables|bike:bicycle|phone:telephone|pic:picture
pics:picture|photo:picture|photos:picture|exams:exam|tests:test
""".replace("\n", "|")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_FILLERS_AT_THE_END = _words(
    "lol lmao lmfao rofl haha hahaha hehe hihi xd please bro bruh dude man mate buddy pal though tho then btw tbh ngl "
    "familect now today currently"
)
_FILLERS_AT_THE_START = _words(
    "hello ok so well um umm uh hm hmm oh ah lol haha btw please and but also familect bot just man dude bro"
)
_LIGHT = _words(
    "a an the is are am be been being to of in on at for really just very so quite pretty some any please actually "
    "literally kinda sorta totally honestly there super much lot bit little ever truly extremely absolutely "
    "completely"
)
_ASKING = _words(
    "what who whom whose which when where why how is are am was were do does did can could will would should shall "
    "may might must have has had"
)
_ORDERS = _words(
    "tell give say sing write make show teach explain recommend suggest help play let recite name describe"
)
_SUBJECTS = _words("i you he she it we they this that there")
_SMALL = _words(
    "i you he she it we they me my your not no yes what who how why where when that this did was got get have go do "
    "can will want like need know think see just"
)
# Two lines that differ in one of these are not the same question, however much else they share.
_DECISIVE = _words(
    "not no never nothing nobody without i you he she we they me him us them my your his our their what who where "
    "when why how which did was were will would should than only hate dislike good bad best worst know too more less "
    "first last old new"
)
_FELT = frozenset(("feel", "feeling"))  # "i feel sad" is "i am sad"
_PHRASES = tuple(
    (re.compile(rf"\b(?:{pattern})\b"), words)
    for pattern, words in (
        (r"thank you(?: (?:so|very) much| a lot)?|thanks (?:so much|a lot|a bunch)|many thanks", "thanks"),
        (r"(?:kind|sort|type)s? of(?= \w)", "kind"),
        (r"how come", "why"),
        (r"(?<=what is )you(?= \w)|(?<=what are )you(?= (?:name|age|hobbies)\b)", "your"),
        (
            r"(?:can|could|would|will) (?:you|u) (?:please )?(?=(?:tell|give|say|sing|write|make|show|teach|explain|"
            r"recommend|suggest|help|play|recite|describe)\b)",
            "",
        ),
        (r"i (?:want|would like|need) you to", ""),
        (r"(?:right|just) now|at the moment|these days", "now"),
        (r"do you (?:happen to )?know(?= (?:any|some|a)\b)", "do you know"),
        (r"what about", "how about"),
        (r"i (?:do not|dont) (?:really )?know", "i do not know"),
        (r"all right", "ok"),
    )
)
_STRETCHED = re.compile(r"([a-z])\1{2,}")


@cache
def _spellings() -> dict[str, list[str]]:
    pairs = (entry.split(":") for entry in _SPELLINGS.split("|") if entry)
    return {typed: meant.split() for typed, meant in pairs}


def wording(text: str) -> str:
    """The words of a line as they are spelt in full, without fillers around them ("pls", "haha", 呢)."""
    line = compared(text)
    return _chinese_wording(line, text) if is_chinese(line) else " ".join(_english_words(line))


def forms(text: str) -> frozenset[str]:
    """What two lines have in common, one of them at least, if each is taken for the other."""
    return frozenset((wording(text), "=" + gist(text)))


def kindred(one: str, other: str) -> bool:
    """Whether two gists that share nearly all of their telling words may be one question: who, what for, "not"."""
    if is_chinese(one):
        return _ZH_DECISIVE.findall(one) == _ZH_DECISIVE.findall(other)
    a, b = one.split(), other.split()
    if min(len(a), len(b)) < 2 or {w for w in a if _decides(w)} != {w for w in b if _decides(w)}:
        return False
    return _decisive().isdisjoint(a) or [w for w in a if w in b] == [w for w in b if w in a]


def _decides(word: str) -> bool:
    return word in _decisive() or word == "?" or word.isdigit()


@cache
def _decisive() -> frozenset[str]:
    return frozenset(map(_stem, _DECISIVE))


def kind(text: str) -> str:
    """What a line is: one that asks, one that wants something done, or one that tells."""
    line = compared(text)
    if is_chinese(line):
        asks = _ZH_ASKS.search(line) or text.rstrip().endswith(("?", "？"))
        return "asks" if asks else "wants" if _ZH_WANTS.match(line) else "tells"
    words = _english_words(line)
    if words and words[0] in _ORDERS:
        return "wants"
    return "asks" if (words and words[0] in _ASKING) or text.rstrip().endswith("?") else "tells"


def gist(text: str, correct: Callable[[str], str] | None = None) -> str:
    """The words that carry a line, in their order, behind "?" if it asks; `wording` where too little is left.

    `correct` may mend a word that was mistyped.
    """
    line = compared(text)
    if is_chinese(line):
        return _chinese_gist(_chinese_wording(line, text))
    words = _english_words(line)
    if correct is not None:
        words = [correct(word) for word in words]
    asks = _asks(words, text)
    light = _LIGHT if asks else _LIGHT | _FELT
    kept = [_stem(word) for place, word in enumerate(words) if word not in light and not _auxiliary(words, place)]
    if not asks and len(kept) > 1 and kept[0] == "i":
        kept = kept[1:]  # "hate my job", "so tired": who says nothing else speaks of himself
    if not kept or (len(kept) == 1 and (kept[0] in _SMALL or len(kept[0]) < 3)):
        return " ".join(words)
    return " ".join(["?", *kept] if asks else kept)


def _english_words(line: str) -> list[str]:
    spellings = _spellings()
    words: list[str] = []
    for word in _STRETCHED.sub(r"\1", line).split():
        words += spellings.get(word, (word,))
    line = " ".join(words)
    for pattern, meant in _PHRASES:
        line = pattern.sub(meant, line)
    words = line.split() or words
    start, end = 0, len(words)
    while end - start > 1 and words[end - 1] in _FILLERS_AT_THE_END:
        end -= 1
    while end - start > 3 and words[start] in _FILLERS_AT_THE_START:
        start += 1
    return words[start:end]


def _auxiliary(words: list[str], place: int) -> bool:
    """Whether it is the "do" of a question: at its start, or behind the word that asks."""
    return words[place] in ("do", "does") and (place == 0 or words[place - 1] in _ASKING)


def _asks(words: list[str], text: str) -> bool:
    """Whether it is a question about somebody: "is it cold?" is another thing to say than "it is cold"."""
    if not words or words[0] in _ORDERS:
        return False
    return (words[0] in _ASKING or text.rstrip().endswith(("?", "？"))) and not _SUBJECTS.isdisjoint(words)


@cache
def _stem(word: str) -> str:
    """Without the endings of many and of doing: "cats", "running". Not that of being done: bored is not boring."""
    if len(word) > 5 and word.endswith("ing") and re.search("[aeiouy]", word[:-3]) and word not in ("boring", "during"):
        root = re.sub(r"([b-df-hj-np-rtv-z])\1$", r"\1", word[:-3])
        return root.removesuffix("e")
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-3] + "y" if word.endswith("ies") and len(word) > 4 else word[:-1]
    return word.removesuffix("e") if len(word) > 3 else word


_ZH_SPELLINGS = (
    ("您", "你"),
    ("妳", "你"),
    ("为啥", "为什么"),
    ("干啥", "干什么"),
    ("干嘛", "干什么"),
    ("啥", "什么"),
    ("咋", "怎么"),
    ("甚么", "什么"),
)
_ZH_START = re.compile(
    r"^(?:嗨|嘿|喂|哎|唉|诶|哈喽|那个|请问|话说|对了|嗯+|哦+|小家|你好(?=.{2,})|我?想问(?:一?下)?|我想知道|你说|那(?=.{3,}))+(?=.{2,})"
)
_ZH_END = re.compile(r"(?<=.)(?:[吗呢呀啊吧哦噢喔啦嘛呗哟诶捏嘞么哈呜嘿]|小家|谢谢|可以|好不好|行)+$")
_ZH_ASKED = re.compile("(.)[不没]\\1")
_ZH_POLITE = re.compile(
    "(?:你?(?:能不能|可不可以|可以|能|会)(?:再)?)?(?:请|麻烦)?(?:给我|帮我|跟我|为我|和我)?"
    "(?=(?:讲|说|唱|写|推荐|教|介绍|来)(?:一?[个首段句些点]|我|几))"
)
_ZH_LIGHT = re.compile(
    "的|地|得|一下|(?<=[讲说来唱写])一?[个首段句点]|很|太|非常|特别|超级|超|真的|有点儿?|实在|挺|"
    "(?:^|(?<=[我你]))(?:今天|现在|最近|刚刚|刚才|目前)|(?<=.)[啊呀]?(?:今天|现在)$|(?:^|(?<=[我天近]))好(?![的吃看玩吧啊不了久像奇朋友消人处多听喝笑运事用喜]|$)"
)


_ZH_SMALL = frozenset("我你他她它好是的不没在有对嗯哦啊要会能行去来说讲写") | {""}
_ZH_DECISIVE = re.compile(r"[?不没别无什怎谁哪几多少你我他她它想要会]|[0-9]+")
_ZH_ASKS = re.compile(r"[吗么]$|什么|怎么|啥|咋|谁|哪|几[点个天岁]|多少|多[大久高远]|如何|为何|(.)[不没]\1|还是")
_ZH_WANTS = re.compile("^(?:请|帮我|给我?|再)?[讲说唱写来推教介聊猜夸]")
_ZH_ORDER = re.compile("^(?:请|再)?[讲说唱写来推教介给帮]")


def _chinese_wording(line: str, text: str) -> str:
    line = line.replace(" ", "")
    for typed, meant in _ZH_SPELLINGS:
        line = line.replace(typed, meant)
    line = _ZH_START.sub("", line)
    line = _ZH_END.sub("", line) or line
    # "下雨了吗" is not "下雨了", but "你喜欢茶" can only be meant as a question.
    asks = text.rstrip("。.!！~～ ").endswith(("吗", "么", "?", "？")) and "你" not in line and len(line) > 1
    return f"?{line}" if asks and not _ZH_ORDER.match(line) else line


def _chinese_gist(wording: str) -> str:
    line = wording.removeprefix("?")
    asked = _ZH_ASKED.sub(r"\1", line).replace("有没", "有")
    asks = line != wording or (asked != line and "你" not in line)
    kept = _ZH_LIGHT.sub("", _ZH_POLITE.sub("", asked, count=1))
    if asked == line == wording:
        kept = re.sub("^我(?=.)", "", kept)
        kept = re.sub("(?<=.)了$", "", kept)
    if len(kept) < 2 and kept in _ZH_SMALL:
        return wording
    return f"?{kept}" if asks and not _ZH_ORDER.match(kept) else kept
