"""The workbench keeps what was measured, and knows what it depends on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hf_langcore.editing import scale_dimension
from hf_langcore.errors import InputError
from hf_langcore.evaluation import evaluate_perplexity
from hf_langcore.probing.treebanks import Sentence
from hf_langcore.recipes.bench import workbench as bench_module
from hf_langcore.recipes.bench.texts import Texts
from hf_langcore.recipes.bench.workbench import Bench, BenchSettings

NORM = "model.layers.0.input_layernorm"


@pytest.fixture
def parted(texts: dict[str, list[str]]) -> Texts:
    return Texts(
        {name: each[:2] for name, each in texts.items()}, {name: each[2:] for name, each in texts.items()}, "tiny"
    )


@pytest.fixture
def bench(llama: Any, tokenizer: Any, parted: Texts, tmp_path: Path) -> Bench:
    return Bench(llama, tokenizer, parted, output=tmp_path, settings=BenchSettings(block_size=16))


def times(model: Any) -> Any:
    return scale_dimension(model, NORM, 3, factor=10)


def test_measurements_are_those_of_the_model(bench: Bench, llama: Any, tokenizer: Any, parted: Texts) -> None:
    """Unedited and edited, on the test texts, and the model is as before."""
    base = bench.measure("base")
    expected = evaluate_perplexity(llama, tokenizer, dict(parted.test), block_size=16, progress=False)
    assert base.perplexity == expected.perplexity
    edited = bench.measure("x10", {"factor": 10}, edit=times)
    assert edited.perplexity != base.perplexity
    assert "edits" in edited.settings
    assert (
        evaluate_perplexity(llama, tokenizer, dict(parted.test), block_size=16, progress=False).perplexity
        == base.perplexity
    )


def test_what_is_kept_is_not_measured_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same condition comes from the folder; another setting, or a damaged file, is measured."""
    first = bench.measure("x10", {"factor": 10}, edit=times)
    calls = []
    real = bench_module.score
    monkeypatch.setattr(bench_module, "score", lambda *a, **k: calls.append(1) or real(*a, **k))
    assert bench.measure("x10", {"factor": 10}, edit=times).perplexity == first.perplexity
    assert not calls
    bench.measure("x10", {"factor": 11}, edit=times)
    assert len(calls) == 1
    for path in (bench.output / "kept").glob("perplexity-*.json"):
        path.write_text(path.read_text().replace("x10", "x20"))
    assert bench.measure("x10", {"factor": 10}, edit=times).perplexity == first.perplexity
    assert len(calls) == 2


def test_other_models_texts_and_settings_are_other_measurements(
    bench: Bench, llama: Any, tokenizer: Any, parted: Texts, tmp_path: Path
) -> None:
    """One folder may hold several runs."""
    made: list[int] = []

    def value(of: Bench) -> Any:
        return of.kept("value", {"a": 1}, lambda: made.append(1) or len(made))

    assert value(bench) == value(bench) == 1
    other = Texts(parted.test, parted.train, "turned round")
    settings = BenchSettings(block_size=16)
    assert value(Bench(llama, tokenizer, other, output=tmp_path, settings=settings)) == 2
    assert value(Bench(llama, tokenizer, parted, output=tmp_path, settings=BenchSettings(block_size=17))) == 3
    with times(bench.fresh_model()) as handle:
        assert handle.num_edited == 1
    changed = bench.fresh_model()
    changed.lm_head.weight.data[0, 0] += 1
    assert value(Bench(changed, tokenizer, parted, output=tmp_path, settings=settings)) == 4
    assert value(bench) == 1


def test_the_core(bench: Bench) -> None:
    """From the train texts of the core languages; single languages are parts of the sum."""
    both = bench.scores()
    total = bench.scores(["en"]) + bench.scores(["de"])
    name = "model.layers.0.mlp.up_proj.weight"
    assert both[name].allclose(total[name])
    assert bench.core(0.1).provenance.fraction == 0.1
    assert list(bench.core(languages=["de"]).provenance.tokens) == ["de"]


def test_core_languages(llama: Any, tokenizer: Any, parted: Texts, tmp_path: Path) -> None:
    """The paper's where there are texts for them, else all, else those asked for."""

    def made(texts: Texts, core: tuple[str, ...] | None = None) -> Bench:
        return Bench(llama, tokenizer, texts, output=tmp_path, settings=BenchSettings(core_languages=core))

    assert made(parted).core_languages == ("en", "de")
    of_the_paper = Texts({"zh": ["a"], "en": ["b"]}, {"zh": ["c"], "en": ["d"]}, "x")
    assert made(of_the_paper).core_languages == ("zh",)
    assert made(parted, ("de",)).core_languages == ("de",)
    with pytest.raises(InputError, match="fr"):
        _ = made(parted, ("fr",)).core_languages


def test_edited_models_are_refused(llama: Any, tokenizer: Any, parted: Texts, tmp_path: Path) -> None:
    """An experiment on a model that is edited already would not say what it says."""
    with times(llama), pytest.raises(InputError, match="edited"):
        Bench(llama, tokenizer, parted, output=tmp_path)


def test_facts_name_no_place(bench: Bench, llama: Any, tmp_path: Path) -> None:
    """A model of a folder is named by the folder, one of the Hub by its repository."""
    llama.config._name_or_path = str(tmp_path)
    assert bench.facts()["model"] == tmp_path.name
    llama.config._name_or_path = "ada/model"
    assert bench.facts()["model"] == "ada/model"
    assert bench.facts()["core_languages"] == ["en", "de"]


def test_time_of_an_earlier_run_counts(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was made before took its time then; a section says what all of it took."""
    now = [0.0]
    monkeypatch.setattr(bench_module.time, "perf_counter", lambda: now[0])

    def slow() -> int:
        now[0] += 7.5
        return 3

    assert bench.kept("value", {"b": 1}, slow) == 3
    assert bench.seconds_before == 0.0
    assert bench.kept("value", {"b": 1}, slow) == 3
    assert bench.seconds_before == 7.5


def test_companions(llama: Any, tokenizer: Any, gpt2: Any, parted: Texts, tmp_path: Path) -> None:
    """Treebanks and encoder change what experiments on syntax depend on, and nothing else."""
    sentence = Sentence(("a", "b"), ("DET", "NOUN"), (1, -1), ("det", "root"), None, "", 1)
    plain = Bench(llama, tokenizer, parted, output=tmp_path)
    parsed = Bench(llama, tokenizer, parted, output=tmp_path, treebanks={"en": [sentence]}, encoder=(gpt2, tokenizer))
    other = Bench(
        llama, tokenizer, parted, output=tmp_path, treebanks={"en": [sentence] * 2}, encoder=(gpt2, tokenizer)
    )
    assert plain.identity == parsed.identity
    assert [one.is_encoder for one in plain.subjects] == [False]
    assert [(one.is_encoder, one.model) for one in parsed.subjects] == [(False, llama), (True, gpt2)]
    assert len({str(one.companions) for one in (plain, parsed, other)}) == 3
    assert parsed.require_treebanks() == {"en": [sentence]}
    with pytest.raises(InputError, match="--treebanks"):
        plain.require_treebanks()
