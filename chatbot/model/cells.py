"""The recurrent cells: fused over all steps by torch, or one step at a time by their equations.

A cell is a class here and a line in `CELLS`. Shape letters: B rows, T steps, X input, H units, G gates (a multiple of
H), L layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

States = tuple[Tensor, ...]  # h; of an LSTM h and c


class Cell(Protocol):
    """What sets one kind of cell apart; it holds no weights. `states` is how many tensors it hands on."""

    states: ClassVar[int]
    module: ClassVar[type[nn.RNNBase]]

    def hidden(self, states: States) -> Any:
        """`states` as the fused module takes them."""

    def advance(self, from_input_BG: Tensor, from_state_BG: Tensor, states: States) -> States:
        """One step: the states after it, of W x + b and U h + d."""

    def open(self, bias_G: Tensor) -> None:
        """Set the input bias, which is zero, to where training had better begin."""


class RnnCell:
    """h' = tanh(W x + b + U h + d): Elman 1990, as `torch.nn.RNN` has it."""

    states: ClassVar[int] = 1
    module: ClassVar[type[nn.RNNBase]] = nn.RNN

    def hidden(self, states: States) -> Any:
        """h."""
        return states[0]

    def advance(self, from_input_BG: Tensor, from_state_BG: Tensor, states: States) -> States:
        """The equation above."""
        return (torch.tanh(from_input_BG + from_state_BG),)

    def open(self, bias_G: Tensor) -> None:
        """Nothing to open."""


class GruCell(RnnCell):
    """Gates r and z, and a candidate n: Cho et al. 2014 (arXiv 1406.1078), section 2.3, as `torch.nn.GRU` has it."""

    module: ClassVar[type[nn.RNNBase]] = nn.GRU

    def advance(self, from_input_BG: Tensor, from_state_BG: Tensor, states: States) -> States:
        """h' = (1 - z) tanh(n_x + r n_h) + z h."""
        r_x, z_x, n_x = from_input_BG.chunk(3, dim=1)
        r_h, z_h, n_h = from_state_BG.chunk(3, dim=1)
        candidate_BH = torch.tanh(n_x + torch.sigmoid(r_x + r_h) * n_h)
        return (torch.lerp(candidate_BH, states[0], torch.sigmoid(z_x + z_h)),)


class LstmCell:
    """Gates i, f, g, o and a memory c: Hochreiter and Schmidhuber 1997, Gers et al. 2000, as `torch.nn.LSTM` has it."""

    states: ClassVar[int] = 2
    module: ClassVar[type[nn.RNNBase]] = nn.LSTM

    def hidden(self, states: States) -> Any:
        """(h, c)."""
        return states

    def advance(self, from_input_BG: Tensor, from_state_BG: Tensor, states: States) -> States:
        """c' = f c + i g, h' = o tanh(c')."""
        i, f, g, o = (from_input_BG + from_state_BG).chunk(4, dim=1)
        memory_BH = torch.sigmoid(f) * states[1] + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(memory_BH), memory_BH

    def open(self, bias_G: Tensor) -> None:
        """The forget gate is open: Jozefowicz et al. 2015."""
        units = len(bias_G) // 4
        nn.init.ones_(bias_G[units : 2 * units])


CELLS: dict[str, type[Cell]] = {"lstm": LstmCell, "gru": GruCell, "rnn": RnnCell}


class Steps:
    """The layers of a fused module, taken one step at a time: for decoders that need their last output to go on."""

    def __init__(self, cell: Cell, module: nn.RNNBase) -> None:
        self._cell, self._module = cell, module

    def from_input(self, x_BTX: Tensor) -> Tensor:
        """W x + b of the first layer, of the first inputs that it has: of all steps at once, where they are known."""
        weight_GX, _, bias_G, _ = self._module.all_weights[0]
        return F.linear(x_BTX, weight_GX[:, : x_BTX.shape[-1]], bias_G)

    def weight_behind(self, first: int) -> Tensor:
        """W of the first layer for the inputs from `first` on; taken once, not in each step."""
        weight_GX: Tensor = self._module.all_weights[0][0]
        return weight_GX[:, first:]

    def advance(self, from_input_BG: Tensor, layers: Sequence[States]) -> tuple[Tensor, list[States]]:
        """One step of all layers: the last one's output (B, H), and each layer's states."""
        after: list[States] = []
        for states, weights in zip(layers, self._module.all_weights, strict=True):
            input_GX, state_GH, input_bias_G, state_bias_G = weights
            if after:
                x_BH = F.dropout(after[-1][0], self._module.dropout, self._module.training)
                from_input_BG = F.linear(x_BH, input_GX, input_bias_G)
            after.append(self._cell.advance(from_input_BG, F.linear(states[0], state_GH, state_bias_G), states))
        return after[-1][0], after


def layered(states: States) -> list[States]:
    """States (L, B, H) as a list of each layer's."""
    return list(zip(*(part.unbind(0) for part in states), strict=True))


def stacked(layers: Sequence[States]) -> States:
    """The inverse of `layered`."""
    return tuple(torch.stack(part) for part in zip(*layers, strict=True))


def initialise(cell: Cell, module: nn.RNNBase) -> None:
    """Recurrent weights orthogonal gate by gate (Saxe et al. 2014), Glorot's for inputs, biases zero but as `open`."""
    for name, weight in module.named_parameters():
        if "weight_hh" in name:
            for gate in weight.chunk(weight.shape[0] // weight.shape[1]):
                nn.init.orthogonal_(gate)
        elif "weight_ih" in name:
            nn.init.xavier_uniform_(weight)
        else:
            nn.init.zeros_(weight)
            if "bias_ih" in name:
                cell.open(weight)
