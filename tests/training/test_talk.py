"""How a model talks: each figure on answers for which it can be worked out, prompts, and the vote."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatbot import engine as engines
from chatbot.cli import main
from chatbot.engine import EchoEngine
from chatbot.errors import UsageError
from chatbot.matching import compared
from chatbot.messages import Reply
from training.corpus import read_dialogues
from training.pipeline import shipped_dialogues
from training.talk import (
    Answer,
    Prompt,
    answers,
    blind_pairs,
    read_prompts,
    red_team,
    report,
    reports,
    shipped_prompts,
    sign_test,
    talks,
)


class Scripted(EchoEngine):
    """Says what stands in `lines` for a text, else `otherwise`."""

    def __init__(self, lines: Mapping[str, str], otherwise: str = "Green tea, or black?") -> None:
        self.lines, self.otherwise = lines, otherwise

    async def reply(
        self,
        history: Sequence[str],
        text: str,
        *,
        seed: int | None = None,
        options: Mapping[str, object] | None = None,
    ) -> Reply:
        """The line for it."""
        return Reply(self.lines.get(text, self.otherwise), "scripted", "seq2seq")


def said(*pairs: tuple[str, str], engine: str = "seq2seq") -> list[Answer]:
    """Answers to prompts of one line each."""
    return [Answer(Prompt((asked,)), Reply(text, "m", engine)) for asked, text in pairs]


def test_distinct_n_worked_out_by_hand() -> None:
    """Distinct words, and pairs of words within a reply, over all of them (Li et al. 2016, section 5.3)."""
    figures = report(said(("x", "Tea, tea or tea?"), ("y", "Or tea.")), [], [], frozenset())

    assert figures.distinct_1 == 2 / 6  # tea or
    assert figures.distinct_2 == 3 / 4  # tea-tea tea-or or-tea, or-tea again
    assert figures.words == 3


def test_each_flaw_is_counted() -> None:
    """A commonplace, an echo, a copy of what is known, and nothing at all: one of four each."""
    flawed = said(
        ("what is new", "I see."),
        ("i like green tea", "I like green tea!"),
        ("my soup", "The soup is far too hot."),
        ("hm", "…"),
    )

    figures = report(flawed, [], [], frozenset({"the soup is far too hot"}))

    assert (figures.generic, figures.echo, figures.copy, figures.empty) == (0.5, 0.25, 0.25, 0.25)
    assert report(said(("my soup", "The soup is far too hot."), engine="retrieval"), [], [], frozenset()).copy == 0


def test_repetition_is_of_earlier_lines_and_within_a_reply() -> None:
    """A line that the bot said before in the talk, but for a slip; or four words twice. What a person says may come."""
    talk = ("hi", "Do you like tea?", "yes", "Green tea, or black?", "hm")
    lines = ["do you like tea", "one two three four and one two three four", "hm", "Milk?"]
    going_on = [Answer(Prompt(talk), Reply(line, "m", "seq2seq")) for line in lines]

    assert report([], going_on, [], frozenset()).repetition == 0.5


def test_a_repeating_bot_is_found_in_talks_that_go_on() -> None:
    """Each fifth prompt of one line begins a talk of seven lines, in its language, with the bot's own lines in it."""
    prompts = [Prompt((f"hello {n}",)) for n in range(6)] + [Prompt(("你好", "你好！", "哈哈"))]

    going_on = talks(Scripted({}), prompts, 0)

    assert len(going_on) == 2 * 7
    assert going_on[1].prompt.turns == ("hello 0", "Green tea, or black?", "tell me more")
    assert report([], going_on, [], frozenset()).repetition == 12 / 14


def test_unsafe_and_needless_answers_are_counted_by_language() -> None:
    """A line that a rule has to answer and the engine did is unsafe; a harmless one that a rule did is needless."""
    lines = red_team()
    engine = Scripted({})

    figures = reports(
        engine, [Prompt(("hi",)), Prompt(("你好",))], said(("hi", "Tea?"), ("你好", "茶？")), frozenset(), 0
    )

    must = sum(unsafe for _, unsafe in lines)
    assert (figures["all"].unsafe, figures["all"].unsafe_of) == (must, must)
    assert (figures["all"].needless, figures["all"].needless_of) == (0, len(lines) - must)
    assert figures["en"].unsafe + figures["zh"].unsafe == must
    assert report([], [], said((lines[0][0], "Please talk to somebody."), engine="rules"), frozenset()).unsafe == 0


def test_shipped_prompts_are_many_and_nobodys_dialogue() -> None:
    """At least 100 English and 60 Chinese ones, each once, a third of several turns; hardly any is a known line."""
    prompts = shipped_prompts()
    first_lines = {
        compared(line)
        for dialogue in read_dialogues(shipped_dialogues("dialogues"))
        for line in (dialogue.turns[0], *dialogue.also)
    }

    languages = [prompt.language for prompt in prompts]
    single = [prompt.turns[0] for prompt in prompts if len(prompt.turns) == 1]
    assert languages.count("en") >= 100
    assert languages.count("zh") >= 60
    assert len({prompt.turns for prompt in prompts}) == len(prompts)
    assert len(prompts) - len(single) >= len(prompts) / 3
    assert sum(compared(line) in first_lines for line in single) <= len(single) / 20


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"turns": ["a"]}\n{"turns": ["a", "b"]}\n', "line 2"),
        ('{"turns": "a"}', "line 1"),
        ("[" * 9999, "line 1"),
        ("", "no prompts"),
    ],
)
def test_broken_prompts_are_named(tmp_path: Path, text: str, problem: str) -> None:
    """One line with the number of the one at fault."""
    (tmp_path / "mine.jsonl").write_text(text, encoding="utf-8")

    with pytest.raises(UsageError, match=problem):
        read_prompts([tmp_path / "mine.jsonl"])


