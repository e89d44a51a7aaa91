"""A training run from its parsed arguments: rows, model, tokenizer and trainer."""

from __future__ import annotations

import os
from typing import Any

from datasets import load_dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import get_dataset, get_peft_config, get_quantization_config

from hf_langcore.data.rows import Form, Rows, form_of, require_chat_template
from hf_langcore.data.sources import load_rows
from hf_langcore.errors import ConfigurationError, CorpusError, InputError, LangCoreError
from hf_langcore.training.parsing import RunArguments
from hf_langcore.training.trainer import CoreRegionSFTTrainer


def make_trainer(
    arguments: RunArguments, *, peft_config: Any = None, rows: Rows | None = None, eval_rows: Rows | None = None
) -> CoreRegionSFTTrainer:
    """The trainer of a run, with model and rows loaded.

    Args:
        arguments: As `parse_run` returns them.
        peft_config: An adapter; that of `use_peft` and its fields if None.
        rows: Task rows; those that the arguments name if None.
        eval_rows: Rows that are not trained on, likewise.

    Raises:
        ConfigurationError: Options contradict each other, or one that is needed is missing.
        CorpusError: There are no rows, or they have no form that can be trained.
        InputError: The model cannot be loaded.
    """
    require_real_sharding(arguments.training)
    peft_config = peft_config or get_peft_config(arguments.model)
    if rows is None:
        rows, eval_rows = task_rows(arguments)
    form = _form(rows, arguments)
    model, tokenizer = load_model(arguments)
    if arguments.training.chat_template_path is None:
        require_chat_template(tokenizer, form)
    arguments.training.model_init_kwargs = None  # they have been used
    return CoreRegionSFTTrainer(
        model=model,
        args=arguments.training,
        train_dataset=rows,
        eval_dataset=eval_rows,
        processing_class=tokenizer,
        peft_config=peft_config,
    )


def task_rows(arguments: RunArguments) -> tuple[Rows, Rows | None]:
    """The rows to train on, and those to evaluate on where the arguments name some.

    Raises:
        ConfigurationError: No rows are named.
        CorpusError: They cannot be read, or there are none.
    """
    script, mixture = arguments.script, arguments.mixture
    if script.dataset_name and mixture.datasets:
        raise ConfigurationError("dataset_name (--dataset) and datasets both name the task rows. Give one of them.")
    if not script.dataset_name and not mixture.datasets:
        raise ConfigurationError(
            "No task rows are named. Pass --dataset (a file, a folder of save_to_disk, or repo:config:split), or set "
            "dataset_name or datasets in the YAML file."
        )
    rows, eval_rows = _mixture(arguments) if mixture.datasets else _named(arguments)
    if script.eval_dataset:
        eval_rows = load_rows(script.eval_dataset)
    if hasattr(rows, "__len__") and not len(rows):
        raise CorpusError(
            f"{script.dataset_name or 'datasets'!r} has no rows; there is nothing to learn from. Name rows to train on."
        )
    return rows, eval_rows


def load_model(arguments: RunArguments) -> tuple[Any, Any]:
    """The model and its tokenizer, as TRL's ModelConfig describes them.

    Raises:
        ConfigurationError: No model is named.
        InputError: transformers cannot load it; its own message is part of the text.
    """
    model = arguments.model
    name = model.model_name_or_path
    if not name:
        raise ConfigurationError("No model is named. Pass it first, or set model_name_or_path in the YAML file.")
    trusted = {"revision": model.model_revision, "trust_remote_code": arguments.training.trust_remote_code}
    options = {"dtype": model.dtype, "attn_implementation": model.attn_implementation, **trusted}
    quantization = get_quantization_config(model)
    if quantization is not None:
        options["quantization_config"] = quantization
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, **trusted)
        loaded = AutoModelForCausalLM.from_pretrained(
            name, **{**options, **(arguments.training.model_init_kwargs or {})}
        )
    except LangCoreError:
        raise
    except (OSError, ValueError, ImportError) as error:
        raise InputError(
            f"Cannot load the model {name!r}: {error} Pass a folder written by save_pretrained (model and tokenizer), or a "
            "Hub id."
        ) from error
    return loaded, tokenizer


def require_real_sharding(args: Any) -> None:
    """Refuse FSDP on CPUs, where accelerate silently runs plain data parallelism instead.

    Raises:
        ConfigurationError: FSDP was asked for, and there is no accelerator.
    """
    asked = os.environ.get("ACCELERATE_USE_FSDP", "false").lower() in {"true", "1"} or bool(args.fsdp)
    if asked and args.device.type == "cpu":
        raise ConfigurationError(
            "FSDP was asked for on a CPU, where accelerate silently runs plain data parallelism (DDP) in its place, with a "
            "whole model in every process. Use the multi_cpu configuration, which says so, or a machine with GPUs."
        )


def _named(arguments: RunArguments) -> tuple[Rows, Rows | None]:
    """What `dataset_name` names; with TRL's own options about it as `trl sft` reads it."""
    script = arguments.script
    wants_evaluation = arguments.training.eval_strategy != "no" and not script.eval_dataset
    is_plain = script.dataset_config is None and not script.dataset_streaming and script.dataset_train_split == "train"
    if is_plain and not wants_evaluation:
        return load_rows(script.dataset_name), None
    try:
        splits = load_dataset(script.dataset_name, name=script.dataset_config, streaming=script.dataset_streaming)
        return splits[script.dataset_train_split], splits[script.dataset_test_split] if wants_evaluation else None
    except Exception as error:
        hint = "An evaluation (eval_strategy) needs rows: name them with --eval-dataset." if wants_evaluation else ""
        raise CorpusError(
            f"The splits of {script.dataset_name!r} cannot be read ({type(error).__name__}: {error}). {hint}"
        ) from error


def _mixture(arguments: RunArguments) -> tuple[Rows, Rows | None]:
    try:
        splits = get_dataset(arguments.mixture)
    except Exception as error:
        raise CorpusError(f"The rows of `datasets` cannot be read: {error}") from error
    return splits["train"], splits.get("test")


def _form(rows: Rows, arguments: RunArguments) -> Form:
    """SFTTrainer also takes `conversations`, and text in a column that args name."""
    columns = rows.column_names or []
    text = arguments.training.dataset_text_field
    if "conversations" in columns:
        return "messages"
    if text != "text" and text in columns:
        return "text"
    return form_of(rows, name=str(arguments.script.dataset_name or "datasets"))
