"""How the weights are changed: methods, and schedules of their learning rate.

A method is a function here and a line in `METHODS`, a schedule one in `SCHEDULES`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop

if TYPE_CHECKING:
    from training.recipe import OptimiserRecipe

Weights = Iterable[nn.Parameter]


def adamw(weights: Weights, recipe: OptimiserRecipe, fused: bool) -> Optimizer:
    """Loshchilov and Hutter 2019 (arXiv 1711.05101); beta_2 as in Vaswani et al. 2017."""
    rate, decay = recipe.learning_rate, recipe.weight_decay
    return AdamW(weights, lr=rate, betas=(0.9, 0.98), weight_decay=decay, fused=fused)


def adam(weights: Weights, recipe: OptimiserRecipe, fused: bool) -> Optimizer:
    """Kingma and Ba 2015 (arXiv 1412.6980), with its own constants."""
    return Adam(weights, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=fused)


def rmsprop(weights: Weights, recipe: OptimiserRecipe, fused: bool) -> Optimizer:
    """Tieleman and Hinton 2012; rho 0.9 and epsilon 1e-7 as in Keras."""
    rate, decay = recipe.learning_rate, recipe.weight_decay
    return RMSprop(weights, lr=rate, alpha=0.9, eps=1e-7, weight_decay=decay, foreach=True)


def sgd(weights: Weights, recipe: OptimiserRecipe, fused: bool) -> Optimizer:
    """Plain gradient descent."""
    return SGD(weights, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, foreach=True)


METHODS: dict[str, Callable[[Weights, OptimiserRecipe, bool], Optimizer]] = {
    "adamw": adamw,
    "adam": adam,
    "rmsprop": rmsprop,
    "sgd": sgd,
}


def warmed_up(step: int, recipe: OptimiserRecipe) -> float:
    """The learning rate that a linear rise of `warmup_steps` steps allows; steps from 0."""
    return recipe.learning_rate * min(1.0, (step + 1) / max(1, recipe.warmup_steps))


def cosine(step: int, slowed: float, recipe: OptimiserRecipe) -> float:
    """Linear warm-up, then half a cosine to zero: Loshchilov and Hutter 2017, arXiv 1608.03983."""
    if step < recipe.warmup_steps:
        return warmed_up(step, recipe)
    done = (step - recipe.warmup_steps) / max(1, recipe.steps - recipe.warmup_steps)
    return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def constant(step: int, slowed: float, recipe: OptimiserRecipe) -> float:
    """Warm-up, and then no change."""
    return warmed_up(step, recipe)


def stalled(step: int, slowed: float, recipe: OptimiserRecipe) -> float:
    """`slowed`, which `slower` lowers, times the rate: as TensorFlow's translation tutorial of 2015 has it."""
    return warmed_up(step, recipe) * slowed


def slower(slowed: float, loss: float, before: list[float], recipe: OptimiserRecipe) -> float:
    """`slowed` times `decay` where `loss` is above each of the last three that were before it."""
    return slowed * recipe.decay if len(before) > 2 and loss > max(before[-3:]) else slowed


SCHEDULES: dict[str, Callable[[int, float, OptimiserRecipe], float]] = {
    "cosine": cosine,
    "constant": constant,
    "stalled": stalled,
}
