"""Means, intervals, comparisons and tables."""

from __future__ import annotations

import math
from typing import Any

import pytest

from hf_langcore.errors import InputError
from hf_langcore.recipes.protection.methods import FULL, Method
from hf_langcore.recipes.protection.report import (
    PAIRS,
    Interval,
    below,
    curves_of,
    differences,
    pairs_to_markdown,
    summarise,
    to_markdown,
)

METHODS = [Method("fast", FULL), Method("slow", FULL), Method("frozen", frozen="core"), Method("never run")]


@pytest.fixture
def runs(make_run: Any) -> list[Any]:
    """Plain fine-tuning twice as fast forgets four times as much; the frozen core keeps more than its halfway."""
    made = []
    for seed, shift in enumerate((0.0, 0.01, -0.01)):
        made += [
            make_run("fast", seed, 0.4, 0.4 + shift),
            make_run("slow", seed, 0.2, 0.1),
            make_run("frozen", seed, 0.3, 0.15 + shift, core_size=7),
        ]
    return made


def test_intervals_are_students() -> None:
    """Of 1, 2 and 3: mean 2, deviation 1, half width 4.303 / sqrt(3); one value has no interval."""
    found = Interval.of([1.0, 2.0, 3.0])
    assert found.mean == 2
    assert found.high - found.mean == pytest.approx(4.303 / math.sqrt(3))
    assert found.mean - found.low == pytest.approx(4.303 / math.sqrt(3))
    assert not found.excludes_zero
    assert Interval.of([2.0, 2.0]).excludes_zero
    assert Interval(-2.0, -3.0, -1.0).excludes_zero
    alone = Interval.of([1.5])
    assert alone.mean == 1.5
    assert math.isnan(alone.low)
    assert not alone.excludes_zero
    many = Interval.of([0.0] * 50 + [1.0] * 50)
    assert many.high == pytest.approx(0.5 + 1.984 * math.sqrt(0.25 * 100 / 99) / 10, rel=1e-4)
    # Eleven values: half width 2.228 deviations over the root of their number.
    assert Interval.of([0.0] * 10 + [11.0]).high == pytest.approx(1 + 2.228, rel=2e-3)


def test_logarithms_are_shown_in_per_cent() -> None:
    """A doubling is +100 %."""
    assert Interval(math.log(2), math.log(1.5), math.log(3)).percent() == "+100.0 % (+50.0 to +200.0)"
    assert Interval(math.log(0.9), math.nan, math.nan).percent() == "-10.0 %"


def test_a_fall_is_a_negative_change() -> None:
    """The bounds change places."""
    assert Interval(0.14, 0.1, 0.2).negative_nats() == "-0.140 (-0.200 to -0.100)"
    assert Interval(0.0, math.nan, math.nan).negative_nats() == "+0.000"


def test_what_learning_less_would_have_kept(runs: list[Any]) -> None:
    """At a gain of 0.3, halfway between slow and fast, plain fine-tuning forgets the geometric mean of the two."""
    fast, slow, frozen = summarise(runs, METHODS)
    assert (fast.method, slow.method, frozen.method) == ("fast", "slow", "frozen")
    assert frozen.seeds == 3
    assert frozen.excess is not None
    expected = [0.15 + shift - math.sqrt(0.1 * (0.4 + shift)) for shift in (0.0, 0.01, -0.01)]
    assert frozen.excess.mean == pytest.approx(sum(expected) / 3)
    assert frozen.excess.high == pytest.approx(Interval.of(expected).high)
    assert fast.excess is not None
    assert fast.excess.mean == pytest.approx(0)
    assert frozen.core_size == 21
    assert frozen.gain.mean == pytest.approx(0.3)
    assert frozen.forgotten.mean == pytest.approx(0.15)


def test_the_curve_begins_untrained_and_ends_at_the_largest_gain(runs: list[Any], make_run: Any) -> None:
    """Half of slow's gain may cost half of what slow forgets; a loss costs nothing; beyond fast as much as fast."""
    extra = [make_run(name, 0, gain, 0.07) for name, gain in (("half", 0.1), ("worse", -0.2), ("far", 0.5))]
    methods = [*METHODS, Method("half"), Method("worse"), Method("far")]
    found = {summary.method: summary for summary in summarise(runs + extra, methods)}
    assert found["half"].excess is not None
    assert found["half"].excess.mean == pytest.approx(0.02)
    assert found["worse"].excess is not None
    assert found["worse"].excess.mean == pytest.approx(0.07)
    assert found["far"].excess is not None
    assert found["far"].excess.mean == pytest.approx(0.07 - 0.4)


