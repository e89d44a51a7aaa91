"""Little text, seen again and again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hf_langcore.errors import InputError
from hf_langcore.recipes.bench.texts import Texts
from hf_langcore.recipes.bench.workbench import Bench, BenchSettings
from hf_langcore.recipes.paper import epochs as epochs_module
from hf_langcore.recipes.paper.epochs import FRESH, REPEATED, epochs
from hf_langcore.report.parts import Spread

SIZES: dict[str, Any] = {
    "language": "en",
    "epochs": (1, 3),
    "samples": 4,
    "seeds": (0,),
    "batch_size": 2,
    "learning_rate": 1e-2,
}


@pytest.fixture
def bench(llama: Any, tokenizer: Any, texts: Any, tmp_path: Path) -> Bench:
    texts["xx"] = list(texts["de"])
    settings = BenchSettings(block_size=8, test_tokens=60)
    return Bench(llama, tokenizer, Texts(texts, texts, "tiny"), output=tmp_path, settings=settings)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[list[tuple[int, ...]]]:
    """The samples of each training, in order."""
    runs: list[list[tuple[int, ...]]] = []
    real = epochs_module.pretrain_further

    def spied(model: Any, samples: Any, *args: Any, **options: Any) -> Any:
        runs.append([tuple(sample) for sample in samples.tolist()])
        return real(model, samples, *args, **options)

    monkeypatch.setattr(epochs_module, "pretrain_further", spied)
    return runs


def test_one_run_repeats_and_the_other_does_not(bench: Bench, seen: list[list[tuple[int, ...]]]) -> None:
    """Same first pass, as many steps; the repeated text comes in a new order, the control's nothing twice."""
    section = epochs(bench, **SIZES)
    repeated, fresh = seen
    assert len(repeated) == len(fresh) == 12
    assert repeated[:4] == fresh[:4]
    assert len(set(fresh)) == 12
    assert set(repeated[4:8]) == set(repeated[8:]) == set(repeated[:4])
    assert not repeated[:4] == repeated[4:8] == repeated[8:]
    curves = section.part("curve_training")
    assert curves.x == (0.0, 1.0, 3.0)
    lines = curves.lines
    assert lines[REPEATED][:2] == lines[FRESH][:2]
    assert lines[REPEATED][2] < lines[FRESH][2] < lines[FRESH][0]
    assert section.part("curve_test").lines[REPEATED][0] == pytest.approx(bench.measure("base").perplexity["en"])
    assert epochs(bench, **SIZES) == section
    assert len(seen) == 2


def test_seeds_make_spreads(bench: Bench, seen: list[list[tuple[int, ...]]]) -> None:
    """Each seed draws other blocks; the table has mean, smallest and largest."""
    section = epochs(bench, **{**SIZES, "seeds": (0, 1), "epochs": (1, 2), "samples": 4})
    assert set(seen[0]) != set(seen[1])
    table = section.part("epochs")
    assert [row[0] for row in table.rows[:2]] == [f"before training ({REPEATED})", f"{REPEATED}, 1 x 4 samples"]
    cell = table.rows[1][2]
    assert isinstance(cell, Spread)
    assert cell.low < cell.value < cell.high


def test_the_control_has_new_text_or_none(bench: Bench) -> None:
    """Unsaid, as many samples as leave it enough; more, and all is generated; without a generator it stops early."""
    chosen = epochs(bench, **{**SIZES, "samples": None, "epochs": (1, 2)})
    assert (chosen.facts["samples"], chosen.facts["source"]) == (6, "real text")
    made = epochs(bench, **{**SIZES, "samples": 8, "epochs": (2,)})
    assert made.facts["source"] == "generated text"
    alone = epochs(bench, **{**SIZES, "samples": 8, "epochs": (1, 2), "language": "xx"})
    assert alone.facts["source"] == "real text"
    assert alone.part("curve_test").lines[FRESH][2] is None
    assert alone.part("curve_test").lines[REPEATED][2] is not None


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"epochs": ()}, "epochs must be whole numbers"),
        ({"epochs": (0, 1)}, "epochs must be whole numbers"),
        ({"seeds": ()}, "at least one seed"),
        ({"samples": 1}, "less than one batch of 2"),
        ({"language": "fr"}, "language='fr'"),
    ],
)
def test_wrong_sizes_are_refused(bench: Bench, wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        epochs(bench, **{**SIZES, **wrong})
