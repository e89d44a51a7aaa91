"""Measuring entries on tiny models in which the truth is planted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from registry_plants import all_bits, plant_activation, plant_norm, plant_scalar, same_bits, train

from hf_langcore import registry
from hf_langcore.editing import scale_dimension
from hf_langcore.errors import InputError, NonFiniteError, UnsupportedModelError
from hf_langcore.evaluation import evaluate_perplexity
from hf_langcore.modes import alterations

OPTIONS: dict[str, Any] = {"block_size": 48, "progress": False, "samples": 200}


@pytest.fixture
def activation_fields(fields: Callable[..., Any]) -> Callable[..., dict[str, Any]]:
    """The fields of an entry about a massive activation, with changes."""

    def build(**changes: Any) -> dict[str, Any]:
        usual = {"kind": "massive_activation", "tensor": "model.layers.{layer}", "layer": 0, "index": 9}
        return fields(**{**usual, **changes})

    return build


def test_a_planted_scalar_holds_and_a_random_one_does_not(
    trained: Any, tokenizer: Any, long_texts: Any, fields: Callable[..., Any]
) -> None:
    """With interval and controls; every bit is back, and nothing is left noted."""
    plant_scalar(trained, 1, 5, (7, 20))
    before = all_bits(trained)
    found = registry.verify(
        trained, tokenizer, long_texts, entries=[fields(), fields(id="two", index=[6, 9])], controls=3, **OPTIONS
    )
    first, second = found
    assert (first.verdict, second.verdict) == ("holds", "does not hold")
    assert first.ratio is not None
    assert first.interval is not None
    assert first.control_ratio is not None
    assert second.ratio is not None
    assert first.interval.low <= first.ratio <= first.interval.high
    assert first.ratio > 5
    assert first.control_ratio < 1.1
    assert 0.9 < second.ratio < 1.1
    assert first.tensor == "model.layers.1.mlp.down_proj.weight"
    assert same_bits(trained, before)
    assert alterations(trained) == []


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_ratio_is_that_of_the_edit(
    trained: Any, tokenizer: Any, long_texts: Any, norm_fields: Callable[..., Any], dtype: torch.dtype
) -> None:
    """As scale_dimension and evaluate_perplexity give it."""
    plant_norm(trained, 1, (5, 17))
    trained.to(dtype)
    (one,) = registry.verify(trained, tokenizer, long_texts, entries=[norm_fields(value=4.0)], **OPTIONS)
    base = evaluate_perplexity(trained, tokenizer, long_texts, block_size=48, progress=False).mean()
    with scale_dimension(trained, "model.layers.1.input_layernorm", 5, factor=4.0):
        edited = evaluate_perplexity(trained, tokenizer, long_texts, block_size=48, progress=False).mean()
    assert one.ratio == pytest.approx(edited / base, rel=1e-4 if dtype is torch.float32 else 0.03)


def test_norms_and_what_they_may_be_called(
    trained: Any, tokenizer: Any, long_texts: Any, norm_fields: Callable[..., Any]
) -> None:
    """Where the source leaves open which norm it means, the one that does most counts; controls are expected to do nothing."""
    plant_norm(trained, 1, (5, 17))
    other = "model.layers.{layer}.post_attention_layernorm.weight"
    entries = [
        norm_fields(which="unspecified", alternatives=[other], operation="set", value=30.0),
        norm_fields(id="quiet", index=8, value=1.5, expected="none"),
        norm_fields(id="loud", index=5, tensor=other, value=10.0, expected="none"),
    ]
    first, quiet, loud = registry.verify(trained, tokenizer, long_texts, entries=entries, **OPTIONS)
    assert first.verdict == "holds"
    assert first.tensor == "model.layers.1.post_attention_layernorm.weight"
    assert quiet.verdict == "holds"
    assert loud.verdict == "does not hold"


def test_a_whole_group_together(
    trained: Any, tokenizer: Any, long_texts: Any, fields: Callable[..., Any], own_file: Path
) -> None:
    """A claim about all coordinates of a group is measured on all, those included that were not asked for."""
    plant_scalar(trained, 1, 5, (7, 20))
    effect = {"metric": "perplexity", "data": "x", "operation": "zero", "base": 1.0, "after": 9.0, "ratio": 9.0}
    joint = fields(index=[6, 9], group="both", effect={**effect, "jointly": True})
    registry.register(fields(id="other", group="both"))
    (one,) = registry.verify(trained, tokenizer, long_texts, entries=[joint], **OPTIONS)
    assert one.verdict == "holds"
    assert one.reason.startswith("All coordinates of the group together")
    assert one.joint_ratio == one.ratio
    alone = fields(index=[6, 9], group="both")
    (one,) = registry.verify(trained, tokenizer, long_texts, entries=[alone], **OPTIONS)
    assert one.verdict == "does not hold"
    assert one.ratio is not None
    assert one.joint_ratio is not None
    assert one.joint_ratio > 5 > one.ratio
    registry.register(fields(id="other", group="both", index=[99, 9]))
    (one,) = registry.verify(trained, tokenizer, long_texts, entries=[joint], **OPTIONS)
    assert one.verdict == "inconclusive"
    assert "some of them are missing" in one.reason
    assert own_file.exists()


def test_massive_activations(
    llama: Any, tokenizer: Any, long_texts: Any, activation_fields: Callable[..., Any]
) -> None:
    """Where they are, how large, how the model does without them, and that their mean serves as well."""
    plant_activation(llama, 9, 600.0)
    entries = [
        activation_fields(),
        activation_fields(id="absent", index=3),
        activation_fields(id="harmless", expected="none"),
        activation_fields(id="open", expected="unknown"),
    ]
    found = registry.verify(
        llama, tokenizer, long_texts, entries=entries, explodes_at=1.01, harmless_below=1.001, **OPTIONS
    )
    first = found.of("one")
    assert first.activation is not None
    assert first.activation.layers == (0, 1)
    assert first.activation.rank == 1
    assert first.activation.start_share == 1.0
    assert abs(first.activation.largest) == pytest.approx(600, rel=0.1)
    assert first.activation.ratio > 100
    assert first.mean_set_ratio == pytest.approx(1.0, abs=1e-4)
    assert first.ratio is not None
    assert abs(first.ratio - 1) > 1e-3
    assert first.control_ratio is not None
    assert found.of("absent").verdict == "does not hold"
    assert "nowhere massive" in found.of("absent").reason
    assert found.of("open").verdict == "holds"
    assert first.interval is not None
    low, high = first.interval.low, first.interval.high
    assert first.verdict == ("does not hold" if high < 1.01 else "holds" if low >= 1.01 else "inconclusive")
    assert found.of("harmless").verdict == (
        "holds" if high <= 1.001 else "does not hold" if low > 1.001 else "inconclusive"
    )


def test_a_model_that_relies_on_a_massive_activation(
    tokenizer: Any, long_texts: Any, llama: Any, texts: Any, activation_fields: Callable[..., Any]
) -> None:
    """Trained with it, the model is worse without, and as good with its mean; other dimensions do not matter."""
    plant_activation(llama, 9, 600.0)
    train(llama, tokenizer, texts, without="embed")
    entries = [activation_fields(), activation_fields(id="mean", operation="mean-set", expected="none")]
    first, mean = registry.verify(
        llama, tokenizer, long_texts, entries=entries, explodes_at=1.02, harmless_below=1.02, **OPTIONS
    )
    assert first.verdict == "holds"
    assert first.ratio is not None
    assert first.control_ratio is not None
    assert first.control_ratio < 1.02 < first.ratio
    assert mean.verdict == "holds"
    assert mean.ratio == first.mean_set_ratio == pytest.approx(1.0, abs=1e-3)


def test_dimensions_of_a_group_are_set_together(
    llama: Any, tokenizer: Any, long_texts: Any, activation_fields: Callable[..., Any]
) -> None:
    """Only those of the entry's group, and those alone where it has none."""
    plant_activation(llama, 9, 900.0)
    plant_activation(llama, 12, 700.0)
    entries = [
        activation_fields(),
        activation_fields(id="second", index=12),
        activation_fields(id="both-9", group="both"),
        activation_fields(id="both-12", index=12, group="both"),
    ]
    found = registry.verify(llama, tokenizer, long_texts, entries=entries, controls=0, **OPTIONS)
    first, second, both, same = (one.ratio for one in found)
    assert both == same
    assert len({first, second, both}) == 3
    assert [one.activation.rank for one in found if one.activation] == [1, 2, 1, 2]
    assert {one.control_ratio for one in found} == {None}


