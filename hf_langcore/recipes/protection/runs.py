"""What is learned against what is kept: fine-tuning under every protection, with controls, over several seeds."""

from __future__ import annotations

import copy
import json
import math
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig
from torch import nn
from transformers import PrinterCallback

from hf_langcore.binding import weights_digest
from hf_langcore.errors import InputError
from hf_langcore.evaluation import score
from hf_langcore.files import replace_json
from hf_langcore.recipes.bits import copy_weights, count_changed
from hf_langcore.recipes.protection.adapters import adapter_config, applied, described, finished, virtual_tokens
from hf_langcore.recipes.protection.methods import Method
from hf_langcore.recipes.protection.record import ProtectionRun, as_json_values, read_run
from hf_langcore.recipes.protection.shields import Shields
from hf_langcore.recipes.protection.tasks import ProtectionTask, Target
from hf_langcore.recipes.quiet import quiet_transformers
from hf_langcore.training import CoreRegionSFTConfig, CoreRegionSFTTrainer

_WARMUP_STEPS = 5


@dataclass(frozen=True, slots=True)
class _Before:
    target: Target
    choice: float
    kept: dict[str, float]


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

    Before anything is trained, each adapter is applied once, so that one that the model does not suit is refused at once.

    Args:
        model: A causal LM in float32; it is left as it is.
        tokenizer: Its tokenizer.
        tasks: What is learned, with what is frozen and how strongly anchors pull.
        methods: How.
        output: Folder of the results.
        seeds: Of data, order, adapters and random masks.
        bf16: Train in mixed precision; weights stay float32.
        tell: Receives one line per run.

    Raises:
        ConfigurationError: An adapter is none of PEFT's, or cannot be applied to the model.
        InputError: Two methods share a name, or virtual tokens and blocks are longer than the context.
    """
    folder, runs, digest = Path(output), [], weights_digest(model)
    befores = {task.name: _before(model, task) for task, _ in tasks}
    cores = {task.name: shields.mask("core", seed=0).digest() for task, shields in tasks}
    for task, shields in tasks:
        _check(model, task, shields, methods)
    for seed in seeds:
        for task, shields in tasks:
            for method in methods:
                path = folder / task.name / f"seed-{seed}" / f"{_slug(method.name)}.json"
                known = {"model": digest, "core": cores[task.name], "shields": asdict(shields.size), "bf16": bf16}
                settings = _settings(method, task, known)
                run = read_run(path)
                if run is None or run.settings != settings:
                    run = _run(
                        model, tokenizer, task, shields, method, befores[task.name], settings=settings, seed=seed
                    )
                    replace_json(path, as_json_values(asdict(run)))
                    tell(_line(run))
                runs.append(run)
    return runs


def _before(model: nn.Module, task: ProtectionTask) -> _Before:
    return _Before(task.target(model), task.choice(model), score(model, task.kept, progress=False).nll)


def _check(model: nn.Module, task: ProtectionTask, shields: Shields, methods: Sequence[Method]) -> None:
    """Refuse adapters that cannot be applied, before hours of training: each is applied once."""
    names = [_slug(method.name) for method in methods]
    if len(set(names)) < len(names) or not names:
        raise InputError(f"Methods need names that differ in letters or digits, got {[one.name for one in methods]}.")
    context = getattr(model.config, "max_position_embeddings", None) or math.inf
    tried = []
    for method in methods:
        if method.adapter is not None and described(method.adapter) not in tried:
            tried.append(described(method.adapter))
            config = adapter_config(method.adapter, lambda: shields.mask("core", seed=0))
            needed = task.size.block_size + virtual_tokens(config)
            if needed > context:
                raise InputError(
                    f"{method.name!r} needs {needed} positions, {virtual_tokens(config)} of them for its virtual tokens, and the "
                    f"model has {context}. Take fewer virtual tokens or shorter blocks."
                )
            applied(copy.deepcopy(model), config, name=method.name)


def _run(
    base: nn.Module,
    tokenizer: Any,
    task: ProtectionTask,
    shields: Shields,
    method: Method,
    before: _Before,
    *,
    settings: dict[str, Any],
    seed: int,
) -> ProtectionRun:
    counted = shields.mask(method.frozen or "core", seed=seed)
    start = time.perf_counter()
    model, trained, steps = _train(base, tokenizer, task, shields, method, seed=seed, bf16=settings["bf16"])
    seconds = time.perf_counter() - start
    return ProtectionRun(
        task=task.name,
        method=method.name,
        seed=seed,
        target_before=before.target,
        target_after=_or_infinite(task.target(model)),
        choice_gain=before.choice - _not_nan(task.choice(model)),
        kept_before=before.kept,
        kept_after=score(model, task.kept, on_nonfinite="inf", progress=False).nll,
        core_changed=count_changed(model, copy_weights(base, counted), counted).core,
        core_size=counted.count(),
        trained=trained,
        steps=steps,
        seconds=round(seconds, 2),
        settings=settings,
    )


def _not_nan(loss: float) -> float:
    return math.inf if math.isnan(loss) else loss


def _or_infinite(target: Target) -> Target:
    return replace(target, loss=_not_nan(target.loss))


def _settings(method: Method, task: ProtectionTask, known: Mapping[str, Any]) -> dict[str, Any]:
    """As JSON gives them back, so that those of a kept run are equal."""
    chosen = {one.name: getattr(method, one.name) for one in fields(method) if one.name not in {"curve", "adapter"}}
    whole = {
        **known,
        "method": {**chosen, "adapter": described(method.adapter)},
        "task": asdict(task.size),
        "texts": task.digest,
        "batch_size": task.batch_size,
    }
    settings: dict[str, Any] = json.loads(json.dumps(whole))
    return settings


def _train(
    base: nn.Module,
    tokenizer: Any,
    task: ProtectionTask,
    shields: Shields,
    method: Method,
    *,
    seed: int,
    bf16: bool,
) -> tuple[nn.Module, int, int]:
    """A fine-tuned copy, merged where that can be done, and the numbers of parameters and of steps."""
    torch.manual_seed(seed)
    frozen = shields.mask(method.frozen, seed=seed) if method.frozen else None
    anchored = method.anchor_strength is not None
    with tempfile.TemporaryDirectory() as folder, quiet_transformers():
        trainer = CoreRegionSFTTrainer(
            model=copy.deepcopy(base),
            args=_arguments(folder, task, method, seed=seed, bf16=bf16),
            train_dataset=task.rows(seed),
            processing_class=tokenizer,
            peft_config=_adapter(method, shields, seed=seed),
            core_mask=frozen,
            anchor_importance=shields.importance if anchored and method.weighted else None,
            general_dataset=task.general if method.general_data_ratio else None,
        )
        trainer.remove_callback(PrinterCallback)
        parameters = sum(one.numel() for one in trainer.model.parameters() if one.requires_grad)
        trainer.train()
        # Mixed precision stays in the model's forward otherwise, and what is measured is the weights' own precision.
        trained = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)
    return finished(trained), parameters - (frozen.count() if frozen else 0), int(trainer.state.global_step)


def _arguments(folder: str, task: ProtectionTask, method: Method, *, seed: int, bf16: bool) -> CoreRegionSFTConfig:
    return CoreRegionSFTConfig(
        output_dir=folder,
        num_train_epochs=task.epochs,
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
    if method.adapter is None:
        return None
    return adapter_config(method.adapter, lambda: shields.mask("core", seed=seed))


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
