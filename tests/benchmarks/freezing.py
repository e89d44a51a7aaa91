"""Full fine-tuning in three ways: plain, with the frozen core, and with the published full-size restore.

    python tests/benchmarks/freezing.py compact 0.01 float32

trains two steps and prints the peak memory of the process, in bytes.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from models import Setting
from process_peak import peak_bytes

from hf_langcore.architecture import Weight, decoder_weights
from hf_langcore.masks import CoreMask
from hf_langcore.training.anchor import Anchor
from hf_langcore.training.freezer import CoreFreezer

WAYS = ("plain", "compact", "published", "anchor")
LARGE = Setting(layers=8, tokens=512)
"""What memory is measured on: the state of training weighs more than activations."""


@dataclass(frozen=True, slots=True)
class Restoring:
    """One model in training, and what is done to it after each step.

    Attributes:
        step: Forward, backward and the fused AdamW, without restoring.
        after: What follows each step; does nothing in plain training.
        nbytes: What `after` keeps.
        parameters: Number of parameters of the model.
    """

    step: Callable[[], None]
    after: Callable[[], None]
    nbytes: int
    parameters: int

    def both(self) -> None:
        """One whole step of training."""
        self.step()
        self.after()

    def share(self, *, repeats: int) -> tuple[float, float]:
        """Median seconds of the step and of what follows it, timed apart: a busy machine disturbs their sum more."""
        steps, afters = [], []
        for _ in range(repeats + 1):
            start = time.perf_counter()
            self.step()
            between = time.perf_counter()
            self.after()
            steps.append(between - start)
            afters.append(time.perf_counter() - between)
        return statistics.median(steps[1:]), statistics.median(afters[1:])


def restoring(way: str, setting: Setting) -> Restoring:
    """A fresh model that is trained in one of the ways.

    Args:
        way: "plain", "compact" (this library), "published" (full-size multiply and add) or "anchor".
        setting: Size, dtype, tokens, and method and fraction of the core.
    """
    model = setting.base()
    weights = decoder_weights(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.1, fused=True)
    ids = setting.batch()

    def step() -> None:
        with torch.autocast(setting.device, dtype=torch.bfloat16, enabled=setting.autocast):
            loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    after, nbytes = _after(way, weights, setting)
    return Restoring(step, after, nbytes, sum(one.numel() for one in model.parameters()))


@lru_cache
def peak(way: str, fraction: float, dtype: torch.dtype) -> float:
    """Peak bytes of a process that trains a larger model."""
    command = [sys.executable, str(Path(__file__)), way, str(fraction), str(dtype).removeprefix("torch.")]
    # Large tensors are given back when they are freed, so that what was needed while the core was found does not count.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return int(done.stdout.split()[-1])


def _after(way: str, weights: dict[str, Weight], setting: Setting) -> tuple[Callable[[], None], int]:
    if way == "plain":
        return lambda: None, 0
    if way == "anchor":
        anchor = Anchor(weights)
        return lambda: anchor.pull(0.01), anchor.nbytes()
    core = _core(weights, setting)
    if way == "compact":
        freezer = CoreFreezer(weights, core)
        return freezer.restore, freezer.nbytes()
    return _published(weights, core)


def _core(weights: dict[str, Weight], setting: Setting) -> CoreMask:
    generator = torch.Generator().manual_seed(0)
    return CoreMask(
        {name: torch.rand(weight.shape, generator=generator) < setting.fraction for name, weight in weights.items()}
    )


def _published(weights: dict[str, Weight], core: CoreMask) -> tuple[Callable[[], None], int]:
    """As in the paper's code: a mask and a copy of every weight, a multiplication and an addition over all of them."""
    kept: list[tuple[Any, torch.Tensor, torch.Tensor]] = []
    for name, weight in weights.items():
        inside = core[name].to(weight.parameter.device)
        kept.append((weight.parameter, ~inside, weight.parameter.detach() * inside))

    def after() -> None:
        with torch.no_grad():
            for parameter, outside, saved in kept:
                parameter.copy_(parameter * outside + saved)

    return after, sum(outside.nbytes + saved.nbytes for _, outside, saved in kept)


def _main() -> None:
    setting = LARGE.but(fraction=float(sys.argv[2]), dtype=getattr(torch, sys.argv[3]))
    running = restoring(sys.argv[1], setting)
    for _ in range(2):
        running.both()
    print(peak_bytes())


if __name__ == "__main__":
    torch.set_num_threads(1)
    _main()
