"""Names of sections and parts as anchors and file names: plain characters, unique, none too long."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from hf_langcore.report.parts import Part, Section

_LONGEST = 80


class Names:
    """Gives out names, none twice, also where capitals make no difference."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = {name.lower() for name in taken}

    def give(self, wanted: str) -> str:
        """`wanted` in plain characters, with a number after it where that is taken."""
        plain = re.sub(r"[^A-Za-z0-9_]+", "-", wanted).strip("-")[:_LONGEST] or "part"
        name, number = plain, 1
        while name.lower() in self._taken:
            number += 1
            name = f"{plain}-{number}"
        self._taken.add(name.lower())
        return name


def anchors(sections: Sequence[Section]) -> Iterator[tuple[str, Section, list[tuple[str, Part]]]]:
    """Each section and its parts with their anchors: "<section>" and "<section>-<part>"."""
    names = Names(("top", "contents", "zoom", "theme", "main"))
    for section in sections:
        own = names.give(section.name)
        yield own, section, [(names.give(f"{own}-{part.name}"), part) for part in section.parts]
