"""The training loop, and everything needed to stop it anywhere and go on as if it had never stopped.

In: a recipe, a tokenised corpus, a model. Out: a run folder (`training.run` draws it). It prints nothing: a callback
hears of every step. Random numbers are functions of (seed, step), so that a checkpoint needs none of their state.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from chatbot.errors import ChatbotError, UsageError
from chatbot.model import Seq2Seq
from training.dataset import Batch, ExampleSet
from training.recipe import OptimiserRecipe, Recipe

_IGNORED = -1
_KEPT_CHECKPOINTS = 2


@dataclass(slots=True)
class TrainState:
    """Where a run stands; together with the tensors of a checkpoint, all that is needed to go on."""

    step: int = 0
    epoch: int = 0
    position: int = 0  # batches of this epoch that are done
    best_loss: float = math.inf
    stale_evaluations: int = 0


@dataclass(frozen=True, slots=True)
class StepReport:
    """One line of `metrics.jsonl`: nats a token, target tokens a second; `valid_loss` only where evaluated."""

    step: int
    epoch: int
    loss: float
    learning_rate: float
    gradient_norm: float
    tokens: int
    tokens_per_s: float
    valid_loss: float | None = None


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
        sample_K = torch.multinomial(self._odds_V, self._draws, replacement=True).unique().to(targets_N.device)
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
        model: Seq2Seq,
        label_smoothing: float,
        sampler: SoftmaxSampler | None = None,
        teacher: Seq2Seq | None = None,
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
        wanted_BT = target_BT != _IGNORED
        targets = target_BT[wanted_BT]
        features = self.model(source_BS, lengths_B, input_BT)[wanted_BT]
        if self._sampler is not None and self.training:
            return self._sampler.loss(features, targets, self.model.embedding.weight, self.model.output_bias)
        logits = self.model.logits(features).float()
        if not self._teacher:
            return F.cross_entropy(logits, targets, label_smoothing=self._smoothing)
        with torch.no_grad():
            teacher = self._teacher[0]
            soft = teacher.logits(teacher(source_BS, lengths_B, input_BT)[wanted_BT]).float().log_softmax(dim=1)
        taught = taught_B.unsqueeze(1).expand_as(target_BT)[wanted_BT]
        learnt = F.cross_entropy(logits, targets, reduction="none")
        kept = F.kl_div(logits.log_softmax(dim=1), soft, reduction="none", log_target=True).sum(dim=1)
        return torch.where(taught, learnt, kept).mean()


def learning_rate(step: int, recipe: OptimiserRecipe) -> float:
    """Linear warm-up, then half a cosine to zero (Loshchilov and Hutter 2017, arXiv 1608.03983); steps from 0."""
    if step < recipe.warmup_steps:
        return recipe.learning_rate * (step + 1) / recipe.warmup_steps
    done = (step - recipe.warmup_steps) / max(1, recipe.steps - recipe.warmup_steps)
    return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def pick_device(name: str) -> torch.device:
    """`auto` takes CUDA, then MPS, then the CPU; UsageError for one that is not there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if (name == "cuda" and not torch.cuda.is_available()) or (name == "mps" and not torch.backends.mps.is_available()):
        raise UsageError(f"--device {name}: this machine has none that PyTorch can use; try --device cpu")
    if name == "cuda" and "LOCAL_RANK" in os.environ:
        name = f"cuda:{os.environ['LOCAL_RANK']}"
    return torch.device(name)


