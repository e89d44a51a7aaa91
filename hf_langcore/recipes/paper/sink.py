"""Sink or language? The test as one section of the report."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from hf_langcore.errors import InputError
from hf_langcore.recipes.bench.workbench import Bench
from hf_langcore.report.parts import Cell, Section, Spread, Table
from hf_langcore.scanning import WindowLosses
from hf_langcore.scanning.losses import tokens_of_pieces
from hf_langcore.sinks.comparison import run_sink_test
from hf_langcore.sinks.conditions import nearest_outliers
from hf_langcore.sinks.massive import RATIO, MassiveActivation, find_massive_activations
from hf_langcore.sinks.result import SinkTest
from hf_langcore.sinks.rows import CONTROLS, Figure, SinkRow

_CONDITIONS = 9  # besides the controls
_LISTED = 12
_QUESTION = (
    "Zeroing a core may break the massive activations that attention sinks are made of, and then any text suffers. "
    "Here the same core is zeroed without the weights that meet these dimensions of the residual stream (rows that write them, columns that "
    "read them, norm gains on them), with the activations held at the mean that the unedited model has, and set to a mean instead of "
    "zero; and it is compared with masks that share its magnitudes, its row and column counts, or both."
)
_NOT_SHOWN = (
    "**Not shown:** that what is left is language. A rise that needs neither the sink dimensions nor the core's profile and magnitudes may come "
    "from anything else that all texts need. Holding activations mends those dimensions only and not what else the edit "
    "changes before them. Intervals over the text say what other text of these languages might have given, ranges over "
    "seeds are the smallest and largest of few draws; neither says anything about other models."
)


def sink_or_language(
    bench: Bench,
    *,
    seeds: int = 3,
    fraction: float | None = None,
    dimensions: Sequence[int] | None = None,
    outliers: int = 3,
    ratio: float = RATIO,
    magnitude: float = 0.0,
) -> Section:
    """How much of the core's explosion hangs on massive activations, on magnitudes, on rows and columns.

    Args:
        bench: The workbench.
        seeds: How often each control is drawn.
        fraction: Share of each tensor that the core is; None takes the bench's.
        dimensions: Dimensions of the residual stream that count as the sink; those with massive activations if None.
        outliers: Where there are none, so many of the largest outlier dimensions stand in for them, and the section says
            so; 0 leaves these rows empty.
        ratio: Times the median from which an activation is massive.
        magnitude: Absolute size that it needs besides.
    """
    if outliers < 0:
        raise InputError(f"outliers is a number of dimensions, at least 0, got {outliers!r}.")
    started = time.perf_counter()
    bench.progress.expect(1 + _CONDITIONS + (len(CONTROLS) + 1) * seeds)
    core_mask = bench.core(fraction)
    massive, nearest = _found(bench, ratio, magnitude)
    stand_in = nearest[:outliers] if dimensions is None else []
    asked = (stand_in or None) if dimensions is None else list(dimensions)
    settings = {"core_mask": core_mask.digest(), "dimensions": asked, "ratio": ratio, "magnitude": magnitude}
    found = run_sink_test(
        bench.model,
        bench.task,
        core_mask,
        dimensions=asked,
        seeds=seeds,
        ratio=ratio,
        magnitude=magnitude,
        batch_size=bench.settings.batch_size,
        massive=massive,
        keep=lambda condition, make: _kept(bench, {**settings, "condition": condition}, make),
    )
    text = (
        _QUESTION,
        *_sink_in_words(found, stand_in),
        *(f"**{q}** {a}" for q, a in found.verdicts().items()),
        _NOT_SHOWN,
    )
    parts = (_table(found), *([_massive_table(found.massive)] if found.massive else []))
    own = {"seeds": seeds, "fraction": fraction or bench.settings.fraction, "ratio": ratio, "magnitude": magnitude}
    facts = {**bench.facts(), **own, "dimensions": list(found.dimensions), "positions": found.positions}
    return Section("sink", "Sink or language?", text, parts, facts, time.perf_counter() - started)


def _found(bench: Bench, ratio: float, magnitude: float) -> tuple[list[MassiveActivation], list[int]]:
    """Massive activations, and where there are none the largest outlier dimensions."""
    size = bench.settings.batch_size

    def make() -> dict[str, Any]:
        massive = find_massive_activations(bench.model, bench.task, ratio=ratio, magnitude=magnitude, batch_size=size)
        nearest = [] if massive else nearest_outliers(bench.model, bench.task, batch_size=size)
        return {"massive": [asdict(one) for one in massive], "nearest": [one.dimension for one in nearest]}

    found = bench.kept("massive", {"ratio": ratio, "magnitude": magnitude}, make)
    return [MassiveActivation(**one) for one in found["massive"]], found["nearest"]


def _kept(bench: Bench, settings: dict[str, Any], make: Callable[[], WindowLosses]) -> WindowLosses:
    def plain() -> dict[str, list[float | None]]:
        sums = make().nll_sums
        return {
            code: [one if math.isfinite(one) else None for one in values.tolist()] for code, values in sums.items()
        }

    found = bench.kept("sink", settings, plain)
    sums = {
        code: np.array([math.inf if one is None else one for one in values], dtype=np.float64)
        for code, values in found.items()
    }
    return WindowLosses(sums, {code: tokens_of_pieces(windows) for code, windows in bench.task.windows.items()})


def _sink_in_words(found: SinkTest, stand_in: Sequence[int]) -> list[str]:
    named = ", ".join(map(str, found.dimensions))
    if stand_in:
        words = (
            f"**This model has no massive activations on this text.** The largest outlier dimensions of its residual stream, {named}, stand in "
            "for them: they are zeroed, or set to their mean, at all tokens behind all layers. So the rows about the sink "
            "say what these dimensions do, and nothing about attention sinks."
        )
        return [words]
    if not found.dimensions:
        return ["**This model has no massive activations on this text**, so that the rows about the sink are empty."]
    if found.positions == "massive":
        return [f"The sink is taken to be the massive activations of dimensions {named}, where they are massive."]
    return [f"Dimensions {named} were asked for. They are not massive on this text and are changed at all tokens."]


def _table(found: SinkTest) -> Table:
    dropped = [f"{row.condition}: {row.missing}" for row in found.rows if row.missing][:1]
    overlaps = [
        f"{row.condition} {100 * row.overlap:.0f} %"
        for row in found.rows
        if row.overlap is not None and row.condition in CONTROLS
    ]
    note = (
        "Rise of the mean loss over languages, and that rise as a share of the whole core's. In brackets: over the text, a paired "
        "bootstrap at 95 %; of controls, the smallest and largest over seeds. Share of a control that is core itself: "
        f"{', '.join(overlaps)}."
    )
    return Table(
        name="conditions",
        title="What is left of the rise in loss",
        columns=("condition", "weights edited", "mean perplexity", "rise in loss (nats)", "share of the core's rise"),
        rows=tuple(_row(row) for row in found.rows),
        note=" ".join([note, *dropped]),
        log_bars=("mean perplexity",),
    )


def _row(row: SinkRow) -> tuple[Cell, ...]:
    return (row.condition, row.weights, row.perplexity, _spread(row.rise), _spread(row.share))


def _spread(figure: Figure | None) -> Spread | None:
    return None if figure is None else Spread(figure.value, figure.low, figure.high)


def _massive_table(massive: Sequence[MassiveActivation]) -> Table:
    note = "Entries of the hidden states behind a layer; layers and dimensions count from 0."
    if len(massive) > _LISTED:
        note += f" The {_LISTED} largest of {len(massive)}."
    return Table(
        name="massive",
        title="Massive activations",
        columns=("layer", "dimension", "largest value", "times the median", "tokens", "share at the start token"),
        rows=tuple(
            (one.layer, one.dimension, one.largest, one.ratio, one.positions, one.start_share)
            for one in massive[:_LISTED]
        ),
        note=note,
    )
