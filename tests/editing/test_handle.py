"""Open edits: nesting, order, and models that change under them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hf_langcore.editing import handle as handle_module
from hf_langcore.editing import perturb, scale_dimension, set_dimension
from hf_langcore.errors import ModelChangedError
from hf_langcore.importance import compute_core_mask
from hf_langcore.modes import alterations

NORM = "model.layers.0.input_layernorm"
UP = "model.layers.0.mlp.up_proj"


def bits(model: Any) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone().view(torch.int32) for name, parameter in model.named_parameters()}


def same(model: Any, before: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, before[name]) for name, value in bits(model).items())


def test_nested_edits_of_the_same_weights(llama: Any) -> None:
    """An inner edit sees the outer one's values and gives them back."""
    before = bits(llama)
    mask = compute_core_mask(llama, method="random", fraction=0.3)
    with scale_dimension(llama, NORM, 3, factor=4):
        outer = bits(llama)
        with perturb(llama, mask, how="noise"):
            with set_dimension(llama, NORM, 3, value=7):
                assert llama.model.layers[0].input_layernorm.weight[3] == 7
            with scale_dimension(llama, UP, 0, factor=0, axis=1):
                pass
        assert same(llama, outer)
    assert same(llama, before)


@given(order=st.permutations(range(4)))
def test_edits_are_restored_in_reverse_order_only(order: list[int]) -> None:
    """Whatever order handles are restored in: out of turn is refused, nothing is lost, and all bits come back."""
    from transformers import LlamaConfig, LlamaForCausalLM

    llama = LlamaForCausalLM(
        LlamaConfig(vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1)
    )
    before = bits(llama)
    handles = [scale_dimension(llama, NORM, index % 2, factor=index + 2) for index in range(4)]
    waiting = list(range(4))
    for index in order:
        if index == waiting[-1]:
            handles[index].restore()
            waiting.remove(index)
        else:
            with pytest.raises(ModelChangedError, match="later edit"):
                handles[index].restore()
    for index in reversed(waiting):
        handles[index].restore()
    assert same(llama, before)


def test_a_changed_model_is_noticed_and_nothing_is_overwritten(llama: Any) -> None:
    """A training step under an edit is an error; the old values are kept and can be forced back."""
    original = llama.model.layers[0].mlp.up_proj.weight.detach().clone()
    mask = compute_core_mask(llama, method="random", fraction=0.3)
    handle = perturb(llama, mask)
    with torch.no_grad():
        llama.model.layers[0].mlp.up_proj.weight.add_(1.0)
    trained = bits(llama)
    with pytest.raises(ModelChangedError, match=r"up_proj.*1 of \d+ edited"):
        handle.restore()
    assert handle.is_open
    assert same(llama, trained)
    handle.restore(force=True)
    inside = mask["model.layers.0.mlp.up_proj.weight"]
    now = llama.model.layers[0].mlp.up_proj.weight.detach()
    assert torch.equal(now[inside], original[inside])
    assert torch.equal(now[~inside], original[~inside] + 1.0)


@pytest.mark.parametrize("change", ["cast", "nan", "minus zero", "replaced"])
def test_small_and_large_changes_are_noticed(llama: Any, change: str) -> None:
    """A cast, one NaN, a sign of zero, or another tensor under the name: all are changes."""
    handle = scale_dimension(llama, UP, 1, factor=0, axis=0)
    weight = llama.model.layers[0].mlp.up_proj.weight
    with torch.no_grad():
        if change == "cast":
            llama.to(torch.bfloat16)
        elif change == "nan":
            weight[1, 2] = float("nan")
        elif change == "minus zero":
            weight[1, 2] = -weight[1, 2]
        else:
            llama.model.layers[0].mlp.up_proj.weight = torch.nn.Parameter(torch.ones_like(weight))
    with pytest.raises(ModelChangedError, match=r"up_proj"):
        handle.restore()


def test_an_error_in_the_block_is_not_hidden_by_a_changed_model(llama: Any) -> None:
    """Where the body raises and the model changed too, both are reported."""
    with pytest.raises(ModelChangedError) as caught:  # noqa: SIM117, PT012 the inner block is the subject
        with scale_dimension(llama, NORM, 1, factor=0):
            with torch.no_grad():
                llama.model.layers[0].input_layernorm.weight.fill_(5)
            raise ZeroDivisionError
    assert isinstance(caught.value.__context__, ZeroDivisionError)


