"""Alignments as tables, curves, matrices and a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hf_langcore.probing.alignment_report import MEASURES, AlignmentReport, change
from hf_langcore.probing.projection import Projection
from hf_langcore.recipes.bench.workbench import Subject
from hf_langcore.report.parts import Cell, Curves, Matrix, Part, Points, Spread, Table

_NAMES = {
    "rsa": "similarity",
    "retrieval": "retrieval",
    "held_out_error": "held-out error",
    "residual": "residual",
    "transport": "transport",
}
_UNITS = {
    "rsa": "rank correlation",
    "retrieval": "share of the relations",
    "transport": "above the distance within a language, as a share of it",
}
_INTERVALS = (
    "Brackets: 95 % intervals by a bootstrap over sentences, parallel ones drawn together; of the transport the smallest and the "
    "largest of its subsamples."
)


def state_parts(
    subject: Subject,
    before: AlignmentReport,
    after: Sequence[AlignmentReport],
    *,
    layer: int,
    picture: Projection | None,
    language: str,
) -> list[Part]:
    """Everything about one model.

    Args:
        subject: The model.
        before: Its alignment.
        after: Those of its fine-tuned copies.
        layer: Of the matrices.
        picture: Its prototypes before and after.
        language: Of the fine-tuning.
    """
    kind = "encoder" if subject.is_encoder else "decoder"
    who = f"{subject.name} ({kind})"
    parts: list[Part] = [_curves(before, kind, who), _layer_table(before, kind, who)]
    parts += [_matrix(before, name, layer, kind, who) for name in _UNITS if name in before.measures]
    if after:
        parts.append(_change_table(before, after, kind, who, language))
    if picture is not None:
        parts.append(_points(picture, layer, kind, who))
    return parts


def _curves(report: AlignmentReport, kind: str, who: str) -> Curves:
    lines: dict[str, tuple[float | None, ...]] = {}
    bands: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {}
    places = range(len(report.layers))
    for name, measure in report.measures.items():
        intervals = [measure.interval(place) for place in places]
        lines[_NAMES[name]] = tuple(_number(value) for value, _, _ in intervals)
        bands[_NAMES[name]] = (tuple(low for _, low, _ in intervals), tuple(high for _, _, high in intervals))
        if np.isfinite(measure.chance).any():
            lines[f"{_NAMES[name]}, shuffled"] = tuple(map(_number, measure.chance.tolist()))
    return Curves(
        name=f"{kind}-layers",
        title=f"Alignment by layer, mean over pairs of languages: {who}",
        x_label="layer (0: embeddings)",
        y_label="figure",
        x=tuple(map(float, report.layers)),
        lines=lines,
        bands=bands,
        note=f"{len(report.labels)} relations that all {len(report.languages)} languages have: {', '.join(report.labels)}.",
    )


def _layer_table(report: AlignmentReport, kind: str, who: str) -> Table:
    names = list(report.measures)
    rows: list[tuple[Cell, ...]] = []
    for place, layer in enumerate(report.layers):
        cells: list[Cell] = [str(layer)]
        for name in names:
            measure = report.measures[name]
            cells.append(_spread(*measure.interval(place)))
            if not measure.by_seeds:
                cells.append(_number(float(measure.chance[place])))
        rows.append(tuple(cells))
    columns = ["layer"]
    for name in names:
        columns.append(_NAMES[name])
        if not report.measures[name].by_seeds:
            columns.append(f"{_NAMES[name]}, shuffled")
    title = f"Alignment by layer in figures: {who}"
    meaning = "; ".join(f"{_NAMES[name]}: {MEASURES[name]}" for name in names)
    return Table(f"{kind}-figures", title, tuple(columns), tuple(rows), f"{meaning}. {_INTERVALS}")


def _matrix(report: AlignmentReport, name: str, layer: int, kind: str, who: str) -> Matrix:
    values = report.matrix(name, layer)
    diagonal = (
        "The diagonal is 0 by definition."
        if name == "transport"
        else "On the diagonal one half of a language's sentences against the other half."
    )
    return Matrix(
        name=f"{kind}-{name.replace('_', '-')}",
        title=f"{_NAMES[name].capitalize()} by pair of languages at layer {layer}: {who}",
        rows=report.languages,
        columns=report.languages,
        values=_cells(values),
        unit=_UNITS[name],
        note=f"{diagonal} The layer is the one of highest similarity after the embeddings.",
        is_signed=bool((values < 0).any()),
    )


def _change_table(
    before: AlignmentReport, after: Sequence[AlignmentReport], kind: str, who: str, language: str
) -> Table:
    """After minus before: the mean over the copies, and the widest of their intervals."""
    changes = [change(before, one) for one in after]
    rows = []
    for place, layer in enumerate(before.layers):
        cells: list[Cell] = [str(layer)]
        for name in before.measures:
            values, lows, highs = zip(*(one[name][place] for one in changes), strict=True)
            cells.append(_spread(sum(values) / len(values), min(lows), max(highs)))
        rows.append(tuple(cells))
    return Table(
        name=f"{kind}-change",
        title=f"What fine-tuning on {language} changes, after minus before: {who}",
        columns=("layer", *(_NAMES[name] for name in before.measures)),
        rows=tuple(rows),
        note=(
            f"Mean over {len(after)} fine-tuned copies; brackets reach over the intervals of all of them. The same draws of sentences "
            "before and after. Less held-out error, residual and transport is more alike."
        ),
    )


def _points(picture: Projection, layer: int, kind: str, who: str) -> Points:
    return Points(
        name=f"{kind}-picture",
        title=f"Prototypes of relations at layer {layer}: {who}",
        x=picture.x,
        y=picture.y,
        groups=picture.languages,
        labels=picture.labels,
        panels=picture.panels,
        note=(
            "Each mark is one relation of one language, by t-SNE of directions; a word stands amid the marks of its relation. Both "
            "panels are one embedding, so that they can be compared; only what lies near what means anything."
        ),
    )


def _cells(values: NDArray[np.float64]) -> tuple[tuple[float | None, ...], ...]:
    return tuple(tuple(_number(one) for one in row) for row in values.tolist())


def _number(value: float) -> float | None:
    return round(value, 4) if math.isfinite(value) else None


def _spread(value: float, low: float, high: float) -> Cell:
    if not math.isfinite(low):
        return _number(value)
    return Spread(round(value, 4), round(low, 4), round(high, 4))
