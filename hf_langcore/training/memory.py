"""Out of memory: the micro-batch gets smaller, the effective batch stays what it is, and nothing half-done is kept.

Transformers has `auto_find_batch_size`, which makes the effective batch smaller, and which goes on from the weights that
the interrupted attempt has left behind. Here a run begins again where its state is known: at its beginning as long as
no weight has been updated, and otherwise at its last checkpoint.
"""

from __future__ import annotations

import gc
import logging
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from torch import nn
from transformers import Trainer
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, TrainOutput

from hf_langcore.errors import InputError, LangCoreError
from hf_langcore.training.support import last_checkpoint

OnOutOfMemory = Literal["halve", "error"]

_OTHER_MEANS = (
    "What also helps: a smaller max_length, activation_checkpointing=True, bf16=True, an adapter (CoreRegionConfig) instead of "
    'full fine-tuning, or an optimizer with a smaller state (optim="adamw_bnb_8bit", "adafactor").'
)

logger = logging.getLogger(__name__)


class TrainingMemoryError(LangCoreError, RuntimeError):
    """Training ran out of memory, and there is no exact way to go on; the message says what would help."""


class MicroBatchTooLargeError(LangCoreError, RuntimeError):
    """One micro-batch did not fit into memory; caught where training begins again with smaller ones."""


def check_on_out_of_memory(value: str) -> None:
    """Refuse unknown values of the field `on_out_of_memory`.

    Raises:
        InputError: It is none of the known ones.
    """
    if value not in get_args(OnOutOfMemory):
        raise InputError(f"on_out_of_memory must be one of {list(get_args(OnOutOfMemory))}, got {value!r}.")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory is full: that of CUDA, XPU, MPS, HPU or the host."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
        isinstance(error, Exception) and should_reduce_batch_size(error)
    )


