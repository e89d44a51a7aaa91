"""Masks and models: what fits, what does not, and what was trained from what fits."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from hf_langcore.architecture import decoder_weights
from hf_langcore.binding import LINEAGE_ATTRIBUTE, bind, fits_base, provenance_of, record_lineage, weights_digest
from hf_langcore.errors import CoreMaskMismatchError, InputError
from hf_langcore.masks import CoreMask, Provenance, fingerprint

Find = Callable[[Any], CoreMask]


@pytest.fixture
def find() -> Find:
    """A mask over all decoder weights of a model, bound to it by fingerprint."""

    def find(model: Any) -> CoreMask:
        tensors = {name: weight.parameter.detach() for name, weight in decoder_weights(model).items()}
        source = Provenance(
            "magnitude", base_model="me/base", base_revision="a" * 40, base_fingerprint=fingerprint(tensors)
        )
        return CoreMask({name: tensor.abs() > 0.3 for name, tensor in tensors.items()}, provenance=source)

    return find


@pytest.fixture
def trained(llama: Any) -> Any:
    """The same architecture with two changed tensors."""
    with torch.no_grad():
        llama.model.layers[0].mlp.up_proj.weight.add_(1)
        llama.model.layers[1].mlp.down_proj.weight.mul_(2)
    return llama


@pytest.fixture
def core_mask(find: Find, llama: Any) -> CoreMask:
    """Found before `trained` changes the model: ask for it first."""
    return find(llama)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_mask_fits_its_model(model: Any, find: Find, dtype: torch.dtype) -> None:
    """In the dtype it was found in and in bfloat16; what comes back is the model's own weights, in the mask's order."""
    core_mask = find(model)
    weights = bind(model.to(dtype), core_mask)
    assert list(weights) == list(core_mask)
    assert all(weight.parameter is dict(model.named_parameters())[name] for name, weight in weights.items())


def test_a_mask_fits_its_model_inside_an_adapter(llama: Any, find: Find) -> None:
    """Names and fingerprint are those of the base, before and after wrapping."""
    core_mask = find(llama)
    wrapped = get_peft_model(llama, LoraConfig(target_modules=["q_proj"], task_type="CAUSAL_LM"))
    assert list(bind(wrapped, core_mask)) == list(core_mask)
    assert find(wrapped).provenance.base_fingerprint == core_mask.provenance.base_fingerprint


def test_a_part_of_a_mask_fits(llama: Any, find: Find) -> None:
    """The fingerprint may cover more tensors than the mask."""
    names = {"model.layers.0.mlp.up_proj.weight"}
    assert bind(llama, find(llama).restricted_to(names)).keys() == names


@pytest.mark.parametrize("base_check", ["error", "warn", "off"])
def test_another_architecture_never_fits(llama: Any, gpt2: Any, find: Find, base_check: str) -> None:
    """The message counts the missing tensors, names the first, and says where the mask comes from."""
    expected = rf"18 of its 18 tensors are not in GPT2LMHeadModel, the first is .*'me/base' at revision {'a' * 40}"
    with pytest.raises(CoreMaskMismatchError, match=expected):
        bind(gpt2, find(llama), base_check=base_check)


@pytest.mark.parametrize("base_check", ["error", "warn", "off"])
def test_another_shape_never_fits(llama: Any, find: Find, base_check: str) -> None:
    """A mask over other shapes is refused whatever the check."""
    core_mask = find(llama)
    name = "model.layers.0.mlp.up_proj.weight"
    smaller = CoreMask({**core_mask, name: core_mask[name][1:]}, provenance=core_mask.provenance)
    with pytest.raises(CoreMaskMismatchError, match=rf"'{name}' has shape \(48, 32\), the mask \(47, 32\)"):
        bind(llama, smaller, base_check=base_check)


def test_other_weights_are_an_error(core_mask: CoreMask, trained: Any) -> None:
    """The message counts the tensors that differ, names the first and the ways out."""
    with pytest.raises(CoreMaskMismatchError, match=r"2 of 18 tensors differ, the first is .*0.mlp.up_proj") as caught:
        bind(trained, core_mask)
    assert 'base_check="warn"' in str(caught.value)
    assert "compute_core_mask" in str(caught.value)


def test_other_weights_may_be_a_warning(core_mask: CoreMask, trained: Any) -> None:
    """One warning with the same words, and the weights all the same."""
    with pytest.warns(UserWarning, match="2 of 18 tensors differ"):
        weights = bind(trained, core_mask, base_check="warn")
    assert list(weights) == list(core_mask)


def test_other_weights_may_be_ignored(core_mask: CoreMask, trained: Any) -> None:
    """No warning at all."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert list(bind(trained, core_mask, base_check="off")) == list(core_mask)


