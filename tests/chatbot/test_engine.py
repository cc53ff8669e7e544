"""The engines through `load_engine` and `reply`, over tiny random models on disk, and the runtime beneath."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chatbot import seq2seq
from chatbot.checkpoint import save_model_folder
from chatbot.decoding import DecodingOptions, DecodingResult, decode_all
from chatbot.engine import EchoEngine, Engine, LiveEngine, load_engine
from chatbot.errors import EngineBusyError, ModelFolderError, UsageError
from chatbot.messages import Reply
from chatbot.model import DecoderState, ModelConfig, Seq2Seq
from chatbot.ranking import Candidate, Contest, Markers, rank
from chatbot.registry import Registry
from chatbot.runtime import TorchRuntime, choose_device
from chatbot.seq2seq import Seq2SeqEngine
from chatbot.tokenizer import Tokenizer

PATIENCE_S = 20  # how long a test waits for what must come at once, before it fails
LINES = ["hello there, how are you?", "i am fine, thank you", "what is your name?", "你好，你叫什么名字？"]
SOURCES = ["familect", "other", "reversed"]
BAD_INPUT = ["", " \t\n", "x" * 100_000, "好" * 100_000, "\x00\x1b[2J", "\ud800", "مرحبا بك", "😀🏳️‍🌈", "<bot></s>"]


def make_model(
    folder: Path, seed: int, decoding: Mapping[str, object] | None = None, known: Path | None = None
) -> Path:
    """A model folder with random weights and no training: it says nothing sensible, and always the same."""
    torch.manual_seed(seed)
    tokenizer = Tokenizer.train(LINES, 300, SOURCES)
    model = Seq2Seq(ModelConfig(len(tokenizer), 19, 11, 23, attention="additive" if seed % 2 else "general"))
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(3)  # pronounced likes and dislikes: near ties would make tests of sameness a gamble
    save_model_folder(
        folder,
        model,
        tokenizer,
        provenance={"parent": None},
        source="familect",
        decoding={"max_tokens": 13} if decoding is None else decoding,
        context={"context_turns": 3, "max_source_tokens": 31, "rename": {}},
        known=known,
    )
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One tiny model for all tests that only read it."""
    return make_model(tmp_path_factory.mktemp("models") / "tiny", seed=1)


@pytest.fixture(scope="module")
def runtime(folder: Path) -> TorchRuntime:
    """It, loaded."""
    return TorchRuntime(folder, "cpu")


@pytest.fixture(scope="module")
def engine(runtime: TorchRuntime) -> Seq2SeqEngine[DecoderState]:
    """An engine around it."""
    return Seq2SeqEngine(runtime)


def essence(reply: Reply) -> tuple[str, object, object, object]:
    """What must not depend on who else is being answered."""
    return reply.text, reply.model_id, reply.seed, dict(reply.settings)


def test_draws_end_a_beam_that_was_set_before(tmp_path: Path) -> None:
    """A model that answers by beam search can be asked to draw, and one that draws for a beam, without naming both."""
    engine = load_engine(make_model(tmp_path / "tiny", seed=1, decoding={"beam_size": 3, "max_tokens": 13}))

    drawn = engine.reply_sync([], "hi", options={"temperature": 0.7})
    beam = engine.reply_sync([], "hi")
    engine.close()

    assert (drawn.settings["beam_size"], drawn.settings["temperature"]) == (1, 0.7)
    assert (beam.settings["beam_size"], beam.settings["temperature"]) == (3, 0.0)
    with pytest.raises(UsageError, match="does not go with"):
        load_engine(tmp_path / "tiny", settings={"beam_size": 3, "temperature": 0.7})


