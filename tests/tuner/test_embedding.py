from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers.models.gemma3.modeling_gemma3 import Gemma3TextScaledWordEmbedding

from hf_langcore.masks import PackedBits
from hf_langcore.tuner import CoreRegionConfig, CoreRegionEmbedding, CoreRegionLinear
from hf_langcore.tuner.cores import LayerCore
from hf_langcore.tuner.merging import BrokenAdapterError

Wrap = Callable[..., Any]
Bits = dict[str, torch.Tensor]

ROWS, WIDTH, SCALE = 11, 6, 3.0
TOKENS = torch.tensor([[1, 4, 4, 0], [10, 2, 7, 3]])

RANKS = pytest.mark.parametrize("rank", [3, 0])
KINDS = pytest.mark.parametrize("kind", ["plain", "scaled"])


def _base(kind: str = "plain", dtype: torch.dtype = torch.float32, padding_idx: int | None = None) -> nn.Embedding:
    torch.manual_seed(1)
    if kind == "scaled":
        return Gemma3TextScaledWordEmbedding(ROWS, WIDTH, 0 if padding_idx is None else padding_idx, SCALE).to(dtype)
    return nn.Embedding(ROWS, WIDTH, padding_idx=padding_idx).to(dtype)


def _core(seed: int = 0, share: float = 0.4) -> torch.Tensor:
    return torch.rand(ROWS, WIDTH, generator=torch.Generator().manual_seed(seed)) < share


def _layer(base: nn.Embedding, core: torch.Tensor | None, *, name: str = "default", **options: Any) -> Any:
    config = CoreRegionConfig(**{"r": 3, "lora_alpha": 6, "init_weights": False, **options})
    packed = None if core is None else PackedBits.from_bool(core)
    return CoreRegionEmbedding(base, name, packed, config=config)


def _table(layer: Any, core: torch.Tensor, name: str = "default") -> torch.Tensor:
    """where(core, W, W + change) in float64 and spelled out."""
    weight = layer.base_layer.weight.double()
    if layer.r[name] == 0:
        change = layer.core_region_delta[name].double()
    else:
        change = layer.scaling[name] * (layer.core_region_B[name].double() @ layer.core_region_A[name].double()).T
    return torch.where(core, weight, weight + change)


@KINDS
@RANKS
@pytest.mark.parametrize("share", [0.4, 0.03])
def test_forward_is_the_formula(kind: str, rank: int, share: float) -> None:
    """The output is the rows of the effective weight, scaled where the model scales its embeddings."""
    core = _core(share=share)
    assert core.any()
    layer = _layer(_base(kind), core, r=rank)
    expected = _table(layer, core)[TOKENS] * (SCALE if kind == "scaled" else 1)
    torch.testing.assert_close(layer(TOKENS).double(), expected, rtol=1e-5, atol=1e-5)


@KINDS
@RANKS
def test_gradients_are_those_of_the_formula(kind: str, rank: int) -> None:
    """Autograd through the layer and through the plain formula agree; the padding token gets no gradient."""
    base = _base(kind, torch.float64, padding_idx=4)
    core = _core()
    layer = _layer(base, core, r=rank)
    assert layer._get_embed_scale() is not None or kind == "plain"
    layer.double()
    base.requires_grad_(False)
    parameters = [parameter for parameter in layer.parameters() if parameter.requires_grad]
    target = torch.randn(*TOKENS.shape, WIDTH, dtype=torch.float64)
    ours = torch.autograd.grad((layer(TOKENS) - target).pow(2).sum(), parameters)
    if rank:
        a, b = layer.core_region_A["default"], layer.core_region_B["default"]
        rows = torch.nn.functional.embedding(TOKENS, a.T, padding_idx=4) @ (layer.scaling["default"] * b.T)
    else:
        rows = torch.nn.functional.embedding(TOKENS, layer.core_region_delta["default"], padding_idx=4)
    change = torch.where(core[TOKENS], 0, rows)
    output = (base.weight[TOKENS].detach() + change) * (SCALE if kind == "scaled" else 1)
    plain = torch.autograd.grad((output - target).pow(2).sum(), parameters)
    for one, other in zip(ours, plain, strict=True):
        torch.testing.assert_close(one, other)
    trained = ours[0][:, 4] if rank else ours[0][4]
    assert (trained == 0).all()
    assert (ours[0] != 0).any()


