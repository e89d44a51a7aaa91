"""A report as a picture."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from hf_langcore.errors import InputError, MissingExtraError
from hf_langcore.evaluation import LanguageScore, PerplexityReport
from hf_langcore.evaluation import figure as figure_module

REPORT = PerplexityReport(
    {
        "base": {"en": LanguageScore(1.0, 9), "zh": LanguageScore(2.0, 9)},
        "top 3 %": {"en": LanguageScore(6.0, 9), "zh": LanguageScore(math.inf, 9)},
    },
    settings={"dtype": "float32"},
)


@pytest.mark.parametrize(("suffix", "start"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")])
def test_files_are_written_whole(tmp_path: Path, suffix: str, start: bytes) -> None:
    """Each format, infinite values included; nothing else is left in the folder."""
    path = tmp_path / f"figure{suffix}"
    REPORT.plot(path)
    assert path.read_bytes().startswith(start)
    assert list(tmp_path.iterdir()) == [path]


def test_every_language_and_condition_is_in_the_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The labels can be read in the SVG."""
    import matplotlib as mpl

    monkeypatch.setitem(mpl.rcParams, "svg.fonttype", "none")
    REPORT.plot(tmp_path / "figure.svg")
    text = (tmp_path / "figure.svg").read_text(encoding="utf-8")
    assert all(f">{label}<" in text for label in ("en", "zh", "base", "top 3 %", "perplexity", "dtype float32"))


def test_unknown_endings_and_missing_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the formats, or the extra that brings matplotlib."""
    with pytest.raises(InputError, match=r"\.png"):
        REPORT.plot(tmp_path / "figure.txt")

    def missing(_module: str, *, extra: str, feature: str) -> None:
        raise MissingExtraError(f"{feature}: {extra}")

    monkeypatch.setattr(figure_module, "require", missing)
    with pytest.raises(MissingExtraError, match="report"):
        REPORT.plot(tmp_path / "figure.png")
