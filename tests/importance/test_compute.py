"""The one loop: options, resumption, controls, and a model that is left as it was."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from hf_langcore.errors import ConfigurationError, CorpusError, InputError, NonFiniteError, UnsupportedModelError
from hf_langcore.importance import compute as compute_module
from hf_langcore.importance import compute_core_mask, compute_importance

OPTIONS = {"block_size": 16, "batch_size": 2, "progress": False}


def bits(model: Any) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone().view(torch.int32) for name, parameter in model.named_parameters()}


def test_the_model_is_left_as_it_was(model: Any, tokenizer: Any, texts: Any) -> None:
    """Weights, flags, gradients and training mode are the same afterwards."""
    model.train()
    parameters = dict(model.named_parameters())
    first, second = list(parameters)[:2]
    parameters[first].requires_grad_(False)
    parameters[second].grad = torch.ones_like(parameters[second])
    before = bits(model)

    compute_importance(model, tokenizer, texts, **OPTIONS)

    assert all(module.training for module in model.modules())
    assert not parameters[first].requires_grad
    assert torch.equal(parameters[second].grad, torch.ones_like(parameters[second]))
    assert all(parameter.grad is None for name, parameter in parameters.items() if name != second)
    assert all(torch.equal(value, before[name]) for name, value in bits(model).items())


def test_provenance_says_how_the_scores_were_made(llama: Any, tokenizer: Any, texts: Any) -> None:
    """Languages, token counts, sizes, versions and the fingerprint of the weights travel with the mask."""
    mask = compute_core_mask(llama, tokenizer, texts, fraction=0.1, **OPTIONS)
    source = mask.provenance
    assert (source.method, source.which, source.fraction) == ("taylor", "top", 0.1)
    assert source.languages == ("en", "de")
    assert all(count % 16 == 0 and count > 0 for count in source.tokens.values())
    assert (source.block_size, source.batch_size) == (16, 2)
    assert set(source.base_fingerprint.tensors) == set(mask)
    assert "torch" in source.versions


def test_magnitude_and_random_need_no_text(model: Any) -> None:
    """The controls are computed from the weights alone."""
    magnitude = compute_importance(model, method="magnitude")
    for name, values in magnitude.items():
        assert torch.equal(values, model.get_parameter(name).detach().abs())
    first, again, other = (compute_importance(model, method="random", seed=seed) for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)
    assert all(values.min() >= 0 and values.max() < 1 for values in first.values())


def test_embeddings_only_when_asked(llama: Any) -> None:
    """Decoder layers only, unless `include` names more."""
    assert all(".layers." in name for name in compute_importance(llama, method="magnitude"))
    more = compute_importance(llama, method="magnitude", include=("embeddings", "lm_head"))
    assert {"model.embed_tokens.weight", "lm_head.weight"} <= set(more)


def test_tied_head_is_refused_by_name(gpt2: Any) -> None:
    """A tied LM head is one tensor with the embeddings, and the error says so."""
    with pytest.raises(UnsupportedModelError, match="tied"):
        compute_importance(gpt2, method="magnitude", include=("lm_head",))
    assert "transformer.wte.weight" in compute_importance(gpt2, method="magnitude", include=("embeddings",))


def test_seed_shuffles_documents(llama: Any, tokenizer: Any) -> None:
    """With a token limit another seed reads other documents; the same seed the same."""
    corpora = {"en": [f"{letter * 15}" for letter in "abcdefghij"]}
    masks = [
        compute_core_mask(llama, tokenizer, corpora, fraction=0.05, max_tokens=48, seed=seed, **OPTIONS)
        for seed in (None, 3, 3, 4)
    ]
    assert masks[1] == masks[2]
    assert masks[1] != masks[3]
    assert masks[0].provenance.seed is None


def test_max_tokens_limits_the_blocks(llama: Any, tokenizer: Any, texts: Any) -> None:
    """`max_tokens` counts tokens in blocks, BOS included."""
    mask = compute_core_mask(llama, tokenizer, texts, fraction=0.05, max_tokens=32, **OPTIONS)
    assert mask.provenance.tokens == {"en": 32, "de": 32}


def test_interrupted_search_resumes_at_the_next_language(
    llama: Any, tokenizer: Any, texts: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Finished languages are not scored again, and the result is the same bit for bit."""
    expected = compute_importance(llama, tokenizer, texts, **OPTIONS)
    scored: list[str] = []
    plain = compute_module.gradient_scores

    def counting(*args: Any, language: str, **options: Any) -> Any:
        if language == "de" and not scored.count("broken"):
            scored.append("broken")
            raise KeyboardInterrupt
        scored.append(language)
        return plain(*args, language=language, **options)

    monkeypatch.setattr(compute_module, "gradient_scores", counting)
    with pytest.raises(KeyboardInterrupt):
        compute_importance(llama, tokenizer, texts, resume_dir=tmp_path, **OPTIONS)
    resumed = compute_importance(llama, tokenizer, texts, resume_dir=tmp_path, **OPTIONS)

    assert scored == ["en", "broken", "de"]
    assert all(torch.equal(values, expected[name]) for name, values in resumed.items())