def test_tokens_of_every_shape_and_kind() -> None:
    """Single tokens, rows, batches, no tokens at all and int32 tokens work as in nn.Embedding."""
    layer = _layer(_base(), _core())
    whole = layer(torch.arange(ROWS))
    for tokens in (torch.tensor(3), torch.tensor([3, 5]), TOKENS, TOKENS.int(), torch.zeros(2, 0, dtype=torch.long)):
        assert torch.equal(layer(tokens), whole[tokens.long()])


def test_rows_of_a_large_table_are_found_for_small_integers() -> None:
    """Where the table has more than 2**31 numbers, int32 tokens still find their own bits."""
    rows, columns = 2**19 + 9, 2**12
    core = LayerCore.__new__(LayerCore)  # counting 256 MiB would take seconds; numpy's zeros take no memory
    core.packed = torch.from_numpy(np.zeros(rows * columns // 8, dtype=np.uint8))
    core.shape = (rows, columns)
    token, column = rows - 3, 77
    position = token * columns + column
    core.packed[position // 8] = 1 << (position % 8)
    found = core.rows(torch.tensor([token, 5], dtype=torch.int32))
    assert found.nonzero().tolist() == [[0, column]]


@RANKS
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_merging_keeps_every_bit_of_the_core(
    rank: int, dtype: torch.dtype, bits: Callable[..., Any], plant: Callable[..., Any]
) -> None:
    """Merged core entries are identical bit for bit, also -0.0 and NaN, and unmerging restores all entries so."""
    base = _base(dtype=dtype)
    plant(base.weight)
    core = _core()
    core.view(-1)[[3, 5, 7, 14]] = True
    layer = _layer(base, core, r=rank)
    before = bits(base.weight)
    layer.merge()
    after = bits(base.weight)
    assert torch.equal(after[core], before[core])
    assert (after[~core] != before[~core]).any()
    layer.unmerge()
    assert torch.equal(bits(base.weight), before)


@KINDS
@RANKS
def test_merged_outputs_are_the_same(kind: str, rank: int) -> None:
    """Merged or not, the layer computes the same; disabled it is its base, to the bit."""
    base = _base(kind)
    plain = copy.deepcopy(base)
    layer = _layer(base, _core(), r=rank)
    unmerged = layer(TOKENS)
    layer.merge(safe_merge=True)
    torch.testing.assert_close(layer(TOKENS), unmerged)
    layer.enable_adapters(enabled=False)
    assert torch.equal(layer(TOKENS), plain(TOKENS))
    assert not layer.merged


def test_safe_merge_refuses_broken_adapters(bits: Callable[..., Any]) -> None:
    """A NaN in the adapter is found before anything is written."""
    base = _base()
    layer = _layer(base, torch.zeros(ROWS, WIDTH, dtype=torch.bool))
    layer.core_region_B["default"].data[0, 0] = float("nan")
    before = bits(base.weight)
    with pytest.raises(BrokenAdapterError, match="NaNs detected"):
        layer.merge(safe_merge=True)
    assert torch.equal(bits(base.weight), before)


def test_nan_of_the_change_does_not_reach_the_core() -> None:
    """A broken change stays out of the core entries in the rows that are looked up."""
    core = torch.ones(ROWS, WIDTH, dtype=torch.bool)
    core[4] = False
    layer = _layer(_base(), core)
    layer.core_region_A["default"].data.fill_(float("nan"))
    out = layer(TOKENS)
    assert out[TOKENS == 4].isnan().all()
    assert out[TOKENS != 4].isfinite().all()


def test_the_scale_acts_on_the_change_too() -> None:
    """A model that scales its embeddings by another number scales what the adapter adds; by 0 nothing is left."""
    base: Any = _base("scaled")
    layer = _layer(base, _core())
    once = layer(TOKENS)
    base.embed_scale.fill_(2 * SCALE)
    torch.testing.assert_close(layer(TOKENS), 2 * once)
    base.embed_scale.fill_(0)
    assert (layer(TOKENS) == 0).all()


def test_start_values_are_those_of_lora() -> None:
    """A is 0 and B the same normal numbers as LoRA draws after the same seed; a dense change starts at 0."""
    model = nn.Sequential(nn.Embedding(50, 8))
    torch.manual_seed(5)
    lora = get_peft_model(copy.deepcopy(model), LoraConfig(target_modules=["0"], r=4)).base_model.model[0]
    torch.manual_seed(5)
    config = CoreRegionConfig(method="random", target_modules=["0"], r=4, mask_seed=3)
    ours = get_peft_model(copy.deepcopy(model), config).base_model.model[0]
    assert (ours.core_region_A["default"] == 0).all()
    assert torch.equal(ours.core_region_B["default"], lora.lora_embedding_B["default"])
    assert ours.core_region_A["default"].shape == lora.lora_embedding_A["default"].shape
    dense = _layer(_base(), _core(), r=0, init_weights=True)
    assert torch.equal(dense(TOKENS), dense.base_layer(TOKENS))


def test_dropout_does_not_act_on_tokens() -> None:
    """As in LoRA, tokens are not dropped out, in training either."""
    layer = _layer(_base(), _core(), lora_dropout=0.9).train()
    assert torch.equal(layer(TOKENS), layer.eval()(TOKENS))


@RANKS
def test_delta_weight_is_the_change_without_the_core(rank: int) -> None:
    """What the adapter adds has the shape of the table and is 0 in the core."""
    base = _base()
    core = _core()
    layer = _layer(base, core, r=rank)
    delta = layer.get_delta_weight("default").double()
    assert (delta[core] == 0).all()
    torch.testing.assert_close(base.weight.double() + delta, _table(layer, core), rtol=1e-5, atol=1e-5)


def test_adapters_that_act_together_keep_off_the_union() -> None:
    """With two active adapters, of low rank and dense, no number changes that one of them protects."""
    base = _base()
    first, second = _core(1), _core(2)
    layer = _layer(base, first, name="a")
    layer.update_layer("b", PackedBits.from_bool(second), config=CoreRegionConfig(r=0, init_weights=False))
    alone = layer(TOKENS)
    assert torch.equal(alone, _layer_with(layer, "a")(TOKENS))
    layer.set_adapter(["a", "b"])
    weight = base.weight.double()
    both = _table(layer, torch.zeros_like(first), "a") + _table(layer, torch.zeros_like(first), "b") - weight
    expected = torch.where(first | second, weight, both)
    torch.testing.assert_close(layer(TOKENS).double(), expected[TOKENS], rtol=1e-5, atol=1e-5)
    layer.merge()
    torch.testing.assert_close(base.weight.double(), expected, rtol=1e-5, atol=1e-5)


def _layer_with(layer: Any, name: str) -> Any:
    other = copy.deepcopy(layer)
    other.set_adapter([name])
    return other


def test_bits_that_have_not_arrived_protect_everything() -> None:
    """Without bits the layer does what its base does; loading the bits unlocks it."""
    trained = _layer(_base(), _core())
    layer = _layer(_base(), None)
    assert torch.equal(layer(TOKENS), _base()(TOKENS))
    layer.load_state_dict(trained.state_dict())
    assert torch.equal(layer(TOKENS), trained(TOKENS))


@pytest.mark.parametrize("autocast", [True, False])
@pytest.mark.parametrize("rank", [3, 0])
def test_sixteen_bit_tables(rank: int, autocast: bool) -> None:
    """A bfloat16 table gives bfloat16 rows, with the adapter in float32 or in bfloat16, merged or not."""
    model = nn.Sequential(_base(dtype=torch.bfloat16))
    config = CoreRegionConfig(method="random", fraction=0.2, target_modules=["0"], r=rank, init_weights=False)
    wrapped = get_peft_model(model, config, autocast_adapter_dtype=autocast)
    expected = torch.float32 if autocast else torch.bfloat16
    assert {parameter.dtype for parameter in wrapped.parameters() if parameter.requires_grad} == {expected}
    out = wrapped(TOKENS)
    assert out.dtype == torch.bfloat16
    wrapped.merge_adapter()
    torch.testing.assert_close(wrapped(TOKENS), out, rtol=0.05, atol=0.05)


def test_the_layer_says_what_it_is() -> None:
    """Sizes as LoRA has them, and a text that names the class, the table and the adapter."""
    layer = _layer(_base(), _core())
    assert (layer.in_features, layer.out_features) == (ROWS, WIDTH)
    assert layer.weight_shape == layer.core_mask("default").shape == (ROWS, WIDTH)
    text = repr(layer)
    assert text.startswith("core_region.CoreRegionEmbedding(")
    for part in (f"Embedding({ROWS}, {WIDTH})", "core_region_A", "default", "in_features=11", "out_features=6"):
        assert part in text


EMBEDDINGS = {"llama": ["embed_tokens"], "gpt2": ["wpe"], "gpt-neox": ["embed_in"], "mixtral": ["embed_tokens"]}


@pytest.mark.parametrize("kind", EMBEDDINGS)
@RANKS
def test_training_and_merging_keep_the_core(
    kind: str,
    rank: int,
    build_model: Wrap,
    make_full_mask: Wrap,
    tokens: torch.Tensor,
    snapshot: Callable[..., Bits],
    train: Wrap,
    logits: Wrap,
) -> None:
    """An adapter on the embeddings alone learns, and merged it leaves the core and all other tensors as they were."""
    base = build_model(kind)
    mask = make_full_mask(base)
    before = snapshot(base)
    config = CoreRegionConfig(core_mask=mask, r=rank, lora_alpha=16, target_modules=EMBEDDINGS[kind])
    model = get_peft_model(base, config)
    assert [type(module) for module in model.modules() if hasattr(module, "core_region_mask")] == [CoreRegionEmbedding]
    losses = train(model, tokens, steps=5, lr=0.05)
    assert losses[-1] < losses[0]
    trained = logits(model, tokens)
    merged = model.merge_and_unload(safe_merge=True)
    torch.testing.assert_close(logits(merged, tokens), trained, rtol=1e-4, atol=1e-4)
    changed = {name: before[name] != now for name, now in snapshot(merged).items()}
    name = next(name for name in changed if name.endswith(f"{EMBEDDINGS[kind][0]}.weight"))
    assert changed[name][~mask[name]].any()
    assert not changed.pop(name)[mask[name]].any()
    assert not any(where.any() for where in changed.values())


@pytest.mark.parametrize("low_cpu_mem_usage", [False, True])
def test_saved_adapters_are_complete(
    low_cpu_mem_usage: bool,
    build_model: Wrap,
    make_full_mask: Wrap,
    tokens: torch.Tensor,
    logits: Wrap,
    tmp_path: Path,
) -> None:
    """A saved adapter of embeddings and linear layers gives the same function on a fresh base."""
    base = build_model("llama")
    options = {"target_modules": ["embed_tokens", "q_proj"], "init_weights": False}
    model = get_peft_model(base, CoreRegionConfig(core_mask=make_full_mask(base), **options))
    kinds = {type(module) for module in model.modules() if hasattr(module, "core_region_mask")}
    assert kinds == {CoreRegionEmbedding, CoreRegionLinear}
    with pytest.warns(UserWarning, match="Setting `save_embedding_layers` to `True`"):
        model.save_pretrained(str(tmp_path / "with"))
    model.save_pretrained(str(tmp_path / "without"), save_embedding_layers=False)
    for folder in ("with", "without"):
        loaded = PeftModel.from_pretrained(
            build_model("llama"), str(tmp_path / folder), low_cpu_mem_usage=low_cpu_mem_usage
        )
        assert torch.equal(logits(loaded, tokens), logits(model, tokens))
        assert loaded.core_mask == model.core_mask


def test_a_merged_adapter_is_saved_with_the_base_embeddings(
    build_model: Wrap, make_full_mask: Wrap, tokens: torch.Tensor, logits: Wrap, tmp_path: Path
) -> None:
    """PEFT saves the embeddings that an adapter targets with it; while it is merged these must not be the merged ones."""
    base = build_model("llama")
    options = {"target_modules": ["embed_tokens"], "init_weights": False}
    model = get_peft_model(base, CoreRegionConfig(core_mask=make_full_mask(base), **options))
    expected = logits(model, tokens)
    model.merge_adapter()
    with pytest.warns(UserWarning, match="Setting `save_embedding_layers` to `True`"):
        model.save_pretrained(str(tmp_path))
    loaded = PeftModel.from_pretrained(build_model("llama"), str(tmp_path))
    torch.testing.assert_close(logits(loaded, tokens), expected)


def test_embeddings_that_are_looked_up_by_other_arguments(
    build_model: Wrap, make_full_mask: Wrap, tokens: torch.Tensor, logits: Wrap
) -> None:
    """OPT's positions take an attention mask, not rows; merged or not the model computes the same, or it is refused."""
    base = build_model("opt")
    options = {"target_modules": ["embed_positions"], "init_weights": False, "r": 0}
    try:
        model = get_peft_model(base, CoreRegionConfig(core_mask=make_full_mask(base), **options))
    except ValueError as error:
        assert "embed_positions" in str(error)  # noqa: PT017 either is right
        return
    unmerged = logits(model, tokens)
    model.merge_adapter()
    torch.testing.assert_close(logits(model, tokens), unmerged, rtol=1e-4, atol=1e-4)
