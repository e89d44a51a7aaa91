"""`mixture.json` and what is made of it."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from hf_langcore.files import replace_json
from hf_langcore.training.consumption import MixtureReport
from hf_langcore.training.records import MIXTURE_FILE, metrics_of, read_record, record_of, summary_of

NAMES = ("task", "wiki", "chat")
REPORTS = [
    MixtureReport.of(epoch, NAMES, np.array([[4, 40, 20], [6, 60, 50 + epoch], [2, 10, 9]])) for epoch in range(2)
]
SETTINGS = {"ratio": 2.0, "by": "rows", "weights": {"wiki": 0.75, "chat": 0.25}, "seed": 1}


def test_a_record_has_totals_and_epochs() -> None:
    """And what was asked for."""
    record = record_of(REPORTS, NAMES, SETTINGS)
    assert {key: record[key] for key in SETTINGS} == SETTINGS
    assert record["total"]["wiki"] == {"rows": 12, "tokens": 120, "trained_tokens": 101}
    assert [epoch["general_rows"] for epoch in record["epochs"]] == [8, 8]
    assert metrics_of(record)["mixture/wiki/trained_tokens"] == 101
    assert len(metrics_of(record)) == 9


def test_the_summary_is_one_line() -> None:
    """With the proportions that were reached; a run without task rows has none."""
    line = summary_of(record_of(REPORTS, NAMES, SETTINGS))
    assert "\n" not in line
    assert "wiki 12 rows (120 tokens)" in line
    assert line.endswith("general to task: 2 by rows, 1.75 by tokens.")
    assert "no task rows" in summary_of(record_of([], NAMES, SETTINGS))


def test_a_record_is_read_back(tmp_path: Path) -> None:
    """As it was written; without a checkpoint there is nothing to read."""
    replace_json(tmp_path / MIXTURE_FILE, record_of(REPORTS, NAMES, SETTINGS))
    assert read_record(tmp_path, NAMES) == REPORTS
    assert read_record(None, NAMES) == []


@pytest.mark.parametrize("problem", ["missing", "damaged", "other sources"])
def test_a_record_that_does_not_fit_is_told_of(tmp_path: Path, caplog: pytest.LogCaptureFixture, problem: str) -> None:
    """Training goes on; the report begins at the checkpoint."""
    if problem == "damaged":
        (tmp_path / MIXTURE_FILE).write_text('{"epochs": [{}]}')
    elif problem == "other sources":
        replace_json(tmp_path / MIXTURE_FILE, record_of(REPORTS, NAMES, SETTINGS))
    with caplog.at_level(logging.WARNING):
        assert read_record(tmp_path, ("task", "wiki") if problem == "other sources" else NAMES) == []
    assert "not in the report" in caplog.text
