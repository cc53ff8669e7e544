"""The forms of a recurrent decoder that feed back what came of a step, and so go step by step.

Shape letters as in `chatbot.model.base`; X what is fed back, C the attention's context, F the features before the
output layer, G gates.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from chatbot.model.cells import States, layered, stacked
from chatbot.model.form import Decoded, Form, Maxout, Sizes

if TYPE_CHECKING:
    from chatbot.model.base import DecoderState
    from chatbot.model.seq2seq import Seq2Seq


class Moment(NamedTuple):
    """One step on its way: the word's embedding (B, E) and its share of the cell's input, the states, what was fed.

    `weight_GX` is the cell's matrix for what it reads behind the word.
    """

    embedded_BE: Tensor
    from_word_BG: Tensor
    layers: list[States]
    fed_BX: Tensor
    weight_GX: Tensor


class After(NamedTuple):
    """One step done: features (B, F), states, what is fed back (B, X), weights (B, S)."""

    features_BF: Tensor
    layers: list[States]
    fed_BX: Tensor
    weights_BS: Tensor


class Stepped(Form):
    """What the forms that go step by step share: the loop. Each says in `step` what one step is."""

    def step(self, net: Seq2Seq, now: Moment, state: DecoderState) -> After:
        """One step of all rows."""
        raise NotImplementedError

    def from_words(self, net: Seq2Seq, embedded_BTE: Tensor) -> Tensor:
        """What the words add to the cells' input, for all steps at once (B, T, G)."""
        return net.steps.from_input(embedded_BTE)

    def fed(self, state: DecoderState) -> tuple[States, Tensor]:
        """The cells' states, and what was fed back."""
        *cells, fed_1BX = state.hidden
        return tuple(cells), fed_1BX[0]

    def run(self, net: Seq2Seq, embedded_BTE: Tensor, state: DecoderState) -> Decoded:
        """Step by step."""
        states, fed_BX = self.fed(state)
        layers = layered(states)
        from_words = self.from_words(net, embedded_BTE).unbind(1)
        weight_GX = net.steps.weight_behind(embedded_BTE.shape[2])
        features, weights = [], []
        for embedded_BE, from_word_BG in zip(embedded_BTE.unbind(1), from_words, strict=True):
            after = self.step(net, Moment(embedded_BE, from_word_BG, layers, fed_BX, weight_GX), state)
            layers, fed_BX = after.layers, after.fed_BX
            features.append(after.features_BF)
            weights.append(after.weights_BS)
        hidden = self.hidden(stacked(layers), fed_BX)
        return Decoded(torch.stack(features, dim=1), hidden, torch.stack(weights, dim=1))

    def hidden(self, states: States, fed_BX: Tensor) -> States:
        """What goes into the next `DecoderState`."""
        return (*states, fed_BX.unsqueeze(0))


