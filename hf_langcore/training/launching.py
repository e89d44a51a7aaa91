"""Starting a run in several processes through accelerate, with the configuration files that lie beside this one."""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from pathlib import Path

import torch
import yaml
from accelerate.commands.launch import launch_command, launch_command_parser

from hf_langcore.errors import ConfigurationError, LangCoreError

_CONFIGS = Path(__file__).with_name("accelerate_configs")


class LaunchError(LangCoreError, RuntimeError):
    """A process of a distributed run has failed; its own message stands above."""


def shipped_configs() -> list[str]:
    """Names of the configurations for accelerate that come with this library."""
    return sorted(path.stem for path in _CONFIGS.glob("*.yaml"))


def config_file(name: str) -> Path:
    """The file of a shipped configuration, or a file that is named itself.

    Raises:
        ConfigurationError: There is neither.
    """
    if Path(name).is_file():
        return Path(name)
    shipped = _CONFIGS / f"{name}.yaml"
    if name in shipped_configs():
        return shipped
    near = difflib.get_close_matches(name, shipped_configs(), n=2)
    raise ConfigurationError(
        f"--accelerate-config: {name!r} is neither a file nor one of {', '.join(shipped_configs())}."
        + (f" Did you mean {' or '.join(near)}?" if near else "")
    )


def launch(
    module: str, arguments: Sequence[str], *, config: str, num_processes: int | None = None, port: int | None = None
) -> None:
    """Run `python -m module arguments` in several processes and wait for them.

    Args:
        module: A module that can be run.
        arguments: What each process gets.
        config: Name of a shipped configuration, or a file.
        num_processes: How many, instead of what the configuration says.
        port: TCP port at which the processes meet; a free one if not given and the configuration says so.

    Raises:
        ConfigurationError: The configuration is missing or cannot work on this machine.
        LaunchError: A process has failed.
    """
    path = config_file(config)
    on_cpu = _require_devices(path, num_processes)
    options = ["--config_file", str(path), "--module"]
    if num_processes is not None:
        options += ["--num_processes", str(num_processes)]
    if port is not None:
        options += ["--main_process_port", str(port)]
    if on_cpu:
        os.environ["ACCELERATE_USE_CPU"] = "true"  # accelerate tells its processes only where it starts one
    try:
        launch_command(launch_command_parser().parse_args([*options, module, *arguments]))
    except SystemExit as stop:
        if stop.code:
            raise LaunchError(f"A process of the run ended with code {stop.code}. Its message stands above.") from None
    except Exception as error:
        # ChildFailedError of torch and CalledProcessError of subprocess are long and repeat what stands above.
        raise LaunchError(f"The run in several processes failed ({type(error).__name__}). See above.") from error


def _require_devices(path: Path, num_processes: int | None) -> bool:
    """Refuse what accelerate would accept and silently run in another way; returns whether the run is one on CPUs."""
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        kind, on_cpu = str(settings["distributed_type"]).upper(), bool(settings.get("use_cpu"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise ConfigurationError(
            f"{str(path)!r} is no configuration of accelerate ({type(error).__name__}: {error}). Write one with "
            f"`accelerate config --config_file {path.name}`, or name one of {', '.join(shipped_configs())}."
        ) from error
    if kind == "FSDP" and (on_cpu or not torch.accelerator.is_available()):
        raise ConfigurationError(
            "FSDP on CPUs: accelerate would silently run plain data parallelism (DDP) in its place, with a whole model in "
            "every process. Use --accelerate-config multi_cpu, which says so, or a machine with GPUs."
        )
    processes = int(num_processes or settings.get("num_processes") or 1)
    if not on_cpu and kind in {"MULTI_GPU", "FSDP", "DEEPSPEED"}:
        there = torch.accelerator.device_count() if torch.accelerator.is_available() else 0
        machines = int(settings.get("num_machines") or 1)
        if processes > there * machines:
            raise ConfigurationError(
                f"{processes} processes are asked for, and this machine has {there} GPUs. Set --num-processes to at most "
                f"that, or use --accelerate-config multi_cpu."
            )
    return on_cpu
