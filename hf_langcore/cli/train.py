"""`langcore sft`: supervised fine-tuning that protects the core."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from hf_langcore.cli import loading
from hf_langcore.errors import ArtifactExistsError, ConfigurationError


def sft(
    model: loading.Model,
    dataset: Annotated[
        str, typer.Option(help="Task rows: a file, a folder of save_to_disk, or repo:config:split on the Hub.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the trained model.")],
    core_mask: Annotated[
        Path | None, typer.Option(help="Core mask: its weights stay unchanged while all others are trained.")
    ] = None,
    adapter_rank: Annotated[
        int | None, typer.Option(min=0, help="Train a CORE_REGION adapter of this rank instead (0: dense).")
    ] = None,
    general: Annotated[str | None, typer.Option(help="General rows to mix in; same forms as --dataset.")] = None,
    ratio: Annotated[float, typer.Option(min=0, help="Times as much general data as task data.")] = 5.0,
    epochs: Annotated[float, typer.Option(min=0, help="Passes over the task rows.")] = 1.0,
    max_steps: Annotated[int, typer.Option(help="Optimizer steps instead of epochs; -1 is off.")] = -1,
    learning_rate: Annotated[float, typer.Option(min=0)] = 2e-5,
    batch_size: Annotated[int, typer.Option(min=1, help="Rows per device and step.")] = 8,
    max_length: Annotated[int, typer.Option(min=2, help="Tokens per row; longer rows are cut.")] = 1024,
    seed: Annotated[int, typer.Option()] = 0,
    config: Annotated[
        Path | None, typer.Option(help="YAML file with any fields of CoreRegionSFTConfig; they win over options.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Train into a folder that is not empty.")] = False,
    base_check: loading.BaseCheck = "error",
    dtype: loading.Dtype = "float32",
    revision: loading.Revision = None,
    as_json: loading.AsJson = False,
) -> None:
    """Fine-tune a model on task rows, with the core frozen and general data mixed in.

    Example: `langcore sft my-model --dataset task.jsonl --core-mask my-core --general general.jsonl -o tuned`
    """
    if output.exists() and not overwrite and (not output.is_dir() or any(output.iterdir())):
        raise ArtifactExistsError(f"{str(output)!r} exists and is not empty. Name a new folder or pass --overwrite.")
    fields = {
        "output_dir": str(output),
        "num_train_epochs": epochs,
        "max_steps": max_steps,
        "learning_rate": learning_rate,
        "per_device_train_batch_size": batch_size,
        "max_length": max_length,
        "seed": seed,
        "general_dataset": general,
        "general_data_ratio": ratio,
        "base_check": base_check,
        "report_to": "none",
        **_on_this_machine(dtype),
        **_yaml(config),
    }
    lm, tokenizer = loading.load_model(model, dtype=dtype, device="cpu", revision=revision)
    trainer = _trainer(lm, tokenizer, fields, dataset, core_mask, adapter_rank)
    metrics = trainer.train().metrics
    trainer.save_model()
    tokenizer.save_pretrained(output)
    mixture = trainer.mixture_report()
    facts = {"output": str(output), "metrics": metrics, "mixture": asdict(mixture) if mixture else None}
    text = f"trained in {metrics['train_runtime']:.0f} s, loss {metrics['train_loss']:.3f}; saved in {output}"
    if mixture:
        text += (
            f"\neach epoch: {mixture.task_rows:,} task rows ({mixture.task_tokens:,} tokens) and "
            f"{mixture.general_rows:,} general rows ({mixture.general_tokens:,} tokens)"
        )
    loading.show(facts, as_json=as_json, rendered=text)


def _trainer(
    lm: Any, tokenizer: Any, fields: dict[str, Any], dataset: str, core_mask: Path | None, adapter_rank: int | None
) -> Any:
    from transformers import HfArgumentParser

    from hf_langcore.training import CoreRegionSFTConfig, CoreRegionSFTTrainer
    from hf_langcore.training.sources import load_rows

    try:
        (args,) = HfArgumentParser(CoreRegionSFTConfig).parse_dict(fields)
    except (ValueError, TypeError) as error:
        raise ConfigurationError(f"The training options are wrong: {error}") from error
    adapter = None
    if adapter_rank is not None:
        from hf_langcore.tuner import CoreRegionConfig

        source = core_mask or args.core_mask
        if source is None:
            raise ConfigurationError("--adapter-rank needs --core-mask: the adapter keeps out of that core.")
        adapter = CoreRegionConfig(core_mask=str(source), r=adapter_rank, task_type="CAUSAL_LM")
        args.core_mask = None
    return CoreRegionSFTTrainer(
        model=lm,
        args=args,
        train_dataset=load_rows(dataset),
        processing_class=tokenizer,
        peft_config=adapter,
        core_mask=None if adapter else core_mask,
    )


def _on_this_machine(dtype: str) -> dict[str, Any]:
    """TRL switches bf16 and activation checkpointing on; without a GPU both only cost time."""
    import torch

    has_gpu = torch.cuda.is_available()
    return {"use_cpu": not has_gpu, "bf16": has_gpu and dtype != "float16", "activation_checkpointing": has_gpu}


def _yaml(config: Path | None) -> dict[str, Any]:
    if config is None:
        return {}
    import yaml

    try:
        fields = yaml.safe_load(config.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ConfigurationError(f"--config: {str(config)!r} is no readable YAML file ({error}).") from error
    if not isinstance(fields, dict):
        raise ConfigurationError(
            f"--config: {str(config)!r} must map field names to values, such as `max_steps: 100`."
        )
    return fields
