"""When a measurement is due; what follows from one is shown with the Trainer in `test_sentinel.py`."""

from __future__ import annotations

from typing import Any

import pytest

from hf_langcore.training.sentinel_breaches import Limits
from hf_langcore.training.sentinel_watch import Options


def options(every: float) -> Options:
    values: dict[str, Any] = {
        "limits": Limits(1.2, "language", None),
        "on_breach": "warn",
        "after_revert": "stop",
        "learning_rate_factor": 0.5,
        "max_reverts": 3,
        "batch_size": "auto",
        "snapshot_dir": None,
    }
    return Options(every=every, **values)


def test_steps_are_counted_from_the_start() -> None:
    """Multiples of `every`, wherever a run resumes."""
    assert [step for step in range(1, 10) if options(3).is_time(step, 0.0, 0.0)] == [3, 6, 9]


@pytest.mark.parametrize(("every", "steps"), [(0.1, 10), (0.25, 8), (0.3, 7), (0.5, 3)])
def test_parts_of_an_epoch_are_met_once_each(every: float, steps: int) -> None:
    """Whatever the number of steps in an epoch, and however its fractions are rounded."""
    last, due = 0.0, []
    for step in range(1, 3 * steps + 1):
        epoch = (step - 1) // steps + ((step - 1) % steps + 1) / steps  # as the Trainer computes it
        if options(every).is_time(step, epoch, last):
            due.append(epoch)
            last = epoch
    assert len(due) == min(int(3 / every + 1e-6), 3 * steps)
    assert due[0] - every < 1 / steps
