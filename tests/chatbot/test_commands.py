"""The slash commands: what is one, what each does to the store, and in which language it says so."""

from __future__ import annotations

import string
from collections.abc import Iterator
from dataclasses import fields, replace

import pytest
from talking import KEY, said, talk

from chatbot.commands import Command, Commands, parse_command
from chatbot.messages import Reply
from chatbot.store import ConversationStore
from chatbot.wording import CHINESE, ENGLISH

NAMES = (
    "start",
    "help",
    "privacy",
    "reset",
    "consent",
    "mydata",
    "forget",
    "teach",
    "good",
    "bad",
    "settings",
    "stats",
)


@pytest.fixture
def store() -> Iterator[ConversationStore]:
    """A store in memory."""
    opened = ConversationStore("sqlite://", KEY)
    yield opened
    opened.close()


def run(store: ConversationStore, text: str, **more: object) -> Reply:
    """The reply to a command."""
    message = replace(said(text, 999), **more)  # type: ignore[arg-type]
    command = parse_command(text)
    assert command is not None
    return Commands(store).run(command, message)


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("/help", Command("help", "")),
        ("  /Help \n", Command("help", "")),
        ("/teach  two\nlines ", Command("teach", "two\nlines")),
        ("/consent yes", Command("consent", "yes")),
        ("／help", Command("help", "")),
        ("/nonsense", Command("nonsense", "")),
        ("/etc/passwd is a file", None),
        ("/ help", None),
        ("//", None),
        ("1/2", None),
        ("see /help", None),
        ("/2", None),
        ("", None),
    ],
)
def test_what_is_a_command(text: str, command: Command | None) -> None:
    """A slash and a word at the start of a message make a command; paths and fractions are text."""
    assert command == parse_command(text)


def test_help_names_every_command(store: ConversationStore) -> None:
    """Every command there is stands in the help of both languages, and nothing in it is unknown."""
    for text in ("/help", "/help 中文"):
        shown = run(store, text).text
        assert all(f"/{name}" in shown for name in NAMES)
    assert set(NAMES) == set(Commands(store)._known)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("language", ["", " 中文"])
def test_every_command_answers_in_both_languages_on_an_empty_store(
    store: ConversationStore, name: str, language: str
) -> None:
    """Each command says something in the language of its line, before anything was ever written in the chat."""
    reply = run(store, f"/{name}{language}")

    assert ("command", "command", name) == (reply.engine, reply.model_id, reply.detail)
    assert reply.text
    assert bool(language) == any(
        "\u4e00" <= sign <= "\u9fff" for sign in reply.text.replace("中文说明：/help 中文", "")
    )


def test_both_languages_fill_in_the_same_fields() -> None:
    """A text has the same names in braces in English and in Chinese."""

    def names(value: object) -> object:
        if isinstance(value, dict):
            return {key: names(item) for key, item in value.items()}
        return {name for _, name, _, _ in string.Formatter().parse(str(value)) if name}

    for item in fields(ENGLISH):
        assert names(getattr(ENGLISH, item.name)) == names(getattr(CHINESE, item.name)), item.name


def test_unknown_command_names_help(store: ConversationStore) -> None:
    """A command that does not exist is answered with a way on, shortened if it is endless."""
    reply = run(store, "/" + "a" * 1000)

    assert "/help" in reply.text
    assert len(reply.text) < 200


def test_reset(store: ConversationStore) -> None:
    """After /reset nothing said before is in a history; it stays in the store."""
    talk(store, "a", "b")

    run(store, "/reset")

    last = store.record_message(said("c", 7)).id
    assert store.history(last, 6) == []
    assert len(store.my_data("terminal", "me")) == 3


def test_reset_is_for_its_thread(store: ConversationStore) -> None:
    """/reset in a thread leaves the rest of the chat alone."""
    talk(store, "a", "b")

    run(store, "/reset", thread="t")

    assert store.history(store.record_message(said("c", 7)).id, 6) == ["a", "b"]


def test_teach(store: ConversationStore) -> None:
    """/teach corrects the last reply: the talk goes on as if the bot had said so."""
    talk(store, "a", "b")

    reply = run(store, "/teach much better")

    assert ENGLISH.taught["allowed"] == reply.text
    assert store.history(store.record_message(said("c", 7)).id, 6) == ["a", "much better"]


@pytest.mark.parametrize("text", ["/teach something", "/good", "/bad"])
def test_feedback_without_a_reply(store: ConversationStore, text: str) -> None:
    """What is about the last reply says so where there is none, and stores nothing."""
    assert ENGLISH.no_reply_yet == run(store, text).text
    assert store.my_data("terminal", "me") == []


def test_teach_without_text(store: ConversationStore) -> None:
    """/teach alone shows how it is used."""
    talk(store, "a", "b")

    assert ENGLISH.teach_usage == run(store, "/teach").text


