"""Bases that bitsandbytes has quantised to 4 or 8 bits, on the CPU."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from accelerate.hooks import AlignDevicesHook, add_hook_to_module
from peft import PeftModel, get_peft_model, get_peft_model_state_dict, prepare_model_for_kbit_training
from peft.utils.quantization_utils import ForwardOnlyQuantizationBackend
from torch import nn
from transformers import AutoModelForCausalLM, BitsAndBytesConfig
from transformers.pytorch_utils import Conv1D

from hf_langcore.architecture import bare_weights, decoder_weights
from hf_langcore.binding import provenance_of
from hf_langcore.editing import perturb, scale_dimension
from hf_langcore.errors import CoreMaskMismatchError, InputError, UnsupportedModelError
from hf_langcore.masks import CoreMask
from hf_langcore.tuner import CoreRegionConfig, CoreRegionLinear, dequantizing
from hf_langcore.tuner.dequantizing import dequantized, is_quantized_linear
from hf_langcore.tuner.merging import QuantizedMergeError

bitsandbytes = pytest.importorskip("bitsandbytes", reason='quantised bases need pip install "hf_langcore[quantized]"')

Load = Callable[..., Any]
Wrap = Callable[..., Any]

WAYS: dict[str, dict[str, Any]] = {
    "4-bit": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True},
    "8-bit": {"load_in_8bit": True},
}
RARER: dict[str, dict[str, Any]] = {
    "fp4": {"load_in_4bit": True, "bnb_4bit_quant_type": "fp4"},
    "packed in floats": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_quant_storage": torch.bfloat16},
}
ALL = WAYS | RARER

UP = "model.layers.0.mlp.up_proj"


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Products in 8 bits are logged, each of them."""
    logger = logging.getLogger("bitsandbytes")
    level = logger.level
    logger.setLevel(logging.ERROR)
    yield
    logger.setLevel(level)


def _plain(kind: str, **options: Any) -> Any:
    """Sizes are multiples of 64, or bitsandbytes' own inference on new CPUs refuses them."""
    torch.manual_seed(0)
    if kind == "gpt2":
        sizes = {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 32}
        sizes |= dict.fromkeys(("attn_pdrop", "embd_pdrop", "resid_pdrop"), 0)
        return transformers.GPT2LMHeadModel(
            transformers.GPT2Config(vocab_size=61, initializer_range=0.2, **sizes)
        ).eval()
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    return transformers.LlamaForCausalLM(
        transformers.LlamaConfig(vocab_size=61, initializer_range=0.2, num_key_value_heads=2, **sizes, **options)
    ).eval()


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Saved full-precision models."""
    folder = tmp_path_factory.mktemp("bases")
    for kind in ("llama", "gpt2"):
        _plain(kind).save_pretrained(folder / kind)
    return {kind: folder / kind for kind in ("llama", "gpt2")}


@pytest.fixture
def load(folders: dict[str, Path]) -> Load:
    """A fresh quantised model, or with way=None the full-precision one."""

    def load(way: str | None, kind: str = "llama", **options: Any) -> Any:
        if way is not None:
            options |= {"quantization_config": BitsAndBytesConfig(**ALL[way]), "device_map": "cpu"}
        return AutoModelForCausalLM.from_pretrained(folders[kind], **options)

    return load


def _mask(model: Any, *, fraction: float = 0.2, which: str = "random", seed: int = 0) -> CoreMask:
    """A mask as it is found on a full-precision model, norms and biases included."""
    weights = decoder_weights(model)
    scores = {name: weight.parameter.detach().abs() for name, weight in weights.items()}
    return CoreMask.from_scores(
        scores, fraction=fraction, which=which, seed=seed, provenance=provenance_of(model, weights, method="magnitude")
    )


def _wrapped(model: Any, mask: CoreMask | None, **options: Any) -> Any:
    """A fresh adapter that changes something, the same on every call."""
    torch.manual_seed(1)
    options = {"r": 4, "init_weights": False, "task_type": "CAUSAL_LM", **options}
    return get_peft_model(model, CoreRegionConfig(core_mask=mask, **options))


def _quantized(model: nn.Module) -> dict[str, Any]:
    return {name: module for name, module in model.named_modules() if is_quantized_linear(module)}


def _codes(model: nn.Module) -> dict[str, torch.Tensor]:
    """Every byte of the quantised weights and all that is needed to read them."""
    found = {}
    for name, module in _quantized(model).items():
        found[name] = module.weight.data.clone().view(torch.uint8)
        state = getattr(module.weight, "quant_state", None)
        scales = state.as_dict(packed=True) if state is not None else {"SCB": _scales(module)}
        found |= {f"{name}.{key}": value.clone() for key, value in scales.items()}
    return {name.replace(".base_layer", "").removeprefix("base_model.model."): found[name] for name in found}


def _scales(module: Any) -> torch.Tensor:
    scales: torch.Tensor = module.weight.SCB if module.state.SCB is None else module.state.SCB
    return scales


def _same(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> bool:
    return before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)


def _layers(model: nn.Module) -> dict[str, CoreRegionLinear]:
    return {
        name.removeprefix("base_model.model."): module
        for name, module in model.named_modules()
        if isinstance(module, CoreRegionLinear)
    }


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize("way", ALL)
def test_masks_of_the_full_model_fit(way: str, kind: str, load: Load, tokens: torch.Tensor, logits: Load) -> None:
    """Names and true shapes are compared, GPT-2's turned round; a fresh adapter changes nothing."""
    mask = _mask(load(None, kind))
    model = _wrapped(load(way, kind), mask, init_weights=True)
    for name, layer in _layers(model).items():
        assert torch.equal(layer.core_mask("default"), mask[f"{name}.weight"])
    assert model.get_nb_protected() == sum(mask.count(f"{name}.weight") for name in _layers(model))
    assert len(_layers(model)) == {"llama": 14, "gpt2": 8}[kind]
    with model.disable_adapter():
        plain = logits(model, tokens)
    assert torch.equal(logits(model, tokens), plain)


