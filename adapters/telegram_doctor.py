"""What is wrong between the bot and Telegram, each cause with its cure: for `chatbot doctor`. Changes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from telegram import User
from telegram.error import Conflict, InvalidToken, TelegramError

from adapters.base import Finding
from adapters.telegram_client import BAD_TOKEN, Client, LaterError, NotReachedError, read_token
from adapters.telegram_settings import CONFLICTS, TelegramSettings
from chatbot.errors import UsageError

_WATCHED_S = 3.0


async def diagnose(settings: Mapping[str, object], watched_s: float = _WATCHED_S) -> Sequence[Finding]:
    """Look at token, network, privacy mode, webhook and other pollers, for which it watches `watched_s` seconds.

    `settings` is the section `telegram` of the configuration. A bot of ours that is running counts as another poller.
    """
    try:
        wanted, token = TelegramSettings.of(settings), read_token()
        client = Client(token, timeout_s=10.0)
    except UsageError as error:
        return [_bad(str(error))]
    async with client:
        try:
            me = await client.myself()
            return [
                Finding(True, f"Telegram knows the token: the bot is @{me.username}"),
                _privacy(me, wanted),
                *await _ways_in(client, wanted, watched_s),
            ]
        except InvalidToken:
            return [_bad(BAD_TOKEN)]
        except NotReachedError as error:
            return [
                Finding(
                    False,
                    f"{client.host} cannot be reached ({error.message})",
                    "check the network, the proxy in HTTPS_PROXY, and TELEGRAM_API_URL if it is set",
                )
            ]
        except LaterError as error:
            return [Finding(False, "Telegram wants fewer calls", f"wait {error.seconds:.0f} s and ask again")]
        except TelegramError as error:
            return [Finding(False, f"{client.host} gave no proper answer ({type(error).__name__})", "ask again later")]


def _privacy(me: User, wanted: TelegramSettings) -> Finding:
    if me.can_read_all_group_messages:
        return Finding(True, "privacy mode is off: the bot is sent all that is written in its groups")
    if wanted.ambient:
        return Finding(
            False,
            "telegram.ambient is on, but privacy mode keeps the talk in groups from the bot",
            "send /setprivacy to @BotFather, choose Disable, then remove the bot from its groups and add it again",
        )
    return Finding(True, "privacy mode is on: in groups the bot is sent commands and replies to it, which is enough")


async def _ways_in(client: Client, wanted: TelegramSettings, watched_s: float) -> list[Finding]:
    """What is found of the webhook, and where there is none, of others that poll."""
    try:
        hook = await client.bot.get_webhook_info()
    except InvalidToken:  # The token is known by now: it is the method that a server of somebody's own may lack.
        return [Finding(True, f"{client.host} does not tell of webhooks")]
    if wanted.webhook_url:
        if hook.url != wanted.webhook_url:
            return [Finding(False, "telegram.webhook_url is not set at Telegram yet", "`chatbot run telegram` sets it")]
        if hook.last_error_message:
            reached = f"Telegram could not deliver to the webhook: {hook.last_error_message}"
            return [
                Finding(False, reached, "check that the address leads to telegram.webhook_port, with a certificate")
            ]
        return [Finding(True, f"the webhook is set; updates waiting: {hook.pending_update_count}")]
    if hook.url:
        return [_bad(CONFLICTS[True])]
    try:
        # Without an offset nothing is confirmed, so nothing is taken from a bot that runs.
        await client.updates(None, watched_s, limit=1)
    except Conflict:
        return [Finding(False, "something else polls with this token", _AN_OTHER)]
    return [Finding(True, "no webhook is set, and nobody else polls")]


_AN_OTHER = "if it is not your own `chatbot run`, stop it, or get a new token from @BotFather (/revoke)"


def _bad(text: str) -> Finding:
    """A finding from a text that says what is wrong and, after a colon, what to do."""
    what, _, mend = text.partition(": ")
    return Finding(False, what, mend)
