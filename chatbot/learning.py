"""What training does with the store: learnable pairs out; imports, data sets, models and their lineage in."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from itertools import islice

from sqlalchemy import insert, select, update

from chatbot import tables as t
from chatbot.errors import UsageError
from chatbot.learnable import NOBODY, Blocklist, Rule
from chatbot.lineage import LineageRecords, spoilt
from chatbot.pairs import LearnablePairs
from chatbot.records import new_id, now, storable

_BATCH_ROWS = 10_000


class LearningRecords(LineageRecords):
    """The part of the store that the training path works with."""

    def learnable_pairs(
        self, policy: Mapping[str, Rule], context_turns: int, block: Blocklist = NOBODY
    ) -> LearnablePairs:
        """Every pair that may be learnt from under `policy`, in id order, with at most `context_turns` turns."""
        with self._reading() as connection:
            found = (self._person_id(connection, *written.split(":", 1)) for written in block.users)
            people = {person for person in found if person is not None}
        keys = {self._chat_key(*written.split(":", 1)) for written in block.chats}
        return LearnablePairs(self._reading, policy, context_turns, (people, keys))

    def record_import(self, source: str, declaration: str | None) -> int:
        """A new batch for imported dialogues; without a declaration (whose words, what basis) none is learnt from."""
        declared = storable(declaration or "").strip() or None
        with self._writing() as connection:
            row = insert(t.import_batch).values(source=storable(source), declaration=declared, created_at=now())
            return new_id(connection, row)

    def create_dataset(
        self, name: str, sha256: str, message_ids: Iterable[int], read_at: datetime | None = None
    ) -> int:
        """Keep which rows, each once, a data set was made of, when the reading of them began, and its hash."""
        with self._writing() as connection:
            row = insert(t.dataset).values(name=storable(name), hash=sha256, created_at=read_at or now())
            dataset = new_id(connection, row)
            items = ({"dataset_id": dataset, "message_id": item} for item in message_ids)
            while some := list(islice(items, _BATCH_ROWS)):
                connection.execute(insert(t.dataset_item), some)
            return dataset

    def dataset_of(self, model_id: str, hashes: Collection[str]) -> int | None:
        """A data set for a model trained on files with these hashes, of all rows in those that we exported."""
        d, items = t.dataset, t.dataset_item
        with self._reading() as connection:
            found = connection.execute(select(d.c.id, d.c.hash, d.c.created_at).where(d.c.hash.in_(hashes))).all()
            used = select(items.c.message_id).where(items.c.dataset_id.in_(row.id for row in found)).distinct()
            ids = list(connection.scalars(used))
        if not found:
            return None
        return self.create_dataset(model_id, found[0].hash, ids, min(row.created_at for row in found))

    def record_model(
        self,
        model_id: str,
        *,
        parent: str | None,
        dataset: int | None,
        metrics: Mapping[str, object],
        state: str = "candidate",
        run: str | None = None,
    ) -> str:
        """A model that was trained: from which parent, on which data set, how well; the state it begins in.

        That is ``tainted`` if words it learnt from were taken back meanwhile. UsageError if the id is taken.
        """
        _verify_state(state)
        with self._writing() as connection:
            if connection.scalar(select(t.model.c.id).where(t.model.c.id == model_id)) is not None:
                raise UsageError(f"a model named {model_id} is recorded already: see `chatbot models list`")
            state = "tainted" if spoilt(connection, dataset, parent) else state
            connection.execute(
                insert(t.model).values(
                    id=model_id,
                    parent_id=parent,
                    dataset_id=dataset,
                    metrics=dict(metrics),
                    state=state,
                    run=run,
                    created_at=now(),
                )
            )
            return state

    def set_model_state(self, model_id: str, state: str) -> None:
        """Candidate, shadow, serving, retired or tainted. UsageError for a model that was never recorded."""
        _verify_state(state)
        with self._writing() as connection:
            changed = connection.execute(update(t.model).where(t.model.c.id == model_id).values(state=state)).rowcount
            if not changed:
                raise UsageError(f"no model named {model_id} is recorded: see `chatbot models list`")

    def mark_serving(self, model_id: str) -> None:
        """The model that answers from now on; the one before retires. Shipped models have no row and need none."""
        with self._writing() as connection:
            serving = t.model.c.state == "serving"
            connection.execute(update(t.model).where(serving, t.model.c.id != model_id).values(state="retired"))
            sound = t.model.c.state != "tainted"
            connection.execute(update(t.model).where(t.model.c.id == model_id, sound).values(state="serving"))


def _verify_state(state: str) -> None:
    if state not in t.MODEL_STATES:
        raise UsageError(f"{state!r} is no state of a model: use one of {', '.join(t.MODEL_STATES)}")
