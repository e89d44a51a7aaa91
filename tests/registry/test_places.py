"""Finding, editing and drawing places."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers as t
from registry_plants import all_bits, same_bits

from hf_langcore.architecture import find_weight
from hf_langcore.errors import InputError, UnsupportedModelError
from hf_langcore.registry.entry import Entry
from hf_langcore.registry.places import Place, controls, edit, find_places

TINY = {"vocab_size": 120, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "pad_token_id": 0}  # fmt: skip


def only(model: Any, values: dict[str, Any]) -> tuple[Place, Entry]:
    entry = Entry.from_dict(values)
    (place,) = find_places(model, entry)
    return place, entry


def changed(model: Any, name: str, before: torch.Tensor) -> set[tuple[int, ...]]:
    return {tuple(one) for one in (find_weight(model, name).parameter.detach() != before).nonzero().tolist()}


def test_a_scalar_in_linear_orientation(model: Any, fields: Callable[..., Any]) -> None:
    """Row = output, column = input, also where GPT-2 stores them the other way round; every bit comes back."""
    is_gpt2 = type(model).__name__.startswith("GPT2")
    tensor = "transformer.h.{layer}.mlp.c_proj.weight" if is_gpt2 else "model.layers.{layer}.mlp.down_proj.weight"
    place, entry = only(model, fields(tensor=tensor, index=[5, 40], operation="set", value=9.0))
    before, old = all_bits(model), find_weight(model, place.name).parameter.detach().clone()
    with edit(model, place, entry):
        where = (40, 5) if is_gpt2 else (5, 40)
        assert changed(model, place.name, old) == {where}
        assert find_weight(model, place.name).parameter[where] == 9.0
    assert same_bits(model, before)


@pytest.mark.parametrize(("axis", "index"), [(0, 5), (1, 40)])
def test_rows_and_columns(model: Any, fields: Callable[..., Any], axis: int, index: int) -> None:
    """A whole output or input."""
    is_gpt2 = type(model).__name__.startswith("GPT2")
    tensor = "transformer.h.{layer}.mlp.c_proj.weight" if is_gpt2 else "model.layers.{layer}.mlp.down_proj.weight"
    place, entry = only(model, fields(kind="dimension", tensor=tensor, axis=axis, index=index))
    width = find_weight(model, place.name).parameter.shape[axis if is_gpt2 else 1 - axis]
    assert place.positions().numel() == width
    with edit(model, place, entry):
        values = find_weight(model, place.name).parameter
        oriented = values.T if is_gpt2 else values
        assert bool((oriented.select(axis, index) == 0).all())
        assert int((oriented == 0).sum()) == width


@pytest.mark.parametrize(("operation", "value", "gain"), [("set", 3.0, 3.0), ("scale", 4.0, 6.0), ("zero", None, 0.0)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_norms_that_add_one(
    norm_fields: Callable[..., Any], operation: str, value: float | None, gain: float, dtype: torch.dtype
) -> None:
    """Gemma multiplies by 1 + weight: the effective gain is what is set and scaled."""
    model = t.Gemma2ForCausalLM(t.Gemma2Config(**TINY, head_dim=8)).to(dtype)
    weight = model.model.layers[1].input_layernorm.weight
    with torch.no_grad():
        weight[5] = 0.5  # a gain of 1.5
    before = all_bits(model)
    place, entry = only(model, norm_fields(operation=operation, value=value))
    with edit(model, place, entry):
        assert weight[5].item() == gain - 1.0
    assert same_bits(model, before)
    assert place.magnitudes()[5] == pytest.approx(1.5)


def test_experts_in_one_tensor(fields: Callable[..., Any]) -> None:
    """The expert's number comes first."""
    model = t.MixtralForCausalLM(t.MixtralConfig(**TINY, num_local_experts=3)).eval()
    tensor = "model.layers.{layer}.mlp.experts.down_proj"
    place, entry = only(model, fields(tensor=tensor, index=[2, 5, 40]))
    weight = find_weight(model, place.name).parameter
    old = weight.detach().clone()
    with edit(model, place, entry):
        assert changed(model, place.name, old) == {(2, 5, 40)}
    place, entry = only(model, fields(kind="dimension", tensor=tensor, axis=1, index=[2, 40]))
    with edit(model, place, entry):
        assert changed(model, place.name, old) == {(2, row, 40) for row in range(32)}
    for other in controls(place, count=4, taken=(), generator=torch.Generator()):
        assert other.at[1] is None
        assert other.at != place.at
    with pytest.raises(InputError, match=r"shape \(3, 32, 48\) here, in which \(5, 7\) is no super weight"):
        find_places(model, Entry.from_dict(fields(tensor=tensor)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"tensor": "model.layers.{layer}.mlp.nothing.weight"},
            r"no parameter 'model\.layers\.1\.mlp\.nothing\.weight'",
        ),
        ({"layer": 7}, r"no parameter 'model\.layers\.7\.mlp\.down_proj\.weight'"),
        ({"index": [32, 7]}, r"shape \(32, 48\) here, so that there is no index 32 \(0 to 31\)"),
        ({"index": [5, 48]}, r"no index 48 \(0 to 47\)"),
        ({"kind": "dimension", "axis": 1, "index": 48}, r"no index 48 \(0 to 47\)"),
        ({"kind": "norm_weight", "axis": 0, "index": 5}, r"in which \(5,\) is no norm weight"),
    ],
)
def test_what_is_missing_is_named(
    llama: Any, fields: Callable[..., Any], changes: dict[str, Any], message: str
) -> None:
    """Tensor or index, and what there is instead."""
    with pytest.raises(InputError, match=message):
        find_places(llama, Entry.from_dict(fields(**changes)))


