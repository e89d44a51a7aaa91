"""Which way of computing a masked product is the fastest here: measured once for each kind of layer, then kept.

As with `torch.backends.cudnn.benchmark`, results of different ways differ in the last bits, so that two processes may
not agree exactly. `torch.use_deterministic_algorithms(True)` (transformers' `full_determinism`) replaces the
measurement by a fixed rule; small products are never measured, because that would take longer than it saves.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from hf_langcore.tuner.cores import LayerCore
from hf_langcore.tuner.masked_linear import BackwardWay, Change, ForwardWay, Plan, masked_product

SMALL_WEIGHT = 2**18
SMALL_PRODUCT = 2**25
"""Entries of a weight and multiplications of a product; below both, all ways take less than a millisecond or so."""

_REPEATS = 3


@dataclass(frozen=True, slots=True)
class Situation:
    """What the costs depend on; numbers of tokens and of core entries by powers of two.

    Attributes:
        shape: Rows and columns of the stored weight.
        rank: Of the change; 0 for a dense one.
        tokens: Rows of the input.
        entries: Core entries; -1 where the core is too large to be held as indices.
        busy_rows: Rows that have core entries.
        dtype: Of the product.
        device: Where it runs.
        threads: Of the CPU.
        has_weight: Whether the product may be merged with the stored weight.
        transposed: The weight is stored as (in, out).
        trains: Whether gradients are wanted.
    """

    shape: tuple[int, int]
    rank: int
    tokens: int
    entries: int
    busy_rows: int
    dtype: torch.dtype
    device: str
    threads: int
    has_weight: bool
    transposed: bool
    trains: bool

    def ways(self) -> tuple[list[ForwardWay], list[BackwardWay]]:
        """All that are possible."""
        sparse = self.entries >= 0 and self.rank > 0
        forward: list[ForwardWay] = ["merged"] if self.has_weight else ["added"]
        backward: list[BackwardWay] = ["dense"]
        if sparse:
            forward.append("corrected")
            backward.append("sampled")
        return forward, backward if self.trains else ["dense"]


_chosen: dict[Situation, Plan] = {}


def choose(situation: Situation, core: LayerCore) -> Plan:
    """The plan for a situation, measured the first time that it occurs.

    Args:
        situation: What the costs depend on.
        core: A core as it occurs there.
    """
    size = math.prod(situation.shape)
    if size < SMALL_WEIGHT and size * situation.tokens < SMALL_PRODUCT:
        return Plan("added", "dense")  # closest to LoRA, number by number, wherever the layer runs
    forward, backward = situation.ways()
    if len(forward) == len(backward) == 1:
        return Plan(forward[0], backward[0])
    if torch.are_deterministic_algorithms_enabled() or _is_captured():
        return by_rule(situation)
    if situation not in _chosen:
        _chosen[situation] = _measured(situation, core)
    return _chosen[situation]


def by_rule(situation: Situation) -> Plan:
    """The plan that is right most of the time: few tokens and lone low-rank products are cheaper without the weight.

    Gradients of single entries pay from a few hundred tokens on, where the dense gradient costs a product of its own.
    """
    forward, backward = situation.ways()
    few = situation.tokens * 8 < min(situation.shape)
    way: ForwardWay = "corrected" if "corrected" in forward and (few or not situation.has_weight) else forward[0]
    return Plan(way, backward[-1])


def reset() -> None:
    """Forget what was measured, for example after the number of threads has changed for good."""
    _chosen.clear()


def situation_of(
    x: torch.Tensor, change: Change, core: LayerCore, *, has_weight: bool, transposed: bool, trains: bool
) -> Situation:
    """Describe a product that is about to be computed."""
    index = core.index
    busy = -1 if index is None else index.busy_rows
    return Situation(
        shape=(core.shape[0], core.shape[1]),
        rank=0 if change.left is None or change.dense is not None else change.left.shape[1],
        tokens=_power_of_two(x.numel() // x.shape[-1]),
        entries=-1 if index is None else _power_of_two(index.flat.numel()),
        busy_rows=_power_of_two(busy),
        dtype=x.dtype,
        device=str(x.device),
        threads=torch.get_num_threads(),
        has_weight=has_weight,
        transposed=transposed,
        trains=trains,
    )


def _power_of_two(number: int) -> int:
    return 1 << max(number - 1, 0).bit_length() if number >= 0 else number


def _measured(situation: Situation, core: LayerCore) -> Plan:
    """Time every way on random numbers. Forward and backward ways are independent, so each list is timed alone."""
    forward, backward = situation.ways()
    best_backward = backward[-1] if len(backward) == 1 else min(backward, key=_timer(situation, core, forward[0]))
    best_forward = min(forward, key=lambda way: _timer(situation, core, way)(best_backward))
    return Plan(best_forward, best_backward)


def _timer(situation: Situation, core: LayerCore, forward: ForwardWay) -> Callable[[BackwardWay], float]:
    def seconds(backward: BackwardWay) -> float:
        try:
            return _seconds(situation, core, Plan(forward, backward))
        except (RuntimeError, NotImplementedError):  # no sparse products on this device, or no memory for them
            return math.inf

    return seconds


def _seconds(situation: Situation, core: LayerCore, plan: Plan) -> float:
    """Median time of one forward and, where gradients are wanted, one backward pass."""
    rows, columns = situation.shape
    inputs, outputs = (rows, columns) if situation.transposed else (columns, rows)
    # A generator of its own: the user's random numbers must not depend on whether something was measured.
    generator = torch.Generator(situation.device).manual_seed(0)

    def numbers(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=situation.dtype, device=situation.device)

    trains = situation.trains
    x, left, right = numbers(situation.tokens, inputs), numbers(rows, situation.rank), numbers(situation.rank, columns)
    for part in (x, left, right):
        part.requires_grad_(trains)
    stored = numbers(rows, columns)
    weight, base = (stored, None) if plan.forward == "merged" else (None, stored)
    grad = numbers(situation.tokens, outputs) if trains else None
    times = []
    for _ in range(_REPEATS + 1):
        _wait(situation.device)
        start = time.perf_counter()
        with torch.set_grad_enabled(trains):
            output = masked_product(
                x, Change(left, right, None), core, plan=plan, weight=weight, transposed=situation.transposed
            )
            if base is not None and situation.has_weight:
                # Without the weight in the product, the base layer's own product comes on top.
                output = output + torch.nn.functional.linear(x, base.t() if situation.transposed else base)
            if trains:
                output.backward(grad)
        _wait(situation.device)
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def _is_captured() -> bool:
    """Whether a CUDA graph is being recorded: nothing may wait for the device then."""
    return torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
