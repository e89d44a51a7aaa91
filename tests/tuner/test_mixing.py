from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from peft import get_peft_model
from torch import nn

from hf_langcore.errors import ConfigurationError, InputError
from hf_langcore.tuner import CoreRegionConfig

Wrap = Callable[..., Any]

BASE = "__base__"
NAMES = ["a", BASE, "b", "a", "b"]


@pytest.fixture
def batch() -> torch.Tensor:
    return torch.randint(2, 61, (5, 7), generator=torch.Generator().manual_seed(3))


def _two(base: Any, mask_a: Any, mask_b: Any, **options: Any) -> Any:
    """Adapters of different ranks, layers and masks; the second one is active."""
    config = CoreRegionConfig(core_mask=mask_a, r=4, init_weights=False, **options)
    model = get_peft_model(base, config, adapter_name="a")
    last = {"layers_to_transform": [1]} if "target_modules" not in options else options
    model.add_adapter("b", CoreRegionConfig(core_mask=mask_b, r=0, init_weights=False, **last))
    model.set_adapter("b")
    return model.eval()


def _one_by_one(model: Any, batch: torch.Tensor, names: list[str]) -> torch.Tensor:
    """Every row by the model with that row's adapter alone."""
    rows = []
    for row, name in zip(batch, names, strict=True):
        if name == BASE:
            with model.disable_adapter():
                rows.append(model(row[None]).logits[0])
        else:
            model.set_adapter(name)
            rows.append(model(row[None]).logits[0])
    model.set_adapter("b")
    return torch.stack(rows)


