"""One of the processes of a launch: trains cells of one distribution and appends what it saw to a file.

python cells.py DISTRIBUTION FOLDER [CELL ...]
"""

from __future__ import annotations

import gc
import json
import os
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

sys.path.append(str(Path(__file__).parents[1] / "distributed"))

from counting import count_changed
from optimizers import CHECK, OPTIMIZERS, WEIGHT_DECAY, plain_sgd
from strategies import enable_fp16_on_cpu, force_fsdp2_on_cpu, strategy_of
from tiny import build, copy_of, core_of, trainer_of
from transformers import TrainerCallback
from transformers.utils import logging

from hf_langcore import CoreMask
from hf_langcore.architecture import bare_weights
from hf_langcore.training import CoreFreezeCallback

STEPS = 4
PRECISIONS = {
    "fp32": (torch.float32, {}),
    "bf16 mixed": (torch.float32, {"bf16": True}),
    "bf16 weights": (torch.bfloat16, {}),
    "fp16 mixed": (torch.float32, {"fp16": True}),
}
DISTRIBUTIONS = {"1 process": "whole", "DDP": "whole", "FSDP2": "fsdp2", "ZeRO-2": "zero2", "ZeRO-3": "zero3"}
WAYS = ("freeze", "masking")


@dataclass(frozen=True)
class Cell:
    """One training of the matrix."""

    distribution: str
    precision: str
    optimizer: str
    way: str

    @property
    def key(self) -> str:
        return f"{self.distribution} | {self.precision} | {self.optimizer} | {self.way}"


def cells_of(distribution: str) -> list[Cell]:
    """All cells of a distribution, in the order in which they run."""
    cells = [
        Cell(distribution, precision, optimizer, way)
        for precision in PRECISIONS
        for optimizer in OPTIMIZERS
        for way in WAYS
    ]
    return [Cell(distribution, "fp32", CHECK, "masking"), *cells]


class MaskGradients(TrainerCallback):
    """The control: gradients of the core are zero, and nothing is written back."""

    def __init__(self, model: nn.Module, core_mask: CoreMask) -> None:
        self.core_mask = core_mask
        weights = bare_weights(model)
        # DDP and DeepSpeed reduce gradients after these hooks.
        for name in core_mask:
            weights[name].parameter.register_hook(
                lambda gradient, core=core_mask[name]: gradient.masked_fill(core, 0) if _is_plain(gradient) else None
            )

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, *, model: nn.Module, **_: Any) -> None:
        """FSDP2 makes new parameters, and sets their gradients past the hooks."""
        from torch.distributed.tensor import distribute_tensor

        for name, weight in bare_weights(model).items():
            gradient: Any = weight.parameter.grad
            if name in self.core_mask and hasattr(gradient, "placements"):
                core = distribute_tensor(
                    self.core_mask[name], gradient.device_mesh, gradient.placements, src_data_rank=None
                )
                gradient.to_local()[core.to_local()] = 0


def train(cell: Cell, folder: Path) -> dict[str, Any]:
    """Train a cell and count.

    Raises:
        AssertionError: Another strategy runs than was asked for.
    """
    dtype, options = PRECISIONS[cell.precision]
    if cell.distribution.startswith("ZeRO") and cell.precision == "bf16 weights":
        options = {"bf16": True}  # DeepSpeed takes bfloat16 weights only with its own bfloat16 switched on
    model = build(dtype)
    core_mask, base = core_of(model), copy_of(model)
    protection = {
        "nothing": list,
        "masking": lambda: [MaskGradients(model, core_mask)],
        "freeze": lambda: [CoreFreezeCallback(core_mask)],
    }[cell.way]()
    optimizer = plain_sgd() if cell.optimizer == CHECK else OPTIMIZERS[cell.optimizer]()
    decay = 0.0 if cell.optimizer == CHECK else WEIGHT_DECAY
    trainer = trainer_of(
        model, folder, *protection, optimizer=optimizer, weight_decay=decay, max_steps=STEPS, **options
    )
    if "fp16" in options and not cell.distribution.startswith("ZeRO"):
        enable_fp16_on_cpu(trainer)
    trainer.train()
    strategy = strategy_of(trainer.model)
    assert strategy == DISTRIBUTIONS[cell.distribution], strategy
    changed = count_changed(trainer.model, base, core_mask)
    return {**changed._asdict(), "size": core_mask.count()}


def attempt(cell: Cell) -> dict[str, Any]:
    """Train a cell; what cannot run comes back as its error, for the page."""
    try:
        with tempfile.TemporaryDirectory() as output:
            return train(cell, Path(output))
    except Exception as error:  # noqa: BLE001 of any library
        return {"error": f"{type(error).__name__}: {error}"}


def _is_plain(gradient: Any) -> bool:
    return not hasattr(gradient, "placements")


def main() -> None:
    """Train the asked cells; each process writes its own lines."""
    logging.set_verbosity_error()
    torch.set_num_threads(1)
    distribution, folder, asked = sys.argv[1], Path(sys.argv[2]), set(sys.argv[3:])
    if distribution == "FSDP2":
        force_fsdp2_on_cpu()
    lines = folder / f"rank-{os.environ.get('RANK', '0')}.jsonl"
    for cell in cells_of(distribution):
        if cell.key not in asked:
            continue
        begin = time.monotonic()
        with lines.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"begins": cell.key}) + "\n")
        result = attempt(cell)
        if "error" in result:  # whose fault is it?
            result["without"] = attempt(replace(cell, way="nothing"))
        result |= {"key": cell.key, "seconds": round(time.monotonic() - begin, 1), **asdict(cell)}
        with lines.open("a", encoding="utf-8") as file:
            file.write(json.dumps(result) + "\n")
        gc.collect()


if __name__ == "__main__":
    main()
