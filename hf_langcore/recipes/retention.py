"""What fine-tuning does to every language: free, with the frozen core, and with general data mixed in."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from datasets import Dataset
from torch import nn
from tqdm.auto import tqdm
from transformers import PrinterCallback, TrainerCallback

from hf_langcore.evaluation import PerplexityReport, ScoringTask, score
from hf_langcore.masks import CoreMask
from hf_langcore.recipes.bits import copy_weights, count_changed
from hf_langcore.recipes.quiet import quiet_transformers


@dataclass(frozen=True, slots=True)
class FineTuning:
    """A small supervised job.

    Attributes:
        train: Rows with `prompt` and `completion`.
        test: Rows of the same task that are not trained on.
        general: Texts to mix in, in the run that mixes.
        ratio: Times as many general rows as task rows.
        epochs: Passes over the task rows.
        batch_size: Rows per step.
        learning_rate: Peak of a cosine schedule.
    """

    train: Sequence[dict[str, str]]
    test: Sequence[dict[str, str]]
    general: Sequence[str]
    ratio: float = 5.0
    epochs: int = 2
    batch_size: int = 16
    learning_rate: float = 5e-4


@dataclass(frozen=True, slots=True)
class Run:
    """One fine-tuning run.

    Attributes:
        name: What was done.
        task_loss: Loss on task rows that were not trained on, in nats per token, before and after.
        core_changed: Core weights that differ from the base, of `core_size`.
        core_size: Number of core weights.
        complement_changed: Other weights of the decoder layers that differ from the base.
    """

    name: str
    task_loss: tuple[float, float]
    core_changed: int
    core_size: int
    complement_changed: int


def compare_fine_tuning(
    model: nn.Module, tokenizer: Any, core_mask: CoreMask, task: ScoringTask, job: FineTuning, *, progress: bool = True
) -> tuple[list[Run], PerplexityReport]:
    """Three runs from the same base: free, with the frozen core, and with general data mixed in too.

    Args:
        model: A causal LM; every bit of it is restored after each run.
        tokenizer: Its tokenizer.
        core_mask: The core.
        task: Prepared texts that tell what is left of each language.
        job: What to train.
        progress: Show a progress bar per run.

    Returns:
        The runs, and perplexity per language for "base" and each of them.
    """
    whole = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    before = copy_weights(model, core_mask)
    loss_before = task_loss(model, tokenizer, job.test)
    reports = {"base": score(model, task, condition="base", progress=False)}
    runs = []
    for name, mask, general in (
        ("free", None, ()),
        ("frozen core", core_mask, ()),
        ("frozen core + general data", core_mask, job.general),
    ):
        bar = _Bar(name) if progress else None
        _train(model, tokenizer, job, core_mask=mask, general=general, bar=bar)
        reports[name] = score(model, task, condition=name, progress=False)
        losses = (loss_before, task_loss(model, tokenizer, job.test))
        changed = count_changed(model, before, core_mask)
        runs.append(Run(name, losses, changed.core, core_mask.count(), changed.complement))
        _restore(model, whole)
    return runs, PerplexityReport.compare(reports)


def task_loss(model: Any, tokenizer: Any, rows: Sequence[dict[str, str]]) -> float:
    """Mean loss of the completions, in nats per token, as SFTTrainer trains them: with an end token."""
    total, count = 0.0, 0
    with torch.inference_mode():
        for row in rows:
            prompt = tokenizer(row["prompt"], add_special_tokens=False)["input_ids"]
            answer = tokenizer(row["completion"], add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]
            ids = torch.tensor([prompt + answer])
            logits = model(input_ids=ids).logits[0, len(prompt) - 1 : -1].float()
            total += float(nn.functional.cross_entropy(logits, ids[0, len(prompt) :], reduction="sum"))
            count += len(answer)
    return total / count


def _restore(model: nn.Module, weights: dict[str, torch.Tensor]) -> None:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(weights[name])


def _train(
    model: Any,
    tokenizer: Any,
    job: FineTuning,
    *,
    core_mask: CoreMask | None,
    general: Sequence[str],
    bar: TrainerCallback | None,
) -> None:
    from hf_langcore.training import CoreRegionSFTTrainer

    with tempfile.TemporaryDirectory() as folder, quiet_transformers():
        trainer = CoreRegionSFTTrainer(
            model=model,
            args=_arguments(folder, job),
            train_dataset=Dataset.from_list(list(job.train)),
            processing_class=tokenizer,
            core_mask=core_mask,
            general_dataset=Dataset.from_dict({"text": list(general)}) if general else None,
        )
        trainer.remove_callback(PrinterCallback)
        if bar is not None:
            trainer.add_callback(bar)
        trainer.train()


def _arguments(folder: str, job: FineTuning) -> Any:
    from hf_langcore.training import CoreRegionSFTConfig

    return CoreRegionSFTConfig(
        output_dir=folder,
        num_train_epochs=job.epochs,
        per_device_train_batch_size=job.batch_size,
        learning_rate=job.learning_rate,
        weight_decay=0.1,
        max_length=128,
        lr_scheduler_type="cosine",
        bf16=False,
        use_cpu=not torch.cuda.is_available(),
        activation_checkpointing=False,
        report_to="none",
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        general_data_ratio=job.ratio,
    )


class _Bar(TrainerCallback):  # type: ignore[misc]
    """One progress bar that says which run it belongs to."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._bar: Any = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **_rest: Any) -> None:  # noqa: ARG002 transformers' signature
        self._bar = tqdm(desc=f"fine-tuning: {self._name}", total=state.max_steps, unit="step")

    def on_step_end(self, args: Any, state: Any, control: Any, **_rest: Any) -> None:  # noqa: ARG002 transformers' signature
        self._bar.update()

    def on_train_end(self, args: Any, state: Any, control: Any, **_rest: Any) -> None:  # noqa: ARG002 transformers' signature
        self._bar.close()
