"""The commands in Telegram's menus, in English and in Chinese, for private chats and for groups."""

from __future__ import annotations

from telegram import BotCommand

_PRIVATE = (
    ("help", "What I can do", "我会做什么"),
    ("reset", "Start over", "重新开始"),
    ("good", "My last reply was good", "上一句答得好"),
    ("bad", "My last reply was bad", "上一句答得不好"),
    ("teach", "What I should have said: /teach TEXT", "上一句应该怎么说：/teach 内容"),
    ("settings", "How I am set up", "我的设置"),
    ("privacy", "What is stored, and your rights", "保存了什么，以及你的权利"),
    ("consent", "Whether I may learn from your words here", "我可不可以从你的话中学习"),
    ("mydata", "What is kept of you in this chat", "这个聊天里保存了你的什么"),
    ("forget", "Erase your words in this chat", "删除你在这个聊天里的话"),
    ("stats", "What I remember, in numbers", "我记得多少"),
    ("start", "Who I am", "我是谁"),
)
# In a group the list is shown to all, so it holds what concerns a group.
_IN_GROUPS = {"help", "reset", "teach", "privacy", "consent", "mydata", "forget"}
KNOWN = frozenset(name for name, _, _ in _PRIVATE)


def menu(*, group: bool, chinese: bool) -> list[BotCommand]:
    """The menu of one kind of chat in one language."""
    shown = [entry for entry in _PRIVATE if not group or entry[0] in _IN_GROUPS]
    return [BotCommand(name, zh if chinese else en) for name, en, zh in shown]
