"""What models learnt from, and what becomes of them when words are taken back: lineage, taint, and the proof.

Words are taken back by erasure and by a withdrawn consent. What only got too old to be kept is no such thing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, CompoundSelect, Connection, Select, select, union, update

from chatbot import tables as t
from chatbot.learnable import LearnableRow, LeftOut, Rule, may_learn
from chatbot.records import Records

# A person, a platform, a chat's key -> the entries of the ledger, oldest first.
Ledger = Mapping[tuple[int, str, str], list["Entry"]]


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the consent ledger."""

    id: int
    given: bool
    wording: str
    how: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Speaker:
    """A person whose words are in a row, or whom it answers: the consent when the row was read, and the latest one.

    None where there was none.
    """

    person: int
    then: Entry | None
    now: Entry | None


@dataclass(frozen=True, slots=True)
class Ground:
    """On what a model learnt from one row: `problem` is None, or why it should not have. There is no text in it."""

    message: int
    model: str
    dataset: int
    read_at: datetime
    platform: str
    rule: Rule
    batch: int | None
    erased: bool
    speakers: tuple[Speaker, ...]
    problem: LeftOut | None


class LineageRecords(Records):
    """The part of the store that knows which model learnt from which rows."""

    def lineage(self, model_id: str) -> list[int]:
        """The ids of all messages the model learnt from, itself or through its parents. Empty for a shipped model."""
        with self._reading() as connection:
            datasets = [dataset for _, dataset in _data(connection, model_id)]
            items = select(t.dataset_item.c.message_id).where(t.dataset_item.c.dataset_id.in_(datasets))
            return list(connection.scalars(items.distinct().order_by(t.dataset_item.c.message_id)))

    def tainted_models(self) -> frozenset[str]:
        """The models that learnt from words that were taken back."""
        with self._reading() as connection:
            return frozenset(connection.scalars(select(t.model.c.id).where(t.model.c.state == "tainted")))

    def knows_model(self, model_id: str) -> bool:
        """Whether a model of this name was ever recorded, be its folder there or not."""
        with self._reading() as connection:
            return connection.scalar(select(t.model.c.id).where(t.model.c.id == model_id)) is not None

    def untainted(self, model_id: str) -> list[str]:
        """The model and its ancestors without those that are tainted, newest first."""
        with self._reading() as connection:
            rows = connection.execute(select(t.model.c.id, t.model.c.parent_id, t.model.c.state)).all()
        models = {row.id: row for row in rows}
        found: list[str] = []
        step: str | None = model_id
        while step is not None:
            row = models.pop(step, None)
            if row is None or row.state != "tainted":
                found.append(step)
            step = None if row is None else row.parent_id
        return found

    def grounds(self, model_id: str, policy: Mapping[str, Rule]) -> list[Ground]:
        """The proof: each row the model learnt from, itself or through its parents, and on what ground.

        Judged by `may_learn`, by the ledger as it stood when the rows were read, under the policy kept with the model,
        or else `policy`.
        """
        found: list[Ground] = []
        with self._reading() as connection:
            ledger = _ledger(connection)
            for model, dataset in _data(connection, model_id):
                metrics = connection.scalar(select(t.model.c.metrics).where(t.model.c.id == model)) or {}
                found += _grounds(connection, model, dataset, {**policy, **metrics.get("policy", {})}, ledger)
        return found

    def taken_back(self, ids: Collection[int], since: datetime) -> set[int]:
        """Which of these rows a copy made at `since` must not hold any more: erased, edited, consent withdrawn."""
        rows = sorted(ids)
        gone: set[int] = set()
        with self._reading() as connection:
            for start in range(0, len(rows), 500):
                gone |= taken_back(connection, rows[start : start + 500], since)
                edited = t.message.c.id.in_(rows[start : start + 500]), t.message.c.edited_at >= since
                gone.update(connection.scalars(select(t.message.c.id).where(*edited)))
        return gone


def words_of(person: int, here: ColumnElement[bool]) -> CompoundSelect[int]:
    """The ids of the messages, in the chats of the condition `here`, that a person wrote, corrected, or was told."""
    m, asked = t.message, t.message.alias("asked")
    rows = select(m.c.id).join_from(m, t.chat).where(here)
    return union(
        rows.where(m.c.person_id == person),
        rows.join(asked, m.c.reply_to_id == asked.c.id).where(m.c.role == "bot", asked.c.person_id == person),
        rows.join(t.correction, t.correction.c.message_id == m.c.id).where(t.correction.c.person_id == person),
    )


def taint(connection: Connection, words: Select[int] | CompoundSelect[int]) -> tuple[str, ...]:
    """Mark every model that learnt from one of these messages, and all trained on from them; those newly marked."""
    items = t.dataset_item
    spoilt = set(connection.scalars(select(items.c.dataset_id).where(items.c.message_id.in_(words)).distinct()))
    models = connection.execute(select(t.model.c.id, t.model.c.parent_id, t.model.c.dataset_id, t.model.c.state)).all()
    tainted = {row.id for row in models if row.dataset_id in spoilt}
    while more := {row.id for row in models if row.parent_id in tainted} - tainted:
        tainted |= more
    new = tuple(sorted(row.id for row in models if row.id in tainted and row.state != "tainted"))
    connection.execute(update(t.model).where(t.model.c.id.in_(new)).values(state="tainted"))
    return new


