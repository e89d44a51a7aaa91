"""Bits per byte, round trips and removed regions of a tiny model, kept file by file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hf_langcore.compression import evaluate_compression
from hf_langcore.errors import InputError
from hf_langcore.recipes.bench.texts import Texts
from hf_langcore.recipes.bench.workbench import Bench, BenchSettings
from hf_langcore.recipes.lab import compression as module
from hf_langcore.recipes.lab.compression import compression
from hf_langcore.report.parts import Section, Spread


def test_the_section(bpe: Any, bpe_llama: Any, small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every figure is the instrument's; a second run measures nothing again."""
    test = {language: documents[:1] for language, documents in small.test.items()}
    bench = Bench(
        bpe_llama,
        bpe,
        Texts(small.train, test, "small"),
        output=tmp_path,
        settings=BenchSettings(core_languages=("en",), block_size=16, core_tokens=40),
    )
    section = compression(bench, context=12, random_seeds=(0, 1))
    assert Section.from_dict(section.to_dict()) == section
    report = evaluate_compression(bpe_llama, bpe, test, block_size=12, progress=False)
    rows = section.part("ratio").rows
    assert [row[0] for row in rows] == ["en", "de", "zh", "all"]
    assert [row[2] for row in rows[:3]] == pytest.approx(list(report.bits_per_byte.values()))
    assert rows[0][4] == pytest.approx(report.only()["en"].bytes / report.archived["en"]["gzip"].whole)
    trips = section.part("round-trip").rows
    assert [row[4] for row in trips] == ["yes"] * 4
    assert trips[0][1] == len((test["en"][0] + "\n").encode())
    regions = section.part("regions").rows
    assert all(row[1] != row[2] for row in regions)
    assert all(isinstance(row[3], Spread) and row[3].low <= row[3].value <= row[3].high for row in regions)
    assert regions[0][1] == pytest.approx(report.bits_per_byte["en"])

    monkeypatch.setattr(module, "prove_round_trip", pytest.fail)
    monkeypatch.setattr(module, "evaluate_compression", pytest.fail)
    assert compression(bench, context=12, random_seeds=(0, 1)) == section
    without = compression(bench, context=12, random_seeds=(0, 1), round_trip_bytes=0)
    assert [part.name for part in without.parts] == ["ratio", "regions"]
    with pytest.raises(InputError, match="seed"):
        compression(bench, random_seeds=())
