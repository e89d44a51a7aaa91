"""A model whose output hangs on one constant: the test has to find that, and to see when a core has nothing to do with it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from hf_langcore.architecture import bare_weights
from hf_langcore.editing import perturb
from hf_langcore.errors import CoreMaskMismatchError, CorpusError, InputError
from hf_langcore.evaluation import ScoringTask, prepare_scoring
from hf_langcore.masks import CoreMask
from hf_langcore.masks.matched import profile_and_magnitude_matched
from hf_langcore.modes import alterations
from hf_langcore.scanning import measure
from hf_langcore.scanning.losses import WindowLosses
from hf_langcore.sinks import rows as names
from hf_langcore.sinks.comparison import run_sink_test, sink_or_language
from hf_langcore.sinks.massive import mean_activations, measure_activations

DIMENSION = 11
BIAS = "model.layers.0.mlp.down_proj.bias"
UP = "model.layers.1.mlp.up_proj.weight"
OUT = "model.layers.1.self_attn.o_proj.weight"


@pytest.fixture
def planted() -> Any:
    """A large constant in one dimension keeps the norms before the head, and so the logits, small."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=120, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=64, initializer_range=0.2, mlp_bias=True, pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        model.model.layers[0].mlp.down_proj.bias[DIMENSION] = 400.0
        model.lm_head.weight.mul_(5)
        model.lm_head.weight[:, DIMENSION] = 0
    return model


@pytest.fixture
def task(planted: Any, tokenizer: Any) -> ScoringTask:
    texts = {"en": [f"the {word} sat on the mat" for word in ("cat", "dog", "owl", "old man", "moon")],
             "de": [f"{word} lief nach Hause" for word in ("Hund", "Katze", "er", "sie", "der Mond")]}  # fmt: skip
    return prepare_scoring(planted, tokenizer, texts, block_size=32)


def core_of(*, with_bias: bool, others: int = 40) -> CoreMask:
    up, out = torch.zeros(48, 32, dtype=torch.bool), torch.zeros(32, 32, dtype=torch.bool)
    up.view(-1)[torch.randperm(48 * 32, generator=torch.Generator().manual_seed(3))[:others]] = True
    up[:, DIMENSION] = False
    bias = torch.zeros(32, dtype=torch.bool)
    bias[DIMENSION] = with_bias
    return CoreMask({BIAS: bias, UP: up, OUT: out})


def test_a_core_that_is_the_constant_is_seen_through(planted: Any, task: ScoringTask) -> None:
    core_mask = core_of(with_bias=True)
    found = run_sink_test(planted, task, core_mask, seeds=2)
    assert (found.dimensions, found.positions) == ((DIMENSION,), "massive")
    assert found[names.ONLY].weights == 1
    assert found[names.WITHOUT].weights == core_mask.count() - 1
    assert found[names.ONLY].share.low > 0.9
    assert found[names.WITHOUT].share.high < 0.1
    assert found[names.HELD].share.high < 0.1
    assert found[names.ACTIVATIONS_ZERO].share.low > 0.9
    assert found[names.ACTIVATIONS_MEAN].share.high < 0.1
    words = found.verdicts()
    assert "Most of the rise needs them." in words["Does the core need the sink dimensions?"]
    assert "brings most of it back" in words["Does holding the sink bring perplexity back?"]
    assert "their constant value is used" in words["Is it the value or the removal?"]


def test_a_core_that_leaves_the_constant_alone_is_cleared(planted: Any, task: ScoringTask) -> None:
    """Here the core is what reads the stream before the head's norm, with the constant out of the way."""
    with torch.no_grad():
        planted.lm_head.weight.mul_(200)
        bare_weights(planted)[UP].parameter.mul_(60)
    found = run_sink_test(planted, task, core_of(with_bias=False, others=700), seeds=1)
    rise = found[names.CORE].rise
    assert found[names.ONLY].weights == 0
    assert found[names.ONLY].share.value == 0
    assert found[names.WITHOUT].share.value == pytest.approx(1)
    if rise.low > 0:
        assert "Most of the rise does not need them." in found.verdicts()["Does the core need the sink dimensions?"]
    else:
        assert list(found.verdicts()) == ["Is there an explosion?"]


def test_each_figure_is_what_the_edit_by_hand_gives(planted: Any, task: ScoringTask) -> None:
    core_mask = core_of(with_bias=True)
    found = run_sink_test(planted, task, core_mask, seeds=2)
    base = measure(planted, task).mean_nll()
    part = CoreMask({name: core_mask[name] & (name == BIAS) for name in core_mask})
    rest = core_mask - part
    noted = measure_activations(planted, task, {0: [DIMENSION], 1: [DIMENSION]})
    with perturb(planted, core_mask):
        core = measure(planted, task).mean_nll() - base
    with perturb(planted, core_mask, how="mean"):
        mean = measure(planted, task).mean_nll() - base
    with perturb(planted, part, how="mean"), perturb(planted, rest):
        mixed = measure(planted, task).mean_nll() - base
    with mean_activations(planted, noted), perturb(planted, core_mask):
        held = measure(planted, task).mean_nll() - base
    for name, rise in ((names.CORE, core), (names.CORE_MEAN, mean), (names.PART_MEAN, mixed), (names.HELD, held)):
        row = found[name]
        assert row.rise.value == pytest.approx(rise, rel=1e-6, abs=1e-9)
        assert row.share.value == pytest.approx(rise / core, rel=1e-6, abs=1e-9)
        assert row.rise.low <= row.rise.value <= row.rise.high


