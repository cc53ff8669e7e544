"""Pairs of our own making, for recipes that need no file: words, dates, headlines, pictures of digits.

A maker is a function of how many pairs and a seed, and a line in `MAKERS`.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from datetime import date
from importlib.resources import files

from chatbot.errors import UsageError

Made = tuple[str, str]
_WORDS = (
    ("man", "women"),
    ("black", "white"),
    ("king", "queen"),
    ("girl", "boy"),
    ("up", "down"),
    ("high", "low"),
)
_MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July", "August", "September"),
    *("October", "November", "December"),
)
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_DATES: tuple[Callable[[date], str], ...] = (
    lambda d: f"{d.day}/{d.month}/{d.year % 100:02}",
    lambda d: f"{d.day:02}.{d.month:02}.{d.year % 100:02}",
    lambda d: f"{d.day} {d.month:02} {d.year % 100:02}",
    lambda d: f"{d.day}.{d.month}.{d.year}",
    lambda d: f"{_MONTHS[d.month - 1][:3]} {d.day}, {d.year}",
    lambda d: f"{_MONTHS[d.month - 1]} {d.day}, {d.year}",
    lambda d: f"{_MONTHS[d.month - 1]} {d.day} {d.year}",
    lambda d: f"{d.day} {_MONTHS[d.month - 1]} {d.year}",
    lambda d: f"{d.day} {_MONTHS[d.month - 1]}, {d.year}",
    lambda d: f"{d.day:02} {_MONTHS[d.month - 1][:3]} {d.year}",
    lambda d: f"{d.day} {_MONTHS[d.month - 1][:3]}, {d.year}",
    lambda d: f"{d.day:02}, {_MONTHS[d.month - 1][:3]} {d.year}",
    lambda d: f"{_DAYS[d.weekday()]}, {_MONTHS[d.month - 1]} {d.day}, {d.year}",
    lambda d: f"{_DAYS[d.weekday()]}, {d.day} {_MONTHS[d.month - 1]} {d.year}",
)
_CASES: tuple[Callable[[str], str], ...] = (str, str, str.upper, str.lower)
_FIRST, _LAST = date(1970, 1, 1).toordinal(), date(2027, 1, 1).toordinal()


def make_words(count: int, seed: int) -> Iterator[Made]:
    """The six pairs of a well-known first exercise; how many there are is no question."""
    yield from _WORDS


def make_dates(count: int, seed: int) -> Iterator[Made]:
    """Days from 1970 to 2026 as people write them, in 14 ways and three cases, and in ISO 8601; no source twice."""
    rng, seen = random.Random(seed), set[str]()
    if count > 200_000:
        raise UsageError(f"pairs.count is {count}; there are 200000 dates at most")
    while len(seen) < count:
        day = date.fromordinal(rng.randrange(_FIRST, _LAST))
        source = rng.choice(_CASES)(rng.choice(_DATES)(day))
        if source not in seen:
            seen.add(source)
            yield source, day.isoformat()


def make_digits(count: int, seed: int) -> Iterator[Made]:
    """scikit-learn's 8x8 pictures of written digits, a row of 8 numbers a vector, and the number's name."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise UsageError("the pictures are scikit-learn's; install it with `pip install 'familect[family]'`") from None
    names = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    digits = load_digits()
    for picture, name in zip(digits.images, digits.target, strict=True):
        yield "/".join(" ".join(f"{shade / 16:g}" for shade in row) for row in picture), names[name]


def make_headlines(count: int, seed: int) -> Iterator[Made]:
    """Paragraphs of local news and their titles, put together from the parts in `training/data/news.txt`.

    The title tells who did what where. The paragraph says it in one sentence among others about other people, places
    and days, in any order, so that it has to be read to be known which one counts.
    """
    rng, seen = random.Random(seed), set[str]()
    parts = _news_parts()
    while len(seen) < count:
        source, title = _story(rng, parts)
        if source not in seen:
            seen.add(source)
            yield source, title


def _news_parts() -> dict[str, list[str]]:
    """The sections of the file, each a list of lines."""
    parts: dict[str, list[str]] = {}
    text = (files("training") / "data" / "news.txt").read_text(encoding="utf-8")
    for line in text.splitlines():
        if line.startswith("# "):
            parts[line[2:]] = lines = []
        elif line.strip():
            lines.append(line)
    return parts


def _story(rng: random.Random, parts: dict[str, list[str]]) -> Made:
    who, other = rng.sample(parts["who"], 2)
    where, elsewhere = rng.sample(parts["where"], 2)
    past, present = rng.choice(parts["what"]).split(" | ")
    words = {
        "who": who,
        "other": other,
        "where": where,
        "elsewhere": elsewhere,
        "what": past,
        "day": rng.choice(_DAYS),
        "number": str(rng.randrange(2, 90)),
    }
    sentences = [rng.choice(parts["news"]), *rng.sample(parts["around"], 2)]
    rng.shuffle(sentences)
    told = " ".join(sentence.format(**words) for sentence in sentences)
    bare = who.removeprefix("the ").removeprefix("a ")
    return told[0].upper() + told[1:], f"{bare[0].upper()}{bare[1:]} {present} in {where}"


