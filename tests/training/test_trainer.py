"""The loop: it learns, it goes on as if never stopped, and each named part does what its name says."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import losses, padded, tiny_model, tiny_recipe, tiny_tokenizer
from torch.nn import functional as F

from chatbot.errors import ChatbotError, UsageError
from chatbot.model import EncoderDecoder, Seq2Seq
from chatbot.tokenizer import Tokenizer
from training.batches import Batch, Ids
from training.corpus import Dialogue
from training.dataset import ExampleSet, tokenise
from training.loss import REHEARSAL_WEIGHT, LossModule, SoftmaxSampler
from training.methods import cosine
from training.recipe import DataRecipe, OptimiserRecipe
from training.trainer import StepReport, Trainer

TINY = tiny_tokenizer()


def nothing(*ignored: object) -> None:
    """A callback that does not care."""


def talk(count: int = 29) -> list[Dialogue]:
    """Dialogues of one reply, all replies of the same length."""
    return [Dialogue(str(n), "other", "", (f"{'ab' * (n % 5)} x", "xyz"[n % 3])) for n in range(count)]


def trainer_in(folder: Path, model: Seq2Seq | None = None, **optimiser: Any) -> Trainer:
    """A trainer of the tiny model on `talk`, with constant validation loss."""
    folder.mkdir(parents=True, exist_ok=True)
    recipe = tiny_recipe(Path("unused"), data={"max_reply_copies": 1009, "noise": 0.0}, optimiser=optimiser)
    examples = ExampleSet(tokenise(talk(), TINY, recipe.data, 1), TINY, recipe.data, 1)
    validate: Callable[[EncoderDecoder], float] = lambda current: 1.0  # noqa: E731
    return Trainer(recipe, model or tiny_model(len(TINY)), examples, validate, folder, device="cpu", save_model=nothing)


def weights_of(model: EncoderDecoder) -> dict[str, torch.Tensor]:
    """A copy of the weights."""
    return {name: weight.detach().clone() for name, weight in model.named_parameters()}


def answer(model: Seq2Seq, tokenizer: Tokenizer, text: str) -> str:
    """The greedy reply, decoded step by step."""
    source = tokenizer.encode_context([], text, "reverse", 29)
    token, said = torch.tensor([tokenizer.bos_id]), []
    with torch.inference_mode():
        state = model.eval().encode(*padded([source]))
        for _ in range(11):
            logits, state = model.step(token, state)
            token = logits.argmax(dim=1)
            if int(token) == tokenizer.eos_id:
                break
            said.append(int(token))
    return tokenizer.decode(said)


def test_it_learns_to_reverse(tmp_path: Path) -> None:
    """Trained on reversals of letters, the model reverses sequences it has never seen."""
    rng = random.Random(7)
    lines = list({" ".join(rng.choices("abcd", k=rng.choice((2, 3, 4)))) for _ in range(500)})
    tokenizer = Tokenizer.train([*lines, *lines], 281, ["other", "reverse"])
    pairs = [Dialogue(line, "reverse", "", (line, line[::-1])) for line in lines]
    unseen, seen = pairs[:31], pairs[31:]
    recipe = tiny_recipe(
        Path("unused"),
        data={"noise": 0.0},
        optimiser={
            "steps": 260,
            "learning_rate": 0.01,
            "warmup_steps": 20,
            "batch_tokens": 211,
            "label_smoothing": 0.0,
            "evaluate_every": 1000,
            "checkpoint_every": 1000,
        },
    )
    examples = ExampleSet(tokenise(seen, tokenizer, recipe.data, 1), tokenizer, recipe.data, 1)
    model = tiny_model(len(tokenizer), embedding_size=29, encoder_units=23, decoder_units=37)
    best: list[dict[str, torch.Tensor]] = []
    trainer = Trainer(
        recipe,
        model,
        examples,
        lambda current: 1.0,
        tmp_path,
        device="cpu",
        save_model=lambda current: best.append(weights_of(current)),
    )

    trainer.train(nothing)

    curve = [loss for _, loss in losses(tmp_path)]
    assert sum(curve[-11:]) < 0.2 * sum(curve[:11])
    model.load_state_dict(best[-1])
    right = sum(answer(model, tokenizer, pair.turns[0]) == pair.turns[1] for pair in unseen)
    assert right >= 28


class _StopError(Exception):
    """Stands for a kill: nothing after it runs."""


@pytest.mark.parametrize("extra", [{}, {"softmax_draws": 53}, {"accumulate": 3}], ids=str)
def test_stopping_anywhere_changes_nothing(tmp_path: Path, extra: dict[str, Any]) -> None:
    """Stopped after any step and resumed, a run logs bit for bit the losses of one that never stopped."""
    options = {"steps": 11, "checkpoint_every": 3, "evaluate_every": 4, "batch_tokens": 41, **extra}

    def make(name: str) -> Trainer:
        return trainer_in(tmp_path / name, tiny_model(len(TINY), dropout=0.3), **options)

    whole = make("whole")
    whole.train(nothing)
    for stop_at in (1, 5):

        def stop(report: StepReport, stop_at: int = stop_at) -> None:
            if report.step == stop_at:
                raise _StopError

        with pytest.raises(_StopError):
            make(str(stop_at)).train(stop)
        resumed = make(str(stop_at))
        assert resumed.resume() is (stop_at > 3)
        resumed.train(nothing)

        assert losses(tmp_path / "whole") == losses(tmp_path / str(stop_at))
        assert whole.state == resumed.state
        for name, weight in weights_of(whole.model).items():
            assert torch.equal(weight, weights_of(resumed.model)[name])
        assert all(torch.equal(a, b) for a, b in zip(whole.averaged, resumed.averaged, strict=True))


def test_a_line_cut_in_half_is_dropped(tmp_path: Path) -> None:
    """What a kill left of the metrics' last line does not outlive the resume."""
    trainer_in(tmp_path, steps=5, checkpoint_every=2).train(nothing)
    with (tmp_path / "metrics.jsonl").open("a", encoding="utf-8") as stream:
        stream.write('{"step": 6, "lo')

    trainer_in(tmp_path, steps=5, checkpoint_every=2).resume()

    assert [step for step, _ in losses(tmp_path)] == [1, 2, 3, 4]


