"""A perplexity report as a picture: one row a language, one mark a condition, on a logarithmic axis."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from hf_langcore.errors import InputError
from hf_langcore.extras import require
from hf_langcore.files import replace_file

_SUFFIXES = (".png", ".svg", ".pdf")
_MARKS = "osD^vP*X"  # shapes besides colours, for those who cannot tell the colours apart


def draw(perplexities: Mapping[str, Mapping[str, float]], path: Path, *, caption: str) -> None:
    """Draw conditions -> language -> perplexity into a file; infinite values stand at the right edge, hollow.

    Raises:
        MissingExtraError: matplotlib is not installed.
        InputError: The file's ending is unknown.
    """
    if path.suffix not in _SUFFIXES:
        raise InputError(f"A figure is written as {', '.join(_SUFFIXES)}, got {path.name!r}.")
    require("matplotlib", extra="report", feature="Drawing a report")
    from matplotlib.figure import Figure

    languages = list(next(iter(perplexities.values())))
    figure = Figure(figsize=(7.5, 1.6 + 0.24 * len(languages)), layout="constrained")
    axes = figure.add_subplot()
    edge = _edge(perplexities)
    for number, (condition, values) in enumerate(perplexities.items()):
        _mark(axes, [values[language] for language in languages], edge, condition, number)
    axes.set_yticks(range(len(languages)), languages)
    axes.margins(y=0.02)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel("perplexity")
    axes.set_title(caption, fontsize=8, loc="left")
    axes.grid(axis="both", alpha=0.3)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.08 - 1.0 / (4 + len(languages))), ncols=4, frameon=False)
    replace_file(path, lambda temporary: figure.savefig(temporary, format=path.suffix[1:], dpi=150))


def _edge(perplexities: Mapping[str, Mapping[str, float]]) -> float:
    """Where infinite values are drawn: right of the largest finite one."""
    finite = [value for values in perplexities.values() for value in values.values() if math.isfinite(value)]
    return 3 * max(finite, default=1.0)


def _mark(axes: object, values: Sequence[float], edge: float, condition: str, number: int) -> None:
    colour, shape = f"C{number % 10}", _MARKS[number % len(_MARKS)]
    rows = range(len(values))
    finite = [(value, row) for value, row in zip(values, rows, strict=True) if math.isfinite(value)]
    infinite = [row for value, row in zip(values, rows, strict=True) if not math.isfinite(value)]
    options = {"color": colour, "marker": shape, "linestyle": "none", "markersize": 5}
    axes.plot([x for x, _ in finite], [y for _, y in finite], label=condition, **options)  # type: ignore[attr-defined]
    if infinite:
        hollow = {**options, "markerfacecolor": "none"}
        axes.plot([edge] * len(infinite), infinite, **hollow)  # type: ignore[attr-defined]
