"""What the program itself says to people, in English and in Chinese: pure text, chosen by the script of a message.

Every text is a plain string; those with names in braces are filled in by `str.format` where they are used. Texts name
only commands that work on every platform.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

from chatbot.text import is_chinese


@dataclass(frozen=True)
class Wording:
    """All texts in one language. `learning` and `taught` are by the platform's rule, as `chatbot.learnable` has it."""

    language: str
    first_contact: str
    help: str
    privacy: str  # {kept} {learning}
    kept: str  # {days}
    kept_for_ever: str
    learning: dict[str, str]
    consent_terms: str
    consent_state: dict[bool | None, str]  # given, withdrawn, never asked
    consent_given: str
    consent_withdrawn: str
    consent_usage: str
    my_data: str  # {messages} {replies} {corrections} {ratings} {consents} {shown}
    my_data_none: str
    forgotten: str  # {messages} {replies} {corrections}
    tainted_models: str  # {count}
    forgotten_none: str
    settings: str  # {state}
    reset: str
    teach_usage: str
    taught: dict[str, str]
    rated: dict[int, str]
    no_reply_yet: str
    stats: str  # {chats} {messages} {replies} {liked} {disliked} {corrections}
    unknown: str  # {name}
    busy: str

    @cached_property
    def consent_version(self) -> str:
        """Which text a person agreed to, for the ledger: changes by itself whenever the terms do."""
        return f"{self.language}-{hashlib.sha256(self.consent_terms.encode()).hexdigest()[:12]}"


ENGLISH = Wording(
    language="en",
    first_contact="I am a bot: a small language model, not a person, and I get things wrong. What you write here and "
    "what I answer is stored by whoever runs me. /privacy tells what is kept and how to stop that, /help what I can "
    "do. 中文说明：/help 中文",
    help="""Just write, and I answer. I also know these commands:
/reset - start over: I no longer look at what was said so far (nothing is deleted)
/good, /bad - tell me how my last reply was
/teach TEXT - tell me what my last reply should have been
/privacy - what is stored, and your rights
/consent [yes|no|status] - whether I may learn from your words in this chat
/mydata - what is kept of you in this chat
/forget - erase your words in this chat; as a reply to a message of yours, that message; /forget all, every chat
/settings - what you can set in this chat, and how it stands
/stats - what I remember, in numbers
/start, /help - who I am, and this list""",
    privacy="""What is stored: your messages, my replies, when they were written and which model wrote them, your \
ratings and corrections. Instead of your account's id, a keyed hash of it. All of it stays on the machines of whoever \
runs me; this program sends it nowhere and does not encrypt it. {kept}
{learning}
/mydata shows what is kept of you in this chat. /forget erases it at once, and marks models that have learnt from \
it; backups keep it until they are deleted, and I am not always told when you delete a message on a platform. \
/consent no stops the learning.""",
    kept="Words are erased {days} days after they were written.",
    kept_for_ever="It is kept until you, or whoever runs me, erase it.",
    learning={
        "allowed": "Learning: these are the operator's own words, so they may be used to train my model; "
        "/consent no stops that, /consent yes allows it again.",
        "consented": "Learning: nothing you write is used to train my model unless you say /consent yes, in this chat, "
        "and everybody else in that talk does too.",
        "permitted": "Learning: this platform has permitted whoever runs me to train my model, and still nothing you "
        "write is used unless you say /consent yes, in this chat, and everybody else in that talk does too.",
        "never": "Learning: nothing written on this platform is ever used to train my model.",
    },
    consent_terms="If you allow it, what you write in this chat, and my replies to it, may be used to train the model "
    "of this bot, and nothing else. It holds for this chat only. You can withdraw at any time with /consent no; "
    "later training then leaves your words out, and a model that has learnt from them is marked: the next training "
    "starts from one that has not. /forget does the same and erases the words, too.",
    consent_state={
        True: "You have allowed it: /consent no withdraws.",
        False: "You have not allowed it: /consent yes would.",
        None: "You have not said yet: /consent yes or /consent no.",
    },
    consent_given="Thank you: what you write in this chat may be used to train my model. /consent no withdraws.",
    consent_withdrawn="Noted: nothing you wrote or write in this chat will be used to train my model from now on.",
    consent_usage="Please say /consent yes, /consent no or /consent status.",
    my_data="Kept of you in this chat: messages {messages}, my replies to them {replies}, corrections {corrections}, "
    "ratings {ratings}, decisions about learning {consents}. The latest {shown}:",
    my_data_none="Nothing is kept of you in this chat.",
    forgotten="Erased: messages {messages}, my replies to them {replies}, corrections {corrections}. "
    "Backups keep them until they are deleted.",
    tainted_models="Models marked because they had learnt from these words: {count}.",
    forgotten_none="There was nothing of yours to erase.",
    settings="""What you can set here:
/consent yes, /consent no - whether I may learn from your words in this chat
/reset - start over with nothing said so far
{state}""",
    reset="A fresh start: I no longer look at what was said so far.",
    teach_usage="Please add what I should have said: /teach Nice to see you!",
    taught={
        "allowed": "Thank you. From now on I take it that I said so, and the next training may learn it.",
        "consented": "Thank you. From now on I take it that I said so. I can learn it only if everyone in this talk "
        "has said /consent yes.",
        "permitted": "Thank you. From now on I take it that I said so. I can learn it only if everyone in this talk "
        "has said /consent yes.",
        "never": "Thank you. From now on I take it that I said so; it is never learnt from on this platform.",
    },
    rated={1: "Glad you liked it.", -1: "Sorry. /teach TEXT tells me what to say instead."},
    no_reply_yet="I have not said anything here yet: write to me first, then tell me about my reply.",
    stats="Stored: chats {chats}, messages {messages}, replies {replies}; liked {liked}, disliked {disliked}, "
    "corrected {corrections}.",
    unknown="I don't know the command /{name}; /help lists those I do know.",
    busy="I am busy with other conversations right now. Please try again in a moment.",
)