def test_controls_are_means_over_their_seeds(planted: Any, task: ScoringTask) -> None:
    core_mask = core_of(with_bias=True)
    found = run_sink_test(planted, task, core_mask, seeds=3)
    base = measure(planted, task).mean_nll()
    rises, outside = [], []
    weights = {name: weight.parameter for name, weight in bare_weights(planted).items()}
    for seed in range(3):
        with perturb(planted, core_mask.random_like(seed=seed)):
            rises.append(measure(planted, task).mean_nll() - base)
        both = profile_and_magnitude_matched(core_mask, weights, seed=seed).core_mask
        outside.append((both - core_mask).count())
    row = found[names.RANDOM]
    assert (row.rise.low, row.rise.high) == (pytest.approx(min(rises)), pytest.approx(max(rises)))
    assert row.rise.value == pytest.approx(sum(rises) / 3)
    assert (row.over, row.weights) == ("seeds", core_mask.count())
    assert found[names.OUTSIDE].weights == round(sum(outside) / 3)
    assert 0 <= found[names.BOTH].overlap <= 1
    assert found[names.MAGNITUDE].overlap == 0


def test_the_model_is_left_as_it_was_and_the_figures_repeat(planted: Any, task: ScoringTask) -> None:
    before = {name: value.clone() for name, value in planted.state_dict().items()}
    one, other = (run_sink_test(planted, task, core_of(with_bias=True), seeds=1) for _ in range(2))
    assert one.rows == other.rows
    assert alterations(planted) == []
    assert all(torch.equal(value, before[name]) for name, value in planted.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in planted.modules())


def test_without_massive_activations_the_rows_say_so(llama: Any, tokenizer: Any, texts: Any) -> None:
    core = {name: torch.rand(weight.shape) < 0.1 for name, weight in bare_weights(llama).items() if "mlp" in name}
    many = {language: documents * 3 for language, documents in texts.items()}
    found = sink_or_language(llama, tokenizer, many, CoreMask(core), seeds=1, block_size=32)
    assert (found.dimensions, found.massive) == ((), ())
    row = found[names.HELD]
    assert (row.rise, row.share, row.weights) == (None, None, None)
    assert "has no massive activations" in row.missing
    assert found[names.CORE_MEAN].rise is not None
    assert [row.condition for row in found.rows][-1] == names.OUTSIDE
    nearest = eval(row.missing.partition("dimensions=")[2].partition("]")[0] + "]")  # noqa: S307 a list of our own
    asked = sink_or_language(llama, tokenizer, many, CoreMask(core), dimensions=nearest, seeds=1, block_size=32)
    assert (asked.dimensions, asked.positions) == (tuple(sorted(nearest)), "all")
    assert asked[names.HELD].rise is not None
    assert asked[names.ONLY].weights + asked[names.WITHOUT].weights == asked[names.CORE].weights


def test_what_was_kept_is_not_measured_again(planted: Any, task: ScoringTask, monkeypatch: pytest.MonkeyPatch) -> None:
    store: dict[str, WindowLosses] = {}

    def keep(name: str, make: Any) -> WindowLosses:
        if name not in store:
            store[name] = make()
        return store[name]

    first = run_sink_test(planted, task, core_of(with_bias=True), seeds=2, keep=keep)
    assert len(store) == 9 + 5 * 2
    monkeypatch.setattr("hf_langcore.sinks.comparison.measure", None)
    monkeypatch.setattr("hf_langcore.sinks.comparison.find_massive_activations", None)
    again = run_sink_test(planted, task, core_of(with_bias=True), seeds=2, keep=keep, massive=first.massive)
    assert again.rows == first.rows


@pytest.mark.parametrize(
    ("options", "words"),
    [({"seeds": 0}, "at least 1"), ({"dimensions": []}, "dimensions is empty"), ({"dimensions": [32]}, "0 to 31")],
)
def test_bad_arguments_are_refused(planted: Any, task: ScoringTask, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        run_sink_test(planted, task, core_of(with_bias=True), **options)
    assert alterations(planted) == []


def test_a_text_that_is_too_short_and_a_foreign_mask_are_refused(planted: Any, tokenizer: Any) -> None:
    with pytest.raises(CorpusError, match="too short to tell"):
        sink_or_language(planted, tokenizer, {"en": ["a cat"]}, core_of(with_bias=True))
    with pytest.raises(CoreMaskMismatchError):
        sink_or_language(planted, tokenizer, {"en": ["a cat"]}, CoreMask({UP: torch.ones(3, 3, dtype=torch.bool)}))
