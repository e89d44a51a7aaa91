"""The training loop of the tiny models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from hf_langcore.errors import InputError, NonFiniteError
from hf_langcore.recipes import fitting
from hf_langcore.recipes.fitting import Training, draw, fit

TRUTH = torch.tensor([[2.0, -1.0, 0.5]])


def problem(seed: int = 0) -> tuple[nn.Linear, Callable[[torch.Generator], torch.Tensor], list[float]]:
    """A linear map to be learnt, and the learning rates and losses as they were used."""
    torch.manual_seed(seed)
    model, losses = nn.Linear(3, 1, bias=False), []

    def loss_of(generator: torch.Generator) -> torch.Tensor:
        inputs = torch.randn(16, 3, generator=generator)
        loss = (model(inputs) - inputs @ TRUTH.T).square().mean()
        losses.append(loss.item())
        return loss

    return model, loss_of, losses


def test_it_learns() -> None:
    """The loss goes to (nearly) zero; the model stays in training mode for the caller to decide."""
    model, loss_of, losses = problem()
    fit(model, loss_of, Training(steps=200, learning_rate=0.1))
    assert losses[-1] < 0.01 * losses[0]
    assert len(losses) == 200


def test_schedule(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of warm-up to the peak, then a cosine down to a tenth of it."""
    model, loss_of, _ = problem()
    rates: list[float] = []
    real = torch.optim.AdamW.step

    def step(self: torch.optim.AdamW) -> None:
        rates.append(self.param_groups[0]["lr"])
        real(self)

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    fit(model, loss_of, Training(steps=40, learning_rate=0.4))
    assert rates[:5] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.4])
    assert rates[22] == pytest.approx(0.4 * 0.55)
    assert rates[-1] == pytest.approx(0.04, rel=0.1)
    assert rates[3:] == sorted(rates[3:], reverse=True)


def test_a_killed_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights, moments and draws are those of a run in one go; a finished run does nothing more."""
    monkeypatch.setattr(fitting, "_CHECKPOINT_EVERY", 4)
    whole, loss_of, _ = problem()
    fit(whole, loss_of, Training(steps=10, learning_rate=0.1))
    model, loss_of, losses = problem()

    def killed(generator: torch.Generator) -> torch.Tensor:
        if len(losses) == 7:
            raise KeyboardInterrupt
        return loss_of(generator)

    checkpoint = tmp_path / "training.pt"
    with pytest.raises(KeyboardInterrupt):
        fit(model, killed, Training(steps=10, learning_rate=0.1), checkpoint=checkpoint)
    again, loss_of, losses = problem(seed=1)
    fit(again, loss_of, Training(steps=10, learning_rate=0.1), checkpoint=checkpoint)
    assert len(losses) == 6
    assert torch.equal(again.weight, whole.weight)
    fit(again, loss_of, Training(steps=10, learning_rate=0.1), checkpoint=checkpoint)
    assert len(losses) == 6


def test_bad_input_is_named(tmp_path: Path) -> None:
    """No steps, a training that breaks down, and the state of another model."""
    model, loss_of, _ = problem()
    with pytest.raises(InputError, match="steps must be at least 1, got 0"):
        fit(model, loss_of, Training(steps=0, learning_rate=0.1))
    with pytest.raises(NonFiniteError, match="learning rate"):
        fit(model, loss_of, Training(steps=3, learning_rate=float("inf")))
    model, loss_of, _ = problem()
    fit(model, loss_of, Training(steps=1, learning_rate=0.1), checkpoint=tmp_path / "one.pt")
    with pytest.raises(InputError, match=r"one\.pt.* another model"):
        fit(nn.Linear(4, 2), loss_of, Training(steps=1, learning_rate=0.1), checkpoint=tmp_path / "one.pt")


def test_languages_weigh_the_same() -> None:
    """A language with few blocks is drawn as often as one with many."""
    blocks = [torch.zeros(100, 2), torch.ones(1, 2)]
    rows = draw(blocks, 2000, torch.Generator().manual_seed(0))
    assert rows.shape == (2000, 2)
    assert 0.45 < rows.mean().item() < 0.55


def test_bfloat16_is_asked_for() -> None:
    """Products are computed in bfloat16, weights are kept in float32."""
    model, _, _ = problem()
    kinds: list[torch.dtype] = []

    def loss_of(generator: torch.Generator) -> torch.Tensor:
        output = model(torch.randn(4, 3, generator=generator))
        kinds.append(output.dtype)
        return output.float().square().mean()

    for bf16 in (True, False):
        fit(model, loss_of, Training(steps=1, learning_rate=0.1, bf16=bf16))
    assert kinds == [torch.bfloat16, torch.float32]
    assert model.weight.dtype is torch.float32
