"""What is learned against what is kept: fine-tuning under every protection, with controls, over several seeds."""

from __future__ import annotations

import copy
import json
import math
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftConfig
from torch import nn
from transformers import PrinterCallback

from hf_langcore.evaluation import score
from hf_langcore.files import replace_json
from hf_langcore.recipes.bits import copy_weights, count_changed
from hf_langcore.recipes.protection.methods import RANK, Method
from hf_langcore.recipes.protection.shields import Shields
from hf_langcore.recipes.protection.tasks import ProtectionTask, Target
from hf_langcore.recipes.quiet import quiet_transformers
from hf_langcore.training import CoreRegionSFTConfig, CoreRegionSFTTrainer
from hf_langcore.tuner import CoreRegionConfig

_WARMUP_STEPS = 5
_ALPHA = 2 * RANK


@dataclass(frozen=True, slots=True)
class ProtectionRun:
    """What one run learned and lost.

    Attributes:
        task: Name of the task.
        method: Name of the method.
        seed: Of data, order, adapter and random mask.
        target_before: The task before training.
        target_after: The task after it.
        kept_before: Language -> loss in nats per token before training, of the languages to be kept.
        kept_after: The same after it.
        core_changed: Frozen weights whose bits differ from the base, of `core_size`. Where nothing is frozen those
            of the core are counted.
        core_size: Number of these weights.
        steps: Optimizer steps.
        seconds: Of training.
        settings: Of method and task; a kept run with other settings is done again.
    """

    task: str
    method: str
    seed: int
    target_before: Target
    target_after: Target
    kept_before: dict[str, float]
    kept_after: dict[str, float]
    core_changed: int
    core_size: int
    steps: int
    seconds: float
    settings: dict[str, Any]

    @property
    def gain(self) -> float:
        """Loss on the task that training took away, in nats per token."""
        return self.target_before.loss - self.target_after.loss

    @property
    def forgotten(self) -> float:
        """Logarithm of the factor by which the geometric mean of the kept perplexities rose."""
        return sum(self.kept_after[name] - loss for name, loss in self.kept_before.items()) / len(self.kept_before)


def run_protection(
    model: nn.Module,
    tokenizer: Any,
    tasks: Sequence[tuple[ProtectionTask, Shields]],
    methods: Sequence[Method],
    *,
    output: str | Path,
    seeds: Iterable[int] = (0, 1, 2),
    bf16: bool = True,
    tell: Callable[[str], None] = print,
) -> list[ProtectionRun]:
    """Fine-tune copies of a model under every method, and measure what each learned and lost.

    Seeds are the outer loop, so that a run that is stopped early has whole seeds. Finished runs are kept as one
    JSON file each and not repeated; two processes may share the folder if they are given different seeds or tasks.

    Args:
        model: A causal LM in float32; it is left as it is.
        tokenizer: Its tokenizer.
        tasks: What is learned, with what is frozen and how strongly anchors pull.
        methods: How.
        output: Folder of the results.
        seeds: Of data, order, adapters and random masks.
        bf16: Train in mixed precision; weights stay float32.
        tell: Receives one line per run.
    """
    folder, runs = Path(output), []
    before = {task.name: (task.target(model), score(model, task.kept, progress=False).nll) for task, _ in tasks}
    for seed in seeds:
        for task, shields in tasks:
            for method in methods:
                path = folder / task.name / f"seed-{seed}" / f"{_slug(method.name)}.json"
                run = read_run(path) if path.is_file() else None
                if run is None or run.settings != _settings(method, task, bf16=bf16):
                    run = _run(model, tokenizer, task, shields, method, before[task.name], seed=seed, bf16=bf16)
                    replace_json(path, asdict(run))
                    tell(_line(run))
                runs.append(run)
    return runs


def read_run(path: Path) -> ProtectionRun:
    """A run from its file."""
    values = json.loads(path.read_text(encoding="utf-8"))
    targets = {name: Target(**values[name]) for name in ("target_before", "target_after")}
    return ProtectionRun(**{**values, **targets})


