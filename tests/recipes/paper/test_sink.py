"""The test as a section: its table, what it says, and what a second run measures again."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from hf_langcore.errors import InputError
from hf_langcore.recipes.bench.texts import Texts
from hf_langcore.recipes.bench.workbench import Bench, BenchSettings
from hf_langcore.recipes.paper.sink import _kept, sink_or_language
from hf_langcore.report.parts import Section, Spread
from hf_langcore.scanning import measure
from hf_langcore.sinks import rows as names


@pytest.fixture
def make_bench(bpe_llama: Any, bpe: Any, small: Any, tmp_path: Path) -> Any:
    def make() -> Bench:
        settings = BenchSettings(core_languages=("en", "zh"), fraction=0.2, block_size=16, test_tokens=None)
        test = {language: list(documents) * 3 for language, documents in small.test.items()}
        return Bench(bpe_llama, bpe, Texts(small.train, test, "three"), output=tmp_path, settings=settings)

    return make


def test_a_model_without_massive_activations(make_bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outliers stand in, the section says so, and a second run measures nothing."""
    bench = make_bench()
    told: list[int] = []
    monkeypatch.setattr(bench.progress, "expect", told.append)
    monkeypatch.setattr(bench.progress, "step", lambda: told.append(1))
    section = sink_or_language(bench, seeds=2)
    assert Section.from_dict(json.loads(json.dumps(section.to_dict()))) == section
    assert told[0] == len(told) - 1 == 20
    rows = {row[0]: row for row in section.part("conditions").rows}
    assert rows[names.CORE][4].value == 1.0
    assert rows[names.BASE][2] == pytest.approx(bench.measure("base").mean(), rel=1e-5)
    assert rows[names.WITHOUT][1] + rows[names.ONLY][1] == rows[names.CORE][1] == bench.core().count()
    assert isinstance(rows[names.HELD][3], Spread)
    text = " ".join(section.text)
    assert "has no massive activations on this text" in text
    assert "stand in" in text
    assert "Not shown:" in section.text[-1]
    assert len(section.facts["dimensions"]) == 3
    assert (section.facts["positions"], [part.name for part in section.parts]) == ("all", ["conditions"])

    for where in ("comparison.measure", "massive.observe"):
        monkeypatch.setattr(f"hf_langcore.sinks.{where}", None)
    again = sink_or_language(make_bench(), seeds=2)
    assert again.parts == section.parts


def test_without_stand_ins_the_rows_are_empty_and_the_note_says_why(make_bench: Any) -> None:
    section = sink_or_language(make_bench(), seeds=1, outliers=0)
    table = section.part("conditions")
    rows = {row[0]: row for row in table.rows}
    assert rows[names.HELD][1:] == (None, None, None, None)
    assert "has no massive activations" in table.note
    assert "rows about the sink are empty" in " ".join(section.text)
    assert isinstance(rows[names.CORE_MEAN][3], Spread)


def test_massive_activations_are_listed_and_used(make_bench: Any, bpe_llama: Any) -> None:
    with torch.no_grad():
        bpe_llama.get_input_embeddings().weight[:, 5] = 300.0
    section = sink_or_language(make_bench(), seeds=1)
    found = section.part("massive")
    assert {row[1] for row in found.rows} == {5}
    assert all(row[2] > 250 and row[3] > 100 for row in found.rows)
    assert (section.facts["dimensions"], section.facts["positions"]) == ([5], "massive")
    assert "stand in" not in " ".join(section.text)


def test_dimensions_that_were_asked_for_are_taken(make_bench: Any) -> None:
    section = sink_or_language(make_bench(), seeds=1, dimensions=[7])
    assert section.facts["dimensions"] == [7]
    assert "Dimensions 7 were asked for" in " ".join(section.text)


def test_fewer_than_no_outliers_are_refused(make_bench: Any) -> None:
    with pytest.raises(InputError, match="at least 0"):
        sink_or_language(make_bench(), outliers=-1)


def test_infinite_losses_are_kept_as_they_are(make_bench: Any) -> None:
    bench = make_bench()
    losses = measure(bench.model, bench.task)
    losses.nll_sums["en"][1] = math.inf
    kept = _kept(bench, {"condition": "broken"}, lambda: losses)
    again = _kept(make_bench(), {"condition": "broken"}, lambda: pytest.fail("measured again"))
    for one in (kept, again):
        for code, sums in losses.nll_sums.items():
            assert one.nll_sums[code].tolist() == sums.tolist()
            assert one.tokens[code].tolist() == losses.tokens[code].tolist()
