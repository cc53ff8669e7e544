"""The engine with a net: text to tokens, a place in the queue, tokens to text.

A question about what the person told in the talk is answered from there (`chatbot.recall`). A model folder may bring
known exchanges along (`chatbot.known`): what they answer is not decoded, and replies to
similar questions may join the candidates (`chatbot.ranking`).
In: a history and a text. Out: a `Reply` with the settings and seed that produced it. It knows no torch (a runtime is
handed in), no platform and no store.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from chatbot.batching import BatchWorker
from chatbot.decoding import DecodingOptions, DecodingResult, Runtime, decode_all, options_from
from chatbot.errors import EngineBusyError, ModelFolderError
from chatbot.known import KnownExchanges, KnownReply
from chatbot.messages import Reply
from chatbot.ranking import Candidate, Contest, Markers, rank
from chatbot.recall import recall
from chatbot.text import clean, is_chinese
from chatbot.tokenizer import REVERSED, Tokenizer

S = TypeVar("S")
_CHARACTERS_A_TOKEN = 16  # more than this the tokenizer hardly ever packs into one: what lies before is out of reach
_WORDLESS = "…"
_REMEMBERED = 5  # turns of the bot that a ranked reply does not repeat
_BUSY_EN = "A lot of people are talking to me right now. Please try again in a moment."
_BUSY_ZH = "现在找我的人有点多，请稍等一会儿再说一遍。"


class TextRuntime(Runtime[S], Protocol[S]):
    """A runtime that brings its tokenizer and the model folder's config along."""

    model_id: str
    tokenizer: Tokenizer
    config: Mapping[str, Any]
    workers: int  # threads that may use it at a time


@dataclass(frozen=True, slots=True)
class _Request:
    source: list[int]
    said: list[list[int]]
    options: DecodingOptions
    text: str
    history: list[str]
    neighbours: Sequence[KnownReply]


@dataclass(frozen=True, slots=True)
class _Chosen:
    text: str
    score: float
    neighbour: str | None = None  # the dialogue in which it stands; None: the net said it


