"""Controls match the core in what they promise, exactly, and are random in the rest."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hf_langcore.editing.edits import _is_control
from hf_langcore.errors import CoreMaskMismatchError, InputError, NonFiniteError
from hf_langcore.masks import CoreMask, Provenance
from hf_langcore.masks.matched import (
    MatchedMask,
    magnitude_matched,
    profile_and_magnitude_matched,
    profile_matched,
)

SHAPES = {"a.weight": (24, 40), "b.weight": (33,), "c.experts": (3, 9, 14), "d.scalar": (1,)}
Weights = dict[str, torch.Tensor]


def drawn(seed: int, density: float, *, shapes: dict[str, tuple[int, ...]] = SHAPES) -> tuple[CoreMask, Weights]:
    """A core that likes large weights and some rows, and the weights."""
    generator = torch.Generator().manual_seed(seed)
    weights = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    tensors = {}
    for name, weight in weights.items():
        wish = torch.rand(weight.shape, generator=generator) + 0.2 * weight.abs()
        if weight.dim() > 1:
            wish = wish + 0.3 * torch.rand(weight.shape[-2], 1, generator=generator)
        count = int(density * weight.numel())
        chosen = torch.zeros(weight.numel(), dtype=torch.bool)
        chosen[wish.view(-1).topk(count).indices] = True
        tensors[name] = chosen.view(weight.shape)
    return CoreMask(tensors, provenance=Provenance(method="taylor", which="top", fraction=density)), weights


def all_kinds(core_mask: CoreMask, weights: Weights, seed: int = 0) -> list[MatchedMask]:
    return [
        magnitude_matched(core_mask, weights, seed=seed),
        profile_matched(core_mask, seed=seed),
        profile_and_magnitude_matched(core_mask, weights, seed=seed, rounds=60),
    ]


masks = st.builds(drawn, st.integers(0, 10_000), st.sampled_from([0.0, 0.01, 0.05, 0.2, 0.45, 0.8]))


@given(masks, st.integers(0, 2**70))
def test_every_control_has_the_size_of_the_core_in_each_tensor(given_: tuple[CoreMask, Weights], seed: int) -> None:
    core_mask, weights = given_
    for matched in all_kinds(core_mask, weights, seed):
        assert matched.core_mask.shapes() == core_mask.shapes()
        assert all(matched.core_mask.count(name) == core_mask.count(name) for name in core_mask)
        shared = {name: int((matched.core_mask[name] & core_mask[name]).sum()) for name in core_mask}
        assert shared == matched.overlapping
        assert matched.overlap == pytest.approx(sum(shared.values()) / max(1, core_mask.count()))


@given(masks, st.integers(0, 100))
def test_profiles_are_kept_exactly_in_every_matrix(given_: tuple[CoreMask, Weights], seed: int) -> None:
    core_mask, weights = given_
    joint = profile_and_magnitude_matched(core_mask, weights, seed=seed, rounds=60)
    for matched in (profile_matched(core_mask, seed=seed), joint):
        for name in ("a.weight", "c.experts"):
            for axis in (-1, -2):
                assert torch.equal(matched.core_mask[name].sum(axis), core_mask[name].sum(axis))


@given(masks, st.integers(0, 100))
def test_magnitude_controls_lie_outside_the_core_wherever_there_is_room(
    given_: tuple[CoreMask, Weights], seed: int
) -> None:
    core_mask, weights = given_
    matched = magnitude_matched(core_mask, weights, seed=seed)
    for name in core_mask:
        forced = max(0, 2 * core_mask.count(name) - core_mask[name].numel())
        assert matched.overlapping[name] == forced


@given(st.integers(0, 1000), st.integers(0, 100))
def test_vectors_avoid_the_core(seed: int, other: int) -> None:
    core_mask, _ = drawn(seed, 0.3)
    assert profile_matched(core_mask, seed=other).overlapping["b.weight"] == 0


@given(masks)
def test_the_same_seed_gives_the_same_mask_and_another_another(given_: tuple[CoreMask, Weights]) -> None:
    core_mask, weights = given_
    for one, again, other in zip(*(all_kinds(core_mask, weights, seed) for seed in (3, 3, 4)), strict=True):
        assert one.core_mask == again.core_mask
        if 0.02 < core_mask.density() < 0.5:
            assert one.core_mask != other.core_mask


@given(st.integers(0, 1000))
def test_magnitudes_have_the_distribution_of_the_core_where_enough_are_left(seed: int) -> None:
    shapes = {"w": (60, 80)}
    generator = torch.Generator().manual_seed(seed)
    weights = {"w": torch.randn(60, 80, generator=generator)}
    core = torch.rand(60, 80, generator=generator) < 0.1 * weights["w"].abs()
    matched = magnitude_matched(CoreMask({"w": core}), weights, seed=seed)
    inside, control = (np.sort(weights["w"].abs()[mask].numpy()) for mask in (core, matched.core_mask["w"]))
    assert matched.displaced["w"] <= 0.1 * inside.size
    assert float(np.abs(inside - control)[: int(0.9 * inside.size)].max()) < 0.35
    plain = np.sort(weights["w"].abs()[CoreMask({"w": core}).random_like(seed=seed)["w"]].numpy())
    assert abs(control.mean() - inside.mean()) < 0.3 * abs(plain.mean() - inside.mean())
    assert shapes["w"] == tuple(core.shape)


def test_counts_in_bins_are_the_cores_own_and_no_bin_is_left_out() -> None:
    weights = {"w": torch.arange(1.0, 1001.0).view(20, 50) * torch.tensor([1.0, -1.0]).repeat(25)}
    core = (torch.arange(1000) % 10 == 0).view(20, 50)
    matched = magnitude_matched(CoreMask({"w": core}), weights, seed=1)
    edges = np.quantile(weights["w"].abs()[core].numpy(), np.linspace(0, 1, 13), method="inverted_cdf")
    edges[0] -= 0.5
    counts = [
        np.histogram(-weights["w"].abs()[mask].numpy(), -edges[::-1])[0] for mask in (core, matched.core_mask["w"])
    ]
    assert counts[0].tolist() == counts[1].tolist()
    assert matched.displaced == {"w": 0}


def test_what_is_missing_in_a_bin_comes_from_the_nearest_and_is_counted() -> None:
    weights = {"w": torch.arange(1.0, 101.0)}
    core_mask = CoreMask({"w": torch.arange(100) >= 90})  # all large ones
    matched = magnitude_matched(core_mask, weights, seed=0)
    assert matched.displaced == {"w": 10}
    assert matched.displaced_share == 1.0
    # Below the core's magnitudes all is one bin, from which any are as good.
    assert not (matched.core_mask["w"] & core_mask["w"]).any()

    core_mask = CoreMask({"w": torch.isin(torch.arange(100), torch.tensor([*range(40, 48), *range(60, 76)]))})
    matched = magnitude_matched(core_mask, weights, seed=0)
    chosen = matched.core_mask["w"].nonzero().view(-1)
    # Bins are (40 ... 47], (47 ... 67], (67 ... 75]: of these only the one in the middle has any outside the core.
    assert set(range(48, 60)) <= set(chosen.tolist())
    assert matched.displaced == {"w": 24 - 8}


@pytest.mark.parametrize("density", [0.03, 0.2])
def test_profile_controls_are_as_random_as_the_profile_allows(density: float) -> None:
    """A mixed mask meets the core as often as chance says that knows the profile: r c / n for row and column."""
    generator = torch.Generator().manual_seed(0)
    core_mask = CoreMask({"w": torch.rand(128, 160, generator=generator) < density})
    overlaps = [profile_matched(core_mask, seed=seed).overlap for seed in range(12)]
    core = core_mask["w"].double()
    expected = float((core * core.sum(1, keepdim=True) * core.sum(0)).sum() / core.sum() ** 2)
    assert np.mean(overlaps) == pytest.approx(expected, rel=0.15)


def test_every_arrangement_of_a_small_profile_comes_up_equally_often() -> None:
    core_mask = CoreMask({"w": torch.eye(3, dtype=torch.bool)})
    seen: dict[str, int] = {}
    for seed in range(600):
        key = str(profile_matched(core_mask, seed=seed).core_mask["w"].int().tolist())
        seen[key] = seen.get(key, 0) + 1
    assert len(seen) == 6
    assert max(seen.values()) < 1.5 * min(seen.values())


def test_a_full_row_stays_full() -> None:
    core = torch.zeros(6, 10, dtype=torch.bool)
    core[2] = True
    core[4, 3] = True
    matched = profile_matched(CoreMask({"w": core}), seed=5)
    assert matched.core_mask["w"][2].all()
    assert matched.overlapping["w"] >= 10


def test_joint_controls_keep_the_bins_too_and_move_most_of_the_core() -> None:
    generator = torch.Generator().manual_seed(2)
    weights = {"w": torch.randn(80, 120, generator=generator)}
    core = torch.rand(80, 120, generator=generator) < 0.08 * torch.rand(80, 1, generator=generator)
    matched = profile_and_magnitude_matched(CoreMask({"w": core}), weights, seed=0)
    inside = weights["w"].abs()[core].numpy()
    edges = np.quantile(inside, np.linspace(0, 1, 5), method="inverted_cdf")
    edges[0] = 0.999 * edges[0]
    counts = [
        np.histogram(-weights["w"].abs()[mask].numpy(), -edges[::-1])[0] for mask in (core, matched.core_mask["w"])
    ]
    assert counts[0].tolist() == counts[1].tolist()
    assert int(counts[0].sum()) == inside.size
    assert 0 < matched.overlap < 0.35
    fewer = profile_and_magnitude_matched(CoreMask({"w": core}), weights, seed=0, rounds=2)
    assert fewer.overlap > matched.overlap


@pytest.mark.parametrize("number", [0, 1, 2])
def test_editing_knows_them_as_controls(number: int) -> None:
    core_mask, weights = drawn(0, 0.1)
    matched = all_kinds(core_mask, weights, seed=7)[number]
    summary = matched.core_mask.provenance.summary()
    assert _is_control(matched.core_mask)
    assert "seed 7" in summary
    assert ("magnitude" in summary, "profile" in summary) == [(True, False), (False, True), (True, True)][number]


@pytest.mark.parametrize(
    "matcher", [magnitude_matched, profile_and_magnitude_matched], ids=["magnitude", "profile and magnitude"]
)
def test_weights_that_do_not_fit_are_refused(matcher: Callable[..., MatchedMask]) -> None:
    core_mask, weights = drawn(0, 0.2)
    with pytest.raises(CoreMaskMismatchError, match=r"'b.weight' .* is missing"):
        matcher(core_mask, {name: weights[name] for name in weights if name != "b.weight"})
    with pytest.raises(CoreMaskMismatchError, match=r"shape \(40, 24\)"):
        matcher(core_mask, {**weights, "a.weight": weights["a.weight"].T})
    with pytest.raises(NonFiniteError, match=r"a\.weight"):
        matcher(core_mask, {**weights, "a.weight": weights["a.weight"] * float("nan")})


def test_no_rounds_are_refused() -> None:
    core_mask, weights = drawn(0, 0.2)
    with pytest.raises(InputError, match="rounds must be at least 1"):
        profile_and_magnitude_matched(core_mask, weights, rounds=0)


def test_bfloat16_weights_and_parameters_are_taken() -> None:
    core_mask, weights = drawn(0, 0.1)
    halves = {name: torch.nn.Parameter(weight.bfloat16()) for name, weight in weights.items()}
    assert magnitude_matched(core_mask, halves).core_mask.count() == core_mask.count()
