"""Personal data out of what training reads: what is found, what is left alone, and that nothing breaks it."""

from __future__ import annotations

import time
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatbot.learnable import PERSONAL, Personal
from training.scrub import Scrubber, is_bare

NAMES = ("Ada Lovelace", "Ada", "小明", "C++")


def scrubbed(text: str) -> str:
    """One text without personal data."""
    return Scrubber(PERSONAL, NAMES).turns([text])[0]


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("ann@x.example, jo.me@mail.example.com", "[email], [email 2]"),
        ("mail me: jo.doe+x@mail.example.co.uk!", "mail me: [email]!"),
        ("see https://example.org/a?b=c#d, ok", "see [link] ok"),
        ("go to www.example.org or example.com/x", "go to [link] or [link 2]"),
        ("ask @jo_doe or @jo_doe, not @ann", "ask [user] or [user], not [user 2]"),
        ("hey <@123456789> and <@!987654321>", "hey [user] and [user 2]"),
        ("card 4111 1111 1111 1111 ok", "card [card] ok"),
        ("IBAN DE89 3704 0044 0532 0130 00.", "IBAN [account]."),
        ("call +49 (0)30 1234567 now", "call [phone] now"),
        ("call 030/1234567 or 13812345678", "call [phone] or [phone 2]"),
        ("电话是13812345678，谢谢", "电话是[phone]，谢谢"),
        ("邮箱是jo@mail.example，网站www.x.example你好，找@jo", "邮箱是[email]，网站[link]你好，找[user]"),
        ("I live at 12 Baker Street, London", "I live at [address]"),
        ("at 221b baker st.", "at [address]"),
        ("Hauptstraße 5a, 10115 Berlin", "[address]"),
        ("ich wohne Lange Str. 12", "ich wohne [address]"),
        ("postcode SW1A 1AA please", "postcode [address] please"),
        ("北京市中山路12号3单元见", "[address]见"),
        ("Ada and ada lovelace met 小明的妈妈", "[name] and [name 2] met [name 3]的妈妈"),
        ("I like C++ and Adana", "I like [name] and Adana"),
    ],
)
def test_what_is_found(text: str, clean: str) -> None:
    """Each kind in the forms people write it in, the same for the same, another number for another."""
    assert scrubbed(text) == clean


@pytest.mark.parametrize(
    "text",
    [
        "I ran 5 miles down the road and 3 times around the square",
        "it was 2026-05-03, or 03.05.2026, at 12:30",
        "that is 1,234 of 99999 euros, 12.5 %",
        "wait...what? ok.so be it, e.g. this",
        "好的，我在路上，3号见",
        "me @ home",
        "3 + 4 = 7",
        "[email] is what it says",
        "version 1.2.3",
    ],
)
def test_what_is_left_alone(text: str) -> None:
    """Small numbers, dates, prices, ordinary words with a point, and placeholders that are there already."""
    assert scrubbed(text) == text


def test_the_same_thing_has_one_placeholder_in_all_turns() -> None:
    """Question and answer speak of the same address, however it is written, and of another by another name."""
    scrubber = Scrubber(PERSONAL)

    turns = scrubber.turns(["is it A@b.example or c@d.example?", "a@B.example, not C@D.example"])

    assert turns == ("is it [email] or [email 2]?", "[email], not [email 2]")
    assert scrubber.replaced == {"email": 4}
    assert scrubber.turns(["c@d.example"]) == ("[email]",)


def test_only_what_is_asked_for_is_replaced() -> None:
    """Kinds that the configuration does not name stay."""
    assert Scrubber(["link"], ["Ada"]).turns(["Ada: a@b.example, www.x.example"]) == ("Ada: a@b.example, [link]",)


def test_bare_is_what_holds_no_word() -> None:
    """A reply that is nothing but placeholders teaches nothing."""
    assert is_bare("[email 2], [link]!")
    assert not is_bare("write to [email]")


@given(text=st.text(max_size=300) | st.from_regex(r"[@.\d+() \-/a-z\[\]]{0,200}", fullmatch=True))
def test_any_text_comes_through(text: str) -> None:
    """No text makes it fail, and what it counts is what it replaced."""
    scrubber = Scrubber(PERSONAL, NAMES)

    (result,) = scrubber.turns([text])

    assert (result != text) <= bool(scrubber.replaced)


@given(
    before=st.text(st.sampled_from("abc ,.!?你\n"), max_size=20),
    after=st.text(st.sampled_from(" ,!?\n"), min_size=1, max_size=5),
    planted=st.sampled_from(
        [
            *(("email", "jane.canary@mail.example"), ("link", "https://canary.example/x"), ("user", "@canary")),
            *(
                ("card", "4111-1111-1111-1111"),
                ("account", "GB29 NWBK 6016 1331 9268 19"),
                ("phone", "+1 555 010 9999"),
            ),
        ]
    ),
)
def test_what_is_planted_is_gone(before: str, after: str, planted: tuple[str, str]) -> None:
    """Wherever it stands between other words, no more than its kind is left."""
    kind, secret = planted
    scrubber = Scrubber([cast(Personal, kind)])

    (result,) = scrubber.turns([f"{before} {secret}{after}"])

    assert secret not in result
    assert scrubber.replaced == {kind: 1}


@pytest.mark.parametrize("part", ["a", "1", "a.", "@a", "1 a ", "[email ", "+", "路1", "a1 ", "1-", "http://"])
def test_no_text_takes_long(part: str) -> None:
    """A hundred thousand characters made to be slow take seconds at most."""
    start = time.process_time()

    scrubbed(part * (100_000 // len(part)))

    assert time.process_time() - start < 10
