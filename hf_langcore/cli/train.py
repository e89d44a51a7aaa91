"""`langcore sft`: supervised fine-tuning that protects the core."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hf_langcore.cli import loading
from hf_langcore.cli.training_options import training_config
from hf_langcore.errors import ConfigurationError, CorpusError

if TYPE_CHECKING:
    from hf_langcore.data.rows import Form


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
    loading.require_output(output, folder=True, overwrite=overwrite)
    options = {
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
    }
    from hf_langcore.data.rows import require_chat_template
    from hf_langcore.training import CoreRegionSFTTrainer

    with loading.only_json(as_json=as_json):  # the Trainer prints its log
        args = training_config(options, config, dtype=dtype, core_mask=core_mask)
        adapter = _adapter(args, core_mask, adapter_rank)
        rows, form = _task_rows(dataset, args)
        lm, tokenizer = loading.load_model(model, dtype=dtype, device="cpu", revision=revision)
        if args.chat_template_path is None:
            require_chat_template(tokenizer, form)
        trainer = CoreRegionSFTTrainer(
            model=lm,
            args=args,
            train_dataset=rows,
            processing_class=tokenizer,
            peft_config=adapter,
            core_mask=None if adapter else core_mask,
        )
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


def _adapter(args: Any, core_mask: Path | None, rank: int | None) -> Any:
    """The CORE_REGION adapter of --adapter-rank; the core is its own then, and the trainer freezes none."""
    if rank is None:
        return None
    from hf_langcore.tuner import CoreRegionConfig

    source = core_mask or args.core_mask
    if source is None:
        raise ConfigurationError("--adapter-rank needs --core-mask: the adapter keeps out of that core.")
    args.core_mask = None
    return CoreRegionConfig(core_mask=str(source), r=rank, base_check=args.base_check, task_type="CAUSAL_LM")


def _task_rows(dataset: str, args: Any) -> tuple[Any, Form]:
    """The task rows and their form; SFTTrainer also takes `conversations`, and text in a column that args name.

    Raises:
        CorpusError: There are none, or they have no form that can be trained.
    """
    from hf_langcore.data.rows import form_of
    from hf_langcore.training.sources import load_rows

    rows = load_rows(dataset)
    if not len(rows):
        raise CorpusError(f"--dataset: {dataset!r} has no rows; there is nothing to learn from.")
    if "conversations" in rows.column_names:
        return rows, "messages"
    if args.dataset_text_field != "text" and args.dataset_text_field in rows.column_names:
        return rows, "text"
    return rows, form_of(rows, name=f"--dataset {dataset}")
