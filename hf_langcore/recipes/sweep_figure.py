"""A ratio sweep as a picture: acquisition against retention, one mark a ratio."""

from __future__ import annotations

from pathlib import Path

from hf_langcore.errors import InputError
from hf_langcore.extras import require
from hf_langcore.files import replace_file
from hf_langcore.recipes.ratio_sweep import RatioSweep

_SUFFIXES = (".png", ".svg", ".pdf")


def draw_sweep(sweep: RatioSweep, path: Path) -> None:
    """Draw task loss over mean perplexity; the lower left corner is where one wants to be.

    Raises:
        MissingExtraError: matplotlib is not installed.
        InputError: The file's ending is unknown.
    """
    if path.suffix not in _SUFFIXES:
        raise InputError(f"A figure is written as {', '.join(_SUFFIXES)}, got {path.name!r}.")
    require("matplotlib", extra="report", feature="Drawing a sweep")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.0, 4.2), layout="constrained")
    axes = figure.add_subplot()
    points = sorted(sweep.points, key=lambda point: point.ratio or 0.0)
    across, up = [point.mean_perplexity for point in points], [point.task_loss for point in points]
    axes.plot(across, up, "o-", color="C0", linewidth=1, label="trained, by ratio of general data")
    axes.plot([sweep.base.mean_perplexity], [sweep.base.task_loss], "s", color="C1", label="base")
    axes.axvline(sweep.base.mean_perplexity, color="C1", linewidth=0.8, linestyle=":")
    for point in points:
        place = (point.mean_perplexity, point.task_loss)
        axes.annotate(point.name, place, xytext=(5, 5), textcoords="offset points")
    axes.set_xlabel(f"retention: mean perplexity over {len(sweep.base.perplexity)} languages (less is better)")
    axes.set_ylabel("acquisition: loss on held-out task rows\nin nats per token (less is better)")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    replace_file(path, lambda temporary: figure.savefig(temporary, format=path.suffix[1:], dpi=150))