def test_models_without_massive_activations(
    llama: Any, tokenizer: Any, long_texts: Any, activation_fields: Callable[..., Any]
) -> None:
    """That claim is tested too, by the definition of its sources: above 100 and 1000 times the median."""
    entry = activation_fields(tensor=None, index=None, layer=None, expected="none")
    (one,) = registry.verify(llama, tokenizer, long_texts, entries=[entry], **OPTIONS)
    assert (one.verdict, one.ratio) == ("holds", None)
    plant_activation(llama, 9, 600.0)
    (one,) = registry.verify(llama, tokenizer, long_texts, entries=[entry], **OPTIONS)
    assert one.verdict == "holds"
    assert "2 are above 100 times the median" in one.reason
    plant_activation(llama, 9, 60000.0)
    (one,) = registry.verify(llama, tokenizer, long_texts, entries=[entry], **OPTIONS)
    assert one.verdict == "does not hold"
    assert "Dimension 9" in one.reason


def test_gpt2(gpt2: Any, tokenizer: Any, long_texts: Any, activation_fields: Callable[..., Any], fields: Any) -> None:
    """Its names, and its transposed matrices."""
    gpt2.transformer.wpe.weight.detach()[0, 9] = 3000.0  # the embeddings are tied to the head
    entries = [
        activation_fields(tensor="transformer.h.{layer}", expected="unknown"),
        fields(
            id="two", tensor="transformer.h.{layer}.mlp.c_proj.weight", index=[5, 100], operation="set", value=400.0
        ),
        fields(id="three", tensor="transformer.h.{layer}.mlp.c_proj.weight", index=[100, 5]),
    ]
    first, second, third = registry.verify(gpt2, tokenizer, long_texts, entries=entries, **OPTIONS)
    assert first.verdict == "holds"
    assert second.ratio is not None
    assert second.ratio > 1.01
    assert third.verdict == "missing"
    assert "no index 100 (0 to 31)" in third.reason


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layer": 40}, "no parameter 'model.layers.40.mlp.down_proj.weight'"),
        ({"index": [5, 4000]}, "there is no index 4000"),
        (
            {"kind": "massive_activation", "tensor": "model.layers.{layer}", "index": 4000},
            "there is no dimension 4000",
        ),
        (
            {"kind": "massive_activation", "tensor": "model.layers.{layer}", "index": 3, "layer": 9},
            "there is no layer 9",
        ),
        ({"kind": "massive_activation", "tensor": "transformer.h.{layer}", "index": 3}, "no module 'transformer.h.1'"),
    ],
)
def test_what_is_missing_in_this_revision(
    llama: Any, tokenizer: Any, long_texts: Any, fields: Callable[..., Any], changes: dict[str, Any], message: str
) -> None:
    """A verdict of its own; where everything is missing, an error that says what to do, before any text is read."""
    found = registry.verify(
        llama, tokenizer, long_texts, entries=[fields(**changes), fields(id="there")], controls=0, **OPTIONS
    )
    assert [one.verdict for one in found] == ["missing", "does not hold"]
    assert message in found[0].reason
    assert found[0].ratio is None
    with pytest.raises(UnsupportedModelError, match="None of the 1 coordinates") as caught:
        registry.verify(llama, tokenizer, {"en": "no such file.txt"}, entries=[fields(**changes)], **OPTIONS)
    assert message in str(caught.value)
    assert "another revision" in str(caught.value)


