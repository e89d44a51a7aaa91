"""Reports of tagging."""

from __future__ import annotations

from typing import Any

import pytest

from hf_langcore.errors import InputError
from hf_langcore.probing.scores import ProbeScore
from hf_langcore.probing.tagging_report import TaggingReport


def score(accuracy: float) -> ProbeScore:
    return ProbeScore(accuracy, 0.4, accuracy - 0.03, accuracy + 0.03, 0.1, None, (accuracy,), 50.0)


def report() -> TaggingReport:
    joint = {0: {"de": score(0.3), "zh": score(0.4)}, 1: {"de": score(0.5), "zh": score(0.6)}}
    return TaggingReport(
        ["en"], layer=4, joint=joint, alone={1: {"de": score(0.45), "zh": score(0.35)}}, settings={"a": 1}
    )


def test_figures_and_json() -> None:
    found = report()
    assert found.accuracy == {0: {"de": 0.3, "zh": 0.4}, 1: {"de": 0.5, "zh": 0.6}}
    assert (found.shots, found.languages) == ([0, 1], ["de", "zh"])
    read = TaggingReport.from_dict(found.to_dict())
    assert read.to_dict() == found.to_dict()
    assert (read.joint, read.alone, read.layer) == (found.joint, found.alone, 4)


@pytest.mark.parametrize("change", [{"joint": {}}, {"joint": 3}, {"layer": None}, {"alone": {"x": {}}}])
def test_values_that_are_no_report(change: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        TaggingReport.from_dict({**report().to_dict(), **change})


def test_the_table_has_the_target_alone_in_brackets() -> None:
    from rich.console import Console

    console = Console(width=120, color_system=None)
    with console.capture() as capture:
        console.print(report())
    text = capture.get()
    assert "0.500 ±0.030 (0.450)" in text
    assert "0.300 ±0.030 │" in text
    assert "1 sentence " in text
    assert "0 sentences" in text