def test_an_edit_that_fails_half_way_leaves_no_trace(llama: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """When an edit of many tensors fails in between, those written already are put back."""
    before = bits(llama)
    mask = compute_core_mask(llama, method="random", fraction=0.3)
    plain, calls = handle_module._save, []

    def failing(change: Any) -> Any:
        calls.append(change)
        if len(calls) == 5:
            raise MemoryError
        return plain(change)

    monkeypatch.setattr(handle_module, "_save", failing)
    with pytest.raises(MemoryError):
        perturb(llama, mask)
    assert same(llama, before)
    monkeypatch.setattr(handle_module, "_save", plain)
    with perturb(llama, mask):
        pass
    assert same(llama, before)


def test_edits_keep_little(llama: Any) -> None:
    """An edit keeps positions and values of what it changed, not a copy of the model."""
    mask = compute_core_mask(llama, method="random", fraction=0.01)
    handle = perturb(llama, mask)
    kept = sum(
        saved.positions.numel() * saved.positions.element_size()
        + saved.old.numel() * saved.old.element_size()
        + saved.new.numel() * saved.new.element_size()
        for saved in handle._saved
    )
    handle.restore()
    assert kept < 8 * mask.count() + 8 * len(mask)


def test_nested_perturbations_know_the_base(llama: Any) -> None:
    """Under open edits a mask still fits its model, and a mask of other weights still does not."""
    import copy

    from hf_langcore.errors import CoreMaskMismatchError

    before = bits(llama)
    core = compute_core_mask(llama, method="magnitude", fraction=0.3)
    other = copy.deepcopy(llama)
    with torch.no_grad():
        other.model.layers[0].mlp.up_proj.weight.mul_(1.5)
    foreign = compute_core_mask(other, method="magnitude", fraction=0.3)
    with perturb(llama, core), scale_dimension(llama, UP, 0, factor=3, axis=0), perturb(llama, ~core, how="noise"):
        with perturb(llama, core.random_like()):
            pass
        with pytest.raises(CoreMaskMismatchError, match="other weights"):
            perturb(llama, foreign)
    assert same(llama, before)


def test_forced_restoring_ends_later_edits_too(llama: Any) -> None:
    """Forcing an outer edit restores those opened after it first, so that every bit comes back."""
    before = bits(llama)
    outer, inner = (scale_dimension(llama, NORM, 3, factor=factor) for factor in (4, 5))
    outer.restore(force=True)
    assert not inner.is_open
    assert same(llama, before)


def test_the_error_carries_the_handle(llama: Any) -> None:
    """Where no variable holds the handle, the error does; forcing works after a cast too."""
    weight = llama.model.layers[0].mlp.up_proj.weight
    original = weight.detach().clone()
    with pytest.raises(ModelChangedError) as caught, scale_dimension(llama, UP, 1, factor=0, axis=0):
        llama.half()
    caught.value.handle.restore(force=True)
    assert torch.equal(llama.model.layers[0].mlp.up_proj.weight.detach(), original.half())


def test_a_forgotten_edit_does_not_keep_the_model() -> None:
    """A handle refers to its model weakly: what nobody else holds is freed, and restoring then does nothing."""
    import gc
    import weakref

    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1)
    model = LlamaForCausalLM(config)
    seen, handle = weakref.ref(model), scale_dimension(model, NORM, 1, factor=2)
    del model
    gc.collect()
    assert seen() is None
    handle.restore()


def test_whole_numbers_of_any_kind(llama: Any) -> None:
    """Numpy's integers and one-element tensors are indices too; fractions and nothing at all are not."""
    import numpy as np

    from hf_langcore.errors import InputError

    for index in (np.int64(3), torch.tensor(3), [np.int32(3)]):
        with scale_dimension(llama, NORM, index, factor=np.float32(2)):
            assert llama.model.layers[0].input_layernorm.weight[3] == 2
    for wrong in (1.5, "1", []):
        with pytest.raises(InputError):
            scale_dimension(llama, NORM, wrong, factor=2)


def test_lost_handles_can_be_restored(llama: Any) -> None:
    """Edits whose handles nobody kept are ended in the right order."""
    from hf_langcore.editing import restore_all

    before = bits(llama)
    mask = compute_core_mask(llama, method="random", fraction=0.3)
    perturb(llama, mask)
    perturb(llama, mask, how="noise")
    scale_dimension(llama, NORM, 1, factor=3)
    assert restore_all(llama) == 3
    assert same(llama, before)
    assert restore_all(llama) == 0


def test_an_edit_may_be_kept_for_good(llama: Any) -> None:
    core_mask = compute_core_mask(llama, None, {}, method="magnitude", fraction=0.1)
    before = {name: weight.detach().clone() for name, weight in llama.named_parameters()}
    handle = perturb(llama, core_mask, how="zero")
    handle.keep()
    handle.restore()
    assert not handle.is_open
    assert handle_module.restore_all(llama) == 0
    weights = dict(llama.named_parameters())
    assert all(not weights[name][core_mask[name]].any() for name in core_mask)
    assert all(torch.equal(weights[name][~core_mask[name]], before[name][~core_mask[name]]) for name in core_mask)


def test_an_edit_under_another_is_not_kept(llama: Any) -> None:
    core_mask = compute_core_mask(llama, None, {}, method="magnitude", fraction=0.1)
    with perturb(llama, core_mask) as first:
        with (
            perturb(llama, core_mask, how="mean", base_check="off"),
            pytest.raises(ModelChangedError, match="one open edit"),
        ):
            first.keep()
        assert first.is_open


def test_edits_leave_notes(llama: Any) -> None:
    """An open edit is noted on the model, one that failed or was restored is not, one that is kept is noted for good."""
    core_mask = compute_core_mask(llama, None, {}, method="magnitude", fraction=0.1)
    first = perturb(llama, core_mask, how="noise", std=0.5)
    second = scale_dimension(llama, "model.norm", 1, factor=3)
    assert alterations(llama) == [
        f"noise of 0.5 std: magnitude top 10 %, {core_mask.count():,} weights",
        "model.norm.weight 1 times 3, 1 weight",
    ]
    with pytest.raises(ModelChangedError):
        first.restore()
    assert len(alterations(llama)) == 2
    first.restore(force=True)
    assert not second.is_open
    assert alterations(llama) == []

    def failing(weights: Any) -> Any:
        raise ValueError("on purpose")

    with pytest.raises(ValueError, match="on purpose"):
        handle_module.EditHandle(llama, ["model.norm.weight"], failing)
    assert alterations(llama) == []
    set_dimension(llama, "model.norm", 1, value=2).keep()
    assert alterations(llama) == ["model.norm.weight 1 set to 2, 1 weight"]
    with perturb(llama, core_mask, base_check="off"):
        assert len(alterations(llama)) == 2
    assert len(alterations(llama)) == 1