def test_a_text_that_is_too_short(llama: Any, tokenizer: Any, texts: Any, fields: Callable[..., Any]) -> None:
    """Inconclusive, and how much is needed."""
    (one,) = registry.verify(llama, tokenizer, {"en": texts["en"][:2]}, entries=[fields()], **OPTIONS)
    assert one.verdict == "inconclusive"
    assert one.interval is None
    assert one.ratio is not None
    assert "At least 8 pieces" in one.reason


def test_nothing_known(
    llama: Any, tokenizer: Any, long_texts: Any, fields: Callable[..., Any], own_file: Path
) -> None:
    """Similar ids, and how to add one's own."""
    with pytest.raises(InputError, match="does not say what it was loaded from"):
        registry.verify(llama, tokenizer, long_texts, **OPTIONS)
    with pytest.raises(
        InputError, match=r"mistralai/Mistral-7B-v0\.1.*registry\.register.*langcore scan --register"
    ) as caught:
        registry.verify(llama, tokenizer, long_texts, model_id="mistralai/Mistral-7B-v0.9", **OPTIONS)
    assert str(own_file) in str(caught.value)
    with pytest.raises(InputError, match="only notes are known"):
        registry.verify(llama, tokenizer, long_texts, model_id="Qwen/Qwen3-8B", **OPTIONS)
    with pytest.raises(InputError, match="This is no entry"):
        registry.verify(llama, tokenizer, long_texts, entries=[{"id": "x"}], **OPTIONS)
    with pytest.raises(InputError, match="controls must be"):
        registry.verify(llama, tokenizer, long_texts, entries=[fields()], controls=-1, **OPTIONS)


