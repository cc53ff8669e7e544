"""The training loop, and everything needed to stop it anywhere and go on as if it had never stopped.

In: a recipe, a tokenised corpus, a model. Out: a run folder (`training.run` draws it). It prints nothing: a callback
hears of every step. Random numbers are functions of (seed, step), so that a checkpoint needs none of their state.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from chatbot.errors import ChatbotError, UsageError
from chatbot.model import EncoderDecoder
from training.batches import Batch, Examples
from training.loss import LossModule, SoftmaxSampler
from training.methods import METHODS, SCHEDULES, slower
from training.processes import agreed, bf16_pays, pick_device, rank, world
from training.recipe import Recipe

_KEPT_CHECKPOINTS = 2


@dataclass(slots=True)
class TrainState:
    """Where a run stands; together with the tensors of a checkpoint, all that is needed to go on."""

    step: int = 0
    epoch: int = 0
    position: int = 0  # batches of this epoch that are done
    best_loss: float = math.inf
    stale_evaluations: int = 0
    slowed: float = 1.0  # factor of the learning rate, for the schedule that waits for the loss
    mean_losses: list[float] = field(default_factory=list)  # of the last spans between two evaluations
    span_loss: float = 0.0  # sum of the losses since the last evaluation
    span_steps: int = 0
    precision: str = ""  # as measured at the start: going on in another would give other losses


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


class Trainer:
    """One run: model, optimiser, averaged weights, position. `train` is the loop; the rest it names."""

    def __init__(
        self,
        recipe: Recipe,
        model: EncoderDecoder,
        training_set: Examples,
        validate: Callable[[EncoderDecoder], float],
        folder: Path,
        *,
        device: str = "auto",
        save_model: Callable[[EncoderDecoder], None],
        teacher: EncoderDecoder | None = None,
    ) -> None:
        self.recipe, self._set, self._folder = recipe, training_set, folder
        self._validate, self._save_model = validate, save_model
        self.device = pick_device(device)
        self.rank, self.world = rank(), world()
        self.model = model.to(self.device)
        self.averaged = [weight.detach().clone() for weight in self.model.parameters()]
        draws = recipe.optimiser.softmax_draws
        loss = LossModule(
            self.model,
            recipe.optimiser.label_smoothing,
            SoftmaxSampler(torch.from_numpy(training_set.frequencies()), draws) if draws else None,
            teacher.to(self.device).eval() if teacher is not None else None,
            kind=recipe.optimiser.loss,
            own_outputs=recipe.optimiser.own_outputs,
        )
        self.loss_module: nn.Module = DistributedDataParallel(loss) if self.world > 1 else loss
        self.optimiser = METHODS[recipe.optimiser.method](
            self.model.parameters(), recipe.optimiser, self.device.type in {"cpu", "cuda"}
        )
        self._schedule = SCHEDULES[recipe.optimiser.schedule]
        measured = "bf16" if recipe.precision == "auto" and bf16_pays(self.device) else "fp32"
        self.state = TrainState(precision=agreed(measured) if recipe.precision == "auto" else recipe.precision)

    @property
    def precision(self) -> str:
        """What the loss is computed in: fp32 or bf16."""
        return self.state.precision

    def train(self, heard: Callable[[StepReport], None]) -> TrainState:
        """Run to the recipe's last step or until patience ends; ChatbotError if the loss stops being a number."""
        recipe, state = self.recipe.optimiser, self.state
        batches = self._batches()
        self.loss_module.train()
        while state.step < recipe.steps:
            begin = time.perf_counter()
            torch.manual_seed(self.recipe.seed * 1_000_003 + state.step * self.world + self.rank)
            rate = self._schedule(state.step, state.slowed, recipe)
            for group in self.optimiser.param_groups:
                group["lr"] = rate
            loss, tokens = self._gradients(batches)
            norm = float(nn.utils.clip_grad_norm_(self.model.parameters(), recipe.clip))
            if not math.isfinite(loss + norm):  # checked before the step: what is saved stays sound
                raise ChatbotError(
                    f"the loss is {loss} and the gradient norm {norm} at step {state.step}; train again with a lower "
                    f"optimiser.learning_rate than {recipe.learning_rate:g}; the last checkpoints are in {self._folder}"
                )
            self.optimiser.step()
            self._average()
            state.step += 1
            state.span_loss, state.span_steps = state.span_loss + loss, state.span_steps + 1
            seconds = time.perf_counter() - begin
            due = state.step % recipe.evaluate_every == 0 or state.step == recipe.steps
            if due:
                self._close_span()
            valid = self._evaluate() if due else None
            report = StepReport(state.step, state.epoch, loss, rate, norm, tokens, tokens / seconds, valid)
            self._log(report)
            heard(report)
            if state.step % recipe.checkpoint_every == 0:
                self.checkpoint()
            if due and self._done():
                break
        return state

    def _done(self) -> bool:
        """Whether patience ends here, or the loss is what the recipe calls enough."""
        recipe, state = self.recipe.optimiser, self.state
        mean = state.mean_losses[-1]
        return (bool(recipe.patience) and state.stale_evaluations >= recipe.patience) or mean <= recipe.enough

    def _close_span(self) -> None:
        """Note the mean loss since the last evaluation; the schedule that waits for it may slow down."""
        recipe, state = self.recipe.optimiser, self.state
        mean = agreed(state.span_loss / state.span_steps)
        state.slowed = slower(state.slowed, mean, state.mean_losses, recipe)
        state.mean_losses = [*state.mean_losses[-2:], mean]
        state.span_loss, state.span_steps = 0.0, 0

    def _gradients(self, batches: Iterator[Batch]) -> tuple[float, int]:
        """Sum up the gradients of one step's batches: their mean loss and their target tokens."""
        self.optimiser.zero_grad(set_to_none=True)
        parts = self.recipe.optimiser.accumulate
        loss, tokens = 0.0, 0
        for part in range(parts):
            batch = next(batches)
            with self._no_sync(part + 1 < parts):
                with self._autocast():
                    part_loss = self.loss_module(*self._tensors(batch)) / parts
                part_loss.backward()
            loss += part_loss.item()
            tokens += batch.target_tokens
        return loss, tokens

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
        arrays = (batch.source_BS, batch.lengths_B, batch.input_BT, batch.target_BT, batch.taught_B, batch.weight_B)
        return tuple(
            torch.from_numpy(array).to(self.device, non_blocking=True) for array in arrays if array is not None
        )

    def _autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.device.type, torch.bfloat16) if self.precision == "bf16" else nullcontext()

    def _no_sync(self, more: bool) -> AbstractContextManager[Any]:
        if more and isinstance(self.loss_module, DistributedDataParallel):
            return self.loss_module.no_sync()
        return nullcontext()

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
        loss = agreed(self._validate(self.model))
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
            self._drop_metrics_after(0)
            return False
        try:
            tensors = load_file(newest / "state.safetensors", device=str(self.device))
            state = json.loads((newest / "state.json").read_text(encoding="utf-8"))
            self._restore(tensors, state)
        except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
            raise UsageError(
                f"checkpoint {newest} cannot be used ({error}); delete it to go on from the one before"
            ) from error
        self._drop_metrics_after(self.state.step)
        return True

    def _restore(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        for (name, weight), average in zip(self.model.named_parameters(), self.averaged, strict=True):
            with torch.no_grad():
                weight.copy_(tensors[f"model.{name}"])
                average.copy_(tensors[f"averaged.{name}"])
            kept = {key.partition(".")[0]: value for key, value in tensors.items() if key.partition(".")[2] == name}
            self.optimiser.state[weight] = {key: kept[key] for key in kept.keys() - {"model", "averaged"}}
        self.state = TrainState(**{**asdict(self.state), **state})

    def _drop_metrics_after(self, step: int) -> None:
        if self.rank != 0:
            return
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
