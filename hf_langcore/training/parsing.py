"""The arguments of a training run, by TRL's own parser: a YAML file, and flags that override it.

All fields of `CoreRegionSFTConfig` (and so of SFTConfig and TrainingArguments), of TRL's `ModelConfig`, `ScriptArguments` and
`DatasetMixtureConfig` can stand in the file and on the command line, as with `trl sft`.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, NoReturn, Union, get_args, get_origin, get_type_hints

import torch
from trl import DatasetMixtureConfig, ModelConfig, ScriptArguments, TrlParser

from hf_langcore.errors import ConfigurationError
from hf_langcore.training.config import CoreRegionSFTConfig

_NEAREST = 3


class CommandLineError(ConfigurationError):
    """A flag is unknown or has a wrong value."""


@dataclass
class CoreRegionScriptArguments(ScriptArguments):  # type: ignore[misc]
    """What a run is about, besides how it is trained.

    Attributes:
        eval_dataset: Rows of the task that are not trained on, in the same forms as `dataset_name`.
        adapter_rank: Train a CORE_REGION adapter of this rank (0: dense) that keeps out of the core.
    """

    dataset_name: str | None = field(
        default=None,
        metadata={"help": "Task rows: a file, a folder of save_to_disk, or repo:config:split on the Hub."},
    )
    eval_dataset: str | None = field(
        default=None, metadata={"help": "Rows of the task that are not trained on; same forms as dataset_name."}
    )
    adapter_rank: int | None = field(
        default=None, metadata={"help": "Train a CORE_REGION adapter of this rank (0: dense) instead of the weights."}
    )


@dataclass(frozen=True)
class RunArguments:
    """Everything that a run needs.

    Attributes:
        script: Which rows, and whether an adapter is trained.
        training: How it is trained.
        model: Which model, and how it is loaded.
        mixture: TRL's list of data sets.
    """

    script: CoreRegionScriptArguments
    training: CoreRegionSFTConfig
    model: ModelConfig
    mixture: DatasetMixtureConfig


def parse_run(
    flags: Sequence[str], *, config: str | Path | None = None, defaults: Mapping[str, Any] | None = None
) -> RunArguments:
    """The arguments of a run. Flags win over the file, the file over `defaults`.

    Args:
        flags: Such as `["my-model", "--weight_decay", "0.1", "--packing"]`; dashes and underscores are the same, and
            one value without a flag is the model.
        config: YAML file with any fields. Under `env` it may set environment variables.
        defaults: Field -> value, instead of TRL's.

    Raises:
        CommandLineError: A flag is unknown or has a wrong value.
        ConfigurationError: The file is unreadable, has an unknown field or a wrong value, or fields contradict each other.
    """
    parser = _Parser(
        (CoreRegionScriptArguments, CoreRegionSFTConfig, ModelConfig, DatasetMixtureConfig),
        prog="langcore sft",
        allow_abbrev=False,
        add_help=False,
    )
    parser.set_defaults_with_config(**{**on_this_machine(), **(defaults or {})})
    fields = _yaml(config)
    _set_environment(fields.pop("env", None))
    _require_known(fields, parser.known(), where="--config")
    parser.set_defaults_with_config(**_numbers(fields))
    try:
        *made, rest = parser.parse_args_into_dataclasses(
            [*flags], return_remaining_strings=True, look_for_args_file=False
        )
    except ConfigurationError:
        raise
    except (ValueError, TypeError, ImportError) as error:
        raise ConfigurationError(f"The training options are wrong: {error}") from error
    arguments = RunArguments(*made)
    _take_model(arguments, rest, parser.known())
    return arguments


def on_this_machine() -> dict[str, Any]:
    """TRL switches bf16 and activation checkpointing on; without a GPU both only cost time."""
    has_gpu = torch.cuda.is_available() and os.environ.get("ACCELERATE_USE_CPU", "false").lower() not in {"true", "1"}
    return {"use_cpu": not has_gpu, "bf16": has_gpu, "activation_checkpointing": has_gpu, "report_to": "none"}


class _Parser(TrlParser):  # type: ignore[misc]
    """TRL's parser, with an exception in place of an exit with hundreds of lines of usage."""

    def error(self, message: str) -> NoReturn:
        raise CommandLineError(f"{message[:1].upper()}{message[1:]}.")

    def known(self) -> list[str]:
        """Names of all fields."""
        return [each.name for kind in self.dataclass_types for each in dataclasses.fields(kind) if each.init]


def _take_model(arguments: RunArguments, rest: Sequence[str], known: Iterable[str]) -> None:
    """The value that belongs to no flag is the model; anything else is unknown."""
    flags = [word.split("=")[0] for word in rest if word.startswith("-")]
    _require_known([flag.lstrip("-").replace("-", "_") for flag in flags], known, where="The command line")
    if len(rest) > 1:
        raise CommandLineError(
            f"One model is trained, got {list(rest)}. Every other value needs its --field before it."
        )
    if rest:
        arguments.model.model_name_or_path = rest[0]


def _require_known(names: Iterable[str], known: Iterable[str], *, where: str) -> None:
    known = list(known)
    unknown = [name for name in names if name not in known]
    if unknown:
        near = difflib.get_close_matches(unknown[0], known, n=_NEAREST, cutoff=0.5)
        kind = ConfigurationError if where == "--config" else CommandLineError
        raise kind(
            f"{where}: there is no field {unknown[0]!r}. "
            + (f"Did you mean {', '.join(near)}? " if near else "")
            + "All fields of TRL's SFTConfig, ModelConfig and DatasetMixtureConfig and of CoreRegionSFTConfig are known."
        )


def _numbers(fields: Mapping[str, Any]) -> dict[str, Any]:
    kinds: dict[str, Any] = {}
    for kind in (CoreRegionScriptArguments, ModelConfig, DatasetMixtureConfig, CoreRegionSFTConfig):
        kinds |= get_type_hints(kind)
    return {name: _number(name, value, kinds.get(name)) for name, value in fields.items()}


def _number(name: str, value: Any, kind: Any) -> Any:
    """The value as a number where the field is one: YAML reads 1e-4, without a point, as text."""
    kinds = set(get_args(kind) if get_origin(kind) in {Union, UnionType} else (kind,)) - {NoneType}
    if value is None or not kinds <= {int, float} or type(value) in {int, *kinds}:
        return value
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (ValueError, TypeError):
        number = math.nan
    if not math.isfinite(number) or (float not in kinds and not number.is_integer()):
        wanted = "a number" if float in kinds else "a whole number"
        raise ConfigurationError(f"--config: {name} must be {wanted}, got {value!r}.")
    return number if float in kinds else int(number)


def _set_environment(env: Any) -> None:
    """As TrlParser does with the file's `env`."""
    if env is None:
        return
    if not isinstance(env, dict):
        raise ConfigurationError(f"--config: env must map names of environment variables to values, got {env!r}.")
    os.environ.update({str(name): str(value) for name, value in env.items()})


def _yaml(config: str | Path | None) -> dict[str, Any]:
    if config is None:
        return {}
    import yaml

    try:
        fields = yaml.safe_load(Path(config).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigurationError(f"--config: {str(config)!r} is no readable YAML file ({error}).") from error
    if not isinstance(fields, dict):
        raise ConfigurationError(
            f"--config: {str(config)!r} must map field names to values, such as `max_steps: 100`."
        )
    return fields