@pytest.mark.parametrize("way", WAYS)
def test_masks_of_other_shapes_and_revisions_do_not_fit(way: str, load: Load) -> None:
    """A packed weight has its true shape; another revision of the base is an error by base_check."""
    model, mask = load(way), _mask(load(None))
    smaller = CoreMask({**mask, f"{UP}.weight": mask[f"{UP}.weight"][1:]})
    with pytest.raises(CoreMaskMismatchError, match=r"has shape \(128, 64\), the mask \(127, 64\)"):
        _wrapped(model, smaller)
    model.config._commit_hash = "b" * 40
    other = CoreMask(mask, provenance=type(mask.provenance)(base_model="me/base", base_revision="a" * 40))
    with pytest.raises(CoreMaskMismatchError, match="revision"):
        _wrapped(model, other)
    with pytest.warns(UserWarning, match="revision"):
        _wrapped(model, other, base_check="warn")


@pytest.mark.parametrize("prepared", [False, True])
@pytest.mark.parametrize("rank", [4, 0])
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize("way", ALL)
def test_training_leaves_the_base_as_it_is(
    way: str, kind: str, rank: int, prepared: bool, load: Load, tokens: torch.Tensor, train: Load
) -> None:
    """Steps of AdamW lower the loss, evaluations in between; no byte of codes and scales moves, the core gets no change."""
    base = load(way, kind)
    if prepared:
        base = prepare_model_for_kbit_training(base, gradient_checkpointing_kwargs={"use_reentrant": False})
    before = _codes(base)
    model = _wrapped(base, _mask(load(None, kind)), r=rank, lora_dropout=0.1)
    losses = [*train(model, tokens), *train(model, tokens)]
    assert losses[-1] < losses[0]
    assert _same(before, _codes(model))
    for layer in _layers(model).values():
        change, core = layer.get_delta_weight("default"), layer.core_mask("default")
        assert change[core].count_nonzero() == 0
        assert change[~core].count_nonzero() > 0


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize("way", WAYS)
def test_gradients_are_those_of_the_dequantised_model(
    way: str, kind: str, load: Load, tokens: torch.Tensor, logits: Load
) -> None:
    """Also after an evaluation, for which bitsandbytes would change the layout where the CPU has AVX512-BF16."""
    mask = _mask(load(None, kind))
    quantized = _wrapped(load(way, kind), mask)
    plain = _wrapped(load(way, kind), mask, init_weights=True).base_model.merge_and_dequantize()
    ordinary = _wrapped(plain, mask, base_check="off")
    gradients = []
    for model in (quantized, ordinary):
        logits(model, tokens)
        model.train()
        model(tokens, labels=tokens).loss.backward()
        gradients.append([parameter.grad for parameter in model.parameters() if parameter.requires_grad])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("nested", [True, False])