def test_only_the_covered_weights_are_compared(core_mask: CoreMask, trained: Any) -> None:
    """A changed tensor that the mask does not cover does not matter."""
    bind(trained, core_mask.restricted_to({"model.layers.0.mlp.gate_proj.weight"}))


def test_masks_without_a_fingerprint_fit_by_shape(core_mask: CoreMask, trained: Any) -> None:
    """Hand-made masks say nothing about their base."""
    assert bind(trained, CoreMask(core_mask)).keys() == core_mask.keys()


def test_another_revision_is_an_error(core_mask: CoreMask, llama: Any) -> None:
    """Also where the sampled weights agree; an unknown revision is not another one."""
    llama.config._commit_hash = "b" * 40
    with pytest.raises(CoreMaskMismatchError, match=f"revision='{'a' * 40}'"):
        bind(llama, core_mask)
    with pytest.warns(UserWarning, match="the model is of revision b"):
        bind(llama, core_mask, base_check="warn")
    bind(llama, core_mask, base_check="off")
    for known in ("a" * 40, None):
        llama.config._commit_hash = known
        bind(llama, core_mask)


@pytest.mark.parametrize("base_check", ["ignore", "", None, True])
def test_unknown_checks_are_refused(core_mask: CoreMask, llama: Any, base_check: Any) -> None:
    """The message lists the three."""
    with pytest.raises(InputError, match=r"base_check must be one of \['error', 'warn', 'off'\]"):
        bind(llama, core_mask, base_check=base_check)


def test_lineage_lets_a_trained_model_pass(core_mask: CoreMask, trained: Any) -> None:
    """Recorded once however often it is said, and only for the mask that it names."""
    record_lineage(trained, core_mask)
    record_lineage(trained, core_mask)
    assert getattr(trained.config, LINEAGE_ATTRIBUTE) == [core_mask.provenance.base_fingerprint.total]
    bind(trained, core_mask)


def test_lineage_survives_saving(core_mask: CoreMask, trained: Any, find: Find, tmp_path: Path) -> None:
    """It is written into config.json, so the mask still fits the model after a reload, and a second training adds."""
    record_lineage(trained, core_mask)
    trained.save_pretrained(tmp_path)
    loaded = type(trained).from_pretrained(tmp_path)
    bind(loaded, core_mask)
    second = find(loaded)
    record_lineage(loaded, second)
    assert len(getattr(loaded.config, LINEAGE_ATTRIBUTE)) == 2
    with torch.no_grad():
        loaded.model.layers[0].mlp.up_proj.weight.add_(1)
    bind(loaded, core_mask)
    bind(loaded, second)


def test_the_lineage_of_another_base_does_not_help(core_mask: CoreMask, trained: Any, find: Find) -> None:
    """A model that was trained from elsewhere stays another model."""
    record_lineage(trained, find(trained))
    with pytest.raises(CoreMaskMismatchError, match="2 of 18"):
        bind(trained, core_mask)


def test_lineage_needs_a_config_and_a_fingerprint(core_mask: CoreMask, llama: Any) -> None:
    """Plain modules and hand-made masks have nothing to record, and nothing breaks."""
    record_lineage(torch.nn.Linear(2, 2), core_mask)
    record_lineage(llama, CoreMask(core_mask))
    assert not hasattr(llama.config, LINEAGE_ATTRIBUTE)


def test_quantised_weights_are_not_compared(core_mask: CoreMask, llama: Any) -> None:
    """Packed integers of the right shape have no fingerprint; the repository is all there is."""
    codes = torch.zeros(48, 32, dtype=torch.int8)
    llama.model.layers[0].mlp.up_proj.weight = torch.nn.Parameter(codes, requires_grad=False)
    assert bind(llama, core_mask).keys() == core_mask.keys()


def test_provenance_of_a_model(llama: Any, gpt2: Any) -> None:
    """Name, revision, fingerprint, layout and versions, the same through a wrapper."""
    weights = decoder_weights(llama)
    plain = provenance_of(llama, weights, method="magnitude")
    assert (plain.method, plain.base_model, plain.base_revision, plain.transposed) == ("magnitude", None, None, ())
    assert plain.base_fingerprint == fingerprint({name: weight.parameter for name, weight in weights.items()})
    assert {"hf_langcore", "torch", "transformers"} <= set(plain.versions)
    llama.config._name_or_path, llama.config._commit_hash = "me/base", "b" * 40
    wrapped = provenance_of(torch.nn.parallel.DataParallel(llama), weights, method="magnitude")
    assert (wrapped.base_model, wrapped.base_revision) == ("me/base", "b" * 40)
    transposed = provenance_of(gpt2, decoder_weights(gpt2), method="magnitude").transposed
    assert "transformer.h.0.attn.c_attn.weight" in transposed
    assert "transformer.h.0.ln_1.weight" not in transposed


