"""Facts, minimal pairs and perplexity under growing damage."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from hf_langcore.editing import perturb
from hf_langcore.errors import InputError
from hf_langcore.knowledge import KnowledgeSet, evaluate_knowledge, load_knowledge
from hf_langcore.masks import CoreMask
from hf_langcore.recipes.bench.texts import Texts
from hf_langcore.recipes.bench.workbench import Bench, BenchSettings
from hf_langcore.recipes.lab import knowledge as lab
from hf_langcore.recipes.lab.knowledge import syntax_or_facts
from hf_langcore.report.parts import Section, Spread


def few(data: Any = None, languages: Any = None) -> dict[str, KnowledgeSet]:
    """Four facts and four pairs of the languages of the texts."""
    return {
        code: KnowledgeSet(code, one.joiner, one.facts[8:12], one.pairs[:4])
        for code, one in load_knowledge(data, languages).items()
        if code in {"en", "de", "zh"}
    }


@pytest.fixture
def bench(bpe_llama: Any, bpe: Any, small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(lab, "load_knowledge", few)
    settings = BenchSettings(core_languages=("en", "zh"), block_size=16, test_tokens=None)
    return Bench(bpe_llama, bpe, Texts(small.train, small.test, "three"), output=tmp_path, settings=settings)


def test_figures_are_those_of_the_regions(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each row is what zeroing that mask gives; a second run asks nothing."""
    guess = 10**6  # the drawn model is worse than guessing among its own few tokens
    monkeypatch.setattr(lab, "vocabulary_size", lambda _model: guess)
    section = syntax_or_facts(bench, fractions=(0.3, 0.1), seeds=(0, 1), monolingual_fraction=0.3)
    assert Section.from_dict(json.loads(json.dumps(section.to_dict()))) == section
    table = section.part("figures")
    names = [row[0] for row in table.rows]
    assert names == ["unedited", *(f"{one}, {size} %" for size in (10, 30) for one in ("core", "bottom", "random"))]
    core = CoreMask.from_scores(bench.scores(), fraction=0.3)
    with perturb(bench.model, core):
        report = evaluate_knowledge(bench.model, bench.tokenizer, data=few(), progress=False)
    row = table.rows[names.index("core, 30 %")]
    assert row[1].value == pytest.approx(100 * report.accuracy("facts").value)
    assert row[3].value == pytest.approx(100 * report.accuracy("pairs").value)
    assert row[4].value == pytest.approx(100 * report.accuracy("pairs", per_byte=True).value)
    assert (row[5].low, row[5].high) == pytest.approx((report.margin("pairs").low, report.margin("pairs").high))
    lift = report.lift()
    assert lift is not None
    assert row[2].value == pytest.approx(lift.value)
    left = section.part("left")
    loss = left.columns.index("loss")
    share = left.rows[names.index("core, 30 %") - 1][loss]
    base = math.log(table.rows[0][-1])
    assert share.value == pytest.approx(
        100 * (math.log(guess) - math.log(row[-1])) / (math.log(guess) - base), rel=1e-6
    )
    assert [curve.name for curve in section.parts if curve.kind == "curves"] == [
        "left_core",
        "left_bottom",
        "left_random",
    ]
    rows = [row[0] for row in section.part("languages").rows]
    assert "zh: monolingual region of zh" in rows
    assert "zh: monolingual regions of the others, mean" in rows
    assert "de: monolingual region of de" not in rows
    monkeypatch.setattr(lab, "evaluate_knowledge", lambda *_, **__: pytest.fail("asked again"))
    assert syntax_or_facts(bench, fractions=(0.1, 0.3), seeds=(0, 1), monolingual_fraction=0.3).parts == section.parts


def test_every_step_moves_the_bar(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[int] = []
    steps: list[int] = []
    monkeypatch.setattr(bench.progress, "expect", told.append)
    monkeypatch.setattr(bench.progress, "step", lambda: steps.append(1))
    section = syntax_or_facts(bench, fractions=(0.2,), seeds=(0,), monolingual_fraction=None)
    assert told == [len(steps)] == [2 * 4]
    assert not any("monolingual" in row[0] for row in section.part("languages").rows)


def test_a_random_model_is_said_to_be_at_chance(bench: Bench) -> None:
    """What is not there is not said to be lost: its cells are empty, and its curves are missing."""
    section = syntax_or_facts(bench, fractions=(0.2,), seeds=(0,), monolingual_fraction=None)
    said = next(text for text in section.text if "not above chance" in text)
    lacking = said.partition("in: ")[2].partition("**")[0].split("; ")
    assert "facts, lift in nats" in lacking
    left = section.part("left")
    for number, column in enumerate(left.columns[1:-1], start=1):
        cells = [row[number] for row in left.rows]
        assert (column in lacking) == all(cell is None for cell in cells)
        assert (column in section.part("left_core").lines) == isinstance(cells[0], Spread)


@pytest.mark.parametrize(
    "options", [{"fractions": ()}, {"fractions": (1.5,)}, {"seeds": ()}, {"languages": ["xx"]}], ids=str
)
def test_wrong_sizes_are_refused_before_anything_is_asked(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    monkeypatch.setattr(lab, "evaluate_knowledge", lambda *_, **__: pytest.fail("asked"))
    with pytest.raises(InputError):
        syntax_or_facts(bench, **options)