def test_bases_that_were_used_before_are_written_back(nested: bool, load: Load) -> None:
    """The layout for inference is undone: the codes are the same, the scales were rounded to bfloat16."""
    base = load("4-bit" if nested else "fp4")
    before = {
        name: (module.weight.data.clone(), dequantized(name, module)) for name, module in _quantized(base).items()
    }
    for module in _quantized(base).values():
        state = module.weight.quant_state
        module.weight.data, _ = bitsandbytes.functional._convert_weight_packed_for_cpu(module.weight.data, state)
    assert base.model.layers[0].mlp.up_proj.weight.shape == (128, 32)
    with pytest.warns(UserWarning, match=r"scales of 14 4-bit layers to bfloat16"):
        model = _wrapped(base, _mask(load(None)))
    for name, layer in _layers(model).items():
        codes, values = before[name]
        module = layer.get_base_layer()
        assert torch.equal(module.weight.data, codes)
        torch.testing.assert_close(dequantized(name, module), values, rtol=2**-8, atol=0)
        assert not module.support_avx512bf16_for_cpu


@pytest.mark.parametrize("low_cpu_mem_usage", [False, True])
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize("way", WAYS)
def test_adapters_load_onto_quantised_and_full_bases(
    way: str, kind: str, low_cpu_mem_usage: bool, load: Load, tokens: torch.Tensor, logits: Load, tmp_path: Path
) -> None:
    """The folder gives the same logits on a fresh quantised base, and the same weights and mask on the full one."""
    mask = _mask(load(None, kind))
    model = _wrapped(load(way, kind), mask)
    model.save_pretrained(str(tmp_path))
    again = PeftModel.from_pretrained(load(way, kind), str(tmp_path), low_cpu_mem_usage=low_cpu_mem_usage)
    assert torch.equal(logits(again, tokens), logits(model, tokens))
    full = PeftModel.from_pretrained(load(None, kind), str(tmp_path), low_cpu_mem_usage=low_cpu_mem_usage)
    assert full.core_mask == again.core_mask == mask
    assert _same(get_peft_model_state_dict(full), get_peft_model_state_dict(model))


def test_adapters_of_full_bases_load_onto_quantised_ones(load: Load, tmp_path: Path) -> None:
    """The other way round, for both ways of quantising."""
    model = _wrapped(load(None), _mask(load(None)))
    model.save_pretrained(str(tmp_path))
    for way in WAYS:
        loaded = PeftModel.from_pretrained(load(way), str(tmp_path))
        assert _same(get_peft_model_state_dict(loaded), get_peft_model_state_dict(model))


