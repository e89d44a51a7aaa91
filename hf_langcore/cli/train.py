"""`langcore sft`: supervised fine-tuning that protects the core."""

from __future__ import annotations

import contextlib
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from hf_langcore.cli import loading
from hf_langcore.errors import ConfigurationError

# What a beginner gets who says nothing. A YAML file and flags override it.
_DEFAULTS = {
    "output_dir": "",  # to be named
    "num_train_epochs": 1.0,
    "learning_rate": 2e-5,
    "per_device_train_batch_size": 8,
    "max_length": 1024,
    "seed": 0,
}
_LAUNCH_ONLY = ("--accelerate-config", "--num-processes")


def sft(
    context: typer.Context,
    model: Annotated[str | None, typer.Argument(help="Folder or Hub id; model_name_or_path in the file.")] = None,
    dataset: Annotated[
        str | None, typer.Option(help="Task rows: a file, a folder of save_to_disk, or repo:config:split on the Hub.")
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder for the trained model.")] = None,
    core_mask: Annotated[
        str | None,
        typer.Option(help="Folder or Hub id of a core mask: its weights stay unchanged while all others are trained."),
    ] = None,
    core_mask_revision: loading.MaskRevision = None,
    adapter_rank: Annotated[
        int | None, typer.Option(min=0, help="Train a CORE_REGION adapter of this rank instead (0: dense).")
    ] = None,
    general: Annotated[
        list[str] | None,
        typer.Option(help="General rows to mix in; same forms as --dataset. Several by repeating it."),
    ] = None,
    ratio: Annotated[float | None, typer.Option(min=0, help="Times as much general data as task data. [5]")] = None,
    ratio_by: Annotated[Literal["rows", "tokens"] | None, typer.Option(help="What --ratio counts. [rows]")] = None,
    sweep: Annotated[
        str | None, typer.Option(help="Ratios such as 0,1,5,10: one run each, and acquisition against retention.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="With --sweep: folder of texts per language that tell what is left; or 'mini'.")
    ] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="With --sweep: of --data, per language.")] = None,
    eval_dataset: Annotated[str | None, typer.Option(help="Task rows that are not trained on.")] = None,
    epochs: Annotated[float | None, typer.Option(min=0, help="Passes over the task rows. [1]")] = None,
    max_steps: Annotated[int | None, typer.Option(help="Optimizer steps instead of epochs.")] = None,
    learning_rate: Annotated[float | None, typer.Option(min=0, help="[2e-5]")] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Rows per device and step; fewer at a time when memory is full. [8]")
    ] = None,
    max_length: Annotated[int | None, typer.Option(min=2, help="Tokens per row; longer rows are cut. [1024]")] = None,
    seed: Annotated[int | None, typer.Option(help="[0]")] = None,
    config: Annotated[
        Path | None, typer.Option(help="YAML file with any fields of SFTConfig, ModelConfig and CoreRegionSFTConfig.")
    ] = None,
    accelerate_config: Annotated[
        str | None,
        typer.Option(
            help="Several processes: single_gpu, multi_gpu, multi_cpu, fsdp2, zero2, zero3, or a file of accelerate."
        ),
    ] = None,
    num_processes: Annotated[int | None, typer.Option(min=1, help="With --accelerate-config.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Train into a folder that is not empty.")] = False,
    base_check: Annotated[
        Literal["error", "warn", "off"] | None, typer.Option(help="When the mask was found on other weights. [error]")
    ] = None,
    dtype: Annotated[
        Literal["auto", "float32", "bfloat16", "float16"] | None, typer.Option(help="Of the weights. [float32]")
    ] = None,
    revision: loading.Revision = None,
    as_json: loading.AsJson = False,
    quiet: loading.Quiet = False,
) -> None:
    """Fine-tune a model on task rows, with the core frozen and general data mixed in.

    Every field of TRL's SFTConfig and ModelConfig and of CoreRegionSFTConfig can be given as a flag too, such as
    `--weight_decay 0.1`, and in a YAML file. Flags win over the file.

    Examples:
    - `langcore sft my-model --dataset task.jsonl --core-mask my-core --general general.jsonl -o tuned`
    - `langcore sft --config run.yaml --accelerate-config fsdp2 --num-processes 4`
    - `langcore sft my-model --dataset task.jsonl --core-mask my-core --general general.jsonl --sweep 0,1,5 -o sweep`
    """
    flags = _flags(
        {
            "dataset_name": dataset,
            "output_dir": output,
            "core_mask": core_mask,
            "core_mask_revision": core_mask_revision,
            "adapter_rank": adapter_rank,
            "general_dataset": general or None,
            "general_data_ratio": ratio,
            "general_data_by": ratio_by,
            "eval_dataset": eval_dataset,
            "num_train_epochs": epochs,
            "max_steps": max_steps,
            "learning_rate": learning_rate,
            "per_device_train_batch_size": batch_size,
            "max_length": max_length,
            "seed": seed,
            "base_check": base_check,
            "dtype": dtype,
            "model_revision": revision,
        }
    )
    words = [*([model] if model is not None else []), *context.args]
    if accelerate_config is None and num_processes is not None:
        raise typer.BadParameter("needs --accelerate-config", param_hint="--num-processes")
    ratios = _ratios(sweep, data=data, max_tokens=max_tokens, accelerate_config=accelerate_config)
    with loading.only_json(as_json=as_json):  # the Trainer prints its log
        arguments = _parsed([*words, *flags], config)
        _require_output(arguments, overwrite=overwrite or _goes_on(arguments, ratios))
        if accelerate_config is not None:
            _launch(accelerate_config, num_processes, as_json=as_json)
            return
        if ratios is not None:
            from hf_langcore.cli.sweeping import run_sweep

            facts, text = run_sweep(
                arguments,
                ratios,
                data=data,
                max_tokens=max_tokens,
                make_adapter=_adapter,
                overwrite=overwrite,
                quiet=quiet,
            )
        else:
            facts, text = _train(arguments)
    if _is_main_process():
        loading.show(facts, as_json=as_json, rendered=text)


