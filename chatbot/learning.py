"""What training does with the store: learnable pairs out; imports, data sets, models and their lineage in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import insert, select, update

from chatbot import tables as t
from chatbot.errors import UsageError
from chatbot.learnable import Rule
from chatbot.pairs import LearnablePairs
from chatbot.records import Records, new_id, now, storable


class LearningRecords(Records):
    """The part of the store that the training path works with."""

    def learnable_pairs(self, policy: Mapping[str, Rule], context_turns: int) -> LearnablePairs:
        """Every pair that may be learnt from under `policy`, in id order, with at most `context_turns` turns."""
        return LearnablePairs(self._reading, policy, context_turns)

    def record_import(self, source: str, declaration: str | None) -> int:
        """A new batch for imported dialogues; without a declaration (whose words, what basis) none is learnt from."""
        declared = storable(declaration or "").strip() or None
        with self._writing() as connection:
            row = insert(t.import_batch).values(source=storable(source), declaration=declared, created_at=now())
            return new_id(connection, row)

    def create_dataset(self, name: str, sha256: str, message_ids: Sequence[int]) -> int:
        """Keep which rows a data set was made of, and its hash, so that it can be rebuilt and traced."""
        with self._writing() as connection:
            row = insert(t.dataset).values(name=storable(name), hash=sha256, created_at=now())
            dataset = new_id(connection, row)
            items = [{"dataset_id": dataset, "message_id": item} for item in sorted(set(message_ids))]
            if items:
                connection.execute(insert(t.dataset_item), items)
            return dataset

    def record_model(
        self,
        model_id: str,
        *,
        parent: str | None,
        dataset: int | None,
        metrics: Mapping[str, object],
        state: str = "candidate",
        run: str | None = None,
    ) -> None:
        """A model that was trained: from which parent, on which data set, how well. UsageError if the id is taken."""
        _verify_state(state)
        with self._writing() as connection:
            if connection.scalar(select(t.model.c.id).where(t.model.c.id == model_id)) is not None:
                raise UsageError(f"a model named {model_id} is recorded already: see `chatbot models list`")
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

    def lineage(self, model_id: str) -> list[int]:
        """The ids of all messages the model learnt from, itself or through its parents. Empty for a shipped model."""
        with self._reading() as connection:
            rows = connection.execute(select(t.model.c.id, t.model.c.parent_id, t.model.c.dataset_id))
            models = {row.id: (row.parent_id, row.dataset_id) for row in rows}
            datasets: set[int] = set()
            step: str | None = model_id
            while step in models:
                step, dataset = models.pop(step)
                if dataset is not None:
                    datasets.add(dataset)
            items = select(t.dataset_item.c.message_id).where(t.dataset_item.c.dataset_id.in_(datasets))
            return list(connection.scalars(items.distinct().order_by(t.dataset_item.c.message_id)))


def _verify_state(state: str) -> None:
    if state not in t.MODEL_STATES:
        raise UsageError(f"{state!r} is no state of a model: use one of {', '.join(t.MODEL_STATES)}")
