"""Acquisition against retention, as an experiment of the bench."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hf_langcore.recipes.bench.texts import Texts
from hf_langcore.recipes.bench.workbench import Bench, BenchSettings
from hf_langcore.recipes.lab import retention as retention_module
from hf_langcore.recipes.lab.retention import retention, run_on_bench
from hf_langcore.recipes.protection.benchmark import benchmark_methods
from hf_langcore.recipes.protection.methods import Method
from hf_langcore.report.parts import Section

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning", "ignore::DeprecationWarning")

SIZES: dict[str, Any] = {
    "only": ("frozen core", "prompt tuning"),
    "seeds": (3, 4),
    "rows": 8,
    "epochs": 1,
    "largest": 9,
    "test_rows": 6,
    "bf16": False,
}


@pytest.fixture
def bench(bpe_llama: Any, bpe: Any, small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(retention_module, "BENCHMARK_SIZE", small.size)
    settings = BenchSettings(core_languages=("en",), block_size=12, core_tokens=24, test_tokens=24, fraction=0.1)
    return Bench(bpe_llama, bpe, Texts(small.train, small.test, "small"), output=tmp_path, settings=settings)


def test_the_experiment_and_its_kept_runs(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two methods at three rates, the best of each once more; a second call trains nothing and finds the same."""
    section = retention(bench, **SIZES)
    assert Section.from_dict(section.to_dict()) == section
    table, points, rates = section.parts
    assert [row[0] for row in table.rows] == ["frozen core", "prompt tuning"]
    assert [row[-1] for row in table.rows] == [0.0, 0.0], "neither touches the core"
    assert table.rows[1][2] == 16 * 32
    assert len(rates.rows) == 6
    assert sorted(points.groups) == ["frozen core"] * 2 + ["prompt tuning"] * 2
    assert len(list((bench.output / "retention" / "arithmetic").rglob("*.json"))) == 8
    assert any("8 additions and subtractions of numbers up to 9" in paragraph for paragraph in section.text)
    assert section.facts["methods"].keys() == {"frozen core", "prompt tuning"}
    monkeypatch.setattr("hf_langcore.recipes.protection.runs._train", lambda *_, **__: pytest.fail("kept"))
    assert retention(bench, **SIZES) == section


def test_methods_reach_the_runs(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what they need is computed, the core of the bench's size; a language is a task, too."""
    asked: dict[str, Any] = {}

    def noted(_model: Any, _tokenizer: Any, task: Any, shields: Any, methods: Any, **options: Any) -> Any:
        asked.update(task=task, shields=shields, methods=methods, **options)

    monkeypatch.setattr(retention_module, "run_retention", noted)
    size = replace(retention_module.BENCHMARK_SIZE, blocks=2)
    plain = [Method("one")]
    run_on_bench(bench, plain, task="zh", size=size, seeds=(7,), bf16=False)
    assert (asked["task"].name, asked["seeds"], asked["bf16"]) == ("zh", (7,), False)
    assert asked["shields"].columns is asked["shields"].importance is None
    assert asked["shields"].mask("core", seed=0) == bench.core()
    weighted = Method("two", frozen=None, anchor_strength=0.1, weighted=True)
    run_on_bench(bench, [weighted, Method("three", frozen="columns")], size=size)
    assert asked["shields"].columns is not None
    assert asked["shields"].importance is not None
    assert len(benchmark_methods(bench.model)) > 2 * len(SIZES["only"])
