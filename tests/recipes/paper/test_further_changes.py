"""What changes in further pretraining, measured on a tiny model and compared with a training of one's own."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from hf_langcore.editing import perturb
from hf_langcore.errors import InputError
from hf_langcore.evaluation import evaluate_perplexity
from hf_langcore.importance import importance_from_checkpoints
from hf_langcore.masks import CoreMask
from hf_langcore.recipes.bench.texts import Texts
from hf_langcore.recipes.bench.workbench import Bench, BenchSettings
from hf_langcore.recipes.paper import further_changes
from hf_langcore.recipes.paper.further import FurtherTraining, fresh_copy, in_order, pretrain_further
from hf_langcore.recipes.paper.further_changes import changes
from hf_langcore.recipes.paper.further_texts import own_blocks

SIZES: dict[str, Any] = {"samples": 8, "batch_size": 4, "learning_rate": 1e-2, "fraction": 0.1}


@pytest.fixture
def bench(llama: Any, tokenizer: Any, texts: Any, tmp_path: Path) -> Bench:
    settings = BenchSettings(block_size=8, test_tokens=60)
    return Bench(llama, tokenizer, Texts(texts, texts, "tiny"), output=tmp_path, settings=settings)


def test_figures_are_those_of_the_trainings(bench: Bench, llama: Any, tokenizer: Any, texts: Any) -> None:
    """Shares per language, their union, the core by least change and what its removal does."""
    section = changes(bench, **SIZES)
    scores = {}
    for language in ("en", "de"):
        model = fresh_copy(bench)
        blocks = own_blocks(bench, language, block_size=8).blocks[:8]
        pretrain_further(model, blocks[in_order(8, seed=0)], FurtherTraining(1e-2, batch_size=4))
        scores[language] = importance_from_checkpoints(llama, {language: model}, progress=False)
    name = "model.layers.1.mlp.up_proj.weight"
    above = {language: one[name] > 0.03 for language, one in scores.items()}
    union = section.part("union_3")
    found = union.values[union.rows.index("up_proj")][1]
    assert found == pytest.approx(float((above["en"] | above["de"]).float().mean()))
    assert found > max(float(one.float().mean()) for one in above.values())
    talk = section.part("union")
    row = next(row for row in talk.rows if row[0] == "up_proj")
    assert row[talk.columns.index("layer 1, > 3 %")] == pytest.approx(100 * found)
    per_language = section.part("languages_3")
    kind = [one["model.layers.0.mlp.up_proj.weight"] for one in scores.values()]
    expected = [
        (float((one > 0.03).sum()) + float(above[code].sum())) / (2 * one.numel())
        for code, one in zip(scores, kind, strict=True)
    ]
    assert per_language.values[per_language.rows.index("up_proj")] == pytest.approx(tuple(expected))
    bottom = CoreMask.from_scores(scores["en"] + scores["de"], fraction=0.1, which="bottom")
    with perturb(llama, bottom):
        removed = evaluate_perplexity(llama, tokenizer, texts, block_size=8, max_tokens=60, progress=False)
    table = section.part("removal")
    assert table.columns == ("language", "base", "least change", "most change", "taylor", "magnitude", "random")
    assert [row[2] for row in table.rows[:-1]] == pytest.approx(list(removed.perplexity.values()))


def test_what_a_run_did_to_each_language(bench: Bench) -> None:
    """Each language gains by its own text; every weight moved; nothing is said to be more than it is."""
    section = changes(bench, **{**SIZES, "samples": None})
    effect = section.part("effect")
    assert effect.rows == effect.columns == ("en", "de")
    assert effect.values[0][0] < 0
    assert effect.values[1][1] < 0
    training = section.part("training")
    for number, row in enumerate(training.rows):
        assert row[1:4] == ("real text", 12, 96)
        assert row[5] - row[4] == pytest.approx(effect.values[number][number])
    bits = section.part("bits")
    assert all(row[1] >= row[2] > 0 and row[1] > 95 for row in bits.rows)
    overlap = section.part("overlap")
    assert [overlap.values[at][at] for at in range(5)] == [1] * 5
    assert overlap.values[0][1] == 0
    assert section.facts["training_text"] == {"en": "real text", "de": "real text"}


def test_a_killed_run_goes_on(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what is unfinished is trained; changes that were removed are made again, the same."""
    trained = []
    real = further_changes.pretrain_further

    def stopping(*args: Any, **options: Any) -> Any:
        trained.append(1)
        if len(trained) == 2:
            raise KeyboardInterrupt
        return real(*args, **options)

    monkeypatch.setattr(further_changes, "pretrain_further", stopping)
    with pytest.raises(KeyboardInterrupt):
        changes(bench, **SIZES)
    first = changes(bench, **SIZES)
    assert len(trained) == 3
    assert changes(bench, **SIZES) == first
    assert len(trained) == 3
    shutil.rmtree(next((bench.output / "kept").glob("changes-de-*/")))
    assert changes(bench, **SIZES) == first
    assert len(trained) == 4


def test_more_than_there_is_comes_from_the_generator(bench: Bench) -> None:
    """And the section says so."""
    section = changes(bench, **{**SIZES, "samples": 40, "languages": ("en",)})
    assert section.part("training").rows[0][1:4] == ("generated text", 40, 320)
    assert section.facts["training_text"] == {"en": "generated text"}


def test_wrong_sizes_are_refused(bench: Bench) -> None:
    with pytest.raises(InputError, match="there are texts for"):
        changes(bench, languages=("fr",))
    with pytest.raises(InputError, match="3 samples do not fill one batch of 4"):
        changes(bench, samples=3, batch_size=4)