@torch.no_grad()
def test_every_row_has_its_own_adapter(any_model: Any, make_mask: Wrap, batch: torch.Tensor) -> None:
    """Each row is what the model with that row's adapter alone computes, so only that adapter's core counts."""
    # OPT flattens batch and positions before its feed-forward layers, which are refused; see below.
    options = {"target_modules": ["q_proj", "out_proj"]} if any_model.config.model_type == "opt" else {}
    model = _two(any_model, make_mask(any_model, "top"), make_mask(any_model, "random"), **options)
    expected = _one_by_one(model, batch, NAMES)
    assert not torch.allclose(expected, _one_by_one(model, batch, ["a", "a", BASE, "b", BASE]), atol=1e-3)
    mixed = model(batch, adapter_names=NAMES).logits
    torch.testing.assert_close(mixed, expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(model(batch, adapter_names=[BASE] * 5).logits[1], mixed[1])
    torch.testing.assert_close(model(batch).logits[2], mixed[2], rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`")
@pytest.mark.parametrize("kind", ["llama", "gpt2", "gemma3"])
@torch.no_grad()
def test_embeddings_have_their_own_adapters_too(
    kind: str, build_model: Wrap, make_full_mask: Wrap, batch: torch.Tensor
) -> None:
    """Rows of tokens are changed by their own adapter, also where a model scales its embeddings or ties them."""
    base = build_model(kind)
    names = {"llama": ["embed_tokens", "q_proj"], "gpt2": ["wte", "c_attn"], "gemma3": ["embed_tokens"]}[kind]
    model = _two(base, make_full_mask(base, "top"), make_full_mask(base), target_modules=names)
    expected = _one_by_one(model, batch, NAMES)
    torch.testing.assert_close(model(batch, adapter_names=NAMES).logits, expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_base_rows_are_the_base_to_the_bit(llama: Any, make_mask: Wrap, batch: torch.Tensor) -> None:
    """A batch of base rows only goes through the base layers alone."""
    plain = llama(batch).logits
    model = _two(llama, make_mask(llama), make_mask(llama, "random"))
    assert torch.equal(model(batch, adapter_names=[BASE] * 5).logits, plain)


@torch.no_grad()
def test_disabled_adapters_win(llama: Any, make_mask: Wrap, batch: torch.Tensor) -> None:
    """Inside disable_adapter the names change nothing."""
    plain = llama(batch).logits
    model = _two(llama, make_mask(llama), make_mask(llama, "random"))
    with model.disable_adapter():
        assert torch.equal(model(batch, adapter_names=NAMES).logits, plain)


@torch.no_grad()
def test_names_last_for_one_call(llama: Any, make_mask: Wrap, batch: torch.Tensor) -> None:
    """After a mixed batch, or one that failed, the active adapter acts again."""
    model = _two(llama, make_mask(llama), make_mask(llama, "random"))
    before = model(batch).logits
    model(batch, adapter_names=NAMES)
    assert torch.equal(model(batch).logits, before)
    with pytest.raises(InputError):
        model(batch, adapter_names=["a"])
    assert torch.equal(model(batch).logits, before)


@torch.no_grad()
def test_modules_to_save_follow_the_names(llama: Any, make_mask: Wrap, batch: torch.Tensor) -> None:
    """Rows also get their adapter's copy of a module that is trained in full."""
    names = {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}
    model = _two(llama, make_mask(llama), make_mask(llama, "random"), **names)
    for number, copy in enumerate(llama.lm_head.modules_to_save.values(), start=2):
        copy.weight.mul_(number)
    expected = _one_by_one(model, batch, NAMES)
    torch.testing.assert_close(model(batch, adapter_names=NAMES).logits, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("beams", [1, 3])
@torch.no_grad()
def test_generation(beams: int, llama: Any, make_mask: Wrap, batch: torch.Tensor) -> None:
    """Generate takes the names, with beams, too, and gives every row what its own adapter generates."""
    model = _two(llama, make_mask(llama, "top"), make_mask(llama, "random"), lora_alpha=400)
    options = {"max_new_tokens": 5, "num_beams": beams, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    mixed = model.generate(input_ids=batch, adapter_names=NAMES, **options)
    rows = []
    for row, name in zip(batch, NAMES, strict=True):
        if name == BASE:
            with model.disable_adapter():
                rows.append(model.generate(input_ids=row[None], **options)[0])
        else:
            model.set_adapter(name)
            rows.append(model.generate(input_ids=row[None], **options)[0])
    assert torch.equal(mixed, torch.stack(rows))
    assert not torch.equal(rows[0][-5:], rows[1][-5:])


@pytest.mark.filterwarnings("ignore:Passing a tuple of `past_key_values`")
@torch.no_grad()
def test_generation_of_encoder_and_decoder(build_model: Wrap, batch: torch.Tensor) -> None:
    """In a model with an encoder, which sees each row once, and a decoder, which sees it once for each beam."""
    config = {"method": "random", "fraction": 0.2, "target_modules": ["q", "v"], "init_weights": False}
    model = get_peft_model(build_model("t5"), CoreRegionConfig(**config, r=4, lora_alpha=80), adapter_name="a")
    model.add_adapter("b", CoreRegionConfig(**config, r=0))
    model.eval()
    options = {"max_new_tokens": 5, "num_beams": 3, "do_sample": False}
    mixed = model.generate(input_ids=batch, adapter_names=NAMES, **options)
    for row, name in enumerate(NAMES):
        if name != BASE:
            model.set_adapter(name)
            alone = model.generate(input_ids=batch[row : row + 1], **options)[0]
            assert torch.equal(mixed[row, : len(alone)], alone)
            assert (mixed[row, len(alone) :] == 0).all()


def test_wrong_names_are_refused(llama: Any, make_mask: Wrap, batch: torch.Tensor) -> None:
    """Wrong lengths, unknown adapters, no list, training and merged adapters each have their message, which is PEFT's."""
    model = _two(llama, make_mask(llama), make_mask(llama, "random"))
    with pytest.raises(InputError, match="same as the number of inputs, but got 2 and 5"):
        model(batch, adapter_names=["a", "b"])
    with pytest.raises(InputError, match=r"non-existing adapter\(s\): c, d$"):
        model(batch, adapter_names=["a", "d", "c", "a", BASE])
    with pytest.raises(InputError, match="got str"):
        model(batch, adapter_names="aabba")
    model.train()
    with pytest.raises(ConfigurationError, match="in training mode"):
        model(batch, adapter_names=NAMES)
    model.eval()
    model.merge_adapter()
    with pytest.raises(InputError, match="merged adapters, please call `unmerge_adapter` first"):
        model(batch, adapter_names=NAMES)


def test_positions_that_all_rows_share_are_refused(
    build_model: Wrap, make_full_mask: Wrap, batch: torch.Tensor
) -> None:
    """GPT-2 looks its positions up once for all rows: nobody can tell whose they are."""
    base = build_model("gpt2")
    model = _two(base, make_full_mask(base), make_full_mask(base), target_modules=["wpe"])
    with pytest.raises(InputError, match="but got 5 and 1 respectively"):
        model(batch, adapter_names=NAMES)


def test_flattened_batches(build_model: Wrap, make_full_mask: Wrap, batch: torch.Tensor) -> None:
    """OPT's feed-forward layers see one row for each token; every token gets its row's adapter."""
    base = build_model("opt")
    model = _two(base, make_full_mask(base), make_full_mask(base), target_modules=["fc1", "fc2", "q_proj"]).eval()
    mixed = model(batch, adapter_names=NAMES).logits
    for row, name in enumerate(NAMES):
        if name == "__base__":
            with model.disable_adapter():
                alone = model(batch).logits
        else:
            model.set_adapter(name)
            alone = model(batch).logits
        torch.testing.assert_close(mixed[row], alone[row])


@torch.no_grad()
def test_modules_without_a_batch_of_tokens() -> None:
    """Plain modules work as well, with rows of vectors, sixteen-bit outputs and rows of one adapter only."""
    torch.manual_seed(0)
    base = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).bfloat16()
    options = {"method": "random", "fraction": 0.3, "init_weights": False}
    model = get_peft_model(base, CoreRegionConfig(**options, target_modules=["0", "2"]), adapter_name="a")
    model.add_adapter("b", CoreRegionConfig(**options, target_modules=["2"], r=0, mask_seed=7))
    model.eval()
    x = torch.randn(4, 6, dtype=torch.bfloat16)
    mixed = model(x, adapter_names=["b", "a", "b", BASE])
    assert mixed.dtype == torch.bfloat16
    for row, name in enumerate(["b", "a", "b"]):
        model.set_adapter(name)
        torch.testing.assert_close(mixed[row], model(x)[row], rtol=0.02, atol=0.02)
    with model.disable_adapter():
        torch.testing.assert_close(mixed[3], model(x)[3], rtol=0.02, atol=0.02)
