"""Where the core lies, and regions of single languages, as sections."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hf_langcore.errors import InputError
from hf_langcore.recipes.bench.texts import Texts
from hf_langcore.recipes.bench.workbench import Bench, BenchSettings
from hf_langcore.recipes.paper.structure import core_structure, languages
from hf_langcore.report.parts import Section


@pytest.fixture
def bench(bpe_llama: Any, bpe: Any, small: Any, tmp_path: Path) -> Bench:
    settings = BenchSettings(core_languages=("en", "zh"), fraction=0.1, block_size=16, test_tokens=None)
    return Bench(bpe_llama, bpe, Texts(small.train, small.test, "three"), output=tmp_path, settings=settings)


@pytest.fixture
def steps(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What was expected, then one for each step."""
    told: list[int] = []
    monkeypatch.setattr(bench.progress, "expect", told.append)
    monkeypatch.setattr(bench.progress, "step", lambda: told.append(1))
    return told


def test_core(bench: Bench, steps: list[int]) -> None:
    """All tensors in the table, all matrices in the maps, shares that add up; as JSON and back."""
    section = core_structure(bench)
    assert Section.from_dict(json.loads(json.dumps(section.to_dict()))) == section
    core_mask = bench.core()
    assert [row[0] for row in section.part("tensors").rows] == list(core_mask)
    matrices = [name for name, shape in core_mask.shapes().items() if len(shape) == 2]
    assert [one.parameter for one in section.part("maps").maps] == matrices
    roles = {row[0]: row for row in section.part("roles").rows}
    assert roles["all"][1] == core_mask.numel()
    assert sum(roles[role][3] for role in ("attention", "feed-forward", "norm")) == pytest.approx(1)
    scores = bench.scores()
    total = sum(float(scores[name].sum()) for name in scores)
    attention = sum(float(scores[name].sum()) for name in scores if "self_attn" in name)
    assert roles["attention"][5] == pytest.approx(attention / total)
    for name in ("layers", "layers_over_model"):
        matrix = section.part(name)
        assert matrix.rows == ("layer 0", "layer 1")
        assert sum(value or 0 for row in matrix.values for value in row) == pytest.approx(1)
    assert section.facts["digest"] == core_mask.digest()
    assert f"{core_mask.count():,} of {core_mask.numel():,}" in section.text[0]
    assert steps[0] == len(steps) - 1


def test_few_maps(bench: Bench) -> None:
    """With a limit the most concentrated matrices are shown, in the model's order; the note and the table say so."""
    every = core_structure(bench, cells=5, detail=3)
    excess = {
        row[0]: max(row[6] - row[7], row[8] - row[9]) for row in every.part("tensors").rows if row[6] is not None
    }
    section = core_structure(bench, matrices=3, cells=5, detail=3, fraction=0.1)
    shown = [one.parameter for one in section.part("maps").maps]
    assert set(shown) == set(sorted(excess, key=excess.__getitem__)[-3:])
    assert shown == [name for name in excess if name in shown]
    assert f"3 of {len(excess)} matrices" in section.part("maps").note
    assert section.part("tensors") == every.part("tensors")
    assert {len(one.density) for one in section.part("maps").maps} == {5}


def test_maps_are_small(bench: Bench) -> None:
    """A heat map takes less than 15 kB as JSON, so that 42 of them stay below 600 kB."""
    one = core_structure(bench, matrices=1, fraction=0.5).part("maps")
    assert len(json.dumps(Section("a", "b", (), (one,)).to_dict())) < 14_500


def test_languages(bench: Bench, steps: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """All parts are there and agree with each other; a second run computes no importance."""
    section = languages(bench, random_seeds=2)
    assert Section.from_dict(json.loads(json.dumps(section.to_dict()))) == section
    assert steps[0] == len(steps) - 1
    names = ["monolingual_regions", "monolingual_removal", "whole_regions", "whole_removal"]
    assert [part.name for part in section.parts] == [*names, "overlap", "shared_by", "scripts", "repeats"]
    table, matrix = section.part("whole_regions"), section.part("whole_removal")
    assert [row[0] for row in table.rows] == ["en", "zh", "mean"]
    assert matrix.columns == ("en", "zh", "de")
    assert [row[3] for row in table.rows[:2]] == [matrix.values[0][0], matrix.values[1][1]]
    assert table.rows[0][2] == pytest.approx(table.rows[0][1] / bench.core().numel())
    assert sorted(section.part("overlap").rows) == ["de", "en", "zh"]
    own = [n for n in (0, 1) if matrix.values[n][n] > matrix.values[1 - n][n]]
    assert f"any other's in {len(own)} of 2 cases" in section.text[2]
    monkeypatch.setattr(Bench, "scores", lambda *_: pytest.fail("importance computed again"))
    monkeypatch.setattr(
        "hf_langcore.recipes.paper.language_overlap.compute_importance", lambda *_, **__: pytest.fail("again")
    )
    assert languages(bench, random_seeds=2).parts == section.parts


def test_other_languages(bench: Bench) -> None:
    """What is removed and what is compared can be named."""
    section = languages(bench, removed=["de", "en"], compared=["zh", "de"], fraction=0.3, random_seeds=1)
    assert section.part("monolingual_removal").rows == ("de", "en")
    assert sorted(section.part("overlap").rows) == ["de", "zh"]
    assert section.facts["fraction"] == 0.3


@pytest.mark.parametrize(
    ("recipe", "options", "problem"),
    [
        (core_structure, {"matrices": 0}, "matrices"),
        (core_structure, {"cells": 65}, "at most 64"),
        (core_structure, {"detail": 2.5}, "detail"),
        (core_structure, {"fraction": 1}, "fraction"),
        (languages, {"removed": ["en"]}, "removed needs two"),
        (languages, {"removed": ["en", "xx"]}, "xx"),
        (languages, {"compared": ["en", "en"]}, "compared needs two"),
        (languages, {"random_seeds": 0}, "random_seeds"),
    ],
)
def test_wrong_sizes(bench: Bench, recipe: Any, options: dict[str, Any], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        recipe(bench, **options)
