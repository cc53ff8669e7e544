"""The forms of a recurrent decoder, each with its paper and equations; a form is a class and a line in `FORMS`.

Here are those whose cells need nothing but the words before: they run as one call over all steps, and attend after it.
Those of `chatbot.model.stepped` feed something back, and go step by step at two to three times the cost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from chatbot.model.form import Decoded, Form, Maxout, Sizes
from chatbot.model.stepped import Bahdanau, Grammar, LuongFeeding, Robertson

if TYPE_CHECKING:
    from chatbot.model.base import DecoderState
    from chatbot.model.seq2seq import Seq2Seq


class Luong(Form):
    """h~_t = tanh(W [c_t; h_t]): Luong, Pham, Manning 2015 (arXiv 1508.04025), equation 5, without input feeding.

    The attention reads the decoder's output instead of feeding it, so that the decoder is one fused call.
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__(sizes)
        self.weight, self.bias = nn.Linear(sizes.decoder + sizes.context, sizes.word).parameters()

    def forward(self, both: Tensor) -> Tensor:
        """W [c; h] + b of (..., C + H)."""
        return F.linear(both, self.weight, self.bias)

    def run(self, net: Seq2Seq, embedded_BTE: Tensor, state: DecoderState) -> Decoded:
        """All steps at once, then attention over all of them."""
        output_BTH, hidden = net.fused(embedded_BTE, state.hidden)
        context_BTC, weights_BTS = net.attention.read(output_BTH, state.memory_BSM, state.keys_BSH, state.mask_BS)
        both = torch.cat((context_BTC, output_BTH), dim=2)
        return Decoded(torch.tanh(self(both)), hidden, weights_BTS)


class Sutskever(Form):
    """p(y_t) = g(h_t): Sutskever, Vinyals, Le 2014 (arXiv 1409.3215), section 2. All that passes is the last state."""

    attends = False

    @staticmethod
    def features(sizes: Sizes) -> int:
        """The decoder's units."""
        return sizes.decoder

    def remember(self, memory_BSM: Tensor, summary_BM: Tensor) -> Tensor:
        """Nothing, (B, 0, M)."""
        return memory_BSM[:, :0]

    def run(self, net: Seq2Seq, embedded_BTE: Tensor, state: DecoderState) -> Decoded:
        """All steps at once."""
        return Decoded(*net.fused(embedded_BTE, state.hidden), None)


class Cho(Form):
    """h_t = f(h_(t-1), y_(t-1), c), p = g(h_t, y_(t-1), c): Cho et al. 2014 (arXiv 1406.1078), section 2.2, appendix A.

    c = tanh(V h_S) is the summary of the source, g a maxout layer; every step sees c.
    """

    attends = False

    def __init__(self, sizes: Sizes) -> None:
        super().__init__(sizes)
        self.summary = nn.Linear(sizes.memory, sizes.memory)
        self.maxout = Maxout(sizes.decoder + sizes.word + sizes.memory, sizes.word)

    @staticmethod
    def inputs(sizes: Sizes) -> int:
        """The last word and c."""
        return sizes.word + sizes.memory

    def remember(self, memory_BSM: Tensor, summary_BM: Tensor) -> Tensor:
        """c, as a memory of one position."""
        return torch.tanh(self.summary(summary_BM)).unsqueeze(1)

    def run(self, net: Seq2Seq, embedded_BTE: Tensor, state: DecoderState) -> Decoded:
        """All steps at once, since c is the same for all."""
        summary_BTM = state.memory_BSM.expand(-1, embedded_BTE.shape[1], -1)
        output_BTH, hidden = net.fused(torch.cat((embedded_BTE, summary_BTM), dim=2), state.hidden)
        return Decoded(self.maxout(output_BTH, embedded_BTE, summary_BTM), hidden, None)


FORMS: dict[str, type[Form]] = {
    "luong": Luong,
    "luong-feeding": LuongFeeding,
    "bahdanau": Bahdanau,
    "grammar": Grammar,
    "robertson": Robertson,
    "sutskever": Sutskever,
    "cho": Cho,
}
