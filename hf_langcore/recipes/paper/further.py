"""Further pretraining: a copy of the model is trained on more text, and measured on the way."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from hf_langcore.errors import InputError, NonFiniteError
from hf_langcore.evaluation import ScoringTask, score
from hf_langcore.evaluation.language_score import number_or_inf
from hf_langcore.masks import CoreMask
from hf_langcore.recipes.bench.workbench import Bench
from hf_langcore.recipes.quiet import quiet_transformers

PUBLISHED_RATE = 5e-5
"""Learning rate of the published code, for models of billions of weights."""

SMALL_MODEL_RATE = 5e-4
"""What small models need to learn anything from a few thousand samples."""

_SMALL = 100_000_000  # weights
_WARMUP_STEPS = 10


@dataclass(frozen=True, slots=True)
class FurtherTraining:
    """How a model is trained further.

    The rate is constant after a short warm-up, so that one run can be measured after any number of samples: under a
    cosine schedule each number would need a run of its own. Weight decay and betas are those of the published code.

    Attributes:
        learning_rate: Peak, which stays.
        batch_size: Samples per step.
        weight_decay: Of AdamW.
        betas: Of AdamW.
        warmup_steps: Steps in which the rate rises.
        bf16: Forward and backward in mixed precision; the weights stay float32.
        seed: Of order and of dropout.
    """

    learning_rate: float
    batch_size: int = 8
    weight_decay: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.95)
    warmup_steps: int = _WARMUP_STEPS
    bf16: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.batch_size < 1 or not 0 < self.learning_rate < 1:
            raise InputError(
                "Training needs a batch_size of at least 1 and a learning_rate between 0 and 1, got "
                f"{self.batch_size} and {self.learning_rate}."
            )

    def up(self, samples: int) -> int:
        """The number of samples in the whole batches that `samples` need."""
        return -(-samples // self.batch_size) * self.batch_size

    def down(self, samples: int) -> int:
        """The number of samples in the whole batches that `samples` fill."""
        return samples // self.batch_size * self.batch_size

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {**asdict(self), "betas": list(self.betas)}


def rate_for(model: nn.Module, learning_rate: float | None) -> float:
    """The rate that was asked for; else the published one, or a higher one for models of less than 100 million weights."""
    if learning_rate is not None:
        return learning_rate
    size = sum(parameter.numel() for parameter in model.parameters())
    return SMALL_MODEL_RATE if size < _SMALL else PUBLISHED_RATE


def fresh_copy(bench: Bench) -> Any:
    """A copy of the model to be trained, in float32: steps of a small rate are lost in the rounding of bf16."""
    return bench.fresh_model().float()


def pretrain_further(
    model: nn.Module,
    samples: torch.Tensor,
    training: FurtherTraining,
    *,
    look: Callable[[nn.Module], Any] | None = None,
    look_at: Iterable[int] = (),
    core_mask: CoreMask | None = None,
) -> dict[int, Any]:
    """Train a model in place on samples in their order, each once.

    Args:
        model: A causal LM in float32, as `fresh_copy` makes it.
        samples: int64, (samples, tokens); start tokens included.
        training: How.
        look: Measures the model on the way, out of mixed precision.
        look_at: Numbers of samples after which it is measured: 0, or whole batches.
        core_mask: A core that is frozen at the values that it has now, whatever these are; the freeze is that of
            `CoreFreezeCallback`.

    Returns:
        Number of samples -> what `look` gave.

    Raises:
        InputError: There are no samples, or it cannot be looked at such a number of them.
        NonFiniteError: Training broke down.
    """
    wanted = _checked(look_at, len(samples), training)
    looks = _Looks(look, wanted, training.batch_size)
    if 0 in wanted:
        looks.take(model, 0)
    if len(samples) == 0:
        return looks.found
    device = next(model.parameters()).device
    with tempfile.TemporaryDirectory() as folder, quiet_transformers():
        trainer = Trainer(
            model=model,
            args=_arguments(folder, training),
            train_dataset=_Samples(samples),
            callbacks=[*_freeze(core_mask), looks],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    with _in_full_precision(model, for_good=True):
        model.to(device).eval()
    if not all(bool(torch.isfinite(parameter).all()) for parameter in model.parameters()):
        raise NonFiniteError(
            f"Further training at a learning rate of {training.learning_rate:g} ended in NaN or infinite weights. Lower it."
        )
    return looks.found


def losses_of(model: nn.Module, tasks: Mapping[str, ScoringTask], *, batch_size: Any = "auto") -> dict[str, Any]:
    """Loss per language on each text, in nats per token, as JSON values: infinity is the string "inf"."""
    found = {}
    for name, task in tasks.items():
        report = score(model, task, batch_size=batch_size, on_nonfinite="inf", progress=False)
        found[name] = {language: number_or_inf(loss) for language, loss in report.nll.items()}
    return found


def in_order(count: int, *, seed: int, passes: int = 1) -> torch.Tensor:
    """Numbers of samples in the order in which they are seen: each pass is shuffled on its own."""
    generator = torch.Generator().manual_seed(seed)
    return torch.cat([torch.randperm(count, generator=generator) for _ in range(passes)])


class _Samples(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
    def __init__(self, samples: torch.Tensor) -> None:
        self._samples = samples

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        ids = self._samples[index]
        return {"input_ids": ids, "labels": ids}


class _Looks(TrainerCallback):  # type: ignore[misc]
    """Measures after given numbers of samples."""

    def __init__(self, look: Callable[[nn.Module], Any] | None, at: set[int], batch_size: int) -> None:
        self.found: dict[int, Any] = {}
        self._look, self._at, self._batch_size = look, at, batch_size

    def take(self, model: nn.Module, samples: int) -> None:
        if self._look is not None:
            with _in_full_precision(model):
                self.found[samples] = self._look(model)

    def on_step_end(self, args: Any, state: Any, control: Any, *, model: nn.Module, **_: Any) -> None:  # noqa: ARG002 transformers' signature
        samples = state.global_step * self._batch_size
        if samples in self._at:
            self.take(model, samples)


@contextmanager
def _in_full_precision(model: nn.Module, *, for_good: bool = False) -> Iterator[None]:
    """Take off the forward that accelerate puts over a model's own for mixed precision."""
    over = model.__dict__.pop("forward", None)
    try:
        yield
    finally:
        if over is not None and not for_good:
            model.__dict__["forward"] = over
        if for_good:
            model.__dict__.pop("_original_forward", None)


