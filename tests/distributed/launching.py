"""Starts two processes on CPUs with gloo, through `accelerate launch` and the configuration files of the package."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import hf_langcore

PROCESSES = 2
CONFIGS = Path(hf_langcore.__file__).parent / "training" / "accelerate_configs"
CONFIG_OF = {"ddp": "multi_cpu", "fsdp2": "fsdp2", "zero2": "zero2", "zero3": "zero3"}


def command(strategy: str, script: Path, *arguments: str) -> list[str]:
    """The command line of a launch."""
    options = ["--num_processes", str(PROCESSES), "--mixed_precision", "no", "--main_process_port", "0"]
    config = ["--config_file", str(CONFIGS / f"{CONFIG_OF[strategy]}.yaml")]
    return [sys.executable, "-m", "accelerate.commands.launch", *config, *options, str(script), *arguments]


def start(arguments: list[str], *, folder: Path, log: Path) -> subprocess.Popen[bytes]:
    """Start a command in its own process group, on CPUs, with one thread a process; its output goes to `log`."""
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "CI": "1",  # TRL sends no telemetry
        "PYTHONWARNINGS": "ignore",
        "CUDA_VISIBLE_DEVICES": "",
        "DS_ACCELERATOR": "cpu",
    }
    with log.open("wb") as file:
        return subprocess.Popen(
            arguments, cwd=folder, env=environment, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )


def stop(process: subprocess.Popen[bytes]) -> None:
    """End everything that `start` began; nothing of it survives a timeout."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
