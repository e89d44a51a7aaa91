"""Code-switching as a section."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hf_langcore.editing import perturb
from hf_langcore.errors import InputError
from hf_langcore.masks import CoreMask
from hf_langcore.recipes.bench.texts import Texts
from hf_langcore.recipes.bench.workbench import Bench, BenchSettings
from hf_langcore.recipes.lab import switching as lab
from hf_langcore.recipes.lab.switching import switching
from hf_langcore.report.parts import Section
from hf_langcore.switching import Criteria, SwitchingReport, code_switching_rate
from hf_langcore.switching.prompts import first_words

SIZES: dict[str, Any] = {"prompts": 2, "words": 2, "tokens": 12, "random_seeds": 2, "batch_size": 2, "fraction": 0.2}


@pytest.fixture
def bench(bpe_llama: Any, bpe: Any, small: Any, tmp_path: Path) -> Bench:
    settings = BenchSettings(core_languages=("en", "zh"), block_size=16, test_tokens=None)
    return Bench(bpe_llama, bpe, Texts(small.train, small.test, "three"), output=tmp_path, settings=settings)


def test_states_are_asked_on_the_same_prompts(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Generations are those of the Python call under the same edit; a second run generates nothing."""
    seen: list[dict[str, Any]] = []

    def spy(*arguments: Any, **options: Any) -> SwitchingReport:
        report = code_switching_rate(*arguments, **options)
        seen.append(report.to_dict())
        return report

    monkeypatch.setattr(lab, "code_switching_rate", spy)
    section = switching(bench, **SIZES)
    assert Section.from_dict(json.loads(json.dumps(section.to_dict()))) == section
    looks = section.part("training").x
    assert len(seen) == 4 + len(looks) - 1
    assert all(
        [one["prompt"] for one in each["generations"]] == [one["prompt"] for one in seen[0]["generations"]]
        for each in seen
    )
    prompts = first_words(bench.texts.test, words=2, prompts=2)
    with perturb(bench.model, CoreMask.from_scores(bench.scores(), fraction=0.2)):
        expected = code_switching_rate(
            bench.model,
            bench.tokenizer,
            prompts,
            max_new_tokens=12,
            temperature=0.8,
            criteria=Criteria(among=tuple(bench.languages)),
            progress=False,
        )
    assert seen[1]["generations"] == expected.to_dict()["generations"] != seen[0]["generations"]
    assert seen[2]["generations"] != seen[3]["generations"]
    states = ("unedited", "core removed", "random removed", "trained on zh")
    assert section.part("rates").columns == ("prompts in", *states)
    texts = {row[0]: row[1] for row in section.part("outcomes").rows}
    assert texts == {"unedited": 6, "core removed": 6, "random removed": 12, "trained on zh": 6}
    assert looks[0] == 0.0
    assert section.facts["samples"] == looks[-1]
    monkeypatch.setattr(lab, "code_switching_rate", lambda *_, **__: pytest.fail("generated again"))
    assert switching(bench, **SIZES).parts == section.parts


@pytest.mark.parametrize(
    "options",
    [{"random_seeds": 0}, {"fraction": 2.0}, {"languages": ["xx"]}, {"words": 0}, {"batch_size": 999}],
    ids=str,
)
def test_wrong_sizes_are_refused_before_anything_is_written(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    monkeypatch.setattr(lab, "code_switching_rate", lambda *_, **__: pytest.fail("written"))
    with pytest.raises(InputError):
        switching(bench, **{**SIZES, **options})
