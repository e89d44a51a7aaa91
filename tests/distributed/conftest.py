"""The fixture that launches `worker.py` in two processes and collects what each of them reports."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.append(str(Path(__file__).parent))

from launching import PROCESSES, command, start, stop

TIMEOUT = 480
"""Seconds; a launch takes less than a minute on quiet cores."""

Reports = list[dict[str, Any]]


@pytest.fixture
def launch(tmp_path: Path) -> Callable[..., Reports]:
    """Run scenarios of `worker.py` under a strategy; returns the reports of all processes, by scenario."""

    def run(strategy: str, *scenarios: str) -> Reports:
        if not torch.distributed.is_available() or not torch.distributed.is_gloo_available():
            pytest.skip("torch was built without gloo")
        if strategy.startswith("zero"):
            pytest.importorskip("deepspeed", reason="DeepSpeed is not installed")
        log = tmp_path / "log.txt"
        worker = Path(__file__).with_name("worker.py")
        process = start(command(strategy, worker, str(tmp_path), *scenarios), folder=tmp_path, log=log)
        try:
            code = process.wait(timeout=TIMEOUT)
        except subprocess.TimeoutExpired:
            stop(process)
            code = -1
        assert code == 0, f"{'no answer in time' if code < 0 else code}\n{log.read_text(errors='replace')[-8000:]}"
        return [json.loads((tmp_path / f"rank-{rank}.json").read_text()) for rank in range(PROCESSES)]

    return run