def test_a_rate_that_learns_less_and_forgets_more_is_no_control(runs: list[Any], make_run: Any) -> None:
    """Plain fine-tuning at a rate that is too high does not make other methods look good."""
    extra = [make_run("too fast", seed, 0.3, 2.0) for seed in range(3)]
    with_it = summarise(runs + extra, [*METHODS, Method("too fast", FULL)])
    assert with_it[:3] == summarise(runs, METHODS)
    assert with_it[3].excess is not None
    assert with_it[3].excess.mean == pytest.approx(2 - 0.2, abs=1e-3)


def test_without_plain_runs_nothing_is_compared(runs: list[Any]) -> None:
    """The column stays empty."""
    (alone,) = summarise(runs, METHODS[2:])
    assert alone.excess is None
    assert "|  |" in to_markdown([alone])


def test_differences_are_taken_within_seeds(runs: list[Any], make_run: Any) -> None:
    """What both share in a seed falls out; a seed that only one has is left out."""
    gain, forgotten = differences([*runs, make_run("frozen", 9, 9.0, 9.0)], "frozen", "fast") or (None, None)
    assert gain is not None
    assert forgotten is not None
    assert gain.mean == pytest.approx(-0.1)
    assert (forgotten.low, forgotten.high) == (pytest.approx(-0.25), pytest.approx(-0.25))
    assert differences(runs, "frozen", "never run") is None


@pytest.mark.parametrize(
    ("shifts", "verdict"),
    [
        ((-0.1, -0.11, -0.09), "more kept"),
        ((0.1, 0.11, 0.09), "less kept"),
        ((0.1, -0.1, 0), "no difference measured"),
    ],
)
def test_a_pair_is_judged_by_its_interval(make_run: Any, shifts: tuple[float, ...], verdict: str) -> None:
    """Only an interval on one side of zero is a difference; pairs that were not run are left out."""
    method, control = PAIRS[0]
    runs = [make_run(control, seed, 0.3, 0.5) for seed in range(3)]
    runs += [make_run(method, seed, 0.3, 0.5 + shift) for seed, shift in enumerate(shifts)]
    lines = pairs_to_markdown(runs).splitlines()
    assert len(lines) == 3
    assert lines[2].startswith(f"| {method} | {control} | ")
    assert lines[2].endswith(f"| {verdict} |")
    assert pairs_to_markdown(runs[:1] + runs[3:4]).endswith("| one seed |\n")


def test_the_table_of_a_task(runs: list[Any], make_run: Any) -> None:
    """Targets as a change of loss; a column of exact answers where there are any."""
    lines = to_markdown(summarise(runs, METHODS)).splitlines()
    assert len(lines) == 5
    assert {line.count("|") for line in lines} == {6}
    assert "| slow | -0.200 (-0.200 to -0.200) | +10.5 % " in lines[3]
    assert lines[4].endswith("| 0 of 21 |")
    from hf_langcore.recipes.protection.tasks import Target

    exact = [make_run("fast", seed, 1.0, 0.1, target_after=Target(3.0, 0.25)) for seed in range(2)]
    lines = to_markdown(summarise(exact, METHODS)).splitlines()
    assert "| exact |" in lines[0]
    assert "| 25.0 % |" in lines[2]
    assert {line.count("|") for line in lines} == {7}


def test_curves_are_in_order_of_what_was_forgotten(runs: list[Any]) -> None:
    """Strengths of one method make a curve; a method without others is its own."""
    curves = curves_of(summarise(runs, METHODS), METHODS)
    assert {name: [point.method for point in points] for name, points in curves.items()} == {
        FULL: ["slow", "fast"],
        "frozen": ["frozen"],
    }


def test_a_page_keeps_what_stands_above_the_marker() -> None:
    """And has one marker, however often it is filled."""
    once = below("# Old\n\ntext\n", "# New", "first\n")
    assert once == "# Old\n\ntext\n\n# New\n\nfirst\n"
    assert below(once, "# New", "second") == "# Old\n\ntext\n\n# New\n\nsecond\n"
    assert below("", "# New", "first") == "# New\n\nfirst\n"
    for wrong in ("", "two\nlines"):
        with pytest.raises(InputError, match="one line"):
            below("text", wrong, "part")