@pytest.mark.parametrize(("text", "kept"), [("/good", "+1"), ("/bad", "-1")])
def test_rating(store: ConversationStore, text: str, kept: str) -> None:
    """/good and /bad rate the last reply."""
    talk(store, "a", "b")

    run(store, text)

    assert [kept] == [r.text for r in store.my_data("terminal", "me") if r.kind == "rating"]


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("/consent yes", ["given"]),
        ("/consent 同意", ["given"]),
        ("/consent no", ["withdrawn"]),
        ("/consent NO", ["withdrawn"]),
        ("/consent", []),
        ("/consent status", []),
        ("/consent perhaps", []),
    ],
)
def test_consent(store: ConversationStore, text: str, kept: list[str]) -> None:
    """Only a clear yes or no goes into the ledger."""
    run(store, text)

    assert kept == [r.text for r in store.my_data("terminal", "me") if r.kind == "consent"]


def test_consent_status_follows_the_ledger(store: ConversationStore) -> None:
    """In a terminal learning is allowed by default; the status says so, and what was decided last."""
    before = run(store, "/consent").text
    run(store, "/consent no")
    after = run(store, "/consent status").text

    assert ENGLISH.learning["allowed"] in before
    assert ENGLISH.consent_state[False] not in before
    assert ENGLISH.consent_state[False] in after


def test_consent_where_the_platform_forbids(store: ConversationStore) -> None:
    """On a platform that forbids learning nobody is asked, and a yes is not recorded."""
    for text in ("/consent yes", "/consent"):
        assert ENGLISH.learning["never"] == run(store, text, platform="discord").text
    assert store.my_data("discord", "me") == []


def test_consent_version_changes_with_the_terms() -> None:
    """What the ledger keeps of the wording differs as soon as the text or the language does."""
    assert ENGLISH.consent_version != replace(ENGLISH, consent_terms="other terms").consent_version
    assert ENGLISH.consent_version != CHINESE.consent_version


@pytest.mark.parametrize(
    ("platform", "rule"), [("terminal", "allowed"), ("telegram", "consented"), ("other", "consented")]
)
def test_privacy_tells_what_may_be_learnt_here(store: ConversationStore, platform: str, rule: str) -> None:
    """/privacy states the rule that holds on the platform it is asked on."""
    assert ENGLISH.learning[rule] in run(store, "/privacy", platform=platform).text


def test_privacy_tells_how_long_words_are_kept(store: ConversationStore) -> None:
    """Until they are erased, or, where whoever runs the bot has said so, for a number of days."""
    command, message = Command("privacy", ""), said("/privacy", 1)

    assert ENGLISH.kept_for_ever in Commands(store).run(command, message).text
    assert "erased 30 days after" in Commands(store, kept_days=30).run(command, message).text


def test_my_data_shows_this_chat_only(store: ConversationStore) -> None:
    """/mydata counts and shows what is kept of the person in this chat, and nothing written elsewhere."""
    talk(store, "hello there", "oh hi")
    talk(store, "a private word", "indeed", chat="other")
    run(store, "/good")

    shown = run(store, "/mydata").text

    assert "messages 1, my replies to them 1" in shown
    assert "hello there" in shown
    assert "+1" in shown
    assert "private" not in shown


def test_my_data_is_short_however_much_there_is(store: ConversationStore) -> None:
    """Long texts are cut and only the latest records shown; the counts are of all."""
    talk(store, *(["x" * 1000, "y"] * 29))

    shown = run(store, "/mydata").text

    assert "messages 29" in shown
    assert len(shown) < 6000


def test_forget_erases_this_chat(store: ConversationStore) -> None:
    """/forget erases the person's words here with the replies; what was written elsewhere stays."""
    talk(store, "a", "b")
    talk(store, "c", "d", chat="other")

    reply = run(store, "/forget")

    assert "messages 1, my replies to them 1" in reply.text
    assert [record.text for record in store.my_data("terminal", "me")] == ["c", "d"]
    assert ENGLISH.forgotten_none == run(store, "/forget").text


def test_forget_all(store: ConversationStore) -> None:
    """/forget all erases the person's words in every chat of the platform."""
    talk(store, "a", "b")
    talk(store, "c", "d", chat="other")

    run(store, "/forget all")

    assert store.my_data("terminal", "me") == []


def test_forget_as_a_reply_erases_that_message(store: ConversationStore) -> None:
    """/forget in reply to a message erases this one alone."""
    talk(store, "a", "b", "c", "d")

    run(store, "/forget", reply_to="2")

    assert [record.text for record in store.my_data("terminal", "me")] == ["a", "b"]


def test_stats(store: ConversationStore) -> None:
    """/stats counts what is stored."""
    talk(store, "a", "b", "c", "d")
    run(store, "/good")

    shown = run(store, "/stats").text

    assert "chats 1, messages 2, replies 2; liked 1" in shown


def test_settings_say_how_things_stand(store: ConversationStore) -> None:
    """What can be set is named, with what the person has decided in this chat so far."""
    before = run(store, "/settings", platform="telegram").text
    run(store, "/consent yes", platform="telegram")
    after = run(store, "/settings", platform="telegram").text

    assert "/consent no" in before
    assert ENGLISH.consent_state[None] in before
    assert ENGLISH.consent_state[True] in after
    assert ENGLISH.learning["never"] in run(store, "/settings", platform="discord").text


def test_a_link_can_lead_to_consent(store: ConversationStore) -> None:
    """`t.me/bot?start=consent` arrives as "/start consent" and shows the terms; it agrees to nothing."""
    shown = run(store, "/start consent", platform="telegram").text

    assert ENGLISH.consent_terms in shown
    assert store.my_data("telegram", "me") == []
