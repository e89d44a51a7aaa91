"""Our part of a card, between two comments that nobody sees on the page."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Marks:
    """The comments around a part of a card.

    Attributes:
        name: What stands in them.
    """

    name: str

    def put(self, section: str, *, into: str) -> str:
        """A card's text with `section` in the place of the one that is there, or first.

        Args:
            section: Markdown without the marks.
            into: The text; one mark without the other is removed, and what follows it stays.
        """
        # Not from a start that has lost its end: what follows that one is somebody's text.
        start, end = re.escape(self._start), re.escape(self._end)
        pattern = re.compile(rf"{start}(?:(?!{start}).)*?{end}\n*", re.DOTALL)
        ours = f"{self._start}\n{section.strip()}\n{self._end}\n\n"
        first = pattern.search(into)
        if first is None:
            return f"{ours}{self._unmarked(into).lstrip()}"
        before, after = into[: first.start()], pattern.sub("", into[first.end() :])
        return f"{self._unmarked(before)}{ours}{self._unmarked(after)}"

    def of(self, text: str) -> str | None:
        """What stands between the marks; None where there are none."""
        found = re.search(rf"{re.escape(self._start)}(.*?){re.escape(self._end)}", text, re.DOTALL)
        return None if found is None else found[1].strip()

    @property
    def _start(self) -> str:
        return f"<!-- {self.name} -->"

    @property
    def _end(self) -> str:
        return f"<!-- /{self.name} -->"

    def _unmarked(self, text: str) -> str:
        return text.replace(self._start, "").replace(self._end, "")