def test_an_open_question_gives_several_places(llama: Any, norm_fields: Callable[..., Any]) -> None:
    """Those that exist."""
    other = "model.layers.{layer}.post_attention_layernorm.weight"
    for alternatives, count in (([other], 2), (["model.layers.{layer}.third.weight"], 1)):
        entry = Entry.from_dict(norm_fields(which="unspecified", alternatives=alternatives))
        assert len(find_places(llama, entry)) == count


def test_weights_without_values_are_refused(llama: Any, fields: Callable[..., Any]) -> None:
    """That is no missing tensor."""
    with pytest.raises(UnsupportedModelError, match="meta device"):
        find_places(llama.to("meta"), Entry.from_dict(fields()))


def test_controls_are_alike_in_magnitude(llama: Any, fields: Callable[..., Any]) -> None:
    """The hundred nearest, never the place itself or one that is taken; the same seed draws the same."""
    weight = llama.model.layers[1].mlp.down_proj.weight.detach()
    weight[5, 7] = 50.0
    weight[20:30, 3] = torch.arange(45.0, 55.0)
    place, _ = only(llama, fields())
    drawn = controls(place, count=100, taken=(), generator=torch.Generator().manual_seed(1))
    assert len({one.at for one in drawn}) == 100
    assert {(row, 3) for row in range(20, 30)} <= {one.at for one in drawn}
    threshold = min(float(weight[one.at].abs()) for one in drawn)
    assert int((weight.abs() >= threshold).sum()) == 101
    assert place.at not in {one.at for one in drawn}
    taken = {(place.name, (25, 3))}
    few = controls(place, count=3, taken=taken, generator=torch.Generator().manual_seed(1))
    again = controls(place, count=3, taken=taken, generator=torch.Generator().manual_seed(1))
    assert [one.at for one in few] == [one.at for one in again]
    everything = controls(place, count=2000, taken=taken, generator=torch.Generator())
    assert len(everything) == 100
    assert (25, 3) not in {one.at for one in everything}


def test_magnitudes_are_in_linear_orientation(gpt2: Any, fields: Callable[..., Any]) -> None:
    """Also where the weight is stored the other way round."""
    tensor = "transformer.h.{layer}.mlp.c_proj.weight"
    weight = gpt2.transformer.h[1].mlp.c_proj.weight.detach()
    weight[100, 5] = 9.0
    scalar, _ = only(gpt2, fields(tensor=tensor, index=[5, 100]))
    assert scalar.magnitudes().shape == (32, 128)
    assert scalar.magnitudes()[5, 100] == 9.0
    row, _ = only(gpt2, fields(kind="dimension", tensor=tensor, axis=0, index=5))
    assert torch.allclose(row.magnitudes(), weight.norm(dim=0))