def smaller_batch(size: int) -> int | None:
    """The largest micro-batch below `size` that divides it, so that the effective batch can stay; None for 1.

    >>> [smaller_batch(size) for size in (1, 2, 3, 8, 9)]
    [None, 1, 1, 4, 3]
    """
    return next((part for part in range(size // 2, 0, -1) if size % part == 0), None)


@dataclass(frozen=True)
class _Beginning:
    """What a run begins with, besides the weights: random numbers, and an optimizer that somebody passed in."""

    python: Any
    numpy: Any
    host: torch.Tensor
    devices: list[torch.Tensor]
    optimizer: Any
    scheduler: Any

    @classmethod
    def of(cls, trainer: Any) -> _Beginning:
        devices = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        # The legacy generator is the one that transformers and data collators draw from.
        return cls(
            random.getstate(),
            np.random.get_state(),  # noqa: NPY002
            torch.get_rng_state(),
            devices,
            trainer.optimizer,
            trainer.lr_scheduler,
        )

    def restore(self, trainer: Any) -> None:
        random.setstate(self.python)
        np.random.set_state(self.numpy)  # noqa: NPY002
        torch.set_rng_state(self.host)
        if self.devices:
            torch.cuda.set_rng_state_all(self.devices)
        trainer.optimizer, trainer.lr_scheduler = self.optimizer, self.scheduler


class MemorySavingMixin(Trainer):  # type: ignore[misc]
    """A Trainer whose runs begin again with smaller micro-batches where one does not fit into memory.

    It stands before the trainer class that it changes. The field `on_out_of_memory` of the arguments says "halve" (the
    default, also where they lack the field) or "error"; `auto_find_batch_size=True` means "halve" too.

    A run in several processes cannot begin again, because the others wait for the one that failed: it ends with a
    message. Where a model does not normalise its loss by the number of tokens, accumulated micro-batches of different
    lengths weigh a little differently than one batch, as everywhere in transformers.
    """

    _attempted: bool = False
    _known_state: str | None = None

    def train(
        self,
        resume_from_checkpoint: str | bool | None = None,  # noqa: FBT001 the signature is transformers'
        trial: Any = None,
        ignore_keys_for_eval: list[str] | None = None,
    ) -> TrainOutput:
        """As in Trainer.

        Raises:
            ConfigurationError: The last checkpoint is asked for and there is none.
            TrainingMemoryError: Memory is full and no exact way on is left.
        """
        args = self.args
        if resume_from_checkpoint is True:
            resume_from_checkpoint = last_checkpoint(args.output_dir)
        if args.auto_find_batch_size:
            args.auto_find_batch_size = False  # its own way of doing it would change the effective batch
        elif getattr(args, "on_out_of_memory", "halve") == "error":
            return super().train(resume_from_checkpoint, trial, ignore_keys_for_eval)
        self._known_state = resume_from_checkpoint if isinstance(resume_from_checkpoint, str) else None
        beginning = _Beginning.of(self)
        self._attempted = True
        try:
            while True:
                try:
                    return super().train(self._known_state or resume_from_checkpoint, trial, ignore_keys_for_eval)
                except MicroBatchTooLargeError:
                    self._require_way_on()
                # Outside of the except block, so that the error holds no tensors any more.
                self._begin_again(beginning)
        finally:
            self._attempted = False

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        """As in Trainer, with an error of its own where memory is full."""
        try:
            step: torch.Tensor = super().training_step(model, inputs, num_items_in_batch)
        except (RuntimeError, MemoryError) as error:
            if not self._attempted or not is_out_of_memory(error):
                raise
            self._require_one_process(error)
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise MicroBatchTooLargeError(reason) from None
        return step

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        if not self.args.save_only_model:
            folder = Path(self._get_output_dir(trial=trial))
            self._known_state = str(folder / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}")

    def _require_one_process(self, error: BaseException) -> None:
        if self.args.world_size == 1 and not self.is_deepspeed_enabled and not self.is_fsdp_enabled:
            return
        size, accumulation = self.args.per_device_train_batch_size, self.args.gradient_accumulation_steps
        smaller = smaller_batch(size)
        advice = (
            f"Set per_device_train_batch_size={smaller} and gradient_accumulation_steps={accumulation * size // smaller}: "
            "the effective batch stays the same. "
            if smaller
            else ""
        )
        raise TrainingMemoryError(
            f"Process {self.args.process_index} of {self.args.world_size} ran out of memory in step "
            f"{self.state.global_step + 1}. In a distributed run the other processes wait for this one, so that it cannot "
            f"begin again with smaller micro-batches by itself. {advice}{_OTHER_MEANS}"
        ) from error

    def _require_way_on(self) -> None:
        """Refuse to go on where that would not be exact.

        Raises:
            TrainingMemoryError: Micro-batches cannot be smaller, or weights were updated and no checkpoint is left.
        """
        if smaller_batch(self.args.per_device_train_batch_size) is None:
            raise TrainingMemoryError(
                f"Training ran out of memory in step {self.state.global_step + 1} with one row per device, which cannot be "
                f"halved. {_OTHER_MEANS}"
            )
        if self._known_state is not None and not Path(self._known_state).is_dir():
            self._known_state = None
        if self.state.global_step > 0 and self._known_state is None:
            raise TrainingMemoryError(
                f"Training ran out of memory in step {self.state.global_step + 1}, and this run has saved no checkpoint to "
                "begin again from: going on from weights that are half trained would not be the run that was asked for. "
                f"Start again with per_device_train_batch_size={smaller_batch(self.args.per_device_train_batch_size)}, or "
                f'with checkpoints (save_strategy="steps", save_only_model=False). {_OTHER_MEANS}'
            )

    def _begin_again(self, beginning: _Beginning) -> None:
        """Free what the attempt has left, and make the micro-batch smaller."""
        args = self.args
        before, now = args.per_device_train_batch_size, smaller_batch(args.per_device_train_batch_size) or 1
        args.per_device_train_batch_size = now
        args.gradient_accumulation_steps *= before // now
        self._train_batch_size = args.train_batch_size
        logger.warning(
            "Out of memory in step %d with %d rows at a time. Training begins again %s with %d rows at a time and %d "
            "micro-batches per step; the effective batch stays %d rows.",
            self.state.global_step + 1,
            before,
            f"from {self._known_state}" if self._known_state else "from the start",
            now,
            args.gradient_accumulation_steps,
            args.train_batch_size * args.gradient_accumulation_steps,
        )
        self.model.zero_grad(set_to_none=True)
        beginning.restore(self)
        self.model_wrapped = self.model
        self.accelerator.free_memory()
        gc.collect()
        clear_device_cache()
