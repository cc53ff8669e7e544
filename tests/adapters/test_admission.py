"""Who is answered, and how much: the lists and the allowances that all messengers share."""

from __future__ import annotations

import pytest
from talking import said

from adapters.admission import Admission, Verdict
from chatbot.access import Access, AccessList, Limits
from chatbot.errors import UsageError
from chatbot.messages import Message

FREE = Limits(0, 0)


def by(sender: str, chat: str = "c", platform: str = "telegram") -> Message:
    """Something said."""
    return said("hi", 1, chat, platform, sender=sender)


class Clock:
    """Seconds that a test lets pass."""

    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        """The time."""
        return self.time


@pytest.mark.parametrize(
    ("access", "verdict"),
    [
        (Access(), "welcome"),
        (Access(block=AccessList(users=("telegram:7",))), "ignore"),
        (Access(block=AccessList(chats=("telegram:c",))), "ignore"),
        (Access(block=AccessList(roles=("telegram:r2",))), "ignore"),
        (Access(block=AccessList(guilds=("telegram:g",))), "ignore"),
        (Access(block=AccessList(users=("discord:7",))), "welcome"),
        (Access(allow=AccessList(users=("telegram:7",))), "welcome"),
        (Access(allow=AccessList(users=("telegram:8",))), "ignore"),
        (Access(allow=AccessList(users=("discord:8",))), "welcome"),
        (Access(allow=AccessList(users=("telegram:8",), roles=("telegram:r1",))), "welcome"),
        (Access(allow=AccessList(chats=("telegram:d",))), "ignore"),
        (Access(allow=AccessList(chats=("telegram:d",), guilds=("telegram:g",))), "welcome"),
        (Access(allow=AccessList(users=("telegram:7",), chats=("telegram:d",))), "ignore"),
        (Access(allow=AccessList(users=("telegram:7",)), block=AccessList(users=("telegram:7",))), "ignore"),
        (Access(block=AccessList(users=("telegram:7",)), admins=("telegram:7",)), "welcome"),
    ],
)
def test_lists(access: Access, verdict: Verdict) -> None:
    """Blocks outdo what is allowed; person and place must both be allowed; admins always are; platforms are apart."""
    decided = Admission(access, FREE).decide(by("7"), roles=["r1", "r2"], guild="g")

    assert decided == verdict


def test_a_person_over_the_limit_is_told_once() -> None:
    """As many as a minute holds come at once; the next one is told, those after that are not, others go on."""
    clock = Clock()
    admission = Admission(Access(), Limits(3, 0), clock)

    verdicts = [admission.decide(by("7", f"chat {number}")) for number in range(6)]

    assert verdicts == ["welcome"] * 3 + ["notice", "ignore", "ignore"]
    assert admission.decide(by("8")) == "welcome"
    assert admission.decide(by("7", platform="discord")) == "welcome"


def test_an_allowance_fills_up_again() -> None:
    """A third of a minute is one of three; who has kept still for long enough is told anew when it runs dry again."""
    clock = Clock()
    admission = Admission(Access(), Limits(3, 0), clock)
    for _ in range(4):
        admission.decide(by("7"))

    clock.time += 20
    soon = [admission.decide(by("7")) for _ in range(2)]
    clock.time += 60
    later = [admission.decide(by("7")) for _ in range(4)]

    assert soon == ["welcome", "ignore"]
    assert later == ["welcome"] * 3 + ["notice"]


def test_a_chat_has_an_allowance_of_its_own() -> None:
    """Many people in one chat share it, and what one of them may not say there costs them nothing elsewhere."""
    admission = Admission(Access(), Limits(2, 3), Clock())

    verdicts = [admission.decide(by(str(number))) for number in range(5)]

    assert verdicts == ["welcome"] * 3 + ["notice", "ignore"]
    assert [admission.decide(by("4", "d")) for _ in range(2)] == ["welcome"] * 2


def test_admins_have_no_limit() -> None:
    """Whoever runs the bot may try it as they like."""
    admission = Admission(Access(admins=("telegram:7",)), Limits(1, 1), Clock())

    assert {admission.decide(by("7")) for _ in range(9)} == {"welcome"}


def test_memory_does_not_grow_with_everybody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Allowances that are full again are let go of; those that are not stay in force."""
    monkeypatch.setattr("adapters.admission._MANY", 11)
    clock = Clock()
    admission = Admission(Access(), Limits(1, 0), clock)
    for number in range(40):
        clock.time += 30
        admission.decide(by(str(number)))

    assert len(admission._allowances) <= 12
    assert admission.decide(by("39")) == "notice"


@pytest.mark.parametrize("written", ["7", "telegram:", ":7", "Telegram:7", "telegram: 7"])
def test_ids_name_their_platform(written: str) -> None:
    """An id that could be anybody's is refused with how to write it."""
    with pytest.raises(UsageError, match="such as telegram:123456"):
        AccessList(users=(written,))
    with pytest.raises(UsageError, match="such as telegram:123456"):
        Access(admins=(written,))


def test_limits_have_a_range() -> None:
    """A limit below nothing is refused."""
    with pytest.raises(UsageError, match="user_per_minute is -1"):
        Limits(user_per_minute=-1)
