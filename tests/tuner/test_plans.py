from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

from hf_langcore.masks import PackedBits
from hf_langcore.tuner import plans
from hf_langcore.tuner.cores import LayerCore
from hf_langcore.tuner.masked_linear import Change, Plan


@pytest.fixture(autouse=True)
def _nothing_measured_before() -> Iterator[None]:
    plans.reset()
    yield
    plans.reset()


def _core(rows: int = 256, columns: int = 128, share: float = 0.01) -> LayerCore:
    mask = torch.rand(rows, columns, generator=torch.Generator().manual_seed(0)) < share
    return LayerCore(torch.from_numpy(PackedBits.from_bool(mask).data.copy()), (rows, columns))


def _situation(core: LayerCore, *, tokens: int = 1024, rank: int = 8, **options: bool) -> plans.Situation:
    x = torch.randn(tokens, core.shape[1])
    low_rank = Change(torch.randn(core.shape[0], rank), torch.randn(rank, core.shape[1]), None)
    change = low_rank if rank else Change(None, None, torch.randn(core.shape))
    given = {"has_weight": True, "transposed": False, "trains": True, **options}
    return plans.situation_of(x, change, core, **given)


def test_a_situation_is_what_costs_depend_on() -> None:
    """Tokens and entries count by powers of two, so that every sequence length does not get its own measurement."""
    core = _core()
    situation = _situation(core, tokens=1000)
    assert (situation.shape, situation.rank, situation.tokens) == ((256, 128), 8, 1024)
    assert core.index is not None
    assert core.index.flat.numel() <= situation.entries < 2 * core.index.flat.numel()
    assert _situation(core, tokens=900) == situation
    assert _situation(core, tokens=1025).tokens == 2048
    assert _situation(_core(share=0.5)).entries == -1


@pytest.mark.parametrize(
    "share, rank, options, forward, backward",
    [
        (0.01, 8, {}, ["merged", "corrected"], ["dense", "sampled"]),
        (0.01, 8, {"has_weight": False}, ["added", "corrected"], ["dense", "sampled"]),
        (0.01, 8, {"trains": False}, ["merged", "corrected"], ["dense"]),
        (0.5, 8, {}, ["merged"], ["dense"]),
        (0.01, 0, {"has_weight": False}, ["added"], ["dense"]),
    ],
)
def test_only_possible_ways_are_tried(
    share: float, rank: int, options: dict[str, bool], forward: list[str], backward: list[str]
) -> None:
    """Large cores and dense changes have no sparse ways; without the weight nothing can be merged."""
    assert _situation(_core(share=share), rank=rank, **options).ways() == (forward, backward)


def test_large_products_are_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fastest way by the clock is chosen, and the second time nothing is timed."""
    timed: list[Plan] = []
    seconds = {"merged": 2.0, "corrected": 1.0, "dense": 0.5, "sampled": 0.1}

    def clock(situation: plans.Situation, core: LayerCore, plan: Plan) -> float:
        timed.append(plan)
        return seconds[plan.forward] + seconds[plan.backward]

    monkeypatch.setattr(plans, "_seconds", clock)
    core = _core()
    situation = _situation(core, tokens=4096)
    assert plans.choose(situation, core) == Plan("corrected", "sampled")
    count = len(timed)
    assert plans.choose(situation, core) == Plan("corrected", "sampled")
    assert len(timed) == count == 4
    seconds["corrected"] = 9.0
    assert plans.choose(replace(situation, tokens=8192), core) == Plan("merged", "sampled")


def test_small_products_are_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is timed where a measurement would take longer than it saves; the way is the one next to LoRA's."""
    monkeypatch.setattr(plans, "_seconds", lambda *_: pytest.fail("measured"))
    core = _core()
    for share in (0.01, 0.5):
        core = _core(share=share)
        assert plans.choose(_situation(core, tokens=64), core) == Plan("added", "dense")


def test_deterministic_algorithms_go_by_the_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks torch for determinism gets the same way in every process."""
    monkeypatch.setattr(plans, "_seconds", lambda *_: pytest.fail("measured"))
    core = _core()
    situation = _situation(core, tokens=4096)
    torch.use_deterministic_algorithms(True)
    try:
        assert plans.choose(situation, core) == plans.by_rule(situation) == Plan("merged", "sampled")
    finally:
        torch.use_deterministic_algorithms(False)


def test_a_way_that_fails_is_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Devices without sparse products raise; the dense ways remain."""

    def clock(situation: plans.Situation, core: LayerCore, plan: Plan) -> float:
        if "corrected" in plan.forward or "sampled" in plan.backward:
            raise NotImplementedError
        return 1.0

    monkeypatch.setattr(plans, "_seconds", clock)
    core = _core()
    assert plans.choose(_situation(core, tokens=4096), core) == Plan("merged", "dense")


@pytest.mark.parametrize("options", [{}, {"has_weight": False}, {"trains": False}, {"transposed": True}])
def test_the_clock_runs_every_way(options: dict[str, bool]) -> None:
    """A real measurement gives a plan of the possible ones and times above 0."""
    core = _core()
    situation = replace(_situation(core, **options), tokens=64)
    forward, backward = situation.ways()
    for way in forward:
        for other in backward:
            assert plans._seconds(situation, core, Plan(way, other)) > 0
    chosen: Any = plans._measured(situation, core)
    assert chosen.forward in forward
    assert chosen.backward in backward


def test_measuring_leaves_the_random_numbers_alone() -> None:
    """What a seed gives does not depend on whether something was measured in between."""
    core = _core()
    situation = replace(_situation(core), tokens=64)
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    plans._measured(situation, core)
    assert torch.equal(torch.rand(3), expected)


def test_few_tokens_leave_the_weight_alone() -> None:
    """For a single token the whole weight is too much work, so generation corrects the base layer's output."""
    core = _core()
    assert plans.by_rule(_situation(core, tokens=1, trains=False)).forward == "corrected"
    assert plans.by_rule(_situation(core, tokens=1024, trains=False)).forward == "merged"
