"""What a verification says, as values, JSON and a table."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from hf_langcore.registry import Entry, Verification, VerifiedEntry
from hf_langcore.registry.results import MeasuredActivation
from hf_langcore.scanning.statistics import Interval
from hf_langcore.sealing import is_intact


@pytest.fixture
def found(fields: Callable[..., Any]) -> Verification:
    entry = Entry.from_dict(fields())
    other = Entry.from_dict(fields(id="two", layer=9))
    activation = MeasuredActivation(-600.0, math.inf, (0, 1), 1, 0.5)
    interval = Interval(3.0, math.inf, 0.95)
    measured = VerifiedEntry(
        entry,
        "holds",
        "It explodes.",
        math.inf,
        interval,
        1.25,
        "a.weight",
        7.5,
        mean_set_ratio=1.0,
        activation=activation,
    )
    return Verification((measured, VerifiedEntry(other, "missing", "Not there.")), {"model": "me/tiny"})


def test_a_sequence(found: Verification) -> None:
    """By number, by slice and by id."""
    assert len(found) == 2
    assert [one.verdict for one in found] == ["holds", "missing"]
    assert isinstance(found[:1], Verification)
    assert found[:1].counts() == {"holds": 1, "does not hold": 0, "inconclusive": 0, "missing": 0}
    assert found.of("two") is found[1]
    with pytest.raises(KeyError):
        found.of("three")


def test_json_is_sealed_and_says_everything(found: Verification, tmp_path: Path) -> None:
    """Infinity as text, entries in full."""
    text = found.to_json(tmp_path / "verified.json")
    assert (tmp_path / "verified.json").read_text(encoding="utf-8") == text
    values = json.loads(text)
    assert is_intact(values)
    first, second = values["results"]
    assert (first["ratio"], first["interval"], first["control_ratio"]) == ("inf", [3.0, "inf", 0.95], 1.25)
    assert (first["joint_ratio"], first["mean_set_ratio"], first["tensor"]) == (7.5, 1.0, "a.weight")
    assert first["activation"] == {"largest": -600.0, "ratio": "inf", "layers": [0, 1], "rank": 1, "start_share": 0.5}
    assert Entry.from_dict(first["entry"]) == found[0].entry
    assert (second["verdict"], second["ratio"], second["activation"]) == ("missing", None, None)
    values["results"][1]["verdict"] = "holds"
    assert not is_intact(values)


def test_the_table(found: Verification) -> None:
    """Coordinates with their brackets, figures, verdicts, and reasons for all that does not hold."""
    console = Console(width=300, color_system=None)
    with console.capture() as capture:
        console.print(found)
    shown = capture.get()
    for part in (
        "me/tiny: 1 holds, 1 missing",
        "[5, 7]",
        "xinf [x3, xinf]; mean x1; jointly x7.5",
        "x1.25",
        "two: Not there.",
    ):
        assert part in shown, part
    assert "It explodes." not in shown