def make_chinese(count: int, seed: int) -> Iterator[Made]:
    """Question and answer of our own Chinese dialogues, `training/data/dialogues.zh.jsonl`; how many is no question."""
    with (files("training") / "data" / "dialogues.zh.jsonl").open(encoding="utf-8") as stream:
        for line in stream:
            turns = json.loads(line)["turns"]
            yield from zip(turns[::2], turns[1::2], strict=False)


def make_phrases(count: int, seed: int) -> Iterator[Made]:
    """English phrases and their French, of the words below: articles and adjectives agree, and some change places."""
    rng, seen = random.Random(seed), set[str]()
    if count > 50_000:
        raise UsageError(f"pairs.count is {count}; there are 50000 phrases at most")
    while len(seen) < count:
        (subject, french_subject, plural), (thing, french_thing, _) = _noun_phrase(rng), _noun_phrase(rng)
        verb, one, many = rng.choice(_VERBS)
        when, french_when = rng.choice(_WHEN)
        negated = rng.random() < 0.25
        does = f"{'do' if plural else 'does'} not {verb}" if negated else verb if plural else _third(verb)
        says = many if plural else one
        ne = "n'" if says[0] in "aeé" else "ne "
        english = f"{subject} {does} {thing}{when}."
        if english not in seen:
            seen.add(english)
            french = f"{french_subject} {f'{ne}{says} pas' if negated else says} {french_thing}{french_when}."
            yield english, french


_NOUNS = (  # English, French, feminine
    *(("cat", "chat", False), ("dog", "chien", False), ("boy", "garçon", False), ("girl", "fille", True)),
    *(("house", "maison", True), ("car", "voiture", True), ("book", "livre", False), ("table", "table", True)),
    *(("flower", "fleur", True), ("hat", "chapeau", False), ("boat", "bateau", False), ("door", "porte", True)),
    *(("cup", "tasse", True), ("bird", "oiseau", False), ("sister", "soeur", True), ("brother", "frère", False)),
)
_ADJECTIVES = (  # English, masculine, feminine, whether it stands before the noun
    *(("black", "noir", "noire", False), ("white", "blanc", "blanche", False), ("green", "vert", "verte", False)),
    *(("small", "petit", "petite", True), ("tall", "grand", "grande", True), ("pretty", "joli", "jolie", True)),
    *(("red", "rouge", "rouge", False), ("young", "jeune", "jeune", True), ("heavy", "lourd", "lourde", False)),
)
_VERBS = (
    *(("see", "voit", "voient"), ("like", "aime", "aiment"), ("buy", "achète", "achètent")),
    *(("draw", "dessine", "dessinent"), ("hide", "cache", "cachent"), ("find", "trouve", "trouvent")),
    *(("wash", "lave", "lavent"), ("show", "montre", "montrent")),
)
_WHEN = (
    *(("", ""), (" today", " aujourd'hui"), (" every day", " chaque jour"), (" again", " encore")),
    (" now", " maintenant"),
)
_NUMBERS = (("two", "deux"), ("three", "trois"), ("seven", "sept"), ("ten", "dix"))


def _third(verb: str) -> str:
    return f"{verb}{'es' if verb.endswith('sh') else 's'}"


def _noun_phrase(rng: random.Random) -> tuple[str, str, bool]:
    """English, French, and whether it is plural."""
    noun, french, feminine = rng.choice(_NOUNS)
    number, french_number = rng.choice(_NUMBERS) if rng.random() < 0.4 else ("", "")
    s = "s" if number else ""
    x = "x" if number and french.endswith("eau") else s
    article = french_number or ("la" if feminine else "le")
    english, words = [number or "the"], [french + x]
    if rng.random() < 0.6:
        adjective, masculine, other, before = rng.choice(_ADJECTIVES)
        english.append(adjective)
        agreeing = (other if feminine else masculine) + s
        words = [agreeing, *words] if before else [*words, agreeing]
    phrase = f"{article} {' '.join(words)}"
    if phrase.startswith("le oiseau"):
        phrase = phrase.replace("le oiseau", "l'oiseau")
    return " ".join((*english, noun + s)), phrase, bool(number)


MAKERS: dict[str, Callable[[int, int], Iterator[Made]]] = {
    "words": make_words,
    "dates": make_dates,
    "digits": make_digits,
    "headlines": make_headlines,
    "chinese": make_chinese,
    "phrases": make_phrases,
}
