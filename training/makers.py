"""Pairs of our own making, for recipes that need no file: words, dates, headlines, pictures of digits.

A maker is a function of how many pairs and a seed, and a line in `MAKERS`.
"""

from __future__ import annotations

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


MAKERS: dict[str, Callable[[int, int], Iterator[Made]]] = {
    "words": make_words,
    "dates": make_dates,
    "digits": make_digits,
    "headlines": make_headlines,
}