class Seq2SeqEngine(Generic[S]):
    """One model, shared by all conversations; `known` answers first, `settings` lie over the folder's decode defaults.

    Among ranked candidates one that is not `unfit` to be said is chosen. A full queue or a passed deadline gives a
    polite reply of engine "busy", not an error.
    """

    def __init__(
        self,
        runtime: TextRuntime[S],
        known: KnownExchanges | None = None,
        *,
        settings: Mapping[str, object] | None = None,
        seed: int | None = None,
        unfit: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self.model_id = runtime.model_id
        self._runtime = runtime
        try:
            context = runtime.config["context"]
            self._turns, self._max_tokens = int(context["context_turns"]), int(context["max_source_tokens"])
            self._source = str(runtime.config["source"])
            self._settings = _laid_over(runtime.config["decoding"], settings or {})
        except (KeyError, TypeError, ValueError) as error:
            raise ModelFolderError(
                f"config.json of model {self.model_id} lacks or garbles {error}; `chatbot models rollback` goes back"
            ) from error
        self._known = known
        self._seed = seed
        self._options(None, None)  # settings that make no sense are refused now, not at the first message
        # Not a bound method: no reference circle holds a model.
        self._worker = BatchWorker(partial(_decode, runtime, self._source, unfit), workers=runtime.workers)

    async def reply(
        self,
        history: Sequence[str],
        text: str,
        *,
        seed: int | None = None,
        options: Mapping[str, object] | None = None,
    ) -> Reply:
        """Answer `text`. The same seed gives the same reply, whoever else is being answered."""
        started = time.perf_counter()
        request = self._request(history, text, seed, options)
        if ready := self._recalled(history, text, request, started) or self._known_reply(
            history, text, request, started
        ):
            return ready
        try:
            result = await self._worker.answer(request)
        except EngineBusyError:
            return self._busy(text, started)
        return self._reply(request, result, started)

    def reply_sync(
        self,
        history: Sequence[str],
        text: str,
        *,
        seed: int | None = None,
        options: Mapping[str, object] | None = None,
    ) -> Reply:
        """`reply` for callers without an event loop."""
        started = time.perf_counter()
        request = self._request(history, text, seed, options)
        if ready := self._recalled(history, text, request, started) or self._known_reply(
            history, text, request, started
        ):
            return ready
        try:
            result = self._worker.answer_sync(request)
        except EngineBusyError:
            return self._busy(text, started)
        return self._reply(request, result, started)

    def close(self) -> None:
        """Answer what waits and end the worker."""
        self._worker.close()

    def _options(self, seed: int | None, over: Mapping[str, object] | None) -> DecodingOptions:
        options = options_from(_laid_over(self._settings, over or {}))
        chosen = next((s for s in (seed, options.seed, self._seed) if s is not None), None)
        if chosen is None and options.temperature > 0:
            chosen = secrets.randbits(32)  # drawn here so that the reply can say how to get it again
        return replace(options, seed=chosen)

    def _request(
        self, history: Sequence[str], text: str, seed: int | None, over: Mapping[str, object] | None
    ) -> _Request:
        tokenizer = self._runtime.tokenizer
        nearest = [self._cut(turn) for turn in history[max(0, len(history) + 1 - self._turns) :]]
        options, text = self._options(seed, over), self._cut(text)
        ask = self._known is not None and options.rank and options.neighbours
        return _Request(
            source=tokenizer.encode_context(nearest, text, self._source, self._max_tokens),
            said=[tokenizer.encode(self._cut(turn)) for turn in history[-1:-4:-2]],  # the bot's last two turns
            options=options,
            text=text,
            history=[self._cut(turn) for turn in history[-1 : -2 * _REMEMBERED : -2]] if options.rank else [],
            neighbours=self._known.neighbours(history, text, options.neighbours) if self._known and ask else (),
        )

    def _cut(self, text: str) -> str:
        """The end of `text`, cleaned: cut first, so that 100 kB cost no more than a line."""
        return clean(text[-_CHARACTERS_A_TOKEN * self._max_tokens :])

    def _recalled(self, history: Sequence[str], text: str, request: _Request, started: float) -> Reply | None:
        found = recall(history, text, request.options.seed) if request.options.recall else None
        if found is None:
            return None
        settings, seed = _settings(request)
        return Reply(
            text=found.text,
            model_id=self.model_id,
            engine="recall",
            duration_ms=(time.perf_counter() - started) * 1000,
            settings=settings,
            seed=seed,
            detail=found.kind,
        )

    def _known_reply(self, history: Sequence[str], text: str, request: _Request, started: float) -> Reply | None:
        if self._known is None or not request.options.known:
            return None
        found = self._known.answer(history, text, request.options.seed)
        if found is None:
            return None
        settings, seed = _settings(request)
        return Reply(
            text=found.text,
            model_id=self.model_id,
            engine="retrieval",
            score=found.similarity,
            duration_ms=(time.perf_counter() - started) * 1000,
            settings=settings,
            seed=seed,
            detail=found.dialogue,
        )

    def _reply(self, request: _Request, chosen: _Chosen, started: float) -> Reply:
        settings, seed = _settings(request)
        return Reply(
            text=chosen.text or _WORDLESS,  # a lone byte or a space is a token, too
            model_id=self.model_id,
            engine="seq2seq" if chosen.neighbour is None else "neighbour",
            score=chosen.score,
            duration_ms=(time.perf_counter() - started) * 1000,
            settings=settings,
            seed=seed,
            detail=chosen.neighbour,
        )

    def _busy(self, text: str, started: float) -> Reply:
        return Reply(
            text=_BUSY_ZH if is_chinese(text[-1000:]) else _BUSY_EN,
            model_id=self.model_id,
            engine="busy",
            duration_ms=(time.perf_counter() - started) * 1000,
        )


def _laid_over(below: Mapping[str, object], above: Mapping[str, object]) -> dict[str, object]:
    """Settings with others over them: whoever asks for draws ends a beam that stands below, and the other way round.

    Ranking takes the candidates of both; where it is switched off, the beam that stands below is what remains.
    """
    kept = dict(below)
    if {**below, **above}.get("rank"):
        if above.get("temperature") == 0:
            kept.pop("candidates", None)
        return {**kept, **above}
    if {"temperature", "candidates"} & above.keys():
        kept.pop("beam_size", None)
    if "beam_size" in above or ("rank" in above and "beam_size" in kept):
        kept.pop("temperature", None)
        kept.pop("candidates", None)
    return {**kept, **above}


def _settings(request: _Request) -> tuple[dict[str, Any], int | None]:
    """The settings in force, ready for JSON, and the seed, which a reply holds apart."""
    settings = asdict(request.options) | {"banned": list(request.options.banned)}
    return settings, settings.pop("seed")


def _decode(
    runtime: TextRuntime[S], voice: str, unfit: Callable[[str], bool], requests: Sequence[_Request]
) -> list[_Chosen]:
    """The reply to each of `requests`: what one search finds, or the best of the candidates of several."""
    searches = [(request, options) for request in requests for options in _searches(request.options)]
    found = iter(
        decode_all(runtime, [r.source for r, _ in searches], [o for _, o in searches], [r.said for r, _ in searches])
    )
    results = [[result for _ in _searches(request.options) for result in next(found)] for request in requests]
    tokenizer = runtime.tokenizer
    markers = Markers(tokenizer.source_id(voice), tokenizer.bot_id, tokenizer.sources.get(REVERSED))
    contests = [_contest(tokenizer, r, each) for r, each in zip(requests, results, strict=True) if r.options.rank]
    winners = iter(rank(runtime, markers, contests, unfit))
    chosen = []
    for request, each in zip(requests, results, strict=True):
        if request.options.rank:
            winner, score = next(winners)
            chosen.append(_Chosen(winner.text, score, winner.neighbour))
        else:
            chosen.append(_Chosen(_text(tokenizer, each[0].tokens), each[0].score))
    return chosen


def _searches(options: DecodingOptions) -> list[DecodingOptions]:
    """What is searched for one reply: ranking lets a beam and draws go side by side."""
    if options.beam_size > 1 and options.temperature > 0:
        return [replace(options, temperature=0.0, candidates=1), replace(options, beam_size=1)]
    return [options]


def _contest(tokenizer: Tokenizer, request: _Request, results: Sequence[DecodingResult]) -> Contest:
    candidates = [Candidate(_text(tokenizer, r.tokens), r.tokens, r.log_prob) for r in results]
    candidates += [
        Candidate(near.text, tuple(tokenizer.encode(near.text)), None, near.dialogue, near.similarity)
        for near in request.neighbours
    ]
    text_ids = tokenizer.encode(request.text)
    return Contest(request.source, request.text, text_ids, request.history, request.options, candidates)


def _text(tokenizer: Tokenizer, tokens: Sequence[int]) -> str:
    return clean(tokenizer.decode(tokens).replace("\ufffd", ""))
