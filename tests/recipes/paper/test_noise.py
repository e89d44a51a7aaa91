"""Training on noise, beside the same training without."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hf_langcore.errors import InputError
from hf_langcore.recipes.bench.texts import Texts
from hf_langcore.recipes.bench.workbench import Bench, BenchSettings
from hf_langcore.recipes.paper import noise as noise_module
from hf_langcore.recipes.paper.noise import noise

SIZES: dict[str, Any] = {
    "kinds": ("repeated words",),
    "shares": (0.5,),
    "samples": 16,
    "seeds": (0,),
    "batch_size": 4,
    "learning_rate": 1e-2,
    "fraction": 0.1,
}


@pytest.fixture
def bench(llama: Any, tokenizer: Any, texts: Any, tmp_path: Path) -> Bench:
    settings = BenchSettings(block_size=8, test_tokens=60)
    return Bench(llama, tokenizer, Texts(texts, texts, "tiny"), output=tmp_path, settings=settings)


def test_only_the_noise_differs(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Order, seed and all other samples are the clean run's; languages are mixed equally; finished runs are kept."""
    fed = []
    real = noise_module.pretrain_further

    def spied(model: Any, samples: Any, how: Any) -> Any:
        fed.append((samples, how))
        return real(model, samples, how)

    monkeypatch.setattr(noise_module, "pretrain_further", spied)
    section = noise(bench, **SIZES)
    (clean, how), (noisy, other) = fed
    assert how == other
    assert clean.shape == noisy.shape == (16, 8)
    assert int((clean != noisy).any(dim=1).sum()) == 8
    assert section.facts["mixed"] == ["en", "de"]
    assert section.part("effect").rows[2][1] == 8
    assert noise(bench, **SIZES) == section
    assert len(fed) == 2


def test_shifts_are_of_the_norms(bench: Bench, llama: Any) -> None:
    """Every norm weight of the layers takes part; those of the core are named."""
    section = noise(bench, **{**SIZES, "seeds": (0, 1)})
    ranks = section.part("norm_shift")
    assert ranks.rows[0][0] == "clean run, other seed (control)"
    assert 0 < ranks.rows[1][1].value < 10
    table = section.part("dimensions")
    assert "128" in table.note
    core_mask = bench.core(0.1)
    for row in table.rows:
        name, _, index = row[0].partition(" ")
        assert (row[4] == "yes") == bool(core_mask[f"{name}.weight"][int(index[1:-1])])
        assert row[1] > 0
    examples = section.part("examples")
    assert list(examples.texts) == ["repeated words"]


def test_a_model_whose_norms_have_no_core(gpt2: Any, tokenizer: Any, texts: Any, tmp_path: Path) -> None:
    """A core too small for any norm weight has no rank, and everything else is there; LayerNorm counts as a norm."""
    bench = Bench(
        gpt2,
        tokenizer,
        Texts(texts, texts, "t"),
        output=tmp_path,
        settings=BenchSettings(block_size=8, test_tokens=60),
    )
    section = noise(bench, **{**SIZES, "fraction": 0.01})
    assert all(row[3] is None for row in section.part("norm_shift").rows)
    assert len(section.part("effect").rows) == 3


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"kinds": ("hiss",)}, "kinds of noise are"),
        ({"kinds": ()}, "kinds of noise are"),
        ({"shares": (0.0,)}, "shares must lie between 0 and 1"),
        ({"shares": (1.5,)}, "shares must lie between 0 and 1"),
        ({"seeds": (1, 1)}, "seeds must be different"),
        ({"languages": ("fr",)}, "there are texts for"),
        ({"samples": 2}, "do not fill one batch of 4"),
    ],
)
def test_wrong_sizes_are_refused(bench: Bench, wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        noise(bench, **{**SIZES, **wrong})
