"""What counts as the same thing said, and what does not however alike it looks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatbot.matching import compared, forms, gist, kind, kindred, wording

SAME = [
    ("What's your name?", "whats ur name"),
    ("i'm so sad today", "feeling sad"),
    ("tell me a joke", "can u tell me a joke pls"),
    ("Do you like cats?", "do you like a cat"),
    ("I hate my job", "hate my job"),
    ("thank you so much!!", "thx"),
    ("hellooo", "hello"),
    ("my mom is ill", "my mother is ill"),
    ("what's your favourite colour", "what is your favorite color"),
    ("hey, what's up", "what is up?"),
    ("i feel tired", "I'm really tired"),
    ("你喜欢喝茶吗？", "您喜不喜欢喝茶呀"),
    ("讲个笑话", "能给我讲一个笑话吗"),
    ("我好累啊", "我太累了"),
    ("你叫什么名字", "你叫啥名字呢"),
]
DIFFERENT = [
    ("i like tea", "i hate tea"),
    ("i like tea", "i like coffee"),
    ("i like tea", "i do not like tea"),
    ("i am ugly", "am i ugly?"),
    ("i'm bored", "i'm boring"),
    ("do you like me", "do i like you"),
    ("what are you", "what do you do"),
    ("who are you", "how are you"),
    ("my dog bit me", "i bit my dog"),
    ("did you sleep", "do you sleep"),
    ("me too", "me"),
    ("i love you", "you love me"),
    ("bad bot", "i feel bad"),
    ("你真好", "你好吗"),
    ("下雨了", "下雨了吗"),
    ("我喜欢你", "我不喜欢你"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_the_same_said_otherwise(one: str, other: str) -> None:
    """Spelling, fillers, light words and politeness change nothing."""
    assert forms(one) & forms(other)


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_what_is_another_thing(one: str, other: str) -> None:
    """Other things, other persons, "not", a question: these change all."""
    assert not forms(one) & forms(other)


@pytest.mark.parametrize(
    ("one", "other", "may"),
    [
        ("waiting for a friend at home", "i'm waiting at home for a friend", True),
        ("i hate horror movies", "i love horror movies", False),
        ("i lied to my friend", "my friend lied to me", False),
        ("what is love to you", "what do you love", False),
        ("cold", "i have a cold", False),
        ("route 66", "route 77", False),
        ("可乐鸡翅怎么做", "怎么做可乐鸡翅", True),
        ("我养狗了", "我想养狗", False),
    ],
)
def test_who_may_be_kindred(one: str, other: str, may: bool) -> None:
    """Of lines that share their words: not where a word that decides, or who does what to whom, is another."""
    assert kindred(gist(one), gist(other)) == may


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("do you like tea", "asks"),
        ("tea?", "asks"),
        ("please tell me a joke", "wants"),
        ("i like tea", "tells"),
        ("你喜欢茶吗", "asks"),
        ("讲个笑话", "wants"),
        ("我喜欢茶", "tells"),
    ],
)
def test_what_kind_of_line_it_is(text: str, what: str) -> None:
    """One that asks, one that wants something done, or one that tells."""
    assert kind(text) == what


@given(st.text(max_size=60))
def test_any_text_has_its_forms(text: str) -> None:
    """No text makes it fail, and only nothing comes down to nothing."""
    assert bool(wording(text)) == bool(compared(text)) == bool(gist(text))
