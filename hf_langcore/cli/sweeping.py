"""The ratio sweep of `langcore sft --sweep`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hf_langcore.cli import loading
from hf_langcore.errors import MissingExtraError

_COLUMNS = ("ratio", "general rows", "task loss", "mean perplexity", "change")


def run_sweep(
    arguments: Any,
    ratios: Sequence[float],
    *,
    data: str | None,
    max_tokens: int | None,
    make_adapter: Callable[[Any], Any],
    overwrite: bool,
    quiet: bool,
) -> tuple[dict[str, Any], Any]:
    """Sweep, and write table and figure into the output folder; what came out, for machines and for people.

    Args:
        arguments: A run, as `parse_run` returns it.
        ratios: Times as much general data as task data.
        data: Folder with one text file per language; that of the sentinel if None, else the mini corpus.
        max_tokens: At most so many scored tokens per language.
        make_adapter: Makes the adapter of a run.
        overwrite: Replace a sweep with other settings.
        quiet: No progress bars.
    """
    from hf_langcore.recipes.ratio_sweep import SWEEP_FILE, ratio_sweep

    source = data or getattr(arguments.training, "sentinel", None) or loading.MINI
    corpora = loading.load_corpora(str(source), None, start=loading.MINI_SENTENCES)
    sweep = ratio_sweep(
        arguments,
        ratios,
        corpora,
        make_adapter=make_adapter,
        max_tokens=max_tokens,
        overwrite=overwrite,
        tell=lambda line: print(line, file=sys.stderr),
        progress=not quiet,
    )
    folder = Path(arguments.training.output_dir)
    drawn = _draw(sweep, folder / "sweep.png")
    facts = {
        "output": str(folder),
        "record": str(folder / SWEEP_FILE),
        "figure": None if drawn is None else str(drawn),
        "base": _fact(sweep.base),
        "points": [_fact(point) for point in sweep.points],
    }
    written = SWEEP_FILE if drawn is None else f"{SWEEP_FILE} and {drawn.name}"
    print(f"{written} are in {folder}" if drawn else f"{written} is in {folder}", file=sys.stderr)
    return facts, _table(sweep)


def _fact(point: Any) -> dict[str, Any]:
    return {**asdict(point), "mean_perplexity": point.mean_perplexity}


def _draw(sweep: Any, path: Path) -> Path | None:
    from hf_langcore.recipes.sweep_figure import draw_sweep

    try:
        draw_sweep(sweep, path)
    except MissingExtraError as error:
        print(f"no figure: {error}", file=sys.stderr)
        return None
    return path


def _table(sweep: Any) -> Any:
    from rich.table import Table

    table = Table(title="Acquisition (task loss) and retention (mean perplexity)", title_justify="left")
    for column in _COLUMNS:
        table.add_column(column, justify="right")
    for row in sweep.rows():
        table.add_row(*row)
    return table
