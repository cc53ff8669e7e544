"""What training makes small: cross entropy over the vocabulary, or over a sample of it, or closeness to a teacher.

In: a model and a batch as tensors. Out: one number, nats a target token. Shape letters as in `chatbot.model`; N target
tokens of a batch, K sampled tokens.
"""

from __future__ import annotations

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

    def loss(self, features_NE: Tensor, targets_N: Tensor, weight_VE: Tensor, bias_V: Tensor) -> Tensor:
        """Mean negative log-probability of `targets_N`, in nats, under the sampled softmax."""
        drawn = torch.multinomial(self._odds_V, self._draws, replacement=True)
        sample_K = torch.bincount(drawn, minlength=len(self._odds_V)).nonzero()[:, 0].to(targets_N.device)
        held_V = self._log_held_V.to(targets_N.device)
        others_NK = F.linear(features_NE, weight_VE[sample_K], bias_V[sample_K] - held_V[sample_K]).float()
        others_NK = others_NK.masked_fill(targets_N.unsqueeze(1) == sample_K, float("-inf"))
        wanted_N = (features_NE * weight_VE[targets_N]).sum(dim=1) + bias_V[targets_N] - held_V[targets_N]
        return (torch.logaddexp(others_NK.logsumexp(dim=1), wanted_N.float()) - wanted_N.float()).mean()


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
    ) -> None:
        super().__init__()
        self.model = model
        self._smoothing = label_smoothing
        self._sampler = sampler
        self._teacher = [] if teacher is None else [teacher]  # in a list: its weights are not ours to train

    def forward(
        self, source_BS: Tensor, lengths_B: Tensor, input_BT: Tensor, target_BT: Tensor, taught_B: Tensor
    ) -> Tensor:
        """Mean loss a target token, in nats."""
        wanted_BT = target_BT != IGNORED
        targets = target_BT[wanted_BT]
        features = self.model(source_BS, lengths_B, input_BT)[wanted_BT]
        if self._sampler is not None and self.training:
            return self._sampler.loss(features, targets, self.model.output_weight, self.model.output_bias)
        logits = self.model.logits(features).float()
        if not self._teacher:
            return F.cross_entropy(logits, targets, label_smoothing=self._smoothing)
        with torch.no_grad():
            teacher = self._teacher[0]
            soft = teacher.logits(teacher(source_BS, lengths_B, input_BT)[wanted_BT]).float().log_softmax(dim=1)
        taught = taught_B.unsqueeze(1).expand_as(target_BT)[wanted_BT]
        learnt = F.cross_entropy(logits, targets, reduction="none")
        kept = F.kl_div(logits.log_softmax(dim=1), soft, reduction="none", log_target=True).sum(dim=1)
        return torch.where(taught, learnt, REHEARSAL_WEIGHT * kept).mean()
