"""What training makes small: cross entropy over the vocabulary, or over a sample of it, or closeness to a teacher.

In: a model and a batch as tensors. Out: one number, nats a target token unless told otherwise. Shape letters as in
`chatbot.model`; N target
tokens of a batch, K sampled tokens.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from chatbot.model import EncoderDecoder

IGNORED = -1  # the padding of targets
# How much a nat away from the teacher counts beside a nat of a lesson. With less, twenty lessons cost the frozen set
# more than they may; with more, they are not learnt in time.
REHEARSAL_WEIGHT = 4.0


class SoftmaxSampler:
    """A softmax over the wanted token and a sample of the others, shared by the batch: Jean et al. 2015.

    arXiv 1412.2007, section 3: each score is lowered by the logarithm of how often the sample holds its token, which
    makes the sampled gradient approach the full one. Tokens are drawn half by their frequency, half evenly.
    """

    def __init__(self, frequency_V: Tensor, draws: int) -> None:
        share_V = frequency_V.double() / frequency_V.sum()
        self._odds_V = 0.5 * share_V + 0.5 / len(share_V)
        self._log_held_V = torch.log(-torch.expm1(draws * torch.log1p(-self._odds_V))).float()
        self._draws = draws

    def losses(self, features_NE: Tensor, targets_N: Tensor, weight_VE: Tensor, bias_V: Tensor) -> Tensor:
        """Negative log-probabilities of `targets_N`, in nats, under the sampled softmax."""
        drawn = torch.multinomial(self._odds_V, self._draws, replacement=True)
        sample_K = torch.bincount(drawn, minlength=len(self._odds_V)).nonzero()[:, 0].to(targets_N.device)
        held_V = self._log_held_V.to(targets_N.device)
        others_NK = F.linear(features_NE, weight_VE[sample_K], bias_V[sample_K] - held_V[sample_K]).float()
        others_NK = others_NK.masked_fill(targets_N.unsqueeze(1) == sample_K, float("-inf"))
        wanted_N = (features_NE * weight_VE[targets_N]).sum(dim=1) + bias_V[targets_N] - held_V[targets_N]
        return torch.logaddexp(others_NK.logsumexp(dim=1), wanted_N.float()) - wanted_N.float()


def per_token(nats_N: Tensor, rows_N: Tensor, weight_B: Tensor) -> Tensor:
    """The mean over all tokens, each as heavy as its example."""
    weight_N = weight_B[rows_N]
    return (nats_N * weight_N).sum() / weight_N.sum()


def per_example(nats_N: Tensor, rows_N: Tensor, weight_B: Tensor) -> Tensor:
    """The sum over an example's tokens, then the mean over examples: the log-probability of whole answers."""
    sums_B = torch.zeros_like(weight_B).index_add(0, rows_N, nats_N)
    return (sums_B * weight_B).sum() / weight_B.sum()


def per_step(nats_N: Tensor, rows_N: Tensor, weight_B: Tensor) -> Tensor:
    """The mean over an example's steps, then that over examples, long and short ones alike: TensorFlow's, of 2015."""
    steps_B = torch.bincount(rows_N, minlength=len(weight_B)).clamp(min=1)
    sums_B = torch.zeros_like(weight_B).index_add(0, rows_N, nats_N)
    return (sums_B / steps_B * weight_B).sum() / weight_B.sum()


LOSSES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "token": per_token,
    "example": per_example,
    "step": per_step,
}


class LossModule(nn.Module):
    """The model with its loss, so that data-parallel wrapping sees one forward call.

    `teacher`, if any, is the frozen model that a retraining starts from. On the rows that are rehearsal the loss then
    is the distance from the teacher's answers: learning without forgetting (Li and Hoiem 2016, arXiv 1606.09282).
    """

    def __init__(
        self,
        model: EncoderDecoder,
        label_smoothing: float,
        sampler: SoftmaxSampler | None = None,
        teacher: EncoderDecoder | None = None,
        *,
        kind: str = "token",
        own_outputs: float = 0.0,
    ) -> None:
        super().__init__()
        self.model = model
        self._smoothing = label_smoothing
        self._sampler = sampler
        self._mean, self._own_outputs = LOSSES[kind], own_outputs
        self._teacher = [] if teacher is None else [teacher]  # in a list: its weights are not ours to train

    def forward(
        self,
        source_BS: Tensor,
        lengths_B: Tensor,
        input_BT: Tensor,
        target_BT: Tensor,
        taught_B: Tensor,
        weight_B: Tensor | None = None,
    ) -> Tensor:
        """Mean loss, in nats; `weight_B`, how much each row counts, is for rows that do not count alike."""
        wanted_BT = target_BT != IGNORED
        targets = target_BT[wanted_BT]
        features = self._features(source_BS, lengths_B, input_BT)[wanted_BT]
        if self._teacher:
            return self._rehearsed(features, targets, wanted_BT, (source_BS, lengths_B, input_BT, taught_B))
        if self._sampler is not None and self.training:
            nats = self._sampler.losses(features, targets, self.model.output_weight, self.model.output_bias)
        else:
            logits = self.model.logits(features).float()
            if self._mean is per_token and weight_B is None:
                return F.cross_entropy(logits, targets, label_smoothing=self._smoothing)
            nats = F.cross_entropy(logits, targets, label_smoothing=self._smoothing, reduction="none")
        if self._mean is per_token and weight_B is None:
            return nats.mean()
        if weight_B is None:
            weight_B = torch.ones(len(target_BT), device=nats.device)
        return self._mean(nats, wanted_BT.nonzero()[:, 0], weight_B)

    def _features(self, source_BS: Tensor, lengths_B: Tensor, input_BT: Tensor) -> Tensor:
        """Of what the target says, or, for a share of the steps in training, of what the model itself would say."""
        if self._own_outputs and self.training:
            return self.model.unroll(source_BS, lengths_B, input_BT, self._own_outputs)
        features_BTF: Tensor = self.model(source_BS, lengths_B, input_BT)
        return features_BTF

    def _rehearsed(self, features: Tensor, targets: Tensor, wanted_BT: Tensor, batch: tuple[Tensor, ...]) -> Tensor:
        """The lessons' nats, and the others' distance from the teacher."""
        *call, taught_B = batch
        logits = self.model.logits(features).float()
        with torch.no_grad():
            teacher = self._teacher[0]
            soft = teacher.logits(teacher(*call)[wanted_BT]).float().log_softmax(dim=1)
        taught = taught_B.unsqueeze(1).expand_as(wanted_BT)[wanted_BT]
        learnt = F.cross_entropy(logits, targets, reduction="none")
        kept = F.kl_div(logits.log_softmax(dim=1), soft, reduction="none", log_target=True).sum(dim=1)
        return torch.where(taught, learnt, REHEARSAL_WEIGHT * kept).mean()
