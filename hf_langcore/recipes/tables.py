"""Console tables of the recipes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.table import Table

from hf_langcore.recipes.retention import Run


def harm_line(harm: Mapping[str, float], *, fraction: float) -> str:
    """One sentence: in how many languages the core hurts more than random weights."""
    above = [language for language, ratio in harm.items() if ratio > 1]
    smallest = min(harm, key=lambda language: harm[language])
    return (
        f"Zeroing the top {100 * fraction:g} % hurts more than zeroing random weights in {len(above)} of {len(harm)} languages; "
        f"the smallest ratio of the rises in loss is {harm[smallest]:.1f} ({smallest})."
    )


def run_table(runs: Sequence[Run]) -> Table:
    """What each run learned, and which weights it changed."""
    table = Table(title="What each run learned and changed", title_justify="left")
    for column in ("run", "loss on new sums", "core weights changed", "other weights changed"):
        table.add_column(column, justify="left" if column == "run" else "right")
    for run in runs:
        loss = f"{run.task_loss[0]:.2f} -> {run.task_loss[1]:.2f}"
        table.add_row(run.name, loss, f"{run.core_changed:,} of {run.core_size:,}", f"{run.complement_changed:,}")
    return table
