"""Train a tiny model on text in several languages: equal draws, a warm-up and a cosine, and a run that can go on."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm.auto import tqdm

from hf_langcore.errors import InputError, NonFiniteError
from hf_langcore.files import replace_file

_CHECKPOINT_EVERY = 250


@dataclass(frozen=True, slots=True)
class Training:
    """How long and how fast a model is trained.

    Attributes:
        steps: Optimizer steps, at least 1.
        learning_rate: Peak of a cosine schedule with a warm-up of a tenth of the steps.
        seed: Of the draws.
        bf16: Compute in bfloat16 by autocast; the weights stay in float32.
        progress: Show a bar with the loss.
        title: Of the bar.
    """

    steps: int
    learning_rate: float
    seed: int = 0
    bf16: bool = False
    progress: bool = False
    title: str = "training a tiny model"


class _Checkpoint:
    """The state of a training run in one file, replaced as a whole."""

    def __init__(self, path: Path | None, parts: dict[str, Any], generator: torch.Generator) -> None:
        self.path, self.parts, self.generator = path, parts, generator

    def load(self) -> int:
        """Take up the state that the file holds: the number of steps done, 0 where there is no file."""
        if self.path is None or not self.path.exists():
            return 0
        state = torch.load(self.path, weights_only=True)
        try:
            for name, part in self.parts.items():
                part.load_state_dict(state[name])
        except (KeyError, RuntimeError, ValueError) as error:
            raise InputError(
                f"{str(self.path)!r} holds the training of another model. Name an empty folder, or the same shape."
            ) from error
        self.generator.set_state(state["generator"])
        return int(state["step"])

    def save(self, step: int) -> None:
        """Write the state after `step` steps."""
        if self.path is not None:
            state = {name: part.state_dict() for name, part in self.parts.items()}
            state |= {"generator": self.generator.get_state(), "step": step}
            replace_file(self.path, lambda target: torch.save(state, target))


def fit(
    model: nn.Module,
    loss_of: Callable[[torch.Generator], torch.Tensor],
    training: Training,
    *,
    checkpoint: Path | None = None,
) -> None:
    """Train a model in place with AdamW.

    Args:
        model: Its parameters that require gradients are trained.
        loss_of: The loss of the next batch, drawn with the generator that it gets.
        training: How long and how fast.
        checkpoint: A file that holds the state every 250 steps; a run that was killed goes on from there with the
            same draws. With another number of steps only the rest of the schedule bends.

    Raises:
        InputError: There is nothing to do, or the file is of another model.
        NonFiniteError: Training broke down.
    """
    if training.steps < 1:
        raise InputError(f"steps must be at least 1, got {training.steps}.")
    generator = torch.Generator().manual_seed(training.seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=training.learning_rate, betas=(0.9, 0.95), weight_decay=0.1)
    state = _Checkpoint(checkpoint, {"model": model, "optimizer": optimizer}, generator)
    done = state.load()
    model.train()
    with tqdm(
        total=training.steps, initial=done, desc=training.title, unit="step", disable=not training.progress
    ) as bar:
        for step in range(done, training.steps):
            for group in optimizer.param_groups:
                group["lr"] = training.learning_rate * _rate(step, training.steps)
            loss = _step(model, loss_of, optimizer, generator, bf16=training.bf16)
            bar.update()
            bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
            if (step + 1) % _CHECKPOINT_EVERY == 0 or step + 1 == training.steps:
                state.save(step + 1)


def _step(
    model: nn.Module,
    loss_of: Callable[[torch.Generator], torch.Tensor],
    optimizer: torch.optim.Optimizer,
    generator: torch.Generator,
    *,
    bf16: bool,
) -> float:
    device = next(model.parameters()).device.type
    with torch.autocast(device, torch.bfloat16, enabled=bf16):
        loss = loss_of(generator)
    if not torch.isfinite(loss):
        raise NonFiniteError(f"The training loss is {loss.item()}. Lower the learning rate.")
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss.item()


def draw(blocks: list[torch.Tensor], count: int, generator: torch.Generator) -> torch.Tensor:
    """A batch in which each row's language, then its block, is drawn uniformly.

    Args:
        blocks: One tensor (blocks, tokens) per language.
        count: Rows.
        generator: Where the chance comes from.

    Returns:
        (count, tokens).
    """
    languages = torch.randint(len(blocks), (count,), generator=generator).tolist()
    rows = [blocks[one][torch.randint(len(blocks[one]), (1,), generator=generator).item()] for one in languages]
    return torch.stack(rows)


def _rate(step: int, steps: int) -> float:
    warm_up = max(1, steps // 10)
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.1 + 0.45 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))
