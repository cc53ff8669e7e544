"""The stream of pairs worth learning, read from the log page by page. Every pair passes `may_learn`.

Worth learning are corrections of the bot, bot replies people liked, and answers of people to other people.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping, Set
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, func, or_, select

from chatbot import tables as t
from chatbot.learnable import Kind, LearnablePair, LearnableRow, LeftOut, Rule, may_learn
from chatbot.turns import ROWS_PER_TURN, merge_turns

# Bot rows that are no talk: nobody wants them remembered, rated or learnt.
SERVICE_ENGINES = ("busy", "command")
_PAGE_ROWS = 500
_CHATS_IN_MEMORY = 1000

# (person, platform, keyed hash of the chat) -> latest consent.
Consents = Mapping[tuple[int, str, str], bool]
# Numbers of people, keyed hashes of chats.
Blocked = tuple[Set[int], Set[str]]


@dataclass(frozen=True, slots=True)
class _Said:
    """A row of talk. `text` is the latest correction where there is one, and `taught_by` then its author."""

    id: int
    chat: int
    platform: str
    chat_key: str
    role: str
    person: int | None
    answers: int | None  # whom the bot answers: the consent terms name its replies along with their words
    text: str
    taught_by: int | None
    rating: int
    reply_to: int | None
    context_start: int
    created_at: datetime
    erased: bool
    tainted: bool
    imported: bool
    declared: bool


def is_talk() -> ColumnElement[bool]:
    """The condition on `message` that keeps what people and the model said to each other."""
    return or_(t.message.c.engine.is_(None), t.message.c.engine.not_in(SERVICE_ENGINES))


class LearnablePairs(Iterator[LearnablePair]):
    """Streams the pairs, a page of rows at a time. `left_out` counts, as it goes, what was not learnt from, and why."""

    def __init__(
        self,
        reading: Callable[[], AbstractContextManager[Connection]],
        policy: Mapping[str, Rule],
        context_turns: int,
        blocked: Blocked = (frozenset(), frozenset()),
    ) -> None:
        self.left_out: Counter[LeftOut] = Counter()
        self._reading = reading
        self._policy = policy
        self._context_turns = context_turns
        self._blocked_people, self._blocked_chats = blocked
        self._pairs = self._stream()

    def __next__(self) -> LearnablePair:
        return next(self._pairs)

    def _stream(self) -> Iterator[LearnablePair]:
        windows = _Windows(self._context_turns * ROWS_PER_TURN)
        after = 0
        while True:
            rows, consents = self._next_page(after, windows)
            if not rows:
                return
            after = rows[-1][0].id
            for said, before in rows:
                pair = self._consider(said, before, consents)
                if pair is not None:
                    yield pair

    def _next_page(self, after: int, windows: _Windows) -> tuple[list[tuple[_Said, list[_Said]]], Consents]:
        """The next rows by id, each with the rows before it in its chat, and the consents as they stand now."""
        with self._reading() as connection:
            query = _talk().where(t.message.c.id > after).order_by(t.message.c.id).limit(_PAGE_ROWS)
            rows = [(said, windows.before(connection, said)) for said in map(_said, connection.execute(query))]
            ledger = (
                select(t.consent.c.person_id, t.chat.c.platform, t.chat.c.key, t.consent.c.given)
                .join_from(t.consent, t.chat)
                .where(t.consent.c.scope == "train")
                .order_by(t.consent.c.id)
            )
            consents = {(person, platform, key): given for person, platform, key, given in connection.execute(ledger)}
        return rows, consents

    def _consider(self, said: _Said, before: list[_Said], consents: Consents) -> LearnablePair | None:
        """The pair this row ends, None if it ends none or may not be learnt from; the latter is counted."""
        asked = next((row for row in reversed(before) if row.id == said.reply_to), None)
        if said.role == "user" and (asked is None or asked.role == "bot" or asked.person == said.person):
            return None  # Not an answer to another person.
        heard = [row for row in before if asked is not None and said.context_start < row.id <= asked.id]
        heard = [row for row in heard if row.text or row.erased]
        turns = merge_turns(((row.role, row.person) == (said.role, said.person), row.text, row.id) for row in heard)
        turns = turns[-self._context_turns :]
        ids = tuple(item for turn in turns for item in turn.message_ids)
        used = [row for row in heard if row.id in ids] + [said]
        kind = _kind(said)
        people = {person for row in used for person in (row.person, row.answers, row.taught_by) if person is not None}
        verdict = may_learn(
            LearnableRow(
                platform=said.platform,
                kind=kind,
                consents=tuple(consents.get((person, said.platform, said.chat_key)) for person in people),
                imported=said.imported,
                declared=said.declared,
                erased=any(row.erased for row in used),
                tainted=any(row.tainted for row in used),
                has_context=bool(turns) and not turns[-1].own,
                blocked=said.chat_key in self._blocked_chats or bool(people & self._blocked_people),
            ),
            self._policy,
        )
        if verdict.reason is not None:
            self.left_out[verdict.reason] += 1
            return None
        assert kind is not None
        context = tuple(turn.text for turn in turns)
        return LearnablePair(
            context,
            said.text,
            kind,
            (*ids, said.id),
            said.chat,
            said.created_at,
            said.platform,
            {"taught": said.taught_by, "human": said.person, "liked": said.answers}[kind],
            said.imported,
        )


class _Windows:
    """The last rows of the chats read lately, so that streaming by id does not ask for each row's context."""

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._chats: OrderedDict[int, deque[_Said]] = OrderedDict()

    def before(self, connection: Connection, said: _Said) -> list[_Said]:
        """The rows before this one in its chat, oldest first; the row itself is then the window's last."""
        window = self._chats.pop(said.chat, None)
        if window is None:
            query = _talk().where(t.message.c.chat_id == said.chat, t.message.c.id < said.id)
            latest = connection.execute(query.order_by(t.message.c.id.desc()).limit(self._rows))
            window = deque(reversed([_said(row) for row in latest]), maxlen=self._rows)
        self._chats[said.chat] = window
        if len(self._chats) > _CHATS_IN_MEMORY:
            self._chats.popitem(last=False)
        rows = list(window)
        window.append(said)
        return rows