def _flags(values: dict[str, Any]) -> list[str]:
    """The options that were given as flags of TRL's parser."""
    words: list[str] = []
    for name, value in values.items():
        if value is not None:
            words += [f"--{name}", *map(str, value if isinstance(value, list) else [value])]
    return words


def _ratios(
    sweep: str | None, *, data: str | None, max_tokens: int | None, accelerate_config: str | None
) -> list[float] | None:
    if sweep is None:
        for option, value in (("--data", data), ("--max-tokens", max_tokens)):
            if value is not None:
                raise typer.BadParameter("goes with --sweep", param_hint=option)
        return None
    if accelerate_config is not None:
        raise typer.BadParameter("runs in one process, without --accelerate-config", param_hint="--sweep")
    return loading.numbers(sweep, "--sweep")


def _goes_on(arguments: Any, ratios: list[float] | None) -> bool:
    """Whether the folder holds a sweep that this one may go on with; its settings are compared later."""
    return ratios is not None and (Path(arguments.training.output_dir) / "sweep.json").is_file()


def _parsed(flags: list[str], config: Path | None) -> Any:
    from hf_langcore.training.parsing import CommandLineError, parse_run

    try:
        return parse_run(flags, config=config, defaults=_DEFAULTS)
    except CommandLineError as error:
        raise typer.BadParameter(str(error)) from error


def _require_output(arguments: Any, *, overwrite: bool) -> None:
    training = arguments.training
    if not training.output_dir:
        raise typer.BadParameter("name a folder, here or as output_dir in the file", param_hint="--output")
    resumes = training.resume_from_checkpoint is not None
    if _is_main_process():  # the others may come when the first has begun to write
        loading.require_output(Path(training.output_dir), folder=True, overwrite=overwrite or resumes)