def _checked(look_at: Iterable[int], available: int, training: FurtherTraining) -> set[int]:
    wanted = set(look_at)
    wrong = sorted(one for one in wanted if not 0 <= one <= available or one % training.batch_size)
    if wrong or available % training.batch_size:
        raise InputError(
            f"{available} samples in batches of {training.batch_size} cannot be measured after {wrong or available}: give "
            "whole batches, and no more than there are."
        )
    return wanted


def _freeze(core_mask: CoreMask | None) -> Sequence[TrainerCallback]:
    if core_mask is None:
        return ()
    from hf_langcore.training import CoreFreezeCallback

    # The core may have been broken on purpose: what is kept are the values of now, which no fingerprint fits.
    return (CoreFreezeCallback(core_mask, base_check="off"),)


def _arguments(folder: str, training: FurtherTraining) -> TrainingArguments:
    return TrainingArguments(
        output_dir=folder,
        num_train_epochs=1,
        per_device_train_batch_size=training.batch_size,
        train_sampling_strategy="sequential",
        learning_rate=training.learning_rate,
        weight_decay=training.weight_decay,
        adam_beta1=training.betas[0],
        adam_beta2=training.betas[1],
        lr_scheduler_type="constant_with_warmup",
        warmup_steps=training.warmup_steps,
        optim="adamw_torch_fused",
        bf16=training.bf16,
        use_cpu=not torch.cuda.is_available(),
        dataloader_pin_memory=False,
        seed=training.seed,
        report_to="none",
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
    )