@pytest.mark.parametrize("way", WAYS)
def test_merging_is_refused_as_a_whole(way: str, load: Load, tokens: torch.Tensor, logits: Load) -> None:
    """Before the first layer is touched, the LM head, which is not quantised, included."""
    full = load(None)
    scores = {name: weight.parameter.detach().abs() for name, weight in bare_weights(full).items()}
    model = _wrapped(load(way), CoreMask.from_scores(scores, fraction=0.1), target_modules=["lm_head", "up_proj"])
    before, head, expected = _codes(model), model.get_output_embeddings().weight.clone(), logits(model, tokens)
    layer = model.base_model.model.model.layers[0].mlp.up_proj
    for merge in (model.merge_adapter, model.merge_and_unload, model.merge_and_unload, layer.merge):
        with pytest.raises(QuantizedMergeError, match=r"Cannot merge into bnb .bit weights.*merge_and_dequantize\(\)"):
            merge(safe_merge=merge is model.merge_adapter)
        assert _same(before, _codes(model))
        assert torch.equal(model.get_output_embeddings().weight, head)
        assert not any(one.merged for one in _layers(model).values())
    assert torch.equal(logits(model, tokens), expected)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize("way", ALL)
def test_merging_into_dequantised_weights(
    way: str, kind: str, load: Load, tokens: torch.Tensor, logits: Load, tmp_path: Path
) -> None:
    """The ordinary model: core weights have the bits of the dequantised base, a reload gives the same logits."""
    full = load(None, kind)
    mask = _mask(full)
    base = load(way, kind)
    dequantised = {name: dequantized(name, module) for name, module in _quantized(base).items()}
    model = _wrapped(base, mask, target_modules=["up_proj", "q_proj"] if kind == "llama" else ["c_attn"])
    expected, targeted = logits(model, tokens), set(_layers(model))
    merged = model.base_model.merge_and_dequantize()
    assert not _quantized(merged)
    for name, values in dequantised.items():
        module = merged.get_submodule(name)
        assert type(module) is (Conv1D if kind == "gpt2" else nn.Linear)
        assert torch.equal(module.weight, values) == (name not in targeted)
        core = mask[f"{name}.weight"] if f"{name}.weight" in mask else torch.ones(module.weight.shape).bool()
        assert torch.equal(module.weight[core], values[core])
    assert [name for name, _ in merged.named_parameters()] == [name for name, _ in full.named_parameters()]
    error = {"8-bit": 0.5}.get(way, 1e-4)  # int8 products round the activations, too
    torch.testing.assert_close(logits(merged, tokens), expected, rtol=0, atol=error)
    merged.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert torch.equal(logits(again, tokens), logits(merged, tokens))


@pytest.mark.parametrize("way", WAYS)
def test_the_result_is_no_quantised_model_any_more(way: str, load: Load) -> None:
    """None of the marks is left by which transformers, its trainer and PEFT know one; it can be cast and wrapped again."""
    base = load(way)
    assert base.is_quantized
    mask = _mask(load(None))
    merged = _wrapped(base, mask).base_model.merge_and_dequantize()
    assert merged is base
    assert not merged.is_quantized
    assert not hasattr(merged.config, "quantization_config")
    assert "_is_quantized" not in vars(merged.config) or not merged.config._is_quantized
    for mark in ("hf_quantizer", "quantization_method", "is_loaded_in_4bit", "is_loaded_in_8bit", "peft_config"):
        assert getattr(merged, mark, None) in {None, False}
    assert not any(parameter.requires_grad for parameter in merged.parameters())
    assert merged.half().dtype == torch.float16
    _wrapped(merged, mask, base_check="off").merge_and_unload()


@pytest.mark.parametrize("way", WAYS)
def test_types_of_the_result(way: str, load: Load, tokens: torch.Tensor, logits: Load) -> None:
    """That of the other weights, float32 after preparing for training; or the one that is asked for, everywhere."""
    mask = _mask(load(None))
    for prepared, dtype, expected in [
        (False, None, torch.bfloat16),
        (True, None, torch.float32),
        (True, torch.float16, torch.float16),
        (False, torch.float32, torch.float32),
    ]:
        base = load(way, dtype=torch.bfloat16)
        dequantised = dequantized(UP, base.get_submodule(UP)).to(expected)
        if prepared:
            base = prepare_model_for_kbit_training(base, use_gradient_checkpointing=False)
        merged = _wrapped(base, mask).base_model.merge_and_dequantize(dtype=dtype)
        assert {parameter.dtype for parameter in merged.parameters()} == {expected}
        core = mask[f"{UP}.weight"]
        assert torch.equal(merged.get_submodule(UP).weight[core], dequantised[core])
        assert logits(merged, tokens).isfinite().all()


