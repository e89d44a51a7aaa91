"""The parts of a report that say where a core lies: by layer and role, by tensor, by row and column."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from hf_langcore.masks import CoreMask, PackedBits
from hf_langcore.masks.profiles import (
    as_matrix,
    binned,
    concentration,
    densest_window,
    density_grid,
    line_counts,
)
from hf_langcore.report.parts import Cell, HeatMap, Matrix, Table
from hf_langcore.roles import ROLES, Role

FULLEST = 0.01
"""The share of the rows or columns in which the concentration is measured."""

_MATRIX = 2
_DIGITS = 3  # of densities in heat maps
_KIND_ORDER = ("q", "k", "v", "kv", "qkv", "o", "gate", "up", "gate and up", "down")
_HALF = 1 << 16


@dataclass(frozen=True, slots=True)
class Concentration:
    """How much of one matrix's core lies in its fullest rows and columns.

    Attributes:
        parameter: Name of the matrix.
        rows: Part in the fullest hundredth of the rows (outputs).
        columns: Likewise of the columns (inputs).
        random_rows: The same of a random mask with as many weights.
        random_columns: Likewise.
    """

    parameter: str
    rows: float
    columns: float
    random_rows: float
    random_columns: float

    @property
    def excess(self) -> float:
        """How far the stronger of the two lies above the random mask."""
        return max(self.rows - self.random_rows, self.columns - self.random_columns)


def concentration_of(core_mask: CoreMask, name: str, control: PackedBits) -> Concentration:
    """The concentration of one matrix of a mask, beside a control."""
    swap = name in core_mask.provenance.transposed
    own, drawn = (
        [concentration(counts, share=FULLEST) for counts in line_counts(as_matrix(bits, is_transposed=swap))]
        for bits in (core_mask.packed(name), control)
    )
    return Concentration(name, own[0], own[1], drawn[0], drawn[1])


def heat_map(core_mask: CoreMask, name: str, *, cells: int, detail: int) -> HeatMap:
    """Where a mask lies in one matrix.

    Args:
        core_mask: The mask.
        name: The matrix.
        cells: At most so many rows and columns of cells.
        detail: Rows and columns of the window at full resolution.
    """
    matrix = as_matrix(core_mask.packed(name), is_transposed=name in core_mask.provenance.transposed)
    rows, columns = line_counts(matrix)
    row, column, window = densest_window(matrix, size=detail)
    return HeatMap(
        parameter=name,
        shape=(matrix.shape[0], matrix.shape[1]),
        density=tuple(map(_rounded, density_grid(matrix, cells=cells))),
        row_profile=_rounded(binned(rows, matrix.shape[1], bins=cells)),
        column_profile=_rounded(binned(columns, matrix.shape[0], bins=cells)),
        detail=(row, column, tuple(tuple(map(int, line)) for line in window)),
    )


def counts_over_model(scores: Mapping[str, torch.Tensor], count: int) -> dict[str, int]:
    """How many of the `count` largest scores of the whole model lie in each tensor.

    Exact without holding more than one tensor: positive floats are ordered as their bits are, so that two counts of those,
    the upper half and then the lower, give the threshold. Ties at the threshold go to the first tensors.

    Args:
        scores: Name -> scores that are not negative.
        count: How many to take, at most all.
    """

    def bits_of(name: str) -> torch.Tensor:
        return scores[name].detach().to("cpu", torch.float32).reshape(-1).abs().view(torch.int32)

    if not count:
        return dict.fromkeys(scores, 0)
    upper, left = _threshold((bits_of(name) >> 16 for name in scores), count)
    lower, left = _threshold((_lower(bits_of(name), upper) for name in scores), left)
    threshold = (upper << 16) + lower
    found = {}
    for name in scores:
        bits = bits_of(name)
        ties = min(left, int((bits == threshold).sum()))
        found[name] = int((bits > threshold).sum()) + ties
        left -= ties
    return found


def role_table(
    roles: Mapping[str, Role], core_mask: CoreMask, over_model: Mapping[str, int], importance: Mapping[str, float]
) -> Table:
    """Totals by role: share of the weights, of the core, of the importance, and of a core chosen over all tensors."""
    sizes = _sizes(core_mask)
    cores = {name: core_mask.count(name) for name in core_mask}

    def shares(names: Sequence[str]) -> list[float]:
        return [
            sum(values.get(name, 0) for name in names) / (sum(values.values()) or 1)
            for values in (sizes, cores, over_model, importance)
        ]

    by_role = {role: [name for name in core_mask if roles[name].name == role] for role in ROLES}
    rows: list[tuple[Cell, ...]] = [
        (role, sum(sizes[name] for name in names), *shares(names)) for role, names in by_role.items() if names
    ]
    return Table(
        "roles",
        "The core by role",
        ("role", "weights", "share of weights", "share of the core", "share over the whole model", "importance"),
        (*rows, ("all", sum(sizes.values()), *shares(list(core_mask)))),
        note="The core takes the same share of every tensor, as published, so its share by role is that of the weights by "
        "construction, but for rounding down in short vectors. Where the importance lies is told by the last two columns: "
        "the same number of weights chosen over all tensors at once, and the sum of the scores.",
        last_is_total=True,
    )


def layer_matrix(roles: Mapping[str, Role], counts: Mapping[str, int], *, name: str, title: str, note: str) -> Matrix:
    """Share of a region by layer and by kind of tensor.

    Args:
        roles: Of every tensor.
        counts: Weights of each tensor that are in the region.
        name: Of the part.
        title: Of the part.
        note: Of the part.
    """
    columns = _ordered({_column(role) for role in roles.values()})
    layers = sorted({-1 if role.layer is None else role.layer for role in roles.values()})
    total = sum(counts.values()) or 1
    values: dict[tuple[int, str], float] = {}
    for one, role in roles.items():
        place = -1 if role.layer is None else role.layer, _column(role)
        values[place] = values.get(place, 0.0) + counts[one] / total
    return Matrix(
        name,
        title,
        rows=tuple("outside" if layer < 0 else f"layer {layer}" for layer in layers),
        columns=columns,
        values=tuple(tuple(values.get((layer, column)) for column in columns) for layer in layers),
        unit="share",
        note=note,
    )


def tensor_table(
    core_mask: CoreMask, roles: Mapping[str, Role], over_model: Mapping[str, int], lines: Mapping[str, Concentration]
) -> Table:
    """Every tensor of a mask: its density, and how much of it lies in few rows and columns."""
    sizes = _sizes(core_mask)
    rows: list[tuple[Cell, ...]] = []
    for name, shape in core_mask.shapes().items():
        one = lines.get(name)
        figures = (one.rows, one.random_rows, one.columns, one.random_columns) if one else (None,) * 4
        core = core_mask.count(name)
        kind = f"{roles[name].name}: {roles[name].kind}"
        dense = over_model[name] / (sizes[name] or 1)
        rows.append((name, kind, " x ".join(map(str, shape)), core, core_mask.density(name), dense, *figures))
    return Table(
        "tensors",
        "The core in every tensor",
        (
            *("tensor", "role", "shape", "core", "density", "density over the model"),
            *("in fullest rows", "random", "in fullest columns", "random "),
        ),
        tuple(rows),
        note=f"In fullest rows: the part of the tensor's core that lies in the fullest {100 * FULLEST:g} % of its rows (outputs; "
        "columns are inputs), at least one; random is a mask of as many weights. Density over the model: had the same number of "
        "weights been chosen over all tensors at once.",
    )


def dimension_table(core_mask: CoreMask, *, limit: int) -> Table:
    """The rows and columns of matrices that hold most more of a mask than chance puts there."""
    shapes = core_mask.shapes()
    found = [one for one in core_mask.dimensions() if len(shapes[one.parameter]) >= _MATRIX][:limit]
    return Table(
        "dimensions",
        "Rows and columns that are core more than chance allows",
        ("tensor", "axis", "index", "core", "of", "density", "evidence, nats"),
        tuple(
            (
                one.parameter,
                _axis(one.axis, shapes[one.parameter]),
                one.index,
                one.count,
                one.size,
                one.density,
                one.evidence,
            )
            for one in found
        ),
        note="Evidence: a bound on how unlikely so full a row or column is in a random mask of the tensor's density; it grows "
        "with the length. Many entries with one index in different tensors are one dimension of the residual stream.",
    )


def _axis(axis: int, shape: Sequence[int]) -> str:
    return ("row", "column")[axis] if len(shape) == _MATRIX else f"axis {axis}"


def _sizes(core_mask: CoreMask) -> dict[str, int]:
    return {name: int(np.prod(shape, dtype=np.int64)) for name, shape in core_mask.shapes().items()}


def _column(role: Role) -> str:
    return role.kind if role.name in {"attention", "feed-forward"} and role.kind != "other" else role.name


def _ordered(columns: Iterable[str]) -> tuple[str, ...]:
    order = (*_KIND_ORDER, *ROLES)
    return tuple(sorted(columns, key=order.index))


def _rounded(values: Iterable[float]) -> tuple[float, ...]:
    return tuple(round(float(value), _DIGITS) for value in values)


def _lower(bits: torch.Tensor, upper: int) -> torch.Tensor:
    return bits[(bits >> 16) == upper] & (_HALF - 1)


def _threshold(parts: Iterable[torch.Tensor], count: int) -> tuple[int, int]:
    """The value that the `count` largest reach down to, and how many of it are among them."""
    histogram = torch.zeros(_HALF, dtype=torch.int64)
    for part in parts:
        histogram += torch.bincount(part.long(), minlength=_HALF)
    above = histogram.flip(0).cumsum(0).flip(0)  # so many are at least as large
    value = int((above >= count).nonzero()[-1])
    return value, count - int(above[value] - histogram[value])
