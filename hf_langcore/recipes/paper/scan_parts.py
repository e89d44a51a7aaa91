"""A scan for a report: the critical dimensions, their controls, what each accounts for, and where they are."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from hf_langcore.report.parts import Cell, Matrix, Part, Spread, Table

_SHOWN = 12  # measured dimensions where fewer are critical
_NOTICEABLE = -0.1  # logarithm of the ratio; edits that help no more than that are drawn as harmless
_COLUMNS = 48  # residual dimensions of the map


def critical_parts(scan: Mapping[str, Any]) -> tuple[Part, ...]:
    """Tables and map of a scan.

    Args:
        scan: What `CriticalScan.to_dict` gives.
    """
    parts: list[Part] = [_dimensions(scan)]
    if scan["joint"] is not None:
        parts.append(_joint(scan["joint"]))
    where = _map(scan)
    return (*parts, where) if where is not None else tuple(parts)


def place_of(one: Mapping[str, Any]) -> str:
    """A dimension in words: parameter, kind and index."""
    index = one["index"]
    number = ", ".join(map(str, index)) if isinstance(index, (list, tuple)) else str(index)
    kind = "" if one["kind"] == "norm" else f"{one['kind']} "
    return f"{str(one['parameter']).removesuffix('.weight')} {kind}{number}"


def _dimensions(scan: Mapping[str, Any]) -> Table:
    critical = scan["critical"]
    count = len(critical)
    rows = [_row(one, "critical") for one in critical]
    known = [place_of(one) for one in critical]
    further = [one for one in scan["measured"] if place_of(one) not in known]
    rows += [_row(one, "") for one in further[: max(0, _SHOWN - count)]]
    columns = ("dimension", "", "edit", "perplexity", "ratio", "largest control", "found by")
    return Table(
        "dimensions",
        f"The strongest of {len(scan['measured'])} edited dimensions",
        columns,
        tuple(rows),
        note="Ratio: mean perplexity under the edit over that without, with a 95 % interval where it was measured on all of the "
        "text. Largest control: the same for random others of the same tensor. Critical is what also stands out of its tensor: where "
        "effects fall off evenly, as in a norm in which many gains do much, none is.",
        log_bars=("perplexity",),
    )


def _row(one: Mapping[str, Any], mark: str) -> tuple[Cell, ...]:
    ratio: Cell = float(one["perplexity_ratio"])
    if one["interval"] is not None:
        low, high, _ = map(float, one["interval"])
        ratio = Spread(float(one["perplexity_ratio"]), low, high)
    control = None if one["control_ratio"] is None else float(one["control_ratio"])
    edit = f"x{float(one['factor']):g}"
    return (place_of(one), mark, edit, float(one["perplexity"]), ratio, control, ", ".join(one["sources"]))


def _joint(joint: Mapping[str, Any]) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (place_of(one), float(one["rise"]), float(one["share"])) for one in joint["without"]
    ]
    rows.append(("all together", float(joint["rise"]), None))
    return Table(
        "joint",
        "All critical dimensions edited together, and each left out",
        ("left out", "rise in loss, nats per token", "share of the rise that goes away"),
        tuple(rows),
        note="Shares need not add up: what two dimensions carry together goes away with neither.",
        last_is_total=True,
    )


def _map(scan: Mapping[str, Any]) -> Matrix | None:
    """Layers x residual dimensions, those with the largest effects; None where none was measured."""
    effects: dict[tuple[str, int], float] = {}
    for one in scan["measured"]:
        ratio = float(one["perplexity_ratio"])
        if one["residual"] is not None and ratio > 0:
            place = ("outside" if one["layer"] is None else str(one["layer"]), int(one["residual"]))
            effects[place] = max(effects.get(place, -math.inf), math.log(ratio))
    if not effects:
        return None
    columns = _strongest(effects)
    layers = [*map(str, range(int(scan["num_layers"]))), "outside"]
    return Matrix(
        "map",
        "Layer by residual dimension: what the worst edit does",
        tuple(layers),
        tuple(map(str, columns)),
        tuple(tuple(effects.get((layer, column)) for column in columns) for layer in layers),
        unit="logarithm of the perplexity ratio",
        note=f"The {len(columns)} dimensions with the largest effects, of {len({at for _, at in effects})} that were measured; an "
        "empty cell was not measured. A gain, a row that writes the dimension or a column that reads it counts.",
        is_signed=min(effects.values()) < _NOTICEABLE,
    )


def _strongest(effects: Mapping[tuple[str, int], float]) -> Sequence[int]:
    largest: dict[int, float] = {}
    for (_, column), effect in effects.items():
        largest[column] = max(largest.get(column, -math.inf), effect)
    return sorted(sorted(largest, key=lambda column: -largest[column])[:_COLUMNS])
