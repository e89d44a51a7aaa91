"""Figures of a report for the card of a mask's repository."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hf_langcore.errors import InputError
from hf_langcore.report.anchors import anchors
from hf_langcore.report.describing import describe
from hf_langcore.report.drawing import has_figure
from hf_langcore.report.parts import HeatMaps, Part
from hf_langcore.report.writing import FIGURES, read_report

MOST = 4


def card_figures(report: str | Path, *, names: Sequence[str] | None = None, most: int = MOST) -> dict[Path, str]:
    """Pictures for `CoreMask.push_to_hub(figures=...)`, with words for those who cannot see them.

    Args:
        report: Folder of a report.
        names: Anchors of parts, "<section>-<part>", in the order of the card; None takes heat maps first, then the others
            in the report's order.
        most: At most so many, where `names` does not choose.

    Returns:
        File -> what it shows. Light ones: a card's pictures stand on their own background.

    Raises:
        InputError: There is no report, one of `names` is none of its figures, or a picture has gone.
    """
    parts = [each for _, _, named in anchors(read_report(report).sections) for each in named]
    known: dict[str, Part] = {name: part for name, part in parts if has_figure(part)}
    unknown = [name for name in names or () if name not in known]
    if unknown:
        raise InputError(f"{str(report)!r} has no figures {unknown}. It has {list(known)}.")
    chosen = list(names) if names is not None else _heat_maps_first(known)[:most]
    files = {Path(report) / FIGURES / f"{name}.png": describe(known[name]) for name in chosen}
    gone = [str(path) for path in files if not path.is_file()]
    if gone:
        raise InputError(f"There is no picture {gone[0]!r}. Write the report again: `langcore report`.")
    return files


def _heat_maps_first(known: dict[str, Part]) -> list[str]:
    return sorted(known, key=lambda name: not isinstance(known[name], HeatMaps))