def test_ranking_takes_a_beam_and_draws_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The seed gives the reply again; without ranking the beam remains, without draws the beam alone is ranked."""
    both = {"rank": True, "beam_size": 2, "temperature": 3.0, "candidates": 3, "max_tokens": 13}
    engine = load_engine(make_model(tmp_path / "tiny", seed=1, decoding=both))

    sizes: list[int] = []
    judge = rank

    def counted(
        runtime: TorchRuntime, markers: Markers, contests: Sequence[Contest], unfit: Callable[[str], bool]
    ) -> list[tuple[Candidate, float]]:
        sizes.extend(len(contest.candidates) for contest in contests)
        return judge(runtime, markers, contests, unfit)

    monkeypatch.setattr(seq2seq, "rank", counted)

    ranked, again = (engine.reply_sync([], "hi", seed=7) for _ in range(2))
    beam = engine.reply_sync([], "hi", options={"rank": False})
    alone = engine.reply_sync([], "hi", options={"temperature": 0})
    drawn = engine.reply_sync([], "hi", options={"rank": False, "temperature": 0.5})
    engine.close()

    assert essence(ranked) == essence(again)
    assert sizes == [2 + 3, 2 + 3, 2]
    assert (beam.settings["beam_size"], beam.settings["temperature"], beam.settings["candidates"]) == (2, 0.0, 1)
    assert (alone.settings["beam_size"], alone.settings["temperature"], alone.settings["candidates"]) == (2, 0, 1)
    assert (drawn.settings["beam_size"], drawn.settings["temperature"]) == (1, 0.5)


def test_a_neighbour_that_is_said_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A known reply to a similar question joins where the setting asks for it, and then says where it stands."""
    lines = tmp_path / "known.jsonl"
    asked = {"mine-1": "Do you like green tea?", "mine-2": "Is it raining?", "mine-3": "Who is there?"}
    talk = ({"id": name, "turns": [question, "hello there"]} for name, question in asked.items())
    lines.write_text("".join(json.dumps(line) + "\n" for line in talk), encoding="utf-8")
    engine = load_engine(make_model(tmp_path / "tiny", seed=1, known=lines), settings={"rank": True})
    monkeypatch.setattr("chatbot.ranking._penalty", lambda _, candidate: 0 if candidate.neighbour else 1000)

    neighbour = engine.reply_sync([], "do you like tea", options={"neighbours": 2, "known": False})
    own = engine.reply_sync([], "do you like tea", options={"known": False})
    engine.close()

    assert (neighbour.text, neighbour.engine, neighbour.detail) == ("hello there", "neighbour", "mine-1")
    assert (own.engine, own.detail) == ("seq2seq", None)


def test_what_the_folder_knows_is_answered_without_the_net(tmp_path: Path) -> None:
    """The reply says where it stands and which model brought it; the setting `known` switches it off."""
    lines = tmp_path / "known.jsonl"
    lines.write_text('{"id": "mine-1", "turns": ["Who are you?", "A test."]}\n', encoding="utf-8")
    engine = load_engine(make_model(tmp_path / "tiny", seed=1, known=lines))

    known = engine.reply_sync([], "who are you", seed=5)
    decoded = engine.reply_sync([], "who are you", seed=5, options={"known": False})
    other = asyncio.run(engine.reply([], "something else"))
    engine.close()

    assert (known.text, known.model_id, known.engine, known.detail) == ("A test.", "tiny", "retrieval", "mine-1")
    assert (known.score, known.seed, known.settings["max_tokens"]) == (1.0, 5, 13)
    assert (decoded.engine, other.engine) == ("seq2seq", "seq2seq")
    assert decoded.text != known.text


def test_what_the_person_told_comes_before_known_exchanges(tmp_path: Path) -> None:
    """The reply is marked as recalled; the setting `recall` leaves the question to the rest."""
    lines = tmp_path / "known.jsonl"
    lines.write_text('{"id": "mine-1", "turns": ["What is my name?", "A test."]}\n', encoding="utf-8")
    engine = load_engine(make_model(tmp_path / "tiny", seed=1, known=lines))
    history = ["my name is tom", "Hi."]

    recalled = engine.reply_sync(history, "what's my name?", seed=5)
    again = asyncio.run(engine.reply(history, "what's my name?", seed=5))
    known = engine.reply_sync(history, "what's my name?", options={"recall": False})
    engine.close()

    assert (recalled.engine, recalled.detail, recalled.model_id, recalled.seed) == ("recall", "name", "tiny", 5)
    assert "Tom" in recalled.text
    assert again.text == recalled.text
    assert (known.engine, known.text) == ("retrieval", "A test.")


