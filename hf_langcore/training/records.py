"""`mixture.json`: what a training run consumed of each source, in each epoch and in all."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hf_langcore.data.shares import TASK
from hf_langcore.training.consumption import MixtureReport, SourceCount

MIXTURE_FILE = "mixture.json"
"""Name of the record in the output folder and, for resuming, in every checkpoint."""

_FIGURES = ("rows", "tokens", "trained_tokens")

logger = logging.getLogger(__name__)


def record_of(reports: Sequence[MixtureReport], names: Sequence[str], settings: Mapping[str, Any]) -> dict[str, Any]:
    """What `mixture.json` holds.

    Args:
        reports: What each epoch consumed.
        names: Names of the sources, "task" first.
        settings: What was asked for: ratio, unit, weights, seed.
    """
    totals = {
        name: {figure: sum(getattr(report.sources[name], figure) for report in reports) for figure in _FIGURES}
        for name in names
    }
    return {**settings, "total": totals, "epochs": [asdict(report) for report in reports]}


def metrics_of(record: Mapping[str, Any]) -> dict[str, int]:
    """Totals as metrics of the Trainer, such as "mixture/general/rows"."""
    return {
        f"mixture/{name}/{figure}": value for name, total in record["total"].items() for figure, value in total.items()
    }


def summary_of(record: Mapping[str, Any]) -> str:
    """One line: what was consumed, and in which proportion to the task."""
    total = record["total"]
    parts = [f"{name} {count['rows']:,} rows ({count['tokens']:,} tokens)" for name, count in total.items()]
    ratios = []
    for figure in ("rows", "tokens"):
        task = total[TASK][figure]
        general = sum(count[figure] for name, count in total.items() if name != TASK)
        ratios.append(f"{general / task:.3g} by {figure}" if task else f"no task {figure}")
    return f"Consumed in training: {', '.join(parts)}; general to task: {', '.join(ratios)}."


def read_record(checkpoint: Path | None, names: Sequence[str]) -> list[MixtureReport]:
    """What had been consumed when a checkpoint was written; nothing without one.

    A checkpoint without a record, or with one of other sources, is no reason to stop: a warning says that the counts
    begin here.
    """
    if checkpoint is None:
        return []
    try:
        record = json.loads((checkpoint / MIXTURE_FILE).read_text(encoding="utf-8"))
        reports = [_report(epoch) for epoch in record["epochs"]]
    except (OSError, ValueError, KeyError, TypeError):
        reports = None
    if reports is None or any(set(report.sources) != set(names) for report in reports):
        logger.warning(
            "%s holds no %s of the sources %s, so the rows that were consumed before it are not in the report.",
            checkpoint,
            MIXTURE_FILE,
            list(names),
        )
        return []
    return reports


def _report(epoch: dict[str, Any]) -> MixtureReport:
    return MixtureReport(
        **{**epoch, "sources": {name: SourceCount(**count) for name, count in epoch["sources"].items()}}
    )
