"""Reports on disk: all or nothing, read back as they were, small."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import report_example

from hf_langcore.errors import ArtifactExistsError, InputError
from hf_langcore.report import writing
from hf_langcore.report.parts import Curves, HeatMaps, Matrix, Section, Texts
from hf_langcore.report.writing import read_report, read_sections, write_report
from hf_langcore.sealing import sealed

CURVES = Curves("c", "C", "x", "y", (1.0, 2.0), {"a": (1.0, float("inf"))})
MATRIX = Matrix("m", "M", ("a",), ("b",), ((0.5,),))
SECTIONS = [
    Section("one", "One", ("Words.",), (CURVES, Texts("t", "T", "p", {"a": "b"}))),
    Section("two", "Two", (), (MATRIX,)),
]


def _names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_page_data_and_figures(tmp_path: Path) -> None:
    """Pictures for light and for dark, under the anchors of the page; what is read back is what was written."""
    paths = write_report(SECTIONS, tmp_path / "r", title="Title", facts={"model": "m", "worst": float("inf")})
    expected = ["figures/one-c-dark.png", "figures/one-c.png", "figures/two-m-dark.png", "figures/two-m.png"]
    assert _names(tmp_path / "r") == [*expected, "index.html", "report.json"]
    assert sorted(path.name for path in paths.figures) == [Path(name).name for name in expected]
    assert all(path.is_file() for path in (paths.page, paths.data, *paths.figures))
    assert "<h1>Title</h1>" in paths.page.read_text()
    for source in (paths.folder, paths.data):
        report = read_report(source)
        assert list(report.sections) == read_sections(source) == SECTIONS
        assert report.title == "Title"
        assert report.facts == {"model": "m", "worst": float("inf")}
    assert paths.facts()["bytes"] == sum(path.stat().st_size for path in (tmp_path / "r").rglob("*.*"))


def test_a_report_is_written_again_from_its_data(tmp_path: Path) -> None:
    """And is the same, byte by byte: shares are rounded once."""
    maps = report_example.heat_maps(1, cells=6)
    first = write_report([Section("core", "C", (), (maps,))], tmp_path / "a")
    again = write_report(read_sections(first.data), tmp_path / "b")
    assert [path.read_bytes() for path in (first.page, first.data, *first.figures)] == [
        path.read_bytes() for path in (again.page, again.data, *again.figures)
    ]
    kept = read_sections(first.data)[0].part("maps")
    assert isinstance(kept, HeatMaps)
    assert kept.maps[0].density[1][2] == round(maps.maps[0].density[1][2], 4) != maps.maps[0].density[1][2]
    assert kept.maps[0].detail == maps.maps[0].detail


def test_the_largest_report_stays_small(tmp_path: Path) -> None:
    """Six layers of seven matrices at 48 by 48 cells, a 30 x 30 grid and dose curves: well under 5 MB in all."""
    maps = Section("core", "C", (), (report_example.heat_maps(),))
    assert write_report([maps], tmp_path / "r").facts()["bytes"] < 1_600_000


def test_what_is_there_is_kept(tmp_path: Path) -> None:
    """Unless it may be replaced; then figures of the old report go, and files of others stay."""
    target = tmp_path / "r"
    write_report(SECTIONS, target)
    (target / "figures" / "mine.png").write_text("mine")
    before = {name: (target / name).read_bytes() for name in _names(target)}
    with pytest.raises(ArtifactExistsError, match="overwrite=True"):
        write_report(SECTIONS[1:], target)
    assert {name: (target / name).read_bytes() for name in _names(target)} == before
    write_report(SECTIONS[1:], target, overwrite=True)
    assert _names(target) == [
        "figures/mine.png",
        "figures/two-m-dark.png",
        "figures/two-m.png",
        "index.html",
        "report.json",
    ]
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactExistsError, match="is a file"):
        write_report(SECTIONS, tmp_path / "file", overwrite=True)


def test_only_figures_of_the_report_are_removed(tmp_path: Path) -> None:
    """Whatever its data, which anybody can seal, names as its figures."""
    target = tmp_path / "r"
    write_report(SECTIONS, target)
    (tmp_path / "other.png").write_text("mine")
    values = json.loads((target / "report.json").read_text())
    values["figures"] = ["../../other.png", "../index.html", 3, "one-c.png"]
    (target / "report.json").write_text(json.dumps(sealed(values)))
    write_report(SECTIONS[1:], target, overwrite=True)
    assert (tmp_path / "other.png").read_text() == "mine"
    assert not (target / "figures/one-c.png").exists()
    assert (target / "figures/one-c-dark.png").exists(), "no longer named, so no longer ours"


def test_a_report_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither facts that are no JSON nor a picture that cannot be drawn."""
    with pytest.raises(InputError, match="JSON"):
        write_report(SECTIONS, tmp_path / "r", facts={"model": {1, 2}})

    def broken(*_: object, **__: object) -> bytes:
        raise RuntimeError("no picture")

    monkeypatch.setattr(writing, "png_of", broken)
    with pytest.raises(RuntimeError):
        write_report(SECTIONS, tmp_path / "r")
    assert list(tmp_path.iterdir()) == []


def _run(folder: Path, **names: Any) -> Path:
    (folder / "sections").mkdir(parents=True)
    for name, options in names.items():
        section = Section(name, name.title(), (), (), {"seed": 1}).to_dict()
        values = sealed({"name": name, "section": section, "options": options})
        (folder / "sections" / f"{name}.json").write_text(json.dumps(values))
    return folder


def test_sections_of_a_run(tmp_path: Path) -> None:
    """In the order asked for, others after it by name; with the options that they were run with."""
    run = _run(tmp_path / "run", zeta={}, alpha={"samples": 3}, beta={})
    report = read_report(run, order=["beta", "zeta", "unknown"])
    assert [section.name for section in report.sections] == ["beta", "zeta", "alpha"]
    assert report.sections[2].facts == {"options": {"samples": 3}, "seed": 1}
    assert report.sections[0].facts == {"seed": 1}
    assert report.facts == {"seed": 1}, "what all share stands at the head of the page"


def test_damage_and_other_files_are_named(tmp_path: Path) -> None:
    run = _run(tmp_path / "run", alpha={})
    file = run / "sections" / "alpha.json"
    file.write_text(file.read_text().replace("Alpha", "Omega"))
    with pytest.raises(InputError, match=r"alpha\.json.*seal"):
        read_report(run)
    file.write_text(json.dumps(sealed({"name": "alpha"})))
    with pytest.raises(InputError, match="no section"):
        read_report(run)
    file.unlink()
    with pytest.raises(InputError, match="no experiment has finished"):
        read_report(run)
    with pytest.raises(InputError, match="Check the spelling"):
        read_report(tmp_path / "nowhere")
    other = tmp_path / "report.json"
    for content, message in (
        ("{", "Cannot read"),
        ("[]", "damaged"),
        (json.dumps(sealed({"a": 1})), "is no report"),
        (json.dumps(sealed({"format": 99})), "format 99"),
        (json.dumps(sealed({"head": {}, "sections": []})), "no section"),
    ):
        other.write_text(content)
        with pytest.raises(InputError, match=message):
            read_report(tmp_path)
