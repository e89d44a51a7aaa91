"""The table and the picture of the retention benchmark."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

from hf_langcore.errors import InputError
from hf_langcore.recipes.protection.figure import draw_protection
from hf_langcore.recipes.protection.report import Interval, Summary, curves_of
from hf_langcore.recipes.protection.retention import Retention
from hf_langcore.report.parts import Cell, Points, Spread, Table

_PER_CENT = 100


def retention_table(found: Retention) -> Table:
    """One row per method, at the learning rate that was chosen, over all seeds."""
    rows = [(curve, f"{found.rate(curve):g}", one.trained, *_figures(one)) for curve, one in found.summaries().items()]
    columns = ["method", "learning rate", "trained parameters", "gain, nats"]
    if _has_answers(found):
        columns += ["exact, %", "digits, %"]
    columns += ["kept perplexity, %", "core weights changed, %"]
    return Table(
        name="methods",
        title=f"Acquisition against retention, {_of(found)}",
        columns=tuple(columns),
        rows=tuple(rows),
        note=(
            "Gain: loss on the task that training took away, in nats per token. Kept perplexity: change of the geometric mean of "
            f"the kept languages. Core weights changed: of the base, so none for an adapter that cannot be merged. {_seeds(found)}"
        ),
    )


def rate_table(found: Retention) -> Table:
    """Every learning rate with the first seed, and what was chosen by."""
    first = {run.method: run for run in found.runs if run.seed == found.seeds[0]}
    rows: list[tuple[Cell, ...]] = []
    for method in found.methods:
        run = first[method.name]
        chosen = "chosen" if method.name in found.chosen.values() else ""
        kept = _percent(run.forgotten)
        rows.append(
            (method.curve or method.name, f"{method.learning_rate:g}", run.choice_gain, run.gain, kept, chosen)
        )
    return Table(
        name="rates",
        title=f"Every learning rate, seed {found.seeds[0]}",
        columns=("method", "learning rate", "gain on choice rows, nats", "gain, nats", "kept perplexity, %", ""),
        rows=tuple(rows),
        note=(
            "Chosen: the lowest rate with at least 95 % of the method's largest gain on the choice rows, which are neither trained "
            "on nor reported."
        ),
    )


def retention_points(found: Retention) -> Points:
    """What was learned (across) against what was lost (upwards), one point per method and seed."""
    runs = [run for curve, name in found.chosen.items() for run in found.runs if run.method == name]
    curves = {name: curve for curve, name in found.chosen.items()}
    return Points(
        name="picture",
        title=f"Learned against lost, {_of(found)}: a point for each seed",
        x=tuple(run.gain for run in runs),
        y=tuple(run.forgotten for run in runs),
        groups=tuple(curves[run.method] for run in runs),
        x_label="gain on the task, nats per token",
        y_label="rise of the loss in the kept languages, nats per token",
        note="Best is right and low. Each method at the lowest rate with which it learns about all that it can.",
    )


def draw_retention(found: Retention, path: Path) -> None:
    """Draw every method as a curve over its learning rates, with intervals where there are several seeds.

    Args:
        found: The benchmark.
        path: File to write; its ending (.png, .svg, .pdf) is the format.

    Raises:
        InputError: Every run destroyed the model, so that there is nothing to draw.
        MissingExtraError: matplotlib is not installed.
    """
    points = [one for one in found.all_summaries() if math.isfinite(one.gain.mean + one.forgotten.mean)]
    if not points:
        raise InputError("No run has finite figures, so that there is nothing to draw. Take lower learning rates.")
    title = f"{_of(found).capitalize()}: learned against kept; with intervals the chosen learning rates"
    draw_protection(curves_of(points, found.methods), path, title=title)


def _figures(one: Summary) -> list[Cell]:
    answers = [_spread(part, _share) for part in (one.exact_match, one.digit_match) if part is not None]
    changed = _PER_CENT * one.core_changed / one.core_size if one.core_size else 0.0
    return [_spread(one.gain, float), *answers, _spread(one.forgotten, _percent), round(changed, 2)]


def _spread(interval: Interval, scale: Callable[[float], float]) -> Cell:
    if math.isnan(interval.low):
        return scale(interval.mean)
    return Spread(scale(interval.mean), scale(interval.low), scale(interval.high))


def _share(value: float) -> float:
    return _PER_CENT * value


def _percent(logarithm: float) -> float:
    return _PER_CENT * math.expm1(logarithm) if logarithm < math.log(1e9) else math.inf


def _has_answers(found: Retention) -> bool:
    return any(run.target_after.exact_match is not None for run in found.runs)


def _of(found: Retention) -> str:
    return found.task if _has_answers(found) else f"learning {found.task}"


def _seeds(found: Retention) -> str:
    if len(found.seeds) == 1:
        return "One seed, so that there are no intervals."
    return f"Means of {len(found.seeds)} seeds with 95 % intervals (Student's t)."
