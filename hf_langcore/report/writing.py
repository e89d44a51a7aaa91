"""A report on disk: the page, its data and its figures, written all or nothing, and read back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hf_langcore.errors import ArtifactExistsError, InputError
from hf_langcore.files import new_folder
from hf_langcore.report.anchors import anchors
from hf_langcore.report.drawing import Theme, has_figure, png_of
from hf_langcore.report.page import render
from hf_langcore.report.parts import HeatMap, HeatMaps, Part, Section
from hf_langcore.sealing import is_intact, sealed
from hf_langcore.strict_json import read_json

PAGE, DATA, FIGURES, SECTIONS = "index.html", "report.json", "figures", "sections"
FORMAT = 1
_LIMIT = 256 << 20
_DECIMALS = 4  # of the shares in heat maps: a hundredth of a per cent
_THEMES: dict[Theme, str] = {"light": "", "dark": "-dark"}


@dataclass(frozen=True, slots=True)
class Report:
    """What a report says.

    Attributes:
        title: Of its page.
        sections: In the order of the page.
        facts: What all of it depends on: model, revision, texts.
    """

    title: str
    sections: tuple[Section, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ReportPaths:
    """Where a report was written.

    Attributes:
        folder: Its folder.
        page: The page.
        data: The same as data.
        figures: Pictures; those that end in "-dark.png" are for dark pages.
    """

    folder: Path
    page: Path
    data: Path
    figures: tuple[Path, ...]

    def facts(self) -> dict[str, Any]:
        """As JSON values, with the bytes of all files together."""
        files = (self.page, self.data, *self.figures)
        return {
            "folder": str(self.folder),
            "page": str(self.page),
            "data": str(self.data),
            "figures": [str(path) for path in self.figures],
            "bytes": sum(path.stat().st_size for path in files),
        }


def write_report(
    sections: Sequence[Section],
    folder: str | Path,
    *,
    title: str = "Core regions",
    facts: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> ReportPaths:
    """Write a report: `index.html`, `report.json` and `figures/`.

    The page holds everything and loads nothing, neither from the network nor from the folder. Shares in heat maps are kept
    to four decimals.

    Args:
        sections: What is shown, in this order.
        folder: Where to.
        title: Of the page.
        facts: What all of it depends on.
        overwrite: Replace a report that is there; other files stay.

    Returns:
        Where everything lies.

    Raises:
        InputError: `facts` holds what JSON cannot say.
        ArtifactExistsError: The folder is not empty and `overwrite` is False.
        MissingExtraError: matplotlib is not installed.
    """
    target = _free(Path(folder), overwrite=overwrite)
    kept = [_rounded(section) for section in sections]
    about = dict(facts or {})
    page = render(kept, title=title, about=about)
    pictures = dict(_pictures(kept))
    data = _data(Report(title, tuple(kept), about), list(pictures))
    before = _figures_of(target)
    with new_folder(target, overwrite=overwrite, last=DATA, stale="") as staging:
        (staging / FIGURES).mkdir()
        for name, picture in pictures.items():
            (staging / FIGURES / name).write_bytes(picture)
        (staging / PAGE).write_text(page, encoding="utf-8")
        (staging / DATA).write_text(data, encoding="utf-8")
    for name in before - set(pictures):
        (target / FIGURES / name).unlink(missing_ok=True)
    return ReportPaths(target, target / PAGE, target / DATA, tuple(target / FIGURES / name for name in pictures))


def read_report(path: str | Path, *, order: Sequence[str] = ()) -> Report:
    """Read a report, its `report.json`, or the folder of a run with `sections/<name>.json`.

    Args:
        path: Folder or file.
        order: Names of sections in the order in which those of a run are shown; others follow by name.

    Raises:
        InputError: There is none, or a file is damaged.
    """
    place = Path(path)
    if (place / SECTIONS).is_dir():
        return _run(place, order)
    file = place / DATA if place.is_dir() else place
    if not file.exists():
        raise InputError(
            f"There is no report in {str(place)!r}: expected a {DATA}, or the folder of a run of `langcore recipe`, which "
            f"has {SECTIONS}/. Check the spelling."
        )
    values = _sealed(file)
    try:
        head = Section.from_dict(values["head"])
        return Report(head.title, tuple(map(Section.from_dict, values["sections"])), head.facts)
    except (KeyError, TypeError) as error:
        raise InputError(f"{str(file)!r} is no report: {error!r}. Name the {DATA} of one.") from error


def read_sections(path: str | Path, *, order: Sequence[str] = ()) -> list[Section]:
    """The sections of what `read_report` reads.

    Raises:
        InputError: There is none, or a file is damaged.
    """
    return list(read_report(path, order=order).sections)


def _free(target: Path, *, overwrite: bool) -> Path:
    if target.exists() and not target.is_dir():
        raise ArtifactExistsError(f"{str(target)!r} is a file, and a report is a folder. Name a folder.")
    if target.is_dir() and any(target.iterdir()) and not overwrite:
        raise ArtifactExistsError(
            f"{str(target)!r} exists and is not empty. Name a new folder, or pass overwrite=True (--overwrite) to replace "
            "the report in it."
        )
    return target.resolve()


def _pictures(sections: Sequence[Section]) -> dict[str, bytes]:
    parts: list[tuple[str, Part]] = [each for _, _, named in anchors(sections) for each in named]
    return {
        f"{name}{ending}.png": png_of(part, theme=theme)
        for name, part in parts
        if has_figure(part)
        for theme, ending in _THEMES.items()
    }


def _data(report: Report, figures: list[str]) -> str:
    head = Section("report", report.title, (), (), report.facts)
    values = {
        "format": FORMAT,
        "head": head.to_dict(),
        "sections": [section.to_dict() for section in report.sections],
        "figures": figures,
    }
    try:
        return json.dumps(sealed(values), separators=(",", ":"), allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise InputError(
            f"A report holds numbers, words, lists and mappings of these, which JSON can say: {error}. Check the facts."
        ) from error


def _figures_of(folder: Path) -> set[str]:
    """Names of the figures of the report that is there; only these are ours to remove."""
    try:
        names = _sealed(folder / DATA)["figures"]
    except (InputError, KeyError):
        return set()
    known = names if isinstance(names, list) else []
    return {name for name in known if isinstance(name, str) and Path(name).name == name and name.endswith(".png")}


def _run(folder: Path, order: Sequence[str]) -> Report:
    files = sorted((folder / SECTIONS).glob("*.json"), key=lambda path: (_place(path.stem, order), path.stem))
    if not files:
        raise InputError(
            f"{str(folder / SECTIONS)!r} is empty: no experiment has finished yet. Run `langcore recipe`."
        )
    sections = tuple(map(_section, files))
    return Report("Core regions", sections, _common(sections))


def _common(sections: Sequence[Section]) -> dict[str, Any]:
    """Facts that all sections share: model, texts, settings."""
    first, *others = sections
    known = first.facts.items()
    return {name: value for name, value in known if all(one.facts.get(name) == value for one in others)}


def _place(name: str, order: Sequence[str]) -> int:
    return order.index(name) if name in order else len(order)


def _section(file: Path) -> Section:
    values = _sealed(file)
    if not isinstance(values.get("section"), dict):
        raise InputError(f"{str(file)!r} holds no section of a report. Delete it and run the experiment again.")
    section = Section.from_dict(values["section"])
    options = values.get("options")
    return section if not options else replace(section, facts={"options": options, **section.facts})


def _sealed(file: Path) -> dict[str, Any]:
    try:
        values = read_json(file, limit=_LIMIT)
    except ValueError as error:
        raise InputError(f"Cannot read {str(file)!r}: {error}. Make it again.") from error
    if not isinstance(values, dict) or not is_intact(values):
        raise InputError(f"{str(file)!r} is damaged: its content does not match its seal. Make it again.")
    if values.get("format", FORMAT) != FORMAT:
        raise InputError(
            f"{str(file)!r} has format {values['format']!r}, this version reads {FORMAT}. Update hf_langcore."
        )
    return values


def _rounded(section: Section) -> Section:
    parts = tuple(
        replace(part, maps=tuple(map(_short, part.maps))) if isinstance(part, HeatMaps) else part
        for part in section.parts
    )
    return replace(section, parts=parts)


def _short(one: HeatMap) -> HeatMap:
    return replace(
        one,
        density=tuple(_few(row) for row in one.density),
        row_profile=_few(one.row_profile),
        column_profile=_few(one.column_profile),
    )


def _few(shares: Sequence[float]) -> tuple[float, ...]:
    return tuple(round(float(share), _DECIMALS) for share in shares)