def test_quantised_models_are_checked_by_name_and_revision(llama: Any, find: Find) -> None:
    """Where weights are no plain numbers, another repository or revision is what tells."""
    mask = find(llama)
    llama.model.layers[0].mlp.up_proj.weight = torch.nn.Parameter(
        torch.zeros(48, 32, dtype=torch.int8), requires_grad=False
    )
    llama.config._name_or_path, llama.config._commit_hash = "me/base", "a" * 40
    bind(llama, mask)
    llama.config._commit_hash = "b" * 40
    with pytest.raises(CoreMaskMismatchError, match="revision"):
        bind(llama, mask)


@pytest.mark.parametrize("base_check", ["error", "warn", "off"])
def test_the_name_of_a_quantised_model(llama: Any, find: Find, base_check: str) -> None:
    """Another repository counts where the revisions do not say that it is the same one; a folder may be a copy of any."""
    mask = find(llama)
    llama.model.layers[0].mlp.up_proj.weight = torch.nn.Parameter(
        torch.zeros(48, 32, dtype=torch.int8), requires_grad=False
    )
    for name, revision in [("me/base", None), ("me/renamed", "a" * 40), ("/models/me/base", None), ("./base", None)]:
        llama.config._name_or_path, llama.config._commit_hash = name, revision
        bind(llama, mask, base_check=base_check)
    llama.config._name_or_path, llama.config._commit_hash = "you/base", None
    if base_check == "error":
        with pytest.raises(CoreMaskMismatchError, match="made on 'me/base', the quantised model is 'you/base'"):
            bind(llama, mask)
    elif base_check == "warn":
        with pytest.warns(UserWarning, match="the quantised model is 'you/base'"):
            bind(llama, mask, base_check=base_check)
    else:
        bind(llama, mask, base_check=base_check)


def test_packed_weights_have_their_true_shape(llama: Any, find: Find) -> None:
    """Two codes in a byte, as bitsandbytes has them, and also where the bytes are stored as floats."""
    mask = find(llama)
    for dtype in (torch.uint8, torch.bfloat16):
        packed = torch.nn.Parameter(torch.zeros(48 * 16 // dtype.itemsize, 1, dtype=dtype), requires_grad=False)
        packed.quant_state = SimpleNamespace(shape=torch.Size([48, 32]))  # type: ignore[attr-defined]
        llama.model.layers[0].mlp.up_proj.weight = packed
        bind(llama, mask)
        packed.quant_state.shape = torch.Size([32, 48])  # type: ignore[attr-defined]
        with pytest.raises(CoreMaskMismatchError, match=r"has shape \(32, 48\), the mask \(48, 32\)"):
            bind(llama, mask)


def test_quantised_weights_have_no_fingerprint(llama: Any) -> None:
    """Their codes are those of one way of quantising, so a mask of them fits the same base in every form."""
    llama.model.layers[0].mlp.up_proj.weight = torch.nn.Parameter(
        torch.zeros(48, 32, dtype=torch.int8), requires_grad=False
    )
    found = provenance_of(llama, decoder_weights(llama, quantized=True), method="random")
    assert found.base_fingerprint is None


def test_every_bit_of_a_model_counts(llama: Any) -> None:
    """The digest for kept results sees one bit anywhere, and the dtype."""
    first = weights_digest(llama)
    assert weights_digest(llama) == first
    with torch.no_grad():
        llama.lm_head.weight[0, 0] = -llama.lm_head.weight[0, 0]
    assert weights_digest(llama) != first
    second = weights_digest(llama)
    assert weights_digest(llama.to(torch.bfloat16)) != second


def test_fits_base(llama: Any, find: Find) -> None:
    """True for the mask's own weights and for recorded descendants, False for others."""
    mask = find(llama)
    assert fits_base(llama, mask)
    record_lineage(llama, mask)
    with torch.no_grad():
        llama.model.layers[0].mlp.up_proj.weight.mul_(2)
    assert fits_base(llama, mask)
    setattr(llama.config, LINEAGE_ATTRIBUTE, [])
    assert not fits_base(llama, mask)