def test_state_of_other_settings_is_never_taken(
    llama: Any, tokenizer: Any, texts: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another block size, other texts or other weights are scored anew."""
    compute_importance(llama, tokenizer, texts, resume_dir=tmp_path, **OPTIONS)
    scored: list[str] = []
    plain = compute_module.gradient_scores
    monkeypatch.setattr(
        compute_module,
        "gradient_scores",
        lambda *args, language, **options: scored.append(language) or plain(*args, language=language, **options),
    )
    compute_importance(llama, tokenizer, texts, resume_dir=tmp_path, **{**OPTIONS, "block_size": 8})
    assert scored == ["en", "de"]
    compute_importance(
        llama, tokenizer, {**texts, "de": ["etwas ganz anderes steht hier"]}, resume_dir=tmp_path, **OPTIONS
    )
    assert scored == ["en", "de", "de"]
    with torch.no_grad():
        llama.model.layers[0].mlp.up_proj.weight.mul_(1.5)
    compute_importance(llama, tokenizer, texts, resume_dir=tmp_path, **OPTIONS)
    assert scored == ["en", "de", "de", "en", "de"]


def test_through_peft_the_mask_is_the_same(model: Any, tokenizer: Any, texts: Any) -> None:
    """A model wrapped by a PEFT method has the core of its base, bit for bit, and its adapter is left active."""
    from peft import get_peft_model

    from hf_langcore import CoreRegionConfig

    plain = compute_core_mask(model, tokenizer, texts, fraction=0.05, **OPTIONS)
    wrapped = get_peft_model(model, CoreRegionConfig(core_mask=plain, r=2, init_weights=False, task_type="CAUSAL_LM"))
    trainable = {name for name, parameter in wrapped.named_parameters() if parameter.requires_grad}
    again = compute_core_mask(wrapped, tokenizer, texts, fraction=0.05, **OPTIONS)
    assert again == plain
    assert again.provenance.base_fingerprint.total == plain.provenance.base_fingerprint.total
    assert {name for name, parameter in wrapped.named_parameters() if parameter.requires_grad} == trainable


def test_granularity_is_checked_before_scoring(llama: Any, tokenizer: Any, texts: Any) -> None:
    """A wrong word, or heads that cannot be told, cost nothing: no text is read."""
    with pytest.raises(InputError, match="granularity must be one of"):
        compute_core_mask(llama, tokenizer, texts, granularity="blocks", **OPTIONS)
    llama.config.num_attention_heads = 5
    with pytest.raises(UnsupportedModelError, match=r"'model\.layers\.0\.self_attn'"):
        compute_core_mask(llama, tokenizer, texts, granularity="heads", **OPTIONS)
    assert tokenizer.calls == []


def test_columns_of_transposed_weights_are_inputs(gpt2: Any) -> None:
    """Rows of GPT-2's stored matrices."""
    mask = compute_core_mask(gpt2, method="magnitude", fraction=0.5, granularity="columns")
    inputs = mask["transformer.h.0.mlp.c_fc.weight"]
    assert inputs.shape == (32, 128)
    assert int(inputs.all(1).sum()) == 16
    assert int(inputs.sum()) == 16 * 128


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.5, float("nan"), True, "0.1", None])
def test_fraction_is_checked_before_scoring(llama: Any, tokenizer: Any, texts: Any, fraction: Any) -> None:
    """A wrong fraction costs nothing: no text is read."""
    with pytest.raises(InputError, match="between 0 and 1"):
        compute_core_mask(llama, tokenizer, texts, fraction=fraction, **OPTIONS)
    assert tokenizer.calls == []


