"""Figures for a card."""

from __future__ import annotations

from pathlib import Path

import pytest
import report_example

from hf_langcore.errors import InputError
from hf_langcore.report.cards import card_figures
from hf_langcore.report.parts import Section
from hf_langcore.report.writing import write_report


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sections = [
        Section("a", "A", (), (report_example.said(), report_example.recovery(), report_example.removal())),
        Section("b", "B", (), (report_example.heat_maps(1, cells=4),)),
    ]
    return write_report(sections, tmp_path_factory.mktemp("report") / "r").folder


def test_heat_maps_come_first(folder: Path) -> None:
    """Light pictures that are there, and words for those who cannot see them."""
    figures = card_figures(folder)
    assert [path.relative_to(folder).as_posix() for path in figures] == [
        "figures/b-maps.png",
        "figures/a-recovery.png",
        "figures/a-removal.png",
    ]
    assert all(path.is_file() for path in figures)
    assert figures[folder / "figures/a-recovery.png"].startswith("Recovery of the destroyed core: perplexity against")
    assert list(card_figures(folder, most=1)) == [folder / "figures/b-maps.png"]


def test_names_choose(folder: Path) -> None:
    """In their order; words are no figures."""
    chosen = card_figures(folder, names=["a-removal", "b-maps"])
    assert [path.stem for path in chosen] == ["a-removal", "b-maps"]
    with pytest.raises(InputError, match=r"\['a-said', 'nothing'\].*a-recovery"):
        card_figures(folder, names=["a-removal", "a-said", "nothing"])


def test_a_picture_that_has_gone_is_named(folder: Path) -> None:
    picture = folder / "figures" / "b-maps.png"
    content = picture.read_bytes()
    picture.unlink()
    try:
        with pytest.raises(InputError, match=r"b-maps\.png.*again"):
            card_figures(folder)
    finally:
        picture.write_bytes(content)
