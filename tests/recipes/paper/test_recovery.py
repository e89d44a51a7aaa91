"""A broken core, trained again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hf_langcore.editing import perturb
from hf_langcore.errors import InputError
from hf_langcore.evaluation import evaluate_perplexity
from hf_langcore.recipes.bench.texts import Texts
from hf_langcore.recipes.bench.workbench import Bench, BenchSettings
from hf_langcore.recipes.paper import recovery as recovery_module
from hf_langcore.recipes.paper.recovery import recovery

SIZES: dict[str, Any] = {"samples": (0, 8), "batch_size": 4, "learning_rate": 1e-2, "fraction": 0.05, "language": "en"}


@pytest.fixture
def bench(llama: Any, tokenizer: Any, texts: Any, tmp_path: Path) -> Bench:
    texts["xx"] = list(texts["de"])
    settings = BenchSettings(block_size=8, test_tokens=60, core_languages=("en", "de"))
    return Bench(llama, tokenizer, Texts(texts, texts, "tiny"), output=tmp_path, settings=settings)


def test_the_frozen_core_stays_broken_and_the_free_one_moves(bench: Bench) -> None:
    """Bits: none of the frozen regions, nearly all of the free ones; the rest is trained in all arms."""
    section = recovery(bench, **SIZES)
    size = bench.core(0.05).count()
    bits = {row[0]: row[1:] for row in section.part("real_text_bits").rows}
    assert list(bits) == [
        "core broken and frozen",
        "core broken and free",
        "random region broken and frozen",
        "nothing broken",
    ]
    assert all(region == size and elsewhere > 0 for region, _, elsewhere in bits.values())
    changed = [counts[1] for counts in bits.values()]
    assert changed[0] == changed[2] == 0
    assert min(changed[1], changed[3]) > 0.9 * size


def test_the_start_is_the_broken_model(bench: Bench, llama: Any, tokenizer: Any, texts: Any) -> None:
    """At 0 samples: the perturbed model, the randomly perturbed one, the model as it is; the level is the last."""
    section = recovery(bench, **SIZES, how="zero")

    def perplexity() -> dict[str, float]:
        return evaluate_perplexity(llama, tokenizer, texts, block_size=8, max_tokens=60, progress=False).perplexity

    core_mask, base = bench.core(0.05), perplexity()
    with perturb(llama, core_mask):
        broken = perplexity()
    with perturb(llama, core_mask.random_like(seed=0)):
        control = perplexity()
    curves = section.part("real_text_test")
    assert curves.x == (0.0, 8.0)
    assert [line[0] for line in curves.lines.values()] == pytest.approx(
        [broken["en"], broken["en"], control["en"], base["en"]]
    )
    assert curves.level == pytest.approx(base["en"])
    rest = section.part("real_text_others")
    assert rest.level == pytest.approx((base["de"] * base["xx"]) ** 0.5)
    assert rest.lines["core broken and free"][0] == pytest.approx((broken["de"] * broken["xx"]) ** 0.5)
    table = section.part("real_text_core_broken_and_frozen")
    assert [row[2] for row in table.rows] == pytest.approx(list(broken.values()))
    assert all(line[1] < line[0] for line in curves.lines.values())


def test_larger_numbers_are_trained_on_generated_text(bench: Bench) -> None:
    """The real text as far as it goes, in steps; then a part of its own, on text of its own too."""
    section = recovery(bench, **{**SIZES, "samples": (0, 30)}, arms=("frozen",))
    assert section.facts["samples"] == {"real text": [0, 4, 12], "generated text": [0, 32]}
    assert section.part("real_text_test").x == (0.0, 4.0, 12.0)
    generated = section.part("generated_text_generated")
    assert generated.x == (0.0, 32.0)
    line = generated.lines["core broken and frozen"]
    assert line[1] < line[0]
    assert any("generated text" in paragraph for paragraph in section.text)
    assert len({part.name for part in section.parts}) == len(section.parts)


def test_no_generator_no_larger_numbers(bench: Bench) -> None:
    """They are left out, and the section says so."""
    section = recovery(bench, **{**SIZES, "samples": (500,), "language": "xx"}, arms=("unbroken",))
    assert list(section.facts["samples"]) == ["real text"]
    assert any("left out" in paragraph for paragraph in section.text)


def test_finished_runs_are_kept(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A killed run repeats only the unfinished arm; another way of breaking is another run."""
    trained = []
    real = recovery_module.pretrain_further

    def stopping(*args: Any, **options: Any) -> Any:
        trained.append(options["core_mask"] is not None)
        if len(trained) == 2:
            raise KeyboardInterrupt
        return real(*args, **options)

    monkeypatch.setattr(recovery_module, "pretrain_further", stopping)
    with pytest.raises(KeyboardInterrupt):
        recovery(bench, **SIZES, arms=("frozen", "free"))
    first = recovery(bench, **SIZES, arms=("frozen", "free"))
    assert trained == [True, False, False]
    assert recovery(bench, **SIZES, arms=("frozen", "free")) == first
    assert len(trained) == 3
    recovery(bench, **SIZES, arms=("frozen",), how="zero")
    assert len(trained) == 4


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"arms": ("melted",)}, "arms must be some of"),
        ({"arms": ()}, "arms must be some of"),
        ({"samples": ()}, "samples must be whole numbers"),
        ({"samples": (0.5,)}, "samples must be whole numbers"),
        ({"language": "fr"}, "language='fr'"),
    ],
)
def test_wrong_sizes_are_refused(bench: Bench, wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        recovery(bench, **wrong)


def test_generated_text_may_have_fewer_arms(bench: Bench) -> None:
    """Controls take as long as what they are controls of, and generated text gives many more samples."""
    section = recovery(bench, **{**SIZES, "samples": (0, 500)}, arms=("frozen", "free"), generated_arms=("frozen",))
    columns = {part.name: part.columns for part in section.parts if part.name.endswith("samples")}
    own, generated = columns["real_text_samples"], columns["generated_text_samples"]
    assert len(own) > len(generated)
    with pytest.raises(InputError, match="arms must be some of"):
        recovery(bench, **SIZES, generated_arms=("melted",))