def test_weights_that_stay_in_float32(load: Load) -> None:
    """Models say which; loading in a 16-bit type leaves them, too."""
    base = load("8-bit")
    base._keep_in_fp32_modules_strict = {"input_layernorm"}
    merged = _wrapped(base, _mask(load(None))).base_model.merge_and_dequantize(dtype=torch.bfloat16)
    kept = {name for name, parameter in merged.named_parameters() if parameter.dtype == torch.float32}
    assert kept == {f"model.layers.{index}.input_layernorm.weight" for index in range(2)}


@pytest.mark.parametrize("way", WAYS)
def test_what_cannot_be_dequantised(way: str, load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wrong names and types, ordinary models and libraries without a way back are errors, and nothing has changed."""
    mask = _mask(load(None))
    model = _wrapped(load(way), mask)
    before = _codes(model)
    tuner = model.base_model
    with pytest.raises(InputError, match=r"got \['other'\]; the model has \['default'\]"):
        tuner.merge_and_dequantize(adapter_names=["other"])
    with pytest.raises(InputError, match="takes a list of adapters, got 'default'"):
        tuner.merge_and_dequantize(adapter_names="default")
    for wrong in ("bfloat16", torch.int8, torch.float8_e4m3fn):
        with pytest.raises(InputError, match="floating-point type"):
            tuner.merge_and_dequantize(dtype=wrong)
    with pytest.raises(InputError, match="not quantised"):
        _wrapped(load(None), mask).base_model.merge_and_dequantize()
    backend = type(dequantizing.resolve_quantization_backend(model.get_base_model().get_submodule(UP).base_layer))
    monkeypatch.setattr(backend, "supports_merge", False)
    with pytest.raises(UnsupportedModelError, match=r"is quantised by bnb .bit, whose weights PEFT cannot turn back"):
        tuner.merge_and_dequantize()
    assert _same(before, _codes(model))


def test_layers_without_values_cannot_be_dequantised(load: Load) -> None:
    """Nor can ordinary ones; the message names the layer."""
    module = load("4-bit").get_submodule(UP)
    module.weight = nn.Parameter(torch.empty(4096, 1, dtype=torch.uint8, device="meta"), requires_grad=False)
    with pytest.raises(UnsupportedModelError, match="'up' is on the meta device"):
        dequantized("up", module)
    with pytest.raises(UnsupportedModelError, match="'up' is quantised by Embedding"):
        dequantized("up", nn.Embedding(2, 2))


def test_weights_in_several_tensors_are_not_supported(
    load: Load, monkeypatch: pytest.MonkeyPatch, tokens: torch.Tensor
) -> None:
    """GPTQ and its like have no parameter that a mask could name; the message says what is adapted."""

    class Split(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    def backend(module: nn.Module) -> Any:
        return ForwardOnlyQuantizationBackend("gptq") if isinstance(module, Split) else None

    monkeypatch.setattr(dequantizing, "resolve_quantization_backend", backend)
    model = load(None)
    model.model.layers[0].mlp.act_fn = Split()
    with pytest.raises(UnsupportedModelError, match=r"act_fn' is a Split, which is not supported"):
        _wrapped(
            model, _mask(load(None)), target_modules=["act_fn", "up_proj"], exclude_modules=["layers.1.mlp.act_fn"]
        )


def test_quantised_heads(load: Load, tokens: torch.Tensor, logits: Load, tmp_path: Path) -> None:
    """Where nothing is kept out of quantisation, the head is dequantised, too; a tied one cannot be quantised at all."""
    options = BitsAndBytesConfig(**WAYS["4-bit"], llm_int8_skip_modules=["none"])
    model = _wrapped(load(None, quantization_config=options, device_map="cpu"), _mask(load(None)))
    expected = logits(model, tokens)
    merged = model.base_model.merge_and_dequantize()
    assert type(merged.lm_head) is nn.Linear
    torch.testing.assert_close(logits(merged, tokens), expected, rtol=0, atol=1e-4)
    _plain("llama", tie_word_embeddings=True).save_pretrained(tmp_path)
    tied = AutoModelForCausalLM.from_pretrained(tmp_path, quantization_config=options, device_map="cpu")
    model = _wrapped(tied, _mask(load(None)), base_check="off")
    before = _codes(model.get_base_model().model)
    with pytest.raises(UnsupportedModelError, match=r"'lm_head' is a Linear4bit whose weight has not been quantised"):
        model.base_model.merge_and_dequantize()
    assert _same(before, _codes(model.get_base_model().model))


def test_hooks_of_spread_models_move_along(load: Load, tokens: torch.Tensor, logits: Load) -> None:
    """Where accelerate has spread a model over devices, the new layers go on getting their inputs there."""
    base = load("4-bit")
    hook = AlignDevicesHook(execution_device="cpu", io_same_device=True)
    add_hook_to_module(base.get_submodule(UP), hook)
    merged = _wrapped(base, _mask(load(None))).base_model.merge_and_dequantize()
    assert merged.get_submodule(UP)._hf_hook is hook
    assert logits(merged, tokens).isfinite().all()


@pytest.mark.parametrize("way", WAYS)
def test_several_adapters(way: str, load: Load, tokens: torch.Tensor, logits: Load) -> None:
    """Switched, switched off, in one batch, and together around the union of their cores, merged as well."""
    full = load(None)
    model = _wrapped(load(way), _mask(full))
    second = CoreRegionConfig(core_mask=_mask(full, fraction=0.1, seed=3), r=0, init_weights=False)
    model.add_adapter("second", second)
    model.eval()
    first = logits(model, tokens)
    model.set_adapter("second")
    other = logits(model, tokens)
    with model.disable_adapter():
        plain = logits(model, tokens)
    names = [name for name in ("default", "second", "__base__") for _ in range(2)]
    mixed = logits(model, tokens.repeat(3, 1), adapter_names=names)
    # In 8 bits the outliers of the whole batch decide which columns are computed in 16.
    torch.testing.assert_close(mixed, torch.cat([first, other, plain]), rtol=0, atol=0.5 if way == "8-bit" else 1e-4)
    model.base_model.set_adapter(["default", "second"])
    both = logits(model, tokens)
    union = model.core_mask
    dequantised = dequantized(UP, model.get_base_model().get_submodule(UP).get_base_layer())
    merged = model.base_model.merge_and_dequantize(adapter_names=["default", "second"])
    torch.testing.assert_close(logits(merged, tokens), both, rtol=0, atol=1.0 if way == "8-bit" else 1e-4)
    core = union[f"{UP}.weight"]
    assert torch.equal(merged.get_submodule(UP).weight == dequantised, core)


@pytest.mark.parametrize("way", WAYS)
def test_masks_computed_on_quantised_bases(way: str, load: Load) -> None:
    """Random ones are those of the full model; the largest weights are those of the dequantised one."""
    for kind in ("llama", "gpt2"):
        full = _wrapped(load(None, kind), None, method="random", fraction=0.1, mask_seed=5).core_mask
        base = load(way, kind)
        random = _wrapped(base, None, method="random", fraction=0.1, mask_seed=5).core_mask
        assert full.shapes() == random.shapes()
        assert all(torch.equal(full[name], random[name]) for name in full)
        assert random.provenance.base_fingerprint is None
        assert random.provenance.transposed == full.provenance.transposed
        base = load(way, kind)
        largest = _wrapped(base, None, method="magnitude", fraction=0.1).core_mask
        for name, layer in _layers(base).items():
            values, core = dequantized(name, layer.get_base_layer()).abs(), largest[f"{name}.weight"]
            assert values[core].min() >= values[~core].max()
            assert int(core.sum()) == int(0.1 * core.numel())


@pytest.mark.parametrize("way", WAYS)
def test_choosing_targets(way: str, load: Load, tokens: torch.Tensor, train: Load, logits: Load) -> None:
    """Left out, "all-linear", excluded, and the LM head, which is not quantised, trained in full."""
    mask = _mask(load(None))
    assert len(_layers(_wrapped(load(way), mask))) == 14
    assert len(_layers(_wrapped(load(way), mask, target_modules="all-linear"))) == 14
    assert len(_layers(_wrapped(load(way), mask, exclude_modules=["q_proj"]))) == 12
    model = _wrapped(load(way), mask, modules_to_save=["lm_head"], target_modules=["q_proj"])
    head = model.get_base_model().lm_head.original_module.weight.clone()
    losses = train(model, tokens)
    assert losses[-1] < losses[0]
    trained, expected = model.get_base_model().lm_head.modules_to_save["default"].weight, logits(model, tokens)
    assert not torch.equal(trained, head)
    merged = model.base_model.merge_and_dequantize()
    assert torch.equal(merged.lm_head.weight, trained)
    torch.testing.assert_close(logits(merged, tokens), expected, rtol=0, atol=0.5 if way == "8-bit" else 1e-4)


@pytest.mark.parametrize("way", WAYS)
def test_codes_are_not_trained_themselves(way: str, load: Load) -> None:
    """Neither as modules to save nor as single parameters; the message says what to do."""
    mask = _mask(load(None)).restricted_to({f"{UP}.weight", "model.layers.0.self_attn.q_proj.weight"})
    with pytest.raises(
        UnsupportedModelError, match=r"modules_to_save trains '.*gate_proj' in full, but its weights are"
    ):
        _wrapped(load(way), mask, modules_to_save=["gate_proj"])
    with pytest.raises(UnsupportedModelError, match=r"names '.*up_proj.weight', which is quantised.*target_modules"):
        _wrapped(load(way), mask, target_parameters=["0.mlp.up_proj.weight"])


@pytest.mark.parametrize("way", WAYS)
def test_autocast_and_checkpointing(way: str, load: Load, tokens: torch.Tensor) -> None:
    """Gradients reach all adapters in bfloat16 and where activations are computed again; the latter changes nothing."""
    mask = _mask(load(None))
    losses, gradients = [], []
    for checkpointing, autocast in [(False, False), (True, False), (False, True)]:
        model = _wrapped(load(way), mask).train()
        if checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            loss = model(tokens, labels=tokens).loss
        loss.backward()
        losses.append(float(loss.detach()))
        gradients.append([parameter.grad for parameter in model.parameters() if parameter.requires_grad])
        assert all(bool(gradient.isfinite().all()) and gradient.any() for gradient in gradients[-1])
    assert all(torch.equal(one, other) for one, other in zip(*gradients[:2], strict=True))
    assert losses[2] == pytest.approx(losses[0], rel=0.1)


@pytest.mark.parametrize("way", ALL)
def test_edits_of_codes_are_refused(way: str, load: Load) -> None:
    """Bare or with adapters, before anything is merged or looked up; norms have ordinary values."""
    mask = _mask(load(None))
    base = load(way)
    before = _codes(base)
    for model in (base, _wrapped(base, mask)):
        with pytest.raises(
            UnsupportedModelError, match=r"it is quantised, so single weights cannot be read or changed"
        ):
            perturb(model, mask)
        with pytest.raises(UnsupportedModelError, match=r"'.*up_proj.weight' has dtype torch\.\w+: it is quantised"):
            scale_dimension(model, UP, 100, factor=2, axis=0)
    norm = base.model.layers[0].input_layernorm.weight
    with model.disable_adapter(), model.scale_dimension("model.layers.0.input_layernorm", 3, factor=4):
        assert norm[3] == 4
    assert norm[3] == 1
    assert _same(before, _codes(base))
