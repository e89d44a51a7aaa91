"""Syntax without the core as a section."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hf_langcore.editing import perturb
from hf_langcore.errors import InputError
from hf_langcore.evaluation import evaluate_perplexity
from hf_langcore.probing.layers import probe_layers
from hf_langcore.recipes.bench.texts import Texts
from hf_langcore.recipes.bench.workbench import Bench, BenchSettings
from hf_langcore.recipes.lab.syntax_without_core import syntax_without_core
from hf_langcore.recipes.paper.language_regions import LanguageRegions
from hf_langcore.report.parts import Section

pytest.importorskip("sklearn")

SIZES: dict[str, Any] = {
    "random_seeds": 1,
    "max_sentences": 20,
    "max_items": 60,
    "seeds": 1,
    "draws": 2,
    "layers": (2,),
    "monolingual": ("zh",),
}


@pytest.fixture
def bench(bpe_llama: Any, bpe: Any, small: Any, tmp_path: Path, parallel: Any) -> Bench:
    settings = BenchSettings(core_languages=("en", "zh"), fraction=0.2, block_size=16, test_tokens=None)
    texts = Texts(small.train, small.test, "three")
    return Bench(bpe_llama, bpe, texts, output=tmp_path, settings=settings, treebanks=parallel)


def test_section(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each condition's row has its share, its perplexity and its drop; as JSON and back; a second run measures nothing."""
    told: list[int] = []
    monkeypatch.setattr(bench.progress, "expect", told.append)
    monkeypatch.setattr(bench.progress, "step", lambda: told.append(1))
    section = syntax_without_core(bench, **SIZES)
    assert told[0] == len(told) - 1
    assert Section.from_dict(json.loads(json.dumps(section.to_dict()))) == section
    rows = {row[0]: row for row in section.part("conditions").rows}
    core = bench.core()
    regions = {
        "without the core": core,
        "without random region 0": core.random_like(seed=0),
        "without the region of zh": LanguageRegions(bench, fraction=0.2, among=bench.core_languages).monolingual("zh"),
    }
    assert set(rows) == {"unedited", "without the bottom region", *regions}
    assert rows["unedited"][1] == 0
    assert [cell.value for cell in rows["unedited"][3:7]] == [0] * 4
    matrix = section.part("relation_retrained")
    before = _accuracy(bench, "relation")
    for name, region in regions.items():
        assert rows[name][1] == pytest.approx(region.count() / core.numel())
        with perturb(bench.model, region):
            after = _accuracy(bench, "relation")
            perplexity = evaluate_perplexity(
                bench.model, bench.tokenizer, bench.texts.test, block_size=16, progress=False
            )
        assert rows[name][2] == pytest.approx(perplexity.mean())
        drops = [before[code] - after[code] for code in ("en", "de", "zh")]
        assert matrix.values[matrix.rows.index(name)] == pytest.approx(drops)
        assert rows[name][6].value == pytest.approx(sum(drops) / 3)
    table = {row[0]: row for row in section.part("without_core").rows}
    assert table["zh"][5] == pytest.approx(before["zh"])
    assert table["zh"][7].value == pytest.approx(matrix.values[0][2])
    monkeypatch.setattr("hf_langcore.recipes.lab.syntax.word_vectors", lambda *_, **__: pytest.fail("read again"))
    monkeypatch.setattr(Bench, "core", lambda *_, **__: pytest.fail("mask made again"))
    assert syntax_without_core(bench, **SIZES).parts == section.parts


def _accuracy(bench: Bench, task: Any) -> dict[str, float]:
    report = probe_layers(
        bench.model,
        bench.tokenizer,
        bench.require_treebanks(),
        train_languages=["en", "zh"],
        task=task,
        layers=[2],
        seeds=(0,),
        max_items=60,
        progress=False,
    )
    return report.accuracy[2]


def test_layers_and_conditions(bench: Bench) -> None:
    """By default layers are spread and the core languages have their regions removed; no alignment, no column."""
    section = syntax_without_core(bench, random_seeds=2, max_sentences=10, max_items=40, seeds=1, draws=0)
    assert section.facts["layers"] == [1, 2]
    rows = section.part("conditions").rows
    assert [row[0] for row in rows].count("without random region 1") == 1
    assert [row[0].rpartition(" ")[2] for row in rows[-2:]] == ["en", "zh"]
    assert "alignment" not in section.part("conditions").columns
    assert len(section.part("layers").rows) == 2 * (len(rows) - 1)


def test_bad_input_is_named(bench: Bench, bpe_llama: Any, bpe: Any) -> None:
    """Counts out of range, a language without a core, no treebanks."""
    with pytest.raises(InputError, match="seeds and random_seeds are at least 1"):
        syntax_without_core(bench, random_seeds=0)
    with pytest.raises(InputError, match="draws is 0, or at least 2, got 1"):
        syntax_without_core(bench, draws=1)
    with pytest.raises(InputError, match=r"\['fi'\] are none of them"):
        syntax_without_core(bench, monolingual=("fi",))
    with pytest.raises(InputError, match="parsed sentences"):
        syntax_without_core(Bench(bpe_llama, bpe, bench.texts, output=bench.output))