def test_bad_input_is_named(llama: Any, tokenizer: Any, texts: Any) -> None:
    """Each wrong argument gets an error that says what was expected."""
    with pytest.raises(InputError, match="importance_from_checkpoints"):
        compute_importance(llama, tokenizer, texts, method="weight_change")
    with pytest.raises(ConfigurationError, match="needs texts"):
        compute_importance(llama, tokenizer)
    with pytest.raises(ConfigurationError, match='"wanda" needs texts'):
        compute_importance(llama, method="wanda")
    with pytest.raises(CorpusError, match="language codes"):
        compute_importance(llama, tokenizer, {})
    with pytest.raises(CorpusError, match="'xx'"):
        compute_importance(llama, tokenizer, {"xx": []}, progress=False)
    with pytest.raises(InputError, match="batch_size"):
        compute_importance(llama, tokenizer, texts, batch_size=0, progress=False)
    with pytest.raises(InputError, match="block_size"):
        compute_importance(llama, tokenizer, texts, block_size=2, progress=False)
    with pytest.raises(InputError, match="which"):
        compute_core_mask(llama, tokenizer, texts, which="middle")


def test_nan_in_a_later_language_keeps_the_earlier_ones(
    llama: Any, tokenizer: Any, texts: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loss that breaks down in one language loses nothing that was finished."""
    plain = compute_module.gradient_scores

    def breaking(model: Any, weights: Any, blocks: Any, *, language: str, **options: Any) -> Any:
        if language == "de":
            with torch.no_grad():
                model.model.norm.weight[0] = float("nan")
        return plain(model, weights, blocks, language=language, **options)

    monkeypatch.setattr(compute_module, "gradient_scores", breaking)
    with pytest.raises(NonFiniteError):
        compute_importance(llama, tokenizer, texts, resume_dir=tmp_path, **OPTIONS)
    assert len(list(tmp_path.iterdir())) == 1


def test_dimensions_of_transposed_weights_fit_scale_dimension(gpt2: Any, tmp_path: Any) -> None:
    """Where GPT-2 stores a weight (in, out), dimensions are given as scale_dimension takes them, also after loading."""
    from hf_langcore import CoreMask, scale_dimension

    name = "transformer.h.0.mlp.c_fc.weight"
    with torch.no_grad():
        gpt2.get_parameter(name)[5] = 50.0  # one input, stored as a row
    mask = compute_core_mask(gpt2, method="magnitude", fraction=0.03)
    mask.save_pretrained(tmp_path)
    for one in (mask.dimensions()[0], CoreMask.from_pretrained(tmp_path).dimensions()[0]):
        assert (one.parameter, one.axis, one.index) == (name, 1, 5)
        with scale_dimension(gpt2, one.parameter, one.index, factor=0, axis=one.axis):
            assert (gpt2.get_parameter(name)[5] == 0).all()


def test_state_of_another_head_or_dtype_is_never_taken(llama: Any, tokenizer: Any, texts: Any, tmp_path: Any) -> None:
    """What is outside the decoder layers, and the dtype, decide about the gradients too."""
    first = compute_core_mask(llama, tokenizer, texts, fraction=0.1, resume_dir=tmp_path, **OPTIONS)
    with torch.no_grad():
        llama.lm_head.weight.normal_()
    fresh = compute_core_mask(llama, tokenizer, texts, fraction=0.1, **OPTIONS)
    resumed = compute_core_mask(llama, tokenizer, texts, fraction=0.1, resume_dir=tmp_path, **OPTIONS)
    assert resumed == fresh != first
    llama.to(torch.bfloat16)
    count = len(list(tmp_path.iterdir()))
    compute_core_mask(llama, tokenizer, texts, fraction=0.1, resume_dir=tmp_path, **OPTIONS)
    assert len(list(tmp_path.iterdir())) == count + len(texts)


def test_infinite_gradients_are_noticed_and_not_kept(llama: Any, tokenizer: Any, texts: Any, tmp_path: Any) -> None:
    """A finite loss with infinite gradients is an error that names the tensor, and no state is written."""
    weight = llama.model.layers[1].mlp.down_proj.weight
    handle = weight.register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(NonFiniteError, match=r"layers\.1\.mlp\.down_proj.*'en'"):
        compute_importance(llama, tokenizer, texts, resume_dir=tmp_path, **OPTIONS)
    handle.remove()
    assert list(tmp_path.iterdir()) == []
    compute_importance(llama, tokenizer, texts, resume_dir=tmp_path, **OPTIONS)


def test_prompt_tuning_is_out_of_the_way(llama: Any, tokenizer: Any, texts: Any) -> None:
    """Virtual tokens do not take part: the mask is that of the base."""
    from peft import PromptTuningConfig, get_peft_model

    plain = compute_core_mask(llama, tokenizer, texts, fraction=0.05, **OPTIONS)
    prompted = get_peft_model(llama, PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4))
    assert compute_core_mask(prompted, tokenizer, texts, fraction=0.05, **OPTIONS) == plain
