"""`sentinel.json`: what was seen, written whole or not at all, and read back exactly."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from hf_langcore.errors import ConfigurationError
from hf_langcore.evaluation import LanguageScore
from hf_langcore.training.sentinel_breaches import loss_breach
from hf_langcore.training.sentinel_drift import Drift
from hf_langcore.training.sentinel_record import SENTINEL_FILE, Measurement, SentinelRecord


def measurement(step: int, nll: float, drift: Drift | None = None) -> Measurement:
    scores = {"en": LanguageScore(nll, 7), "de": LanguageScore(2.0, 9)}
    return Measurement(step, step / 10, scores, drift or Drift(), 0.5, f"step {step}")


def record() -> SentinelRecord:
    return SentinelRecord(
        settings={"text_sha256": "abc"},
        measurements=[measurement(0, 1.1), measurement(5, math.inf, Drift(math.inf, "w[3]", 0.25, 0.1))],
        breaches=[loss_breach(4, "the logged loss")],
        stopped_because="it broke",
        train_seconds=10.0,
    )


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    """Infinite figures too; the file is JSON that any reader takes."""
    record().write(tmp_path)
    assert SentinelRecord.read(tmp_path) == record()
    values = json.loads((tmp_path / SENTINEL_FILE).read_text(), parse_constant=pytest.fail)
    assert values["measuring_seconds"] == 1.0
    assert [path.name for path in tmp_path.iterdir()] == [SENTINEL_FILE]


def test_a_resumed_run_forgets_what_came_after_its_checkpoint() -> None:
    """Later measurements and breaches go, and so does the reason to stop."""
    kept = record().up_to(4)
    assert [one.step for one in kept.measurements] == [0]
    assert [one.step for one in kept.breaches] == [4]
    assert (kept.stopped_because, kept.train_seconds, kept.time_share) == (None, 10.0, 0.05)
    assert record().up_to(3).breaches == []


@pytest.mark.parametrize("text", [None, "", "{}", "[1]", '{"format": "hf_langcore.sentinel", "format_version": 1}'])
def test_a_missing_or_damaged_file_is_refused(tmp_path: Path, text: str | None) -> None:
    """With its name and what to do."""
    if text is not None:
        (tmp_path / SENTINEL_FILE).write_text(text)
    with pytest.raises(ConfigurationError, match=rf"{SENTINEL_FILE} is missing or damaged.*Copy the sentinel's files"):
        SentinelRecord.read(tmp_path)


def test_another_version_is_refused(tmp_path: Path) -> None:
    """A newer file is not guessed at."""
    record().write(tmp_path)
    path = tmp_path / SENTINEL_FILE
    path.write_text(path.read_text().replace('"format_version": 1', '"format_version": 2'))
    with pytest.raises(ConfigurationError, match="another version"):
        SentinelRecord.read(tmp_path)


def test_the_log_is_made_of_plain_numbers() -> None:
    """Trackers drop what is none; what is not measured is left out."""
    base, now = record().measurements
    logs = now.logs(base)
    assert all(isinstance(value, float) for value in logs.values())
    assert logs["sentinel/worst_ratio"] == logs["sentinel/ppl_mean"] == math.inf
    assert (logs["sentinel/core_moved"], logs["sentinel/core_l2"]) == (0.25, 0.1)
    assert "sentinel/core_l2" not in base.logs(base)
    assert base.logs(base)["sentinel/ppl_de"] == pytest.approx(math.exp(2))
