"""One bar over several experiments."""

from __future__ import annotations

import pytest

from hf_langcore.recipes.bench import progress as progress_module
from hf_langcore.recipes.bench.progress import Progress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(progress_module.time, "perf_counter", lambda: now[0])
    return now


def test_steps_move_the_bar_by_their_part(clock: list[float]) -> None:
    """Steps of an experiment share its cost; more steps than expected do not overrun it."""
    progress = Progress({"one": 6.0, "two": 2.0}, is_shown=False)
    with progress.experiment("one"):
        progress.expect(3)
        progress.step()
        assert progress.done == pytest.approx(2.0)
        for _ in range(5):
            progress.step()
        assert progress.done == pytest.approx(6.0)
        clock[0] += 10
    with progress.experiment("two"):
        progress.step()
        assert progress.done == 6.0
        clock[0] += 10
    assert progress.done == progress.total == 8.0


def test_what_was_kept_does_not_count(clock: list[float]) -> None:
    """It took no time, so that the rest's estimate must not get better by it."""
    progress = Progress({"kept": 5.0, "new": 5.0}, is_shown=False)
    with progress.experiment("kept"):
        clock[0] += 0.1
    assert (progress.done, progress.total) == (0.0, 5.0)


def test_the_bar_says_what_is_left(capsys: pytest.CaptureFixture[str], clock: list[float]) -> None:
    """Name, share and time."""
    progress = Progress({"one": 1.0, "two": 3.0})
    with progress.experiment("one"):
        clock[0] += 10
    with progress.experiment("two"):
        pass
    progress.close()
    shown = capsys.readouterr().err
    assert "one:   0%" in shown
    assert "two:  25%" in shown
    assert "left" in shown


def test_steps_outside_a_run() -> None:
    """A single experiment may be run without a plan."""
    progress = Progress(is_shown=False)
    progress.expect(2)
    progress.step()
    progress.close()
