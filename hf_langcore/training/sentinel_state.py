"""The last good state of what is trained, and the way back to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from hf_langcore.errors import ConfigurationError, ModelChangedError
from hf_langcore.files import replace_file
from hf_langcore.training.holdings import local_part, reshard
from hf_langcore.training.sentinel_measuring import rank, world_size

GOOD_STATE_FILE = "sentinel_good_state.safetensors"


class GoodState:
    """A copy of every parameter that is trained, in its own dtype, in memory on the CPU or in one file.

    With adapters only their weights are trained, so only these are kept. Of sharded parameters each process keeps its own
    shard; so each process of a run that keeps them on disk writes its own file.

    Args:
        folder: Where the file lies; None keeps the copy in memory.
    """

    def __init__(self, folder: Path | None = None) -> None:
        suffix = f".{rank()}-of-{world_size()}" if world_size() > 1 else ""
        self._path = None if folder is None else folder / f"{GOOD_STATE_FILE}{suffix}"
        self._values: dict[str, torch.Tensor] = {}
        self.step: int | None = None

    def keep(self, model: nn.Module, step: int) -> None:
        """Remember the trained parameters as they are now.

        Args:
            model: The model.
            step: The optimizer step, which `restore` returns.
        """
        trained = _trained(model)
        if self._path is not None:
            tensors = {name: value.cpu().contiguous() for name, value in trained.items()}
            replace_file(self._path, lambda temporary: save_file(tensors, temporary))
        elif self._values.keys() == trained.keys():
            for name, value in trained.items():
                self._values[name].copy_(value)
        else:
            self._values = {name: value.to("cpu", copy=True) for name, value in trained.items()}
        self.step = step

    def restore(self, model: nn.Module) -> int:
        """Write the last good state back, bit for bit.

        Returns:
            The step at which it was kept.

        Raises:
            ModelChangedError: Nothing was kept, or other parameters are trained now.
        """
        values = load_file(self._path) if self._path is not None and self.step is not None else self._values
        trained = _trained(model)
        if self.step is None or values.keys() != trained.keys():
            raise ModelChangedError(
                f"The sentinel cannot go back: it kept {len(values)} parameters and {len(trained)} are trained now. "
                "Do not change requires_grad or add adapters while training runs."
            )
        for name, value in trained.items():
            value.copy_(values[name])
        return self.step

    def nbytes(self) -> int:
        """Bytes that the copy takes in memory."""
        return sum(value.nbytes for value in self._values.values())


def forget_momentum(optimizer: Any) -> None:
    """Drop what the optimizer has gathered, so that it does not push straight back to where it came from."""
    optimizer.state.clear()


def lower_learning_rate(optimizer: Any, scheduler: Any, factor: float) -> None:
    """Scale the learning rate from now on.

    Args:
        optimizer: Its groups are scaled.
        scheduler: Its base learning rates are scaled, from which it computes those of the following steps.
        factor: What every learning rate is multiplied by.
    """
    for group in optimizer.param_groups:
        group["lr"] = group["lr"] * factor
        if "initial_lr" in group:
            group["initial_lr"] = group["initial_lr"] * factor
    inner = getattr(scheduler, "scheduler", scheduler)
    if getattr(inner, "base_lrs", None):
        inner.base_lrs = [rate * factor for rate in inner.base_lrs]


def require_learning_rate(optimizer: Any) -> None:
    """Refuse optimizers that choose their learning rate themselves, which could not be lowered.

    Raises:
        ConfigurationError: A group has no learning rate.
    """
    if any(group.get("lr") is None for group in optimizer.param_groups):
        raise ConfigurationError(
            f"after_revert='continue' lowers the learning rate, and {type(optimizer).__name__} chooses its own (lr is "
            "None). Set a learning rate, or use after_revert='stop'."
        )


def _trained(model: nn.Module) -> dict[str, torch.Tensor]:
    """Name -> values of this process of every parameter that is trained; they share the parameters' memory."""
    reshard(model)
    return {name: local_part(parameter) for name, parameter in model.named_parameters() if parameter.requires_grad}
