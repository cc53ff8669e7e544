"""Replies that say nothing: such as would do after almost any line, "I see." or 我明白了。

A reply is generic if every word of it is commonplace: not one is about what was said. The lists below were made so that
they cover the replies that come after many different lines in the talk that the starter was trained on
(docs/training.md#talk). It knows no model.
"""

from __future__ import annotations

import re
from functools import cache

from chatbot.text import clean

_EN = """
a about absolutely actually again agree agreed ah aha ahh all alright also always am amazing an and any anything
appreciate are as at awesome aww back bad be because been bet better bit but by bye can cant come comes cool could
couldnt course crazy dear definitely did didnt do does doesnt doing done dont either else ever exactly fair feel
find fine for from fun funny get give glad go going gonna good got gotcha great guess ha had haha hahaha happened
happy has hasnt have havent he hear heard hello her here hey hi him his hm hmm hmmm honestly hope how huh i id idea
if ill im imagine in indeed interested interesting is isnt it its ive just kidding kind know lets like lmao lol look
looks lot love lovely makes many matter may maybe me mean means meant mind mine more most much must my nah neither
never new nice no nope not nothing now of off oh ohh ok okay omg on one ones only opinion or other our out perfect
please point possible pretty probably problem question quite really right said same say saying see seems seen sense
seriously she should so some something sometimes soon sorry sort sound sounds stuff such suppose sure sweet take
talk talking tell than thank thanks that thats the their them then there theres these they thing things think this
those though thought thoughts to too totally tried trouble true try u ugh um understand up us very want was wasnt
way we welcome well were what whatever whats when where which who whom whose why will wish with wonder wonderful
wont worries would wouldnt wow yea yeah yep yes yet you your youre yours yup
"""
_ZH = """
啊 哈 嗯 哦 噢 喔 呃 唉 诶 呀 呢 吗 吧 嘛 啦 呗 了 的 地 得 着 过 我 你 您 他 她 它 我们 你们 他们 这 那 这个 那个
这样 那样 这些 那些 这么 那么 这里 那里 什么 怎么 怎样 怎么样 如何 为什么 哪 哪里 哪些 谁 多少 几 是 是的 不是 有 没
没有 不 也 都 就 才 还 还是 又 再 很 太 真 真的 真是 好 好的 好吧 好啊 挺 非常 特别 比较 更 最 已经 正在 一直 总
可能 也许 应该 可以 能 会 要 想 觉得 认为 知道 不知道 明白 了解 理解 懂 听 听起来 看 看来 看起来 说 告诉 聊 谈 问
问题 回答 试 试试 试一试 尝试 努力 加油 谢谢 感谢 多谢 不客气 没关系 没事 对 对不起 抱歉 不好意思 当然 确实 其实
然后 因为 所以 但 但是 不过 如果 而 和 跟 与 或 或者 以及 给 在 从 到 对于 关于 被 把 让 请 一 一个 一些 一点 一下
有点 一起 一切 事 事情 东西 时候 时间 现在 今天 后来 以后 之后 开始 继续 下来 起来 出来 进行 做 去 来 用 需要 喜欢
爱 高兴 开心 不错 有趣 有意思 厉害 棒 建议 方法 办法 帮助 支持 鼓励 配合 顺利 祝 祝福 再见 拜拜 你好 您好 大家 自己
别人 其他 该 怎么办 激动 真心 感激 具体 详细 好好 尽力 记住 考虑 相信 希望 愿意 感觉 想法 意思 同意 随便 无所谓 哈哈
呵呵 嘻嘻 嗨 哇 天哪 十分 多 少 大 小 里
"""
_WORD = re.compile(r"[^\W_]+")
_APOSTROPHES = str.maketrans("", "", "'’")


def is_generic(reply: str) -> bool:
    """Whether `reply` could stand after almost anything: no word in it that is about something."""
    words, phrases = _commonplace()
    return words.issuperset(_WORD.findall(phrases.sub(" ", clean(reply).casefold().translate(_APOSTROPHES))))


@cache
def _commonplace() -> tuple[frozenset[str], re.Pattern[str]]:
    """English words, and the longest Chinese ones first: there, words stand without spaces."""
    return frozenset(_EN.split()), re.compile("|".join(sorted(_ZH.split(), key=len, reverse=True)))