def test_answers_in_a_batch_are_those_given_alone(runtime: TorchRuntime, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seventeen requests at once, of all lengths, options and histories, get the replies each gets alone."""
    kinds: list[dict[str, object]] = [
        {},
        {"beam_size": 3},
        {"temperature": 0.9, "top_p": 0.9, "candidates": 4},
        {"rank": True, "temperature": 0.9, "candidates": 4, "beam_size": 2},
    ]
    requests = [(LINES[: n % 3], "word " * (n % 7) + LINES[n % 4], kinds[n * 3 % 4]) for n in range(17)]
    engine = Seq2SeqEngine(runtime)
    alone = [engine.reply_sync(history, text, seed=7, options=options) for history, text, options in requests]
    sizes: list[int] = []
    encode = runtime.encode

    def counted(sources: Sequence[Sequence[int]]) -> DecoderState:
        sizes.append(len(sources))
        return encode(sources)

    monkeypatch.setattr(runtime, "encode", counted)

    async def talk() -> list[Reply]:
        return await asyncio.gather(*(engine.reply(h, t, seed=7, options=o) for h, t, o in requests))

    together = asyncio.run(talk())

    assert max(sizes) > 1
    assert [essence(reply) for reply in together] == [essence(reply) for reply in alone]
    assert [reply.score for reply in together] == pytest.approx([reply.score for reply in alone], rel=1e-4)
    engine.close()


def test_a_reply_says_what_produced_it(engine: Seq2SeqEngine[DecoderState]) -> None:
    """Model, score, time, every option in force, ready for JSON, and the seed that gives the reply again."""
    reply = engine.reply_sync([], "hello", options={"temperature": 1.0, "banned": [99]})

    again = engine.reply_sync([], "hello", seed=reply.seed, options=json.loads(json.dumps(reply.settings)))

    assert essence(again) == essence(reply)
    assert (reply.engine, reply.model_id) == ("seq2seq", "tiny")
    assert reply.score is not None
    assert reply.score < 0
    assert reply.duration_ms > 0
    assert reply.settings["max_tokens"] == 13
    assert reply.settings["temperature"] == 1.0


def test_settings_lie_over_one_another(folder: Path) -> None:
    """The model's own defaults, then the engine's settings, then the request's options; a seed likewise."""
    engine = load_engine(folder, device="cpu", settings={"min_tokens": 3, "max_tokens": 5}, seed=11)

    reply = engine.reply_sync([], "hello", options={"max_tokens": 4})

    assert (reply.settings["min_tokens"], reply.settings["max_tokens"]) == (3, 4)
    assert [reply.seed, engine.reply_sync([], "x", seed=12).seed] == [11, 12]
    assert engine.reply_sync([], "x", options={"seed": 13}).seed == 13
    engine.close()


def test_wrong_settings_are_refused_when_the_engine_opens(folder: Path) -> None:
    """A misspelt setting does not wait for the first message; one of a single request costs only that request."""
    with pytest.raises(UsageError, match="did you mean 'temperature'"):
        load_engine(folder, device="cpu", settings={"temprature": 1})
    engine = load_engine(folder, device="cpu")
    with pytest.raises(UsageError, match="beam_size"):
        engine.reply_sync([], "hello", options={"beam_size": 0})

    assert engine.reply_sync([], "hello").text
    engine.close()


@pytest.mark.parametrize("text", BAD_INPUT)
def test_bad_input_gets_an_answer(engine: Seq2SeqEngine[DecoderState], text: str) -> None:
    """Blank, 100 kB, control characters, lone surrogates, right-to-left, emoji, marker look-alikes; as history too."""
    reply = engine.reply_sync([text, text], text)

    assert reply.text.strip()
    assert reply.text.encode()


@settings(deadline=None, max_examples=25)
@given(history=st.lists(st.text(max_size=40), max_size=5), text=st.text(max_size=200))
def test_any_text_gets_an_answer(engine: Seq2SeqEngine[DecoderState], history: list[str], text: str) -> None:
    """No text and no history, of any parity, makes the engine fail or fall silent."""
    assert engine.reply_sync(history, text).text


def test_the_end_of_a_long_text_counts(engine: Seq2SeqEngine[DecoderState], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 100 kB only the nearest part is read: the reply is that to its end, and the tokenizer never sees the rest."""
    longest: list[int] = []
    encode = Tokenizer.encode

    def measured(self: Tokenizer, text: str) -> list[int]:
        longest.append(len(text))
        return encode(self, text)

    monkeypatch.setattr(Tokenizer, "encode", measured)
    end = "name " * 200

    reply = engine.reply_sync(["y" * 100_000], "x" * 100_000 + end, seed=1)

    assert engine.reply_sync(["y" * 100_000], end, seed=1).text == reply.text
    assert max(longest) <= 16 * 31


def test_decoding_is_told_what_it_needs(
    engine: Seq2SeqEngine[DecoderState], runtime: TorchRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It reads as many turns as in training, and may not repeat the bot's last two turns, whatever people said."""
    told: list[object] = []

    def listening(
        runtime: TorchRuntime,
        sources: Sequence[Sequence[int]],
        options: Sequence[DecodingOptions],
        said: Sequence[list[list[int]]],
    ) -> list[list[DecodingResult]]:
        told.extend([*sources, *said])
        return decode_all(runtime, sources, options, said)

    monkeypatch.setattr(seq2seq, "decode_all", listening)

    engine.reply_sync(["u1", "bot one", "u2", "bot two", "u3", "bot three"], "u4")

    read = runtime.tokenizer.encode_context(["u3", "bot three"], "u4", "familect", 31)
    assert told == [read, [runtime.tokenizer.encode("bot three"), runtime.tokenizer.encode("bot two")]]


@pytest.mark.parametrize(("text", "start"), [("hello", "A lot of people"), ("你好", "现在")])
def test_a_busy_engine_is_polite(runtime: TorchRuntime, monkeypatch: pytest.MonkeyPatch, text: str, start: str) -> None:
    """A full queue gives a line in the language of the person, of engine "busy", and no error."""
    engine = Seq2SeqEngine(runtime)

    def refuse(item: object) -> None:
        raise EngineBusyError("full")

    monkeypatch.setattr(engine._worker, "submit", refuse)
    replies = [engine.reply_sync([], text), asyncio.run(engine.reply([], text))]

    assert [reply.engine for reply in replies] == ["busy", "busy"]
    assert all(reply.text.startswith(start) for reply in replies)


def test_echo_says_what_it_is_told() -> None:
    """The echo is the cleaned text, from `reply` and `reply_sync` alike, and never nothing."""
    engine = load_engine("echo")

    replies = [engine.reply_sync(["a"], " hi \x00there "), asyncio.run(engine.reply([], " hi \x00there "))]

    assert [(reply.text, reply.engine, reply.model_id) for reply in replies] == [("hi there", "echo", "echo")] * 2
    assert engine.reply_sync([], "\x00").text
    engine.close()


def test_load_engine_finds_what_is_named(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder, as path or text, a bare folder name, a registry id, a retrieval file; else one line that says so."""
    monkeypatch.setenv("CHATBOT_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(folder.parent)
    Registry(tmp_path / "home").add(folder, "mine")
    (tmp_path / "talk.jsonl").write_text('{"turns": ["hi", "hello"]}', encoding="utf-8")

    names: list[str | Path] = [
        folder,
        str(folder),
        "tiny",
        "mine",
        f"retrieval:{tmp_path / 'talk.jsonl'}",
        "retrieval",
        "echo",
    ]
    engines = [load_engine(name, device="cpu") for name in names]

    assert [e.model_id for e in engines] == ["tiny", "tiny", "tiny", "mine", "retrieval", "retrieval", "echo"]
    assert engines[4].reply_sync([], "hi").text == "hello"
    with pytest.raises(ModelFolderError, match="no model 'nosuch'"):
        load_engine("nosuch")
    with pytest.raises(ModelFolderError):
        load_engine(tmp_path / "nosuch")
    for engine in engines:
        engine.close()


def test_a_damaged_folder_is_refused(tmp_path: Path) -> None:
    """One flipped byte in the weights is found before anything is answered."""
    weights = make_model(tmp_path / "bad", seed=3) / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)

    with pytest.raises(ModelFolderError, match="checksum differs"):
        load_engine(tmp_path / "bad", device="cpu")


def test_a_running_chat_picks_up_a_promoted_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The very request after a promotion is answered by the new model, a rollback by the old; both say so."""
    monkeypatch.setenv("CHATBOT_HOME", str(tmp_path))
    registry = Registry(tmp_path)
    for seed, name in enumerate(("one", "two"), start=5):
        registry.add(make_model(tmp_path / "runs" / name, seed), name)
    registry.promote("one")
    engine = load_engine(device="cpu")

    async def talk() -> list[Reply]:
        replies = [await engine.reply([], "hello")]
        registry.promote("two")
        replies += await asyncio.gather(*(engine.reply([], "hello") for _ in range(5)))
        registry.rollback()
        return [*replies, engine.reply_sync([], "hello")]

    replies = asyncio.run(talk())

    assert [reply.model_id for reply in replies] == ["one", *["two"] * 5, "one"]
    assert replies[0].text == replies[-1].text != replies[1].text
    assert engine.model_id == "one"
    engine.close()


def test_a_model_that_left_is_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the swap nothing holds the old model: its memory is free at once, not at some later collection."""
    registry = Registry(tmp_path)
    for seed, name in enumerate(("one", "two"), start=5):
        registry.add(make_model(tmp_path / "runs" / name, seed), name)
    registry.promote("one")
    opened: list[weakref.ref[TorchRuntime]] = []

    def open_model(folder: Path, model_id: str) -> Engine:
        runtime = TorchRuntime(folder, "cpu", model_id)
        opened.append(weakref.ref(runtime))
        return Seq2SeqEngine(runtime)

    engine = LiveEngine(registry, open_model)
    engine.reply_sync([], "hello")
    registry.promote("two")
    engine.reply_sync([], "hello")

    assert [reference() is None for reference in opened] == [True, False]
    engine.close()


class NamedEcho(EchoEngine):
    """An echo that goes by the id of a model and can be held up."""

    def __init__(self, model_id: str) -> None:
        self.model_id = model_id
        self.begun, self.free = asyncio.Event(), asyncio.Event()

    async def reply(
        self,
        history: Sequence[str],
        text: str,
        *,
        seed: int | None = None,
        options: Mapping[str, object] | None = None,
    ) -> Reply:
        """Echo; "wait" waits until this engine is freed."""
        if text == "wait":
            self.begun.set()
            await self.free.wait()
        return self.reply_sync(history, text)


def live(registry_folder: Path, opened: list[NamedEcho], loading: threading.Event | None = None) -> LiveEngine:
    """A live engine over echoes; opening any but the first waits for `loading`."""

    class Folders(Registry):
        def path(self, model_id: str) -> Path:
            if model_id.startswith("bad"):
                raise ModelFolderError(f"{model_id} is damaged")
            return registry_folder

    def open_model(folder: Path, model_id: str) -> Engine:
        if opened and loading is not None:
            assert loading.wait(PATIENCE_S)
        opened.append(NamedEcho(model_id))
        return opened[-1]

    return LiveEngine(Folders(registry_folder), open_model)


def promote(home: Path, model_id: str) -> None:
    """Write the live file as the registry does."""
    (home / "models").mkdir(exist_ok=True)
    (home / "models" / "live").write_text(model_id + "\n", encoding="utf-8")


def test_requests_under_way_finish_on_the_old_model(tmp_path: Path) -> None:
    """While the new model loads the loop runs on; who began on the old one ends there, who comes waits for the new."""
    opened: list[NamedEcho] = []
    loading = threading.Event()
    engine = live(tmp_path, opened, loading)

    async def talk() -> list[Reply]:
        early = asyncio.create_task(engine.reply([], "wait"))
        await opened[0].begun.wait()
        promote(tmp_path, "new")
        late = [asyncio.create_task(engine.reply([], "hi"))]
        await asyncio.sleep(0)
        promote(tmp_path, "newer")
        late += [asyncio.create_task(engine.reply([], "hi")) for _ in range(2)]
        for _ in range(11):
            await asyncio.sleep(0)
        assert not any(task.done() for task in late)
        late[1].cancel()  # must not cancel the loading, which has not begun, for the others
        await asyncio.sleep(0)
        loading.set()
        replies = [await late[0], await late[2]]
        opened[0].free.set()
        return [await early, *replies]

    replies = asyncio.run(asyncio.wait_for(talk(), PATIENCE_S))

    assert [reply.model_id for reply in replies] == ["starter", "new", "newer"]
    assert [echo.model_id for echo in opened] == ["starter", "new", "newer"]
    engine.close()


def test_a_model_that_does_not_load_stays_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The old model goes on answering, one warning is logged however many ask, and the next promotion is followed."""
    engine = live(tmp_path, [])

    promote(tmp_path, "bad-model")
    with caplog.at_level(logging.WARNING):
        replies = [engine.reply_sync([], "hi") for _ in range(3)]
    promote(tmp_path, "good")
    replies.append(engine.reply_sync([], "hi"))

    assert [reply.model_id for reply in replies] == ["starter"] * 3 + ["good"]
    assert len(caplog.records) == 1
    assert "bad-model is damaged" in caplog.text
    engine.close()


@pytest.mark.parametrize(("device", "said"), [("gpu", "must be one of auto, cpu, cuda, mps"), ("cuda", "--device cpu")])
def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch, device: str, said: str) -> None:
    """An unknown device names the known ones; CUDA without a GPU names the way out."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    with pytest.raises(UsageError, match=said):
        choose_device(device)


@pytest.mark.parametrize(("cuda", "mps", "chosen"), [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")])
def test_auto_takes_the_fastest_device(monkeypatch: pytest.MonkeyPatch, cuda: bool, mps: bool, chosen: str) -> None:
    """CUDA before MPS before the CPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

    assert choose_device("auto").type == chosen


@pytest.mark.parametrize("failing", ["encode", "step"])
def test_out_of_memory_moves_to_the_cpu(
    folder: Path,
    engine: Seq2SeqEngine[DecoderState],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    failing: str,
) -> None:
    """When the GPU is full the request is answered all the same, on the CPU, and one warning says so."""
    runtime = TorchRuntime(folder, "cpu", "tiny")
    real = getattr(runtime._model, failing)

    def full(*tensors: torch.Tensor) -> object:
        if runtime.device.type != "cpu":
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(*tensors)

    monkeypatch.setattr(runtime._model, failing, full)
    monkeypatch.setattr(runtime, "device", torch.device("meta"))  # a device that is everywhere and holds nothing
    if failing == "step":
        monkeypatch.setattr(runtime, "_here", lambda state: state)
        monkeypatch.setattr(runtime, "encode", lambda sources: TorchRuntime(folder, "cpu").encode(sources))

    reply = Seq2SeqEngine(runtime).reply_sync(["a", "b"], "hello")

    assert reply.text == engine.reply_sync(["a", "b"], "hello").text
    assert runtime.device.type == "cpu"
    assert [record.levelname for record in caplog.records] == ["WARNING"]