def _run(
    base: nn.Module,
    tokenizer: Any,
    task: ProtectionTask,
    shields: Shields,
    method: Method,
    before: tuple[Target, dict[str, float]],
    *,
    seed: int,
    bf16: bool,
) -> ProtectionRun:
    counted = shields.mask(method.frozen or "core", seed=seed)
    start = time.perf_counter()
    model, steps = _train(base, tokenizer, task, shields, method, seed=seed, bf16=bf16)
    seconds = time.perf_counter() - start
    return ProtectionRun(
        task=task.name,
        method=method.name,
        seed=seed,
        target_before=before[0],
        target_after=task.target(model),
        kept_before=before[1],
        kept_after=score(model, task.kept, progress=False).nll,
        core_changed=count_changed(model, copy_weights(base, counted), counted).core,
        core_size=counted.count(),
        steps=steps,
        seconds=round(seconds, 2),
        settings=_settings(method, task, bf16=bf16),
    )


def _settings(method: Method, task: ProtectionTask, *, bf16: bool) -> dict[str, Any]:
    chosen = {name: value for name, value in asdict(method).items() if name != "curve"}
    return {"method": chosen, "task": asdict(task.size), "batch_size": task.batch_size, "bf16": bf16}


def _train(
    base: nn.Module,
    tokenizer: Any,
    task: ProtectionTask,
    shields: Shields,
    method: Method,
    *,
    seed: int,
    bf16: bool,
) -> tuple[nn.Module, int]:
    """A fine-tuned copy, adapters merged, and the number of steps."""
    torch.manual_seed(seed)
    anchored = method.anchor_strength is not None
    with tempfile.TemporaryDirectory() as folder, quiet_transformers():
        trainer = CoreRegionSFTTrainer(
            model=copy.deepcopy(base),
            args=_arguments(folder, task, method, seed=seed, bf16=bf16),
            train_dataset=task.rows(seed),
            processing_class=tokenizer,
            peft_config=_adapter(method, shields, seed=seed),
            core_mask=shields.mask(method.frozen, seed=seed) if method.frozen else None,
            anchor_importance=shields.importance if anchored and method.weighted else None,
            general_dataset=task.general if method.general_data_ratio else None,
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        trained: Any = trainer.model
    return (trained.merge_and_unload() if method.adapter else trained), int(trainer.state.global_step)


def _arguments(folder: str, task: ProtectionTask, method: Method, *, seed: int, bf16: bool) -> CoreRegionSFTConfig:
    return CoreRegionSFTConfig(
        output_dir=folder,
        num_train_epochs=1,
        per_device_train_batch_size=task.batch_size,
        learning_rate=method.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=_WARMUP_STEPS,
        max_grad_norm=1.0,
        optim="adamw_torch_fused",
        max_length=None,
        bf16=bf16,
        use_cpu=not torch.cuda.is_available(),
        activation_checkpointing=False,
        seed=seed,
        report_to="none",
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        protection="freeze" if method.anchor_strength is None else "anchor",
        anchor_strength=method.anchor_strength or 0.0,
        general_data_ratio=method.general_data_ratio,
        general_data_by="tokens",
    )


def _adapter(method: Method, shields: Shields, *, seed: int) -> PeftConfig | None:
    options: dict[str, Any] = {
        "r": RANK,
        "lora_alpha": _ALPHA,
        "target_modules": "all-linear",
        "task_type": "CAUSAL_LM",
    }
    if method.adapter == "lora":
        return LoraConfig(**options)
    if method.adapter == "core":
        return CoreRegionConfig(core_mask=shields.mask("core", seed=seed), **options)
    return None


def _slug(name: str) -> str:
    """A name as a file name."""
    return "".join(letter if letter.isalnum() or letter in ".=" else "-" for letter in name).replace("--", "-")


def _line(run: ProtectionRun) -> str:
    exact = "" if run.target_after.exact_match is None else f", exact {100 * run.target_after.exact_match:.0f} %"
    return (
        f"seed {run.seed} {run.task} | {run.method}: loss {run.target_before.loss:.3f} -> {run.target_after.loss:.3f}{exact}, "
        f"kept perplexities x {math.exp(run.forgotten):.3f}, {run.core_changed:,} of {run.core_size:,} changed, "
        f"{run.steps} steps, {run.seconds:.0f} s"
    )
