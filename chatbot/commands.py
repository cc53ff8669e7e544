"""The slash commands people have on every platform: the line is read here, done on the store, and answered.

In goes a message that is a command, out comes the reply to show. Command lines are neither stored nor shown to the
model. What only one platform has, such as leaving a terminal, is that adapter's own business.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from chatbot.learnable import DEFAULT_POLICY, Rule
from chatbot.messages import Message, Reply
from chatbot.store import ConversationStore
from chatbot.wording import Wording, wording_for

# The full-width slash is what Chinese input methods type. "/etc/passwd" and "/ 2" are no commands, but text.
_COMMAND = re.compile(r"\s*[/／](?P<name>[A-Za-z_]+)(?:\s+(?P<argument>.*))?", re.DOTALL)
_YES = {"yes", "同意", "是"}
_NO = {"no", "不同意", "否"}
_STATUS = {"", "status", "状态", "中文"}
_SHOWN_RECORDS = 20
_SHOWN_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class Command:
    """A slash command as it was written: the name without the slash in lower case, and the rest of the message."""

    name: str
    argument: str


def parse_command(text: str) -> Command | None:
    """The command that `text` is, known or not; None for ordinary text."""
    match = _COMMAND.fullmatch(text)
    return match and Command(match["name"].lower(), (match["argument"] or "").strip())


class Commands:
    """Does commands on a store.

    People are told what may be learnt from, by `policy`, and after how many days words are erased; 0 is never.
    """

    def __init__(
        self, store: ConversationStore, policy: Mapping[str, Rule] = DEFAULT_POLICY, kept_days: int = 0
    ) -> None:
        self._store = store
        self._policy = policy
        self._kept_days = kept_days
        self._known: Mapping[str, Callable[[str, Message, Wording], str]] = {
            "start": self._start,
            "settings": lambda argument, message, say: say.settings.format(state=self._consent_state(message, say)),
            "help": lambda argument, message, say: say.help,
            "privacy": self._privacy,
            "reset": self._reset,
            "consent": self._consent,
            "mydata": self._my_data,
            "forget": self._forget,
            "teach": self._teach,
            "good": lambda argument, message, say: self._rate(+1, message, say),
            "bad": lambda argument, message, say: self._rate(-1, message, say),
            "stats": self._stats,
        }

    def run(self, command: Command, message: Message) -> Reply:
        """Do the command that `message` is and answer it; a courteous line for one that does not exist.

        Works on the store, so call it in a thread. DatabaseError if the store cannot be used.
        """
        say = wording_for(message.text)
        action = self._known.get(command.name)
        text = action(command.argument, message, say) if action else say.unknown.format(name=command.name[:40])
        return Reply(text, model_id="command", engine="command", detail=command.name if action else "unknown")

    def _rule(self, message: Message) -> Rule:
        return self._policy.get(message.platform, "consented")

    def _start(self, argument: str, message: Message, say: Wording) -> str:
        # Telegram's links of the form t.me/bot?start=consent lead here.
        return self._consent_status(message, say) if argument == "consent" else say.first_contact

    def _privacy(self, argument: str, message: Message, say: Wording) -> str:
        kept = say.kept.format(days=self._kept_days) if self._kept_days else say.kept_for_ever
        return say.privacy.format(kept=kept, learning=say.learning[self._rule(message)])

    def _reset(self, argument: str, message: Message, say: Wording) -> str:
        self._store.reset(message.platform, message.chat, message.thread)
        return say.reset

    def _consent(self, argument: str, message: Message, say: Wording) -> str:
        answer = argument.casefold()
        if answer in _STATUS:
            return self._consent_status(message, say)
        if answer not in _YES | _NO:
            return say.consent_usage
        rule, given = self._rule(message), answer in _YES
        if given and rule == "never":
            return say.learning[rule]
        tainted = self._store.consent(
            message.platform,
            message.chat,
            message.sender,
            given,
            wording=say.consent_version,
            how=f"/consent {answer}",
        )
        lines = [say.consent_given if given else say.consent_withdrawn]
        if tainted:
            lines.append(say.tainted_models.format(count=len(tainted)))
        return "\n".join(lines)

    def _consent_status(self, message: Message, say: Wording) -> str:
        state = self._consent_state(message, say)
        return state if self._rule(message) == "never" else f"{say.consent_terms}\n{state}"

    def _consent_state(self, message: Message, say: Wording) -> str:
        """What this chat's rule is and what the person has decided."""
        rule = self._rule(message)
        if rule == "never":
            return say.learning[rule]
        records = self._store.my_data(message.platform, message.sender, message.chat)
        decisions = [record.text == "given" for record in records if record.kind == "consent"]
        latest = decisions[-1] if decisions else None
        # Where learning is allowed by default, who has said nothing has not been waited for.
        state = [] if rule == "allowed" and latest is None else [say.consent_state[latest]]
        return "\n".join([say.learning[rule], *state])

    def _my_data(self, argument: str, message: Message, say: Wording) -> str:
        # Of this chat alone: a group must not read what somebody wrote elsewhere.
        records = self._store.my_data(message.platform, message.sender, message.chat)
        if not records:
            return say.my_data_none
        latest = records[-_SHOWN_RECORDS:]
        kinds = Counter(record.kind for record in records)
        head = say.my_data.format(
            messages=kinds["message"],
            replies=kinds["reply"],
            corrections=kinds["correction"],
            ratings=kinds["rating"],
            consents=kinds["consent"],
            shown=len(latest),
        )
        return "\n".join([head, *(f"{r.at:%Y-%m-%d %H:%M} {r.kind}: {_short(r.text)}" for r in latest)])

    def _forget(self, argument: str, message: Message, say: Wording) -> str:
        chat = None if argument.casefold() == "all" else message.chat
        # As a reply to a message, the command means that one.
        one = message.reply_to if chat is not None else None
        erased = self._store.forget(message.platform, message.sender, chat, one)
        if not erased.messages + erased.replies + erased.corrections:
            return say.forgotten_none
        lines = [say.forgotten.format(messages=erased.messages, replies=erased.replies, corrections=erased.corrections)]
        if erased.tainted_models:
            lines.append(say.tainted_models.format(count=len(erased.tainted_models)))
        return "\n".join(lines)

    def _teach(self, argument: str, message: Message, say: Wording) -> str:
        if not argument:
            return say.teach_usage
        done = self._store.teach(message.platform, message.chat, message.sender, argument, message.thread)
        return say.taught[self._rule(message)] if done else say.no_reply_yet

    def _rate(self, rating: int, message: Message, say: Wording) -> str:
        done = self._store.rate(message.platform, message.chat, message.sender, rating, message.thread)
        return say.rated[rating] if done else say.no_reply_yet

    def _stats(self, argument: str, message: Message, say: Wording) -> str:
        held = self._store.stats()
        return say.stats.format(
            chats=sum(held.chats.values()),
            messages=sum(held.messages.values()),
            replies=sum(held.replies.values()),
            liked=held.liked,
            disliked=held.disliked,
            corrections=held.corrections,
        )


def _short(text: str) -> str:
    """One line of a text, cut where it gets long."""
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN_CHARACTERS else line[: _SHOWN_CHARACTERS - 1] + "…"
