"""The tables, and nothing but the tables: no queries, no connection. Portable between SQLite and PostgreSQL.

Rows of `message` are never deleted, only emptied (`deleted_at`): their ids are what data sets and models point to.
People and chats are kept as keyed hashes (`chatbot.identity`); the platform's own ids of people are nowhere but in the
envelope of a message that is not done with.
All times are aware and UTC. The revision under `migrations/` builds the same tables; a test compares the two.
"""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
)

_ERASED = text("deleted_at IS NOT NULL")
MODEL_STATES = ("candidate", "shadow", "serving", "retired", "tainted")


class UtcDateTime(TypeDecorator[datetime]):
    """An aware moment, stored as UTC. SQLite has no time zones, so they are taken off and put on here."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Aware time in, UTC out; a naive time is our own mistake and raises ValueError."""
        if value is not None and value.tzinfo is None:
            raise ValueError("a time without a time zone cannot be stored")
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """What the database gives, as aware UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _id() -> Column[int]:
    return Column("id", Integer, primary_key=True)


def _reference(name: str, target: str, *, nullable: bool = False, index: bool = False) -> Column[int]:
    return Column(name, Integer, ForeignKey(f"{target}.id"), nullable=nullable, index=index)


def _moment(name: str, *, nullable: bool = False) -> Column[datetime]:
    return Column(name, UtcDateTime, nullable=nullable)


chat = Table(
    "chat",
    metadata,
    _id(),
    Column("platform", String(32), nullable=False),
    Column("key", String(64), nullable=False),
    # "" and not null where there is none: nulls would escape the unique constraint.
    Column("thread", String(255), nullable=False),
    Column("address", Text),
    Column("name", Text),
    # Messages with an id up to this one are no longer remembered in talk (/reset).
    Column("context_start", Integer, nullable=False),
    _moment("created_at"),
    UniqueConstraint("platform", "key", "thread"),
)

person = Table(
    "person",
    metadata,
    _id(),
    Column("platform", String(32), nullable=False),
    Column("key", String(64), nullable=False),
    _moment("created_at"),
    UniqueConstraint("platform", "key"),
)

import_batch = Table(
    "import_batch",
    metadata,
    _id(),
    Column("source", Text, nullable=False),
    # Whose words these are and on what basis they may be learnt from; null: not declared, never learnt.
    Column("declaration", Text),
    _moment("created_at"),
)

message = Table(
    "message",
    metadata,
    _id(),
    _reference("chat_id", "chat"),
    _reference("person_id", "person", nullable=True, index=True),
    _reference("import_batch_id", "import_batch", nullable=True),
    Column("platform_message_id", String(255)),
    _reference("reply_to_id", "message", nullable=True, index=True),
    Column("role", String(8), nullable=False),
    Column("text", Text, nullable=False),
    # The chat's context_start when this was said, so that an old turn's context can be rebuilt.
    Column("context_start", Integer, nullable=False),
    _moment("created_at"),
    _moment("edited_at", nullable=True),
    _moment("deleted_at", nullable=True),
    Column("engine", String(32)),
    # No foreign key: the shipped model and the echo have no row in `model`.
    Column("model_id", String(255)),
    Column("decode_json", JSON),
    Column("seed", BigInteger),
    Column("latency_ms", Float),
    Column("score", Float),
    Column("detail", Text),
    # Null where the platform reports no delivery, such as the terminal.
    Column("delivery", String(16)),
    UniqueConstraint("chat_id", "platform_message_id"),
    Index(None, "chat_id", "id"),
    # Of erased rows alone. With the others in it, SQLite may take it for the way to a chat's rows that are not erased.
    Index(None, "deleted_at", sqlite_where=_ERASED, postgresql_where=_ERASED),
    CheckConstraint("role IN ('user', 'bot')", name="role"),
    CheckConstraint("delivery IN ('pending', 'sending', 'sent', 'failed', 'unknown')", name="delivery"),
)

# What messengers delivered, from its arrival until its reply is out: docs/decisions/delivery.md.
inbox = Table(
    "inbox",
    metadata,
    _id(),
    _reference("chat_id", "chat"),
    _reference("person_id", "person", index=True),
    Column("platform_message_id", String(255), nullable=False),
    Column("state", String(16), nullable=False, index=True),
    # The message as it came, with the platform's own ids, and what is answered: JSON, null when all is done.
    Column("envelope", Text),
    Column("reply", Text),
    # Null for what is answered but not stored, such as commands.
    _reference("reply_id", "message", nullable=True),
    # The platform's ids of the reply's parts that are out.
    Column("sent", JSON, nullable=False),
    _moment("created_at"),
    UniqueConstraint("chat_id", "platform_message_id"),
    CheckConstraint("state IN ('received', 'pending', 'sending', 'sent', 'failed', 'unknown')", name="state"),
)

consent = Table(
    "consent",
    metadata,
    _id(),
    _reference("person_id", "person"),
    _reference("chat_id", "chat"),
    Column("scope", String(32), nullable=False),
    Column("given", Boolean, nullable=False),
    Column("wording", String(64), nullable=False),
    Column("how", String(255), nullable=False),
    _moment("at"),
    Index(None, "person_id", "chat_id", "id"),
)

feedback = Table(
    "feedback",
    metadata,
    _id(),
    _reference("message_id", "message"),
    _reference("person_id", "person", index=True),
    Column("rating", Integer),
    Column("text", Text),
    _moment("at"),
    UniqueConstraint("message_id", "person_id"),
    CheckConstraint("rating IN (-1, 1)", name="rating"),
)

correction = Table(
    "correction",
    metadata,
    _id(),
    _reference("message_id", "message", index=True),
    _reference("person_id", "person", index=True),
    Column("text", Text, nullable=False),
    _moment("created_at"),
    _moment("deleted_at", nullable=True),
)

review = Table(
    "review",
    metadata,
    _id(),
    _reference("message_id", "message", index=True),
    Column("kind", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    _reference("person_id", "person", nullable=True),
    Column("why", Text),
    _moment("at"),
    CheckConstraint("state IN ('waiting', 'accepted', 'rejected')", name="state"),
)

dataset = Table(
    "dataset",
    metadata,
    _id(),
    Column("name", String(255), nullable=False),
    Column("hash", String(64), nullable=False),
    _moment("created_at"),
)

dataset_item = Table(
    "dataset_item",
    metadata,
    Column("dataset_id", Integer, ForeignKey("dataset.id"), primary_key=True),
    Column("message_id", Integer, ForeignKey("message.id"), primary_key=True, index=True),
)

model = Table(
    "model",
    metadata,
    Column("id", String(255), primary_key=True),
    # No foreign key: the shipped model, parent of the first one trained here, has no row.
    Column("parent_id", String(255)),
    _reference("dataset_id", "dataset", nullable=True),
    Column("metrics", JSON, nullable=False),
    Column("state", String(16), nullable=False),
    Column("run", String(255)),
    _moment("created_at"),
    CheckConstraint("state IN ('candidate', 'shadow', 'serving', 'retired', 'tainted')", name="state"),
)

shadow_reply = Table(
    "shadow_reply",
    metadata,
    _id(),
    _reference("message_id", "message", index=True),
    Column("model_id", String(255), ForeignKey("model.id"), nullable=False),
    Column("text", Text, nullable=False),
    Column("score", Float),
    Column("latency_ms", Float),
    _moment("created_at"),
)

erasure = Table(
    "erasure",
    metadata,
    _id(),
    _reference("person_id", "person", index=True),
    _reference("chat_id", "chat", nullable=True),
    _reference("message_id", "message", nullable=True),
    Column("messages", Integer, nullable=False),
    Column("replies", Integer, nullable=False),
    Column("corrections", Integer, nullable=False),
    _moment("at"),
)
