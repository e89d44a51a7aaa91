"""How far a run of several experiments is, and how long it will take."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tqdm.auto import tqdm

_AT_ONCE = 1.0  # seconds in which nothing can have been measured


class Progress:
    """One bar over all experiments of a run, in units of their expected cost.

    An experiment that knows how many measurements it makes says so with `expect`; each of them then moves the bar by a
    part of the experiment's cost. What is kept from an earlier run takes no time: it leaves the rest's estimate alone.

    Attributes:
        is_shown: Whether bars are shown.
        done: What is done, in the unit of the costs.
        total: What there is to do.
    """

    def __init__(self, costs: Mapping[str, float] | None = None, *, is_shown: bool = True) -> None:
        self.is_shown = is_shown
        self.done = 0.0
        self.total = sum((costs or {}).values())
        self._costs = dict(costs or {})
        self._bar: Any = None
        self._current, self._steps, self._expected = "", 0, 0

    @contextmanager
    def experiment(self, name: str) -> Iterator[None]:
        """Run one experiment of the plan."""
        self._current, self._steps, self._expected = name, 0, 0
        before, started, cost = self.done, time.perf_counter(), self._costs.get(name, 0.0)
        self._show()
        yield
        if time.perf_counter() - started < _AT_ONCE:
            self.done, self.total = before, self.total - cost
        else:
            self.done = before + cost
        self._current = ""
        self._show()

    def expect(self, steps: int) -> None:
        """Say how many measurements the experiment makes."""
        self._expected = steps

    def step(self) -> None:
        """One measurement is done."""
        self._steps += 1
        if self._current and self._steps <= self._expected:
            self.done += self._costs.get(self._current, 0.0) / self._expected
            self._show()

    def close(self) -> None:
        """Leave the bar as it is."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _show(self) -> None:
        if not self.is_shown:
            return
        if self._bar is None:
            self._bar = tqdm(
                bar_format="{desc}: {percentage:3.0f}% |{bar}| {elapsed}, about {remaining} left", total=self.total
            )
        self._bar.total = self.total
        self._bar.set_description_str(self._current or "done", refresh=False)
        self._bar.update(self.done - self._bar.n)
        self._bar.refresh()