def _kind(said: _Said) -> Kind | None:
    if said.role == "user":
        return "human"
    if said.taught_by is not None:
        return "taught"
    return "liked" if said.rating > 0 else None


def _talk() -> Select[*tuple[Any, ...]]:
    """Rows of talk in the columns that `_said` reads."""
    m, latest, teaching = t.message, t.correction.alias("latest"), t.correction
    asked = t.message.alias("asked")
    newest = select(func.max(latest.c.id)).where(latest.c.message_id == m.c.id, latest.c.deleted_at.is_(None))
    rating = select(func.coalesce(func.sum(t.feedback.c.rating), 0)).where(t.feedback.c.message_id == m.c.id)
    return (
        select(
            m.c.id,
            m.c.chat_id,
            m.c.role,
            m.c.person_id,
            m.c.text,
            m.c.reply_to_id,
            m.c.context_start,
            m.c.created_at,
            m.c.deleted_at,
            m.c.import_batch_id,
            t.chat.c.platform,
            t.chat.c.key,
            asked.c.person_id.label("asked_by"),
            t.import_batch.c.declaration,
            t.model.c.state,
            teaching.c.text.label("taught"),
            teaching.c.person_id.label("taught_by"),
            teaching.c.created_at.label("taught_at"),
            rating.scalar_subquery().label("rating"),
        )
        .join_from(m, t.chat)
        .outerjoin(asked, m.c.reply_to_id == asked.c.id)
        .outerjoin(t.import_batch, m.c.import_batch_id == t.import_batch.c.id)
        .outerjoin(t.model, m.c.model_id == t.model.c.id)
        .outerjoin(teaching, teaching.c.id == newest.scalar_subquery())
        .where(is_talk())
    )


def _said(row: Row[*tuple[Any, ...]]) -> _Said:
    taught = row.taught_by is not None and row.deleted_at is None
    return _Said(
        id=row.id,
        chat=row.chat_id,
        platform=row.platform,
        chat_key=row.key,
        role=row.role,
        person=row.person_id,
        answers=row.asked_by if row.role == "bot" else None,
        text=row.taught if taught else row.text,
        taught_by=row.taught_by if taught else None,
        rating=row.rating,
        reply_to=row.reply_to_id,
        context_start=row.context_start,
        created_at=row.taught_at if taught else row.created_at,
        erased=row.deleted_at is not None,
        # What a person wrote in its place is not the model's any more.
        tainted=row.state == "tainted" and not taught,
        imported=row.import_batch_id is not None,
        declared=row.declaration is not None,
    )
