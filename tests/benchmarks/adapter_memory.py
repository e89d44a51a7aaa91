"""Memory of a training step with an adapter, each in a fresh process; run by `run.py`.

    python tests/benchmarks/adapter_memory.py core_region

prints the peak of the process, in bytes.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from pathlib import Path

import torch
from models import Setting, silence_upstream, step_of
from process_peak import peak_bytes

SETTING = Setting(layers=8)
_REPEATS = 2


def extra_bytes_per_parameter() -> tuple[float, float]:
    """Of CORE_REGION over LoRA, for each base parameter: (held between steps, peak of the process)."""
    model = SETTING.core_region()
    step_of(model, SETTING.but(tokens=512))()  # the first step finds the core's entries
    base = sum(weight.numel() for name, weight in model.named_parameters() if "core_region" not in name)
    held = sum(_held(module) for module in model.modules() if hasattr(module, "core_region_mask"))
    peaks = {which: statistics.median(_peak(which) for _ in range(_REPEATS)) for which in ("core_region", "lora")}
    return held / base, (peaks["core_region"] - peaks["lora"]) / base


def _held(layer: object) -> int:
    """Bytes of the packed mask and of the entries found in it."""
    masks = layer.core_region_mask  # type: ignore[attr-defined]
    tensors = [masks[name] for name in masks.keys()]  # noqa: SIM118 PEFT's BufferDict iterates differently
    _, core = layer._core_in_use  # type: ignore[attr-defined]
    if core.index is not None:
        tensors += [core.index.flat, core.index.row_starts]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _peak(which: str) -> int:
    command = [sys.executable, str(Path(__file__)), which]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def _main() -> None:
    silence_upstream()
    step = step_of(getattr(SETTING, sys.argv[1])(), SETTING)
    for _ in range(2):
        step()
    print(peak_bytes())


if __name__ == "__main__":
    torch.set_num_threads(1)
    _main()