def _launch(config: str, num_processes: int | None, *, as_json: bool) -> None:
    """This same command in several processes, without the options that start them."""
    from hf_langcore.training.launching import launch

    words = sys.argv[1:]
    for option in _LAUNCH_ONLY:
        words = _without(words, option)
    output = contextlib.redirect_stdout(sys.__stdout__) if as_json else contextlib.nullcontext()
    with output:
        launch("hf_langcore", words, config=config, num_processes=num_processes)


def _without(words: list[str], option: str) -> list[str]:
    """Command-line words without an option and its value, in both ways of writing it."""
    kept: list[str] = []
    skip = False
    for word in words:
        if not skip and word != option and not word.startswith(f"{option}="):
            kept.append(word)
        skip = not skip and word == option
    return kept


def _train(arguments: Any) -> tuple[dict[str, Any], str]:
    """Train and save; what came out, for machines and for people."""
    from hf_langcore.training.job import make_trainer
    from hf_langcore.training.records import summary_of

    training = arguments.training
    trainer = make_trainer(arguments, peft_config=_adapter(arguments))
    resume = training.resume_from_checkpoint
    metrics = trainer.train(resume_from_checkpoint=True if str(resume).lower() == "true" else resume).metrics
    trainer.save_model()
    if training.push_to_hub:
        trainer.push_to_hub()
    mixture = trainer.mixture_report()
    consumed, sentinel = trainer.mixture_record(), trainer.sentinel
    core = trainer.protection.core_mask if trainer.protection.freeze is not None else None
    facts = {
        "output": str(training.output_dir),
        "metrics": metrics,
        "mixture": asdict(mixture) if mixture else None,  # the plan of an epoch
        "consumed": None if consumed is None else consumed["total"],
        # Compared bit by bit when training ended; a difference is an error.
        "core": None if core is None else {"weights": core.count(), "changed": 0},
        "sentinel": None
        if sentinel is None
        else {"breaches": [str(one) for one in sentinel.breaches], "stopped_because": sentinel.stopped_because},
        "batch": {
            "rows_per_device": training.per_device_train_batch_size,
            "accumulation": training.gradient_accumulation_steps,
        },
    }
    text = f"trained in {metrics['train_runtime']:.0f} s, loss {metrics['train_loss']:.3f}; saved in {training.output_dir}"
    if core is not None:
        text += f"\nthe core held: {core.count():,} core weights, 0 changed"
    if sentinel is not None and sentinel.breaches:
        text += f"\nthe sentinel saw {len(sentinel.breaches)} breaches, the first: {sentinel.breaches[0]}"
        text += f"\ntraining was stopped: {sentinel.stopped_because}" if sentinel.stopped_because else ""
    if consumed is not None:
        text += f"\n{summary_of(consumed)}"
    return facts, text


def _adapter(arguments: Any) -> Any:
    """The CORE_REGION adapter of --adapter-rank; the core is its own then, and the trainer freezes none."""
    rank, training = arguments.script.adapter_rank, arguments.training
    if rank is None:
        return None
    from hf_langcore.tuner import CoreRegionConfig

    if arguments.model.use_peft:
        raise ConfigurationError("--adapter-rank trains a CORE_REGION adapter and use_peft a LoRA. Give one of them.")
    if training.core_mask is None:
        raise ConfigurationError("--adapter-rank needs --core-mask: the adapter keeps out of that core.")
    source, training.core_mask = training.core_mask, None
    commit, training.core_mask_revision = training.core_mask_revision, None
    return CoreRegionConfig(
        core_mask=source,
        core_mask_revision=commit,
        r=rank,
        base_check=training.base_check,
        task_type="CAUSAL_LM",
    )


def _is_main_process() -> bool:
    return os.environ.get("RANK", "0") == "0"