def test_by_the_name_that_the_model_was_loaded_under(
    llama: Any, tokenizer: Any, long_texts: Any, fields: Callable[..., Any]
) -> None:
    """One's own entries are found; published ones of a real model are all missing in a tiny one of that name."""
    registry.register(fields())
    llama.config._name_or_path = "me/tiny"
    assert [one.entry.id for one in registry.verify(llama, tokenizer, long_texts, **OPTIONS)] == ["one"]
    with pytest.raises(UnsupportedModelError, match=r"huggyllama/llama-7b.*mlp\.down_proj\.weight\[3968, 7003\]"):
        registry.verify(llama, tokenizer, long_texts, model_id="huggyllama/llama-7b", **OPTIONS)


def test_without_tokenizer_and_texts(trained: Any, tmp_path: Path, fields: Callable[..., Any]) -> None:
    """The model's own tokenizer, and the built-in corpus."""
    from hf_langcore.data.mini import mini_corpora
    from hf_langcore.recipes.pretraining import TinyModel, pretrain

    shape = TinyModel(vocab_size=300, hidden_size=32, intermediate_size=48, layers=2, heads=2, block_size=32, steps=2)
    model, words = pretrain(mini_corpora(["en"], sentences=40), shape=shape, progress=False)
    words.save_pretrained(tmp_path)
    model.config._name_or_path = str(tmp_path)
    found = registry.verify(model, entries=[fields()], max_tokens=40, controls=0, block_size=32, progress=False)
    assert len(found) == 1
    assert found.settings["tokens"] == 40 * 10
    with pytest.raises(InputError, match="Pass tokenizer="):
        registry.verify(trained, entries=[fields()], **OPTIONS)
    trained.config._name_or_path = str(tmp_path / "nothing")
    with pytest.raises(InputError, match="Cannot load the tokenizer"):
        registry.verify(trained, entries=[fields()], **OPTIONS)


def test_a_broken_model(llama: Any, tokenizer: Any, long_texts: Any, fields: Callable[..., Any]) -> None:
    """Nothing can be compared with it."""
    llama.model.norm.weight.detach().fill_(float("nan"))
    with pytest.raises(NonFiniteError, match="without any edit"):
        registry.verify(llama, tokenizer, long_texts, entries=[fields()], **OPTIONS)


def test_an_explosion_without_end(trained: Any, tokenizer: Any, long_texts: Any, norm_fields: Any) -> None:
    """Infinite perplexity is a ratio like any other; controls that do the same speak against the coordinate."""
    entries = [norm_fields(operation="set", value=1e38), norm_fields(id="same", index=6, operation="set", value=1e38)]
    trained.to(torch.float16).float()
    found = registry.verify(trained, tokenizer, long_texts, entries=entries, **OPTIONS)
    for one in found:
        assert one.ratio is not None
        assert one.ratio > 2
        assert one.verdict == "does not hold"
        assert "A random control does as much" in one.reason


def test_the_seed_decides_controls_and_intervals(trained: Any, tokenizer: Any, long_texts: Any, fields: Any) -> None:
    """The same call gives the same result, whatever else is measured beside it."""
    plant_scalar(trained, 1, 5, (7, 20))
    alone = registry.verify(trained, tokenizer, long_texts, entries=[fields()], seed=1, **OPTIONS)[0]
    both = registry.verify(
        trained, tokenizer, long_texts, entries=[fields(id="x", index=[1, 1]), fields()], seed=1, **OPTIONS
    )
    assert alone == both[1]