CHINESE = Wording(
    language="zh",
    first_contact="我是一个聊天机器人：一个小型语言模型，不是真人，也会说错话。你写的内容和我的回答会由运行我的人保存。"
    "/privacy 中文 说明保存什么、怎样停止，/help 中文 列出我会做的事。",
    help="""直接写字，我就会回答。我还认得这些命令：
/reset - 重新开始：我不再参考之前说过的话（不会删除任何内容）
/good、/bad - 告诉我上一句回答得好不好
/teach 内容 - 告诉我上一句应该怎么说
/privacy - 保存了什么，以及你的权利
/consent [yes|no|status] - 我可不可以从你在这里说的话中学习（也可以写 同意、不同意、状态）
/mydata - 这个聊天里保存了你的哪些内容
/forget - 删除你在这个聊天里的话；回复你自己的某条消息时，只删除那一条；/forget all 删除所有聊天里的
/settings - 你在这个聊天里可以设定什么，现在怎样
/stats - 我记得多少，用数字说
/start、/help - 我是谁，以及这份说明
想看中文回答，请在命令后面加上“中文”，例如 /privacy 中文。""",
    privacy="""保存的内容：你的消息、我的回答、时间、由哪个模型回答、你的评价和纠正。你的帐号只以带密钥的哈希值保存。\
一切都留在运行我的人的机器上；本程序不会把它发到别处，也不加密。{kept}
{learning}
/mydata 中文 显示这个聊天里保存了你的哪些内容。/forget 立即删除它们，并给学过它们的模型做上标记；\
备份会保留到被删除为止，而且你在平台上删除消息时，我不一定会得到通知。/consent no 停止学习。""",
    kept="内容写下 {days} 天后会被删除。",
    kept_for_ever="内容会一直保存，直到你或者运行我的人把它删除。",
    learning={
        "allowed": "学习：这里是运行者自己的话，所以可以用来训练我的模型；/consent no 停止，/consent yes 再次允许。",
        "consented": "学习：除非你在这个聊天里说 /consent yes，并且参与那段对话的其他人也都同意，"
        "否则你写的任何内容都不会用来训练我的模型。",
        "permitted": "学习：这个平台允许运行我的人训练我的模型；即便如此，除非你在这个聊天里说 /consent yes，"
        "并且参与那段对话的其他人也都同意，否则你写的任何内容都不会被使用。",
        "never": "学习：这个平台上写的任何内容都永远不会用来训练我的模型。",
    },
    consent_terms="如果你同意，你在这个聊天里写的内容以及我对它的回答，可以用来训练这个机器人的模型，不作他用。"
    "同意只对这个聊天有效。你可以随时用 /consent no 撤回；之后的训练不再使用你的话，"
    "而已经学过的模型会被做上标记：下一次训练从没有学过的模型开始。/forget 也是这样，并且还会删除这些话。",
    consent_state={
        True: "你已经同意：/consent no 可以撤回。",
        False: "你没有同意：/consent yes 表示同意。",
        None: "你还没有表态：请说 /consent yes 或 /consent no。",
    },
    consent_given="谢谢：你在这个聊天里写的内容可以用来训练我的模型。/consent no 可以撤回。",
    consent_withdrawn="记下了：从现在起，你在这个聊天里写过的和将要写的内容都不会用来训练我的模型。",
    consent_usage="请说 /consent 同意、/consent 不同意 或 /consent 状态。",
    my_data="这个聊天里保存的你的内容：消息 {messages} 条，我对它们的回答 {replies} 条，纠正 {corrections} 条，"
    "评价 {ratings} 条，关于学习的决定 {consents} 条。最近的 {shown} 条：",
    my_data_none="这个聊天里没有保存你的任何内容。",
    forgotten="已删除：消息 {messages} 条，我对它们的回答 {replies} 条，纠正 {corrections} 条。"
    "备份会保留到被删除为止。",
    tainted_models="因为学过这些话而做上标记的模型：{count} 个。",
    forgotten_none="没有可以删除的内容。",
    settings="""你在这里可以设定：
/consent yes、/consent no - 我可不可以学习你在这个聊天里说的话
/reset - 重新开始，不再参考之前说过的话
{state}""",
    reset="重新开始：我不再参考之前说过的话。",
    teach_usage="请写上我应该怎么说：/teach 见到你很高兴！",
    taught={
        "allowed": "谢谢。从现在起我就当自己是这么说的，下一次训练可以学会它。",
        "consented": "谢谢。从现在起我就当自己是这么说的。只有参与这段对话的人都说过 /consent yes，我才可以学它。",
        "permitted": "谢谢。从现在起我就当自己是这么说的。只有参与这段对话的人都说过 /consent yes，我才可以学它。",
        "never": "谢谢。从现在起我就当自己是这么说的；在这个平台上我不会学它。",
    },
    rated={1: "很高兴你喜欢。", -1: "抱歉。用 /teach 内容 告诉我应该怎么说。"},
    no_reply_yet="我在这里还没说过话：请先写点什么，再评价我的回答。",
    stats="已保存：聊天 {chats} 个，消息 {messages} 条，回答 {replies} 条；好评 {liked}，差评 {disliked}，"
    "纠正 {corrections}。",
    unknown="我不认得命令 /{name}；/help 中文 列出我认得的命令。",
    busy="我正忙着和别人聊天，请稍后再试。",
)


def wording_for(text: str) -> Wording:
    """The texts for whoever wrote `text`: Chinese if there is a Han character in it, else English."""
    return CHINESE if is_chinese(text) else ENGLISH