def spoilt(connection: Connection, dataset: int | None, parent: str | None) -> bool:
    """Whether a model of this data set and parent is tainted from its birth: words went while it learnt."""
    if parent is not None and connection.scalar(select(t.model.c.state).where(t.model.c.id == parent)) == "tainted":
        return True
    if dataset is None:
        return False
    read_at = connection.scalar(select(t.dataset.c.created_at).where(t.dataset.c.id == dataset))
    assert read_at is not None
    items = select(t.dataset_item.c.message_id).where(t.dataset_item.c.dataset_id == dataset)
    return bool(taken_back(connection, items, read_at, but_expired=True))


def taken_back(
    connection: Connection, among: Select[int] | Collection[int], since: datetime, but_expired: bool = False
) -> set[int]:
    """Which of these messages were erased, or lost, since then, a correction or a consent.

    `but_expired` leaves out what nobody took back, but got too old to be kept.
    """
    m, c = t.message, t.correction
    erased = select(m.c.id).where(m.c.id.in_(among), m.c.deleted_at.is_not(None))
    untaught = select(c.c.message_id).where(c.c.message_id.in_(among), c.c.deleted_at >= since)
    if but_expired:
        erased = erased.where(m.c.deleted_at.in_(select(t.erasure.c.at)))
        untaught = untaught.where(c.c.deleted_at.in_(select(t.erasure.c.at)))
    gone = {*connection.scalars(erased), *connection.scalars(untaught)}
    withdrawn = (
        select(t.consent.c.person_id, t.chat.c.platform, t.chat.c.key)
        .join_from(t.consent, t.chat)
        .where(t.consent.c.given.is_(False), t.consent.c.at >= since)
        .distinct()
    )
    for person, platform, key in connection.execute(withdrawn).all():
        words = words_of(person, (t.chat.c.platform == platform) & (t.chat.c.key == key))
        gone.update(connection.scalars(select(m.c.id).where(m.c.id.in_(among), m.c.id.in_(words))))
    return gone


def _data(connection: Connection, model_id: str) -> list[tuple[str, int]]:
    """A model and its ancestors, each with its data set, newest first."""
    rows = connection.execute(select(t.model.c.id, t.model.c.parent_id, t.model.c.dataset_id))
    models = {row.id: row for row in rows}
    found: list[tuple[str, int]] = []
    step: str | None = model_id
    while step in models:
        row = models.pop(step)
        if row.dataset_id is not None:
            found.append((row.id, row.dataset_id))
        step = row.parent_id
    return found


def _ledger(connection: Connection) -> Ledger:
    c = t.consent
    query = select(c, t.chat.c.platform, t.chat.c.key).join_from(c, t.chat).where(c.c.scope == "train").order_by(c.c.id)
    entries: dict[tuple[int, str, str], list[Entry]] = {}
    for row in connection.execute(query):
        entry = Entry(row.id, row.given, row.wording, row.how, row.at)
        entries.setdefault((row.person_id, row.platform, row.key), []).append(entry)
    return entries


def _grounds(
    connection: Connection, model: str, dataset: int, policy: Mapping[str, Rule], ledger: Ledger
) -> list[Ground]:
    """The grounds of the rows of one data set, by their ids."""
    m, c, asked = t.message, t.correction, t.message.alias("asked")
    read_at = connection.scalar(select(t.dataset.c.created_at).where(t.dataset.c.id == dataset))
    assert read_at is not None
    items = t.dataset_item
    mine = items.c.dataset_id == dataset
    stood = (c.c.created_at <= read_at) & (c.c.deleted_at.is_(None) | (c.c.deleted_at > read_at))
    teachers = select(c.c.message_id, c.c.person_id).join(items, items.c.message_id == c.c.message_id)
    taught_by = {
        row.message_id: row.person_id for row in connection.execute(teachers.where(mine, stood).order_by(c.c.id))
    }
    rows = connection.execute(
        select(m, t.chat.c.platform, t.chat.c.key, t.import_batch.c.declaration, asked.c.person_id.label("answers"))
        .join_from(items, m, items.c.message_id == m.c.id)
        .join(t.chat, m.c.chat_id == t.chat.c.id)
        .outerjoin(asked, m.c.reply_to_id == asked.c.id)
        .outerjoin(t.import_batch, m.c.import_batch_id == t.import_batch.c.id)
        .where(mine)
        .order_by(m.c.id)
    )
    found = []
    for row in rows:
        people = {row.person_id, taught_by.get(row.id), row.answers if row.role == "bot" else None} - {None}
        speakers = tuple(
            _speaker(person, ledger.get((person, row.platform, row.key), []), read_at) for person in sorted(people)
        )
        imported = row.import_batch_id is not None
        consents = tuple(speaker.then.given if speaker.then else None for speaker in speakers)
        declared = row.declaration is not None
        # Of a row, the kind is not known any more; whether it may be learnt from at all does not depend on it.
        verdict = may_learn(LearnableRow(row.platform, "taught", consents, imported, declared), policy)
        rule = policy.get(row.platform, "consented")
        found.append(
            Ground(
                row.id,
                model,
                dataset,
                read_at,
                row.platform,
                rule,
                row.import_batch_id,
                row.deleted_at is not None,
                speakers,
                verdict.reason,
            )
        )
    return found


def _speaker(person: int, entries: list[Entry], read_at: datetime) -> Speaker:
    then = [entry for entry in entries if entry.at <= read_at]
    return Speaker(person, then[-1] if then else None, entries[-1] if entries else None)