class LuongFeeding(Stepped):
    """The cell reads [y_(t-1); h~_(t-1)], h~_t = tanh(W [c_t; h_t]): Luong et al. 2015, section 3.3 and equation 5.

    The first h~ is zero, or, with `start_attention`, that of the initial state.
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__(sizes)
        self.linear = nn.Linear(sizes.decoder + sizes.context, self.features(sizes))

    @staticmethod
    def inputs(sizes: Sizes) -> int:
        """The last word and the last attentional state."""
        return 2 * sizes.word

    def first(self, net: Seq2Seq, state: DecoderState) -> States:
        """h~_0."""
        _, fed_BX, _ = self.look(net, state.hidden[0][-1], state)
        return ((fed_BX if net.config.start_attention else torch.zeros_like(fed_BX)).unsqueeze(0),)

    def look(self, net: Seq2Seq, h_BH: Tensor, state: DecoderState) -> tuple[Tensor, Tensor, Tensor]:
        """Attend with h: the features, what is fed back of them, and the weights."""
        context_BC, weights_BS = net.attend(h_BH, state)
        features_BF = torch.tanh(self.linear(torch.cat((context_BC, h_BH), dim=1)))
        return features_BF, features_BF, weights_BS

    def step(self, net: Seq2Seq, now: Moment, state: DecoderState) -> After:
        """Cells, then attention."""
        from_fed_BG = F.linear(now.fed_BX, now.weight_GX)
        h_BH, layers = net.steps.advance(now.from_word_BG + from_fed_BG, now.layers)
        features_BF, fed_BX, weights_BS = self.look(net, h_BH, state)
        return After(features_BF, layers, fed_BX, weights_BS)


class Grammar(LuongFeeding):
    """[d_t; d'_t] predicts and is fed on: Vinyals et al. 2015, "Grammar as a foreign language" (arXiv 1412.7449).

    Section 2.2, with d'_t the context. As its authors wrote it down in TensorFlow 1 (`attention_decoder`): the cell
    reads [y_(t-1); d'_(t-1)], the output layer a linear map of [d_t; d'_t].
    """

    @staticmethod
    def inputs(sizes: Sizes) -> int:
        """The last word and the last context."""
        return sizes.word + sizes.context

    def look(self, net: Seq2Seq, h_BH: Tensor, state: DecoderState) -> tuple[Tensor, Tensor, Tensor]:
        """Attend with d_t; the context itself is fed back."""
        context_BC, weights_BS = net.attend(h_BH, state)
        return self.linear(torch.cat((context_BC, h_BH), dim=1)), context_BC, weights_BS


class Bahdanau(Stepped):
    """c_t of s_(t-1), s_t = f(s_(t-1), y_(t-1), c_t), maxout output: Bahdanau, Cho, Bengio 2015 (arXiv 1409.0473).

    Appendix A.2.2: t~_t = U s_(t-1) + V y_(t-1) + C c_t, and the output layer reads the larger of each two of it.
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__(sizes)
        self.maxout = Maxout(sizes.decoder + sizes.word + sizes.context, sizes.word)

    @staticmethod
    def inputs(sizes: Sizes) -> int:
        """The last word and the context."""
        return sizes.word + sizes.context

    def fed(self, state: DecoderState) -> tuple[States, Tensor]:
        """Nothing is fed back but the states."""
        return state.hidden, state.mask_BS[:, :0]

    def hidden(self, states: States, fed_BX: Tensor) -> States:
        """Likewise."""
        return states

    def step(self, net: Seq2Seq, now: Moment, state: DecoderState) -> After:
        """Attention, then cells."""
        before_BH = now.layers[-1][0]
        context_BC, weights_BS = net.attend(before_BH, state)
        from_context_BG = F.linear(context_BC, now.weight_GX)
        _, layers = net.steps.advance(now.from_word_BG + from_context_BG, now.layers)
        return After(self.maxout(before_BH, now.embedded_BE, context_BC), layers, now.fed_BX, weights_BS)


class Robertson(Bahdanau):
    """Attention of [y_(t-1); h_(t-1)], the cell reads ReLU(W [y_(t-1); c_t]), p = g(h_t): Robertson's tutorial, 2017.

    "NLP from scratch: translation with a sequence to sequence network and attention" of PyTorch, `AttnDecoderRNN`,
    with attention over a fixed number of positions ("location", Luong et al. 2015, equation 9).
    """

    def __init__(self, sizes: Sizes) -> None:
        Form.__init__(self, sizes)
        self.join = nn.Linear(sizes.word + sizes.context, sizes.word)

    @staticmethod
    def inputs(sizes: Sizes) -> int:
        """The rectified mixture of the last word and the context."""
        return sizes.word

    @staticmethod
    def query(sizes: Sizes) -> int:
        """The last word and the state."""
        return sizes.word + sizes.decoder

    @staticmethod
    def features(sizes: Sizes) -> int:
        """The decoder's units."""
        return sizes.decoder

    def from_words(self, net: Seq2Seq, embedded_BTE: Tensor) -> Tensor:
        """Nothing: the words pass through the ReLU first."""
        return embedded_BTE

    def step(self, net: Seq2Seq, now: Moment, state: DecoderState) -> After:
        """Attention, then cells."""
        context_BC, weights_BS = net.attend(torch.cat((now.embedded_BE, now.layers[-1][0]), dim=1), state)
        mixed_BE = torch.relu(self.join(torch.cat((now.embedded_BE, context_BC), dim=1)))
        h_BH, layers = net.steps.advance(net.steps.from_input(mixed_BE), now.layers)
        return After(h_BH, layers, now.fed_BX, weights_BS)
