"""The result as JSON and as a printed table."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from rich.console import Console

from hf_langcore.sinks import rows as names
from hf_langcore.sinks.massive import MassiveActivation
from hf_langcore.sinks.result import SinkTest
from hf_langcore.sinks.rows import Figure, SinkRow


@pytest.fixture
def found() -> SinkTest:
    infinite = Figure(math.inf, 5.0, math.inf)
    conditions = [names.CORE, names.CORE_MEAN, *names.CONTROLS, names.OUTSIDE]
    rows = [SinkRow(name, 1234, math.inf, infinite, Figure(0.5, 0.25, 0.75), overlap=0.1) for name in conditions]
    sink = (names.WITHOUT, names.ONLY, names.HELD, names.ACTIVATIONS_ZERO, names.ACTIVATIONS_MEAN, names.PART_MEAN)
    rows += [SinkRow(name, missing="no sink.") for name in sink]
    return SinkTest(tuple(rows), (7,), "massive", (MassiveActivation(1, 7, -300.0, 0.5, 4, 3),), {"seeds": 2})


def test_json_says_all_and_knows_no_infinity(found: SinkTest, tmp_path: Path) -> None:
    text = found.to_json(tmp_path / "sink.json")
    assert (tmp_path / "sink.json").read_text(encoding="utf-8") == text
    values = json.loads(text)
    assert values["rows"][0]["rise"] == {"value": "inf", "low": 5.0, "high": "inf"}
    assert values["rows"][0]["share"] == {"value": 0.5, "low": 0.25, "high": 0.75}
    assert values["massive"][0]["largest"] == -300.0
    assert values["verdicts"] == found.verdicts()
    assert (values["dimensions"], values["facts"]) == ([7], {"seeds": 2})


def test_the_printed_table_has_every_row_and_the_verdicts(found: SinkTest) -> None:
    console = Console(width=220, color_system=None)
    with console.capture() as capture:
        console.print(found)
    printed = capture.get()
    assert all(row.condition in printed for row in found.rows)
    assert printed.count("not tested") >= 6
    assert "1,234" in printed
    assert "50 % (25 to 75)" in printed
    assert all(question in printed for question in found.verdicts())


def test_rows_are_found_by_name(found: SinkTest) -> None:
    assert found[names.BOTH].condition == names.BOTH
    with pytest.raises(KeyError, match="no condition 'other'"):
        found["other"]
