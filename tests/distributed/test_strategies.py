"""The freeze and the anchor in two processes, under every strategy, started with the package's configuration files.

Each test is one launch, because starting the processes takes longer than what they do.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import pytest

CORE = 546
"""Core weights of the tiny model."""

SCHEDULE_FREE = ["schedule_free"] if importlib.util.find_spec("schedulefree") else []

Reports = list[dict[str, Any]]
Launch = Callable[..., Reports]


def test_ddp(launch: Launch) -> None:
    """Every process has all weights; float32 and mixed bfloat16."""
    reports = launch(
        "ddp",
        *("train_frozen", "train_free", "train_frozen:bf16", "train_free:bf16"),
        *("sft", "mask_gradients", "resume_drifted", "load_best", "anchor"),
    )
    for rank, report in enumerate(reports):
        _is_exact(report["train_frozen"], rank, strategy="whole", dtype="float32")
        _is_exact(report["train_frozen:bf16"], rank, strategy="whole", dtype="float32")
        _is_free(report["train_free"], report["train_free:bf16"])
        _is_resumed(report["resume_drifted"])
        _is_masked(report["mask_gradients"])
        _is_anchored(report["anchor"])
        assert report["sft"]["strategy"] == "whole"
        _keeps_core(report["sft"], report["load_best"])
        assert report["load_best"]["best"]


def test_fsdp2(launch: Launch) -> None:
    """Parameters are DTensors, of which each process has a part; uneven ones are no exception."""
    reports = launch(
        "fsdp2",
        *("train_frozen", "train_free", "train_frozen:bf16", "train_free:bf16"),
        *("sft", "mask_gradients", "resume_drifted", "load_best", "anchor"),
        *SCHEDULE_FREE,
    )
    for rank, report in enumerate(reports):
        _is_exact(report["train_frozen"], rank, strategy="fsdp2", dtype="float32")
        _is_exact(report["train_frozen:bf16"], rank, strategy="fsdp2", dtype="float32")
        _is_free(report["train_free"], report["train_free:bf16"])
        _is_resumed(report["resume_drifted"])
        _is_masked(report["mask_gradients"])
        _is_anchored(report["anchor"])
        assert report["sft"]["strategy"] == "fsdp2"
        _keeps_core(report["sft"], report["load_best"], *(report[name] for name in SCHEDULE_FREE))
        assert all(report[name]["copies"] > 0 for name in SCHEDULE_FREE)
        assert all(report[name]["copies_wrong"] == [] for name in SCHEDULE_FREE)


@pytest.mark.parametrize("strategy", ["zero2", "zero3"])
def test_zero(launch: Launch, strategy: str) -> None:
    """The optimizer steps float32 masters, from which bfloat16 weights are rounded: both have to be exact."""
    reports = launch(
        strategy,
        *("train_frozen:bf16", "train_free:bf16", "train_frozen"),
        *("sft", "resume_drifted:bf16", "load_best:bf16", "anchor:bf16", "refuse_masked_gradients"),
        *SCHEDULE_FREE,
    )
    for rank, report in enumerate(reports):
        _is_exact(report["train_frozen:bf16"], rank, strategy=strategy, dtype="bfloat16")
        _is_exact(report["train_frozen"], rank, strategy=strategy, dtype="float32")
        _is_free(report["train_free:bf16"])
        assert report["train_free:bf16"]["masters"] > 0.9 * CORE
        _is_resumed(report["resume_drifted:bf16"])
        _is_anchored(report["anchor:bf16"])
        assert "mask_gradients cannot reach DeepSpeed" in report["refuse_masked_gradients"]["message"]
        assert report["refuse_masked_gradients"]["steps"] == 0
        assert report["sft"]["strategy"] == strategy
        _keeps_core(report["sft"], report["load_best:bf16"], *(report[name] for name in SCHEDULE_FREE))
        seen = [report[name]["masters_seen"] for name in ("train_frozen:bf16", "train_frozen", "sft")]
        assert seen == [CORE] * 3


def _is_exact(report: dict[str, Any], rank: int, *, strategy: str, dtype: str) -> None:
    """Asked for, run and exact; evaluation gathered the head in between; files have the base's core."""
    assert report["processes"] == 2
    assert report["strategy"] == strategy
    assert report["dtype"] == f"torch.{dtype}"
    assert report["evaluations"] == 3
    _keeps_core(report)
    assert report["core_values_written"] == (1 if rank == 0 else 0)
    assert report["core_values_wrong"] == []
    assert report["saved_core_changed"] == 0


def _keeps_core(*reports: dict[str, Any]) -> None:
    for report in reports:
        assert report["core"] == 0
        assert report["masters"] == 0
        assert report["complement"] > 15_000


def _is_free(*reports: dict[str, Any]) -> None:
    """The measure finds changes where nothing is frozen."""
    for report in reports:
        assert report["core"] > 0.9 * CORE
        assert report["complement"] > 15_000


def _is_resumed(report: dict[str, Any]) -> None:
    """The drift was there, in this process's part as well, and is gone; the first run's values were not replaced."""
    assert report["steps"] == 4
    assert len(report["warnings"]) == 1
    assert int(report["warnings"][0].split()[0]) > 0
    assert report["core_values_kept"]
    _keeps_core(report)


def _is_masked(report: dict[str, Any]) -> None:
    assert report["looked"] == 3
    assert report["core_gradients"] == 0
    assert report["other_gradients"] > 40_000
    _keeps_core(report)


def _is_anchored(report: dict[str, Any]) -> None:
    """A pull keeps closer, a pull of strength 1 on the base itself."""
    assert 0 < report["anchored"] < 0.7 * report["free"]
    assert report["tied"] == 0
