"""Reports: what experiments found, as data (`Section` and its parts), as figures and as one page."""

from __future__ import annotations

from hf_langcore.report.cards import card_figures
from hf_langcore.report.drawing import draw
from hf_langcore.report.parts import Curves, HeatMap, HeatMaps, Matrix, Points, Section, Spread, Table, Texts
from hf_langcore.report.writing import Report, ReportPaths, read_report, read_sections, write_report

__all__ = [
    "Curves",
    "HeatMap",
    "HeatMaps",
    "Matrix",
    "Points",
    "Report",
    "ReportPaths",
    "Section",
    "Spread",
    "Table",
    "Texts",
    "card_figures",
    "draw",
    "read_report",
    "read_sections",
    "write_report",
]
