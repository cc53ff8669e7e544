"""What is recalled of a talk: told by the person, asked for by the person, in either language, else nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatbot.recall import recall


def talk(*turns: str) -> list[str]:
    """A history in which the bot says nothing to the point."""
    return [line for turn in turns for line in (turn, "I see.")]


def answer(history: list[str], question: str) -> tuple[str, str] | None:
    """Kind and text of what is recalled."""
    found = recall(history, question, seed=3)
    return (found.kind, found.text) if found else None


@pytest.mark.parametrize(
    ("told", "question", "kind", "value"),
    [
        ("my name is tom", "what's my name?", "name", "Tom"),
        ("My name is Tom and I live in Leipzig", "whats my name", "name", "Tom"),
        ("my names ben btw", "do you remember my name?", "name", "Ben"),
        ("call me Al please", "who am i?", "name", "Al"),
        ("i am called Jo", "what am i called", "name", "Jo"),
        ("Hi, I'm Tom!", "what's my name", "name", "Tom"),
        ("my dog's name is Rex", "what is my dog called?", "named", "Rex"),
        ("my cat is called mia", "whats my cats name", "named", "Mia"),
        ("i have a little cat named Mia", "what is my cat's name?", "named", "Mia"),
        ("I visited my brother Leo", "what's my brother's name?", "named", "Leo"),
        ("i have a cat. her name is Mia", "do you know my cat's name?", "named", "Mia"),
        ("my mum's name is Anna", "what is my mom's name?", "named", "Anna"),
        ("my name is Tom and I live in new york", "where do i live?", "home", "New York"),
        ("i live in a small village", "where do i live?", "home", "a small village"),
        ("i'm from Oslo", "where am i from?", "origin", "Oslo"),
        ("i'm a nurse", "what do i do for a living?", "job", "a nurse"),
        ("i work as a baker", "what's my job?", "job", "a baker"),
        ("i'm a nurse", "what do i do?", "job", "a nurse"),
        ("i'm 34", "how old am i?", "age", "34"),
        ("i am 34 years old", "do you remember how old i am", "age", "34"),
        ("my favourite colour is green", "what's my favourite colour?", "favourite", "reen"),
        ("my favourite colour is green", "what's my favorite color?", "favourite", "reen"),
        ("我叫小明", "我叫什么？", "name", "小明"),
        ("我叫Tom", "what's my name?", "name", "Tom"),
        ("我的名字是王芳", "我是谁", "name", "王芳"),
        ("叫我阿强吧", "你记得我的名字吗？", "name", "阿强"),
        ("我的猫叫咪咪", "我的猫叫什么？", "named", "咪咪"),
        ("我有一只猫，叫咪咪", "我的猫叫什么名字", "named", "咪咪"),
        ("我有只狗叫旺财", "我的狗叫啥", "named", "旺财"),
        ("我住在上海", "我住哪？", "home", "上海"),
        ("我是意大利人", "我是哪里人？", "origin", "意大利"),
        ("我是护士", "我是做什么的？", "job", "护士"),
        ("我今年34岁了", "我多大了", "age", "34"),
        ("我34岁", "我几岁？", "age", "34"),
        ("我最喜欢的颜色是绿色", "我最喜欢的颜色是什么？", "favourite", "绿色"),
    ],
)
def test_what_was_told_is_recalled(told: str, question: str, kind: str, value: str) -> None:
    """In this talk, whatever was said in between."""
    found = answer(talk("hello", told, "i like tea"), question)

    assert found is not None
    assert found[0] == kind
    assert value in found[1]


@pytest.mark.parametrize(
    ("turns", "question", "value"),
    [
        (("my name is Tom", "no, my name is Ben"), "what's my name?", "Ben"),
        (("我叫小明", "不对，我叫小刚"), "我叫什么？", "小刚"),
        (("i live in Rome", "i live in Oslo now"), "where do i live?", "Oslo"),
        (("my cat is called Mia", "my other cat is called Leo"), "what's my cat's name?", "Mia"),
    ],
)
def test_the_later_of_two_holds(turns: tuple[str, ...], question: str, value: str) -> None:
    """A correction wins; another cat is no correction."""
    found = answer(talk(*turns), question)

    assert found is not None
    assert value in found[1]


@pytest.mark.parametrize(
    ("asked", "said", "question", "value"),
    [
        ("Hi! What's your name?", "i'm tom", "what's my name?", "Tom"),
        ("Hi! What's your name?", "Tom", "what's my name?", "Tom"),
        ("I don't know your name yet. What's your name?", "it's ben", "what's my name?", "Ben"),
        ("Your name is Tom.", "no, it's Ben", "what's my name?", "Ben"),
        ("你好，你叫什么？", "我是小红", "我叫什么", "小红"),
    ],
)
def test_a_name_may_answer_the_bot(asked: str, said: str, question: str, value: str) -> None:
    """ "I'm Tom" is a name where the bot has just asked for one, or named another."""
    found = answer(["hi", asked, said, "Nice."], question)

    assert found is not None
    assert value in found[1]


@pytest.mark.parametrize(
    "said", ["i'm tired", "i'm not telling you", "no cake", "guess", "i'm feeling sad", "what's yours?"]
)
def test_what_is_no_name_is_none(said: str) -> None:
    """Nor where the bot has just asked for one."""
    found = answer(["hi", "Hi! What's your name?", said, "Nice."], "what's my name?")

    assert found is None or found[0] == "name-untold"


@pytest.mark.parametrize(
    ("question", "kind"),
    [
        ("what's my name?", "name"),
        ("what is my cat's name?", "named"),
        ("where do i live?", "home"),
        ("where am i from?", "origin"),
        ("what's my job?", "job"),
        ("how old am i?", "age"),
        ("what's my favourite colour?", "favourite"),
        ("我叫什么？", "name"),
        ("我的猫叫什么？", "named"),
        ("我住哪？", "home"),
        ("我是哪里人？", "origin"),
        ("我是做什么的？", "job"),
        ("我几岁？", "age"),
        ("我最喜欢的颜色是什么？", "favourite"),
    ],
)
def test_what_was_never_told_is_said_so(question: str, kind: str) -> None:
    """Neither being tired nor what the bot says of itself tells anything."""
    history = [
        "i'm tired",
        "My name is Rex, I live in Rome and I'm 34. I'm a nurse.",
        "我很累",
        "我叫小家，我住在上海。",
    ]
    same_language = history[2:] if "我" in question else history[:2]

    found = answer(same_language, question)

    assert found is not None
    assert found[0] == f"{kind}-untold"
    assert not {"Rex", "Rome", "34", "nurse", "小家", "上海"} & set(found[1].split())


@pytest.mark.parametrize(
    ("told", "question"),
    [
        ("my name is a secret", "what's my name?"),
        ("call me later", "what's my name?"),
        ("is my name Tom?", "what's my name?"),
        ("if my name is Tom, i laugh", "what's my name?"),
        ("she said my name is Tom", "who am i?"),
        ("hello, i'm tom", "what's my name?"),
        ("i have two cats called Mia and Leo", "what's my cat's name?"),
        ("i live in fear", "where do i live?"),
        ("i'm a vegetarian", "what's my job?"),
        ("我叫了外卖", "我叫什么？"),
        ("我妈妈叫我吃饭", "我妈妈叫什么？"),
        ("我是好人", "我是哪里人？"),
        ("我的猫叫咪咪", "what's my cat's name?"),
        ("my name is Tom", "what's your name?"),
        ("my name is Tom", "what's my last name?"),
        ("my name is Tom", "who am i to judge"),
        ("my name is Tom", "what's my name day"),
        ("my name is Tom", "guess my name"),
        ("my name is Tom", "i wonder what people think of my name"),
        ("i'm a nurse", "what do i do now?"),
        ("i'm a nurse", "My car broke. What do I do?"),
        ("我叫小明", "你叫什么？"),
        ("我叫小明", "我不告诉你我叫什么"),
    ],
)
def test_in_doubt_nothing_is_said(told: str, question: str) -> None:
    """Neither a wrong value, nor that nothing was told, nor an answer to what was not asked."""
    assert answer(talk(told), question) is None


def test_an_answer_not_understood_is_a_doubt() -> None:
    """Who has told a name is not told that none was told."""
    assert answer(["hi", "Hi! What's your name?", "Captain of the sea, they say", "Ha."], "what's my name?") is None


def test_a_line_may_tell_and_ask() -> None:
    """What stands before the question counts."""
    assert answer([], "My name is Tom. What's my name?") in [
        ("name", "Your name is Tom."),
        ("name", "Tom. That's your name, you told me."),
        ("name", "Your name is Tom, I was listening."),
    ]


def test_the_seed_draws_the_wording() -> None:
    """The same seed the same words; all wordings come up."""
    history = talk("my name is Tom")

    said = [recall(history, "what's my name?", seed) for seed in range(3)]

    assert len({one.text for one in said if one}) == 3
    assert said[1] == recall(history, "what's my name?", 1)


@given(st.lists(st.text(max_size=60), max_size=6), st.text(max_size=80), st.none() | st.integers())
def test_it_takes_anything(history: list[str], text: str, seed: int | None) -> None:
    """No text makes it fail, as what was told or as what is asked."""
    recall(history, text, seed)
    recall([*history, text, ""], "what's my name?", seed)
    recall([*history, text, "What's your name?", *history, ""], "我叫什么", seed)


@given(
    st.sampled_from(["my name is ", "我叫", "i live in ", "i'm ", "my cat is called ", "我是"]), st.text(max_size=200)
)
def test_values_are_short(start: str, value: str) -> None:
    """However much follows, an answer stays a line."""
    for question in ("what's my name?", "where do i live?", "what's my cat's name?", "我叫什么"):
        found = recall(talk(start + value), question)

        assert found is None or "\n" not in found.text