@given(st.integers(0, 60), st.integers(0, 60))
def test_the_sign_test_is_a_chance(first: int, second: int) -> None:
    """Between 0 and 1, the same for both sides, 1 for a draw."""
    assert 0 < sign_test(first, second) <= 1
    assert sign_test(first, second) == sign_test(second, first)
    assert sign_test(first, first) == 1


def test_the_sign_test_worked_out_by_hand() -> None:
    """Nine wins of ten: twice (1 + 10) / 1024."""
    assert sign_test(9, 1) == pytest.approx(22 / 1024)


def test_blind_pairs_show_what_differs_in_any_order() -> None:
    """Equal answers are left out; each of the others comes once, some swapped, and the flag undoes it."""
    first = said(*((f"q{n}", f"first {n}") for n in range(19)), ("same", "same"))
    second = said(*((f"q{n}", f"second {n}") for n in range(19)), ("same", "same"))

    pairs = blind_pairs(first, second, 3)

    assert {swapped for *_, swapped in pairs} == {False, True}
    back = [(b, a) if swapped else (a, b) for a, b, swapped in pairs]
    assert sorted(a.reply.text for a, _ in back) == sorted(answer.reply.text for answer in first[:-1])
    assert all(b.reply.text == a.reply.text.replace("first", "second") for a, b in back)


@pytest.fixture
def two_models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Models "good" and "poor", and a file with three prompts, on one of which they agree."""
    lines = {"q1": "Tea with milk.", "q2": "Soup with leeks.", "q3": "Same for both of us."}
    poor = {"q1": "I see.", "q2": "Ok.", "q3": "Same for both of us."}
    monkeypatch.setattr(engines, "load_engine", lambda model, **_: Scripted(lines if model == "good" else poor))
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps({"turns": [text]}) + "\n" for text in lines), encoding="utf-8")
    return path


def test_two_models_side_by_side(two_models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Figures of both and the answers to each prompt, as a table and as JSON."""
    command = ("evaluate", "good", "--against", "poor", "--chat", "--prompts", str(two_models))
    assert main(command) == 0
    table = capsys.readouterr().out
    assert main((*command, "--json")) == 0
    found = json.loads(capsys.readouterr().out)

    assert "q1\n  [seq2seq] Tea with milk.\n  [seq2seq] I see.\n" in table
    assert "generic                 0.0%        0.0%" in table
    assert [model["figures"]["all"]["generic"] for model in found["models"]] == [0, pytest.approx(2 / 3)]
    assert [reply["text"] for reply in found["answers"][1]["replies"]] == ["Soup with leeks.", "Ok."]


def test_a_blind_vote(two_models: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever always prefers the longer answer votes for "good", wherever it stands; nonsense is asked again."""

    class Voter:
        def readline(self) -> str:
            shown = capsys.readouterr().out.splitlines()[-2:]
            votes.append(max((line[5:], line[2]) for line in shown if line[2:3] in "12" and "with" in line)[1])
            return votes[-1]

    votes: list[str] = []
    monkeypatch.setattr("sys.stdin", Voter())

    assert main(("evaluate", "good", "--against", "poor", "--vote", "--prompts", str(two_models))) == 0

    out = capsys.readouterr().out
    assert len(votes) == 2
    assert "good: preferred 2 times\npoor: preferred 0 times\nas good: 0\nsign test: p = 0.500" in out


def test_a_vote_that_is_stopped(
    two_models: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was voted till then counts; the end of the input is a stop."""

    class Lines:
        def __init__(self, lines: Iterable[str]) -> None:
            self.lines = iter(lines)

        def readline(self) -> str:
            return next(self.lines, "")

    monkeypatch.setattr("sys.stdin", Lines(["what?\n", "=\n"]))

    assert main(("evaluate", "good", "--against", "poor", "--vote", "--prompts", str(two_models))) == 0

    assert "as good: 1\nsign test: p = 1.000" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("evaluate", "echo"), "--data PATH..., or let it talk: --chat"),
        (("evaluate", "echo", "--vote"), "--against MODEL"),
        (("evaluate", "echo", "--chat", "--set", "temprature=1", "--prompts", "absent.jsonl"), "absent.jsonl"),
    ],
)
def test_wrong_use_is_one_line(
    arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Exit code 2 and what would be right."""
    assert main(arguments) == 2

    assert said in capsys.readouterr().err


def test_answers_keep_the_order_of_the_prompts() -> None:
    """However the engine batches them, each prompt has its own answer, asked with the turns before."""
    prompts = [Prompt((f"line {n}",)) for n in range(37)]

    found = answers(EchoEngine(), prompts, 0)

    assert [answer.reply.text for answer in found] == [prompt.turns[0] for prompt in prompts]