def bf16_pays(device: torch.device) -> bool:
    """Whether autocast to bfloat16 is faster here: known on CUDA, timed on a small LSTM on a CPU."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    if device.type != "cpu":
        return False
    lstm, x = nn.LSTM(256, 256, batch_first=True), torch.zeros(64, 8, 256)

    def seconds(enabled: bool) -> float:
        best = math.inf
        for _ in range(4):
            begin = time.perf_counter()
            with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
                lstm(x)[0].sum().backward()
            best = min(best, time.perf_counter() - begin)
        return best

    return seconds(True) < 0.9 * seconds(False)


class Trainer:
    """One run: model, optimiser, averaged weights, position. `train` is the loop; the rest it names."""

    def __init__(
        self,
        recipe: Recipe,
        model: Seq2Seq,
        training_set: ExampleSet,
        validate: Callable[[Seq2Seq], float],
        folder: Path,
        *,
        device: str = "auto",
        save_model: Callable[[Seq2Seq], None],
        teacher: Seq2Seq | None = None,
    ) -> None:
        self.recipe, self._set, self._folder = recipe, training_set, folder
        self._validate, self._save_model = validate, save_model
        self.device = pick_device(device)
        self.rank, self.world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
        self.model = model.to(self.device)
        self.averaged = [weight.detach().clone() for weight in self.model.parameters()]
        kind = recipe.precision if recipe.precision != "auto" else ("bf16" if bf16_pays(self.device) else "fp32")
        self.precision = kind
        self.loss_module: nn.Module = LossModule(
            self.model,
            recipe.optimiser.label_smoothing,
            SoftmaxSampler(torch.from_numpy(training_set.frequencies()), draws)
            if (draws := recipe.optimiser.softmax_draws)
            else None,
            teacher.to(self.device).eval() if teacher is not None else None,
        )
        if self.world > 1:
            backend = "nccl" if self.device.type == "cuda" else "gloo"
            dist.init_process_group(backend)
            self.loss_module = DistributedDataParallel(self.loss_module)
        self.optimiser = torch.optim.AdamW(
            self.model.parameters(),
            lr=recipe.optimiser.learning_rate,
            betas=(0.9, 0.98),
            weight_decay=recipe.optimiser.weight_decay,
            fused=self.device.type in {"cpu", "cuda"},
        )
        self.state = TrainState()

    def train(self, heard: Callable[[StepReport], None]) -> TrainState:
        """Run to the recipe's last step or until patience ends; ChatbotError if the loss stops being a number."""
        recipe, state = self.recipe.optimiser, self.state
        batches = self._batches()
        self.loss_module.train()
        while state.step < recipe.steps:
            begin = time.perf_counter()
            torch.manual_seed(self.recipe.seed * 1_000_003 + state.step * self.world + self.rank)
            rate = learning_rate(state.step, recipe)
            for group in self.optimiser.param_groups:
                group["lr"] = rate
            self.optimiser.zero_grad(set_to_none=True)
            loss, tokens = 0.0, 0
            for part in range(recipe.accumulate):
                batch = next(batches)
                with self._no_sync(part + 1 < recipe.accumulate), self._autocast():
                    part_loss = self.loss_module(*self._tensors(batch)) / recipe.accumulate
                part_loss.backward()
                loss += part_loss.item()
                tokens += batch.target_tokens
            if not math.isfinite(loss):
                raise ChatbotError(
                    f"the loss is {loss} at step {state.step}; lower optimiser.learning_rate and go on from the last "
                    f"checkpoint in {self._folder} with --resume"
                )
            norm = float(nn.utils.clip_grad_norm_(self.model.parameters(), recipe.clip))
            self.optimiser.step()
            self._average()
            state.step += 1
            valid = self._evaluate() if state.step % recipe.evaluate_every == 0 or state.step == recipe.steps else None
            seconds = time.perf_counter() - begin
            report = StepReport(state.step, state.epoch, loss, rate, norm, tokens, tokens / seconds, valid)
            self._log(report)
            heard(report)
            if state.step % recipe.checkpoint_every == 0:
                self.checkpoint()
            if recipe.patience and state.stale_evaluations >= recipe.patience:
                break
        if self.world > 1:
            dist.destroy_process_group()
        return state

    def _batches(self) -> Iterator[Batch]:
        """Endless batches from where the state points, this process's share of them."""
        state = self.state
        while True:
            epoch = self._set.epoch(state.epoch, self.recipe.optimiser.batch_tokens)
            if len(epoch) < self.world:
                raise UsageError(
                    f"{len(epoch)} batches cannot feed {self.world} processes; lower optimiser.batch_tokens"
                )
            usable = len(epoch) - len(epoch) % self.world
            while state.position < usable:
                examples = epoch[state.position + self.rank]
                state.position += self.world
                yield self._set.batch(examples, state.epoch)
            state.epoch, state.position = state.epoch + 1, 0

    def _tensors(self, batch: Batch) -> tuple[Tensor, ...]:
        arrays = (batch.source_BS, batch.lengths_B, batch.input_BT, batch.target_BT, batch.taught_B)
        return tuple(torch.from_numpy(array).to(self.device, non_blocking=True) for array in arrays)

    def _autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.device.type, torch.bfloat16) if self.precision == "bf16" else nullcontext()

    def _no_sync(self, more: bool) -> AbstractContextManager[Any]:
        parallel = isinstance(self.loss_module, DistributedDataParallel)
        return self.loss_module.no_sync() if more and parallel else nullcontext()

    @torch.no_grad()
    def _average(self) -> None:
        """Exponential moving average of the weights, with a short memory at first (as in Polyak averaging)."""
        decay = min(self.recipe.optimiser.ema, (1 + self.state.step) / (10 + self.state.step))
        torch._foreach_lerp_(self.averaged, [weight.detach() for weight in self.model.parameters()], 1 - decay)

    def _swap(self) -> None:
        """Exchange the live weights and the averaged ones."""
        with torch.no_grad():
            for weight, average in zip(self.model.parameters(), self.averaged, strict=True):
                live = weight.detach().clone()
                weight.copy_(average)
                average.copy_(live)

    def _evaluate(self) -> float:
        """Validation loss of the averaged weights; the best so far is saved as the run's model."""
        self._swap()
        self.loss_module.eval()
        loss = self._validate(self.model)
        improved = loss < self.state.best_loss
        self.state.best_loss = min(loss, self.state.best_loss)
        self.state.stale_evaluations = 0 if improved else self.state.stale_evaluations + 1
        if improved and self.rank == 0:
            self._save_model(self.model)
        self._swap()
        self.loss_module.train()
        return loss

    def _log(self, report: StepReport) -> None:
        if self.rank == 0:
            with (self._folder / "metrics.jsonl").open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(asdict(report)) + "\n")

    def checkpoint(self) -> None:
        """Write `checkpoints/<step>/` beside its place and rename it; keep the last two."""
        if self.rank != 0:
            return
        root = self._folder / "checkpoints"
        building, final = root / f".{self.state.step}", root / f"{self.state.step:08}"
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir(parents=True)
        tensors: dict[str, Tensor] = {}
        for (name, weight), average in zip(self.model.named_parameters(), self.averaged, strict=True):
            tensors[f"model.{name}"] = weight.detach()
            tensors[f"averaged.{name}"] = average
            for key, value in self.optimiser.state[weight].items():
                tensors[f"{key}.{name}"] = value
        save_file(
            {name: tensor.cpu().contiguous() for name, tensor in tensors.items()},
            building / "state.safetensors",
        )
        (building / "state.json").write_text(json.dumps(asdict(self.state)), encoding="utf-8")
        shutil.rmtree(final, ignore_errors=True)
        building.rename(final)
        for old in sorted(root.glob("[0-9]*"))[:-_KEPT_CHECKPOINTS]:
            shutil.rmtree(old)

    def resume(self) -> bool:
        """Go on from the newest checkpoint; False if there is none. Later lines of `metrics.jsonl` are dropped."""
        newest = max((self._folder / "checkpoints").glob("[0-9]*"), default=None)
        if newest is None:
            return False
        tensors = load_file(newest / "state.safetensors", device=str(self.device))
        for (name, weight), average in zip(self.model.named_parameters(), self.averaged, strict=True):
            with torch.no_grad():
                weight.copy_(tensors[f"model.{name}"])
                average.copy_(tensors[f"averaged.{name}"])
            self.optimiser.state[weight] = {key: tensors[f"{key}.{name}"] for key in ("step", "exp_avg", "exp_avg_sq")}
        for name, value in json.loads((newest / "state.json").read_text(encoding="utf-8")).items():
            setattr(self.state, name, value)
        if self.rank == 0:
            self._drop_metrics_after(self.state.step)
        return True

    def _drop_metrics_after(self, step: int) -> None:
        path = self._folder / "metrics.jsonl"
        kept = []
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
            try:
                if json.loads(line)["step"] <= step:
                    kept.append(line + "\n")
            except ValueError:  # the line that the kill cut in half
                break
        temporary = path.with_suffix(".tmp")
        temporary.write_text("".join(kept), encoding="utf-8")
        temporary.replace(path)