@pytest.mark.parametrize("name", ["state.safetensors", "state.json"])
def test_a_damaged_checkpoint_is_named(tmp_path: Path, name: str) -> None:
    """A checkpoint that the disk lost half of is named; without it the run goes on from the one before."""
    trainer_in(tmp_path, steps=5, checkpoint_every=2).train(nothing)
    newest = tmp_path / "checkpoints" / "00000004"
    (newest / name).write_bytes((newest / name).read_bytes()[:31])

    with pytest.raises(UsageError, match=r"00000004 cannot be used.*delete it"):
        trainer_in(tmp_path).resume()

    (newest / name).unlink()
    (newest / "state.safetensors").unlink(missing_ok=True)
    (newest / "state.json").unlink(missing_ok=True)
    newest.rmdir()
    again = trainer_in(tmp_path)
    assert again.resume()
    assert again.state.step == 2


def test_the_last_two_checkpoints_are_kept(tmp_path: Path) -> None:
    """Older checkpoints are deleted, and no half-written one is left."""
    trainer_in(tmp_path, steps=11, checkpoint_every=2).train(nothing)

    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["00000008", "00000010"]


class _FixedSet(ExampleSet):
    """Batches of fixed examples, clean, in order."""

    size = 8

    def epoch(self, epoch: int, batch_tokens: int) -> list[Ids]:
        """The first 24 examples, `size` at a time."""
        return list(np.split(np.arange(24), 24 // self.size))

    def batch(self, examples: Ids, epoch: int, *, clean: bool = False, anonymous: float = 0.1) -> Batch:
        """Without noise and missing markers."""
        return super().batch(examples, epoch, clean=True)


def test_accumulation_is_the_big_batch(tmp_path: Path) -> None:
    """Four batches of two a step have the loss and the gradients of one batch of eight."""
    losses_and_tokens = []
    trainers = []
    for size, parts in ((8, 1), (2, 4)):
        trainer = trainer_in(tmp_path / str(size), accumulate=parts)
        examples = _FixedSet(tokenise(talk(), TINY, trainer.recipe.data, 1), TINY, trainer.recipe.data, 1)
        examples.size = size
        trainer._set = examples
        losses_and_tokens.append(trainer._gradients(trainer._batches()))
        trainers.append(trainer)

    assert losses_and_tokens[0] == pytest.approx(losses_and_tokens[1], rel=1e-6)
    for one, four in zip(trainers[0].model.parameters(), trainers[1].model.parameters(), strict=True):
        assert one.grad is not None
        assert four.grad is not None
        assert torch.allclose(one.grad, four.grad, atol=1e-7)


@pytest.mark.parametrize("ema", [0.0, 0.3])
def test_averages_are_exponential(tmp_path: Path, ema: float) -> None:
    """The averaged weights are d * average + (1 - d) * weights, with d short at first; 0 keeps the last ones."""
    trainer = trainer_in(tmp_path, steps=7, ema=ema)
    expected = [weight.detach().clone() for weight in trainer.model.parameters()]

    def follow(report: StepReport) -> None:
        decay = min(ema, report.step / (9 + report.step))
        for average, weight in zip(expected, trainer.model.parameters(), strict=True):
            average.mul_(decay).add_(weight.detach(), alpha=1 - decay)

    trainer.train(follow)

    for average, found in zip(expected, trainer.averaged, strict=True):
        assert torch.allclose(average, found, atol=1e-6)


def test_the_averaged_weights_are_judged_and_saved(tmp_path: Path) -> None:
    """Validation and the saved model see the averaged weights; training goes on with the live ones."""
    trainer = trainer_in(tmp_path, steps=3, evaluate_every=1000)
    seen: list[dict[str, torch.Tensor]] = []
    trainer._validate = lambda model: float(len(seen.append(weights_of(model)) or seen))  # type: ignore[func-returns-value]
    trainer._save_model = lambda model: seen.append(weights_of(model))

    trainer.train(nothing)

    assert len(seen) == 2
    for (name, live), average in zip(weights_of(trainer.model).items(), trainer.averaged, strict=True):
        assert torch.equal(average, seen[0][name])
        assert torch.equal(average, seen[1][name])
        assert not torch.equal(average, live)


@pytest.mark.parametrize("poison", ["weight", "gradient"])
def test_a_loss_that_is_no_number_stops(tmp_path: Path, poison: str) -> None:
    """Training stops at the step, naming it; no checkpoint ever holds a weight that is not a number."""
    trainer = trainer_in(tmp_path, steps=11, checkpoint_every=1)
    bias = trainer.model.output_bias

    def spoil(report: StepReport) -> None:
        if report.step == 3:
            if poison == "weight":
                with torch.no_grad():
                    trainer.model.get_parameter("combine.bias").fill_(math.nan)
            else:
                bias.register_hook(lambda gradient: gradient * math.inf)  # type: ignore[no-untyped-call]  # torch's own

    with pytest.raises(ChatbotError, match=r"at step 3; train again with a lower optimiser\.learning_rate than 0\.002"):
        trainer.train(spoil)

    assert [step for step, _ in losses(tmp_path)] == [1, 2, 3]
    again = trainer_in(tmp_path)
    assert again.resume()
    assert torch.isfinite(again.model.output_bias).all()


def test_patience_ends_a_run(tmp_path: Path) -> None:
    """After so many evaluations without a better loss the run ends; the best model is the one that was saved."""
    trainer = trainer_in(tmp_path, steps=1000, evaluate_every=2, patience=3)
    course = iter([5.0, 4.0, 4.5, 3.0, 3.0, 3.1, 3.2, 1.0])
    saved: list[int] = []
    trainer._validate = lambda model: next(course)
    trainer._save_model = lambda model: saved.append(trainer.state.step)

    state = trainer.train(nothing)

    assert (state.step, state.best_loss, state.stale_evaluations) == (14, 3.0, 3)
    assert saved == [2, 4, 8]


def test_the_learning_rate_rises_and_falls() -> None:
    """Linear up to the peak at the end of warm-up, half a cosine down to nothing, the middle at half the peak."""
    recipe = OptimiserRecipe(steps=110, warmup_steps=10, learning_rate=0.5)

    rates = [cosine(step, 1.0, recipe) for step in range(111)]

    assert [pytest.approx(0.05 * n) for n in range(1, 11)] == rates[:10]
    assert rates[10] == max(rates) == 0.5
    assert rates[60] == pytest.approx(0.25)
    assert rates[110] == pytest.approx(0)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert cosine(0, 1.0, OptimiserRecipe(warmup_steps=0, learning_rate=0.5)) == 0.5


def loss_call(smoothing: float = 0.0, **more: Any) -> tuple[LossModule, tuple[torch.Tensor, ...], torch.Tensor]:
    """A loss module, a ragged batch, and the scores (N, V) of its four target tokens."""
    model = tiny_model()
    source, lengths = padded([[3, 5, 7], [2]])
    given, target = torch.tensor([[1, 4, 6], [1, 0, 0]]), torch.tensor([[4, 6, 2], [2, -1, -1]])
    with torch.no_grad():
        scores = model.logits(model(source, lengths, given))[target >= 0]
    taught = torch.tensor([True, False])
    return LossModule(model, smoothing, **more), (source, lengths, given, target, taught), scores


def test_label_smoothing_is_spelled_out() -> None:
    """Loss = (1 - e) * nats of the wanted token + e * mean nats of all tokens; padding does not count."""
    module, call, scores = loss_call(0.3)
    nats = -scores.log_softmax(dim=1).numpy()
    wanted = nats[range(4), [4, 6, 2, 2]]

    expected = float((0.7 * wanted + 0.3 * nats.mean(axis=1)).mean())

    assert expected == pytest.approx(module(*call).item(), rel=1e-5)


def test_rehearsal_stays_near_the_teacher() -> None:
    """Rows from the log cost their nats, others the weighed divergence from the teacher, 0 if it equals us."""
    module, call, scores = loss_call(teacher=tiny_model(seed=11))
    other = tiny_model(seed=11)
    with torch.no_grad():
        soft = other.logits(other(*call[:3]))[call[3] >= 0].softmax(dim=1)
    ours = scores.log_softmax(dim=1)
    taught = [-ours[row, token].item() for row, token in ((0, 4), (1, 6), (2, 2))]
    kept = (soft[3] * (soft[3].log() - ours[3])).sum().item()

    assert (sum(taught) + REHEARSAL_WEIGHT * kept) / 4 == pytest.approx(module(*call).item(), rel=1e-5)
    same, call, _ = loss_call(teacher=tiny_model())
    assert same(*call[:4], torch.tensor([False, False])).item() == pytest.approx(0, abs=1e-6)
    assert not any(weight is other for weight in same.parameters() for other in same._teacher[0].parameters())


def test_a_sample_of_everything_is_the_full_softmax() -> None:
    """With so many draws that no token is missed, the sampled loss is the cross entropy; in evaluation it always is."""
    sampler = SoftmaxSampler(torch.arange(23), 100_003)
    module, call, scores = loss_call(sampler=sampler)
    expected = F.cross_entropy(scores, torch.tensor([4, 6, 2, 2])).item()

    assert expected == pytest.approx(module.train()(*call).item(), rel=1e-4)
    assert expected == pytest.approx(module.eval()(*call).item(), rel=1e-6)


def test_sampling_is_right_on_average() -> None:
    """Over many small samples the loss's gradient points where the full one does."""
    torch.manual_seed(3)
    features, targets = torch.randn(7, 5), torch.tensor([1, 2, 3, 5, 7, 11, 13])
    weight, bias = torch.randn(23, 5), torch.zeros(23, requires_grad=True)
    (full,) = torch.autograd.grad(F.cross_entropy(F.linear(features, weight, bias), targets), bias)
    sampler, mean = SoftmaxSampler(torch.ones(23), 17), torch.zeros(23)
    for _ in range(400):
        (gradient,) = torch.autograd.grad(sampler.losses(features, targets, weight, bias).mean(), bias)
        mean += gradient / 400

    assert F.cosine_similarity(full, mean, dim=0) > 0.95


def test_metrics_hold_what_they_promise(tmp_path: Path) -> None:
    """One line a step with loss, rate, norm, tokens and speed; a validation loss only where one was taken."""
    trainer_in(tmp_path, steps=5, evaluate_every=2, batch_tokens=13).train(nothing)

    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5]
    assert [line["valid_loss"] for line in lines] == [None, 1.0, None, 1.0, 1.0]
    assert all(line["tokens_per_s"] > 0 and line["gradient_norm"] > 0 and 0 < line["tokens"] <= 13 for line in lines)


def test_weights_that_show_nothing_are_refused(tmp_path: Path) -> None:
    """An epoch without a batch is an error in plain words, not an endless loop."""
    trainer = trainer_in(tmp_path)
    recipe = DataRecipe(weights={"other": 0.0})
    trainer._set = ExampleSet(tokenise(talk(), TINY, recipe, 1), TINY, recipe, 1)

    with pytest.raises(UsageError, match="0 batches cannot feed"):
        trainer.train(nothing)


def test_half_precision_trains(tmp_path: Path) -> None:
    """bf16 is taken when asked for and remembered with the run; the losses stay near those of fp32."""
    curves = []
    for precision in ("fp32", "bf16"):
        trainer = trainer_in(tmp_path / precision, steps=3)
        trainer.state.precision = precision
        trainer.train(nothing)
        trainer.checkpoint()
        curves.append([loss for _, loss in losses(tmp_path / precision)])
    again = trainer_in(tmp_path / "bf16")

    assert again.resume()
    assert again.precision == "bf16"
    assert curves[0] != curves[1]
    assert np.allclose(curves[0], curves[1], rtol=0.02)
