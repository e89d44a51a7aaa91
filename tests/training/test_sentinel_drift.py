"""What counts as drift: dimensions in their own orientation and gain, and the core bit by bit."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from hf_langcore import architecture
from hf_langcore.errors import ConfigurationError, CoreMaskMismatchError, InputError
from hf_langcore.masks import CoreMask
from hf_langcore.scanning import CriticalDimension
from hf_langcore.training.sentinel_drift import STRONGEST, DriftWatch

NORM = "model.layers.1.input_layernorm"
GATE = "model.layers.0.mlp.gate_proj.weight"


def set_(value: torch.Tensor, *, to: float) -> None:
    value.detach().fill_(to)


def test_a_norm_weight_counts_relative_to_its_start(tiny: SimpleNamespace) -> None:
    """Of the watched dimensions the one that moved most is named; others do not count."""
    model = tiny.llama()
    watch = DriftWatch(model, dimensions=[(NORM, 4), CriticalDimension(f"{NORM}.weight", 0, 7, 0.0, 2.0, 1.0)])
    assert watch.now().largest == 0
    weight = model.model.layers[1].input_layernorm.weight
    set_(weight[4], to=1.25)
    set_(weight[7], to=0.5)
    set_(weight[9], to=9.0)
    drift = watch.now()
    assert (drift.largest, drift.where) == (0.5, f"{NORM}.weight[7]")
    assert drift.core_moved is drift.core_l2 is None


def test_a_weight_near_zero_counts_relative_to_the_norm(tiny: SimpleNamespace) -> None:
    """From 0 any change would be infinite; a tenth of the root mean square is the least that it is compared with."""
    model = tiny.llama()
    weight = model.model.norm.weight
    set_(weight[:16], to=0.0)  # root mean square of 16 zeros and 16 ones: 0.7071
    watch = DriftWatch(model, dimensions=[("model.norm", 0)])
    set_(weight[0], to=0.0070711)
    assert watch.now().largest == pytest.approx(0.1, rel=1e-4)


@pytest.fixture
def gemma() -> nn.Module:
    from transformers import GemmaConfig, GemmaForCausalLM

    sizes = {"hidden_size": 16, "intermediate_size": 16, "head_dim": 16, "vocab_size": 60}
    return GemmaForCausalLM(GemmaConfig(num_hidden_layers=1, num_attention_heads=1, num_key_value_heads=1, **sizes))


@pytest.fixture
def one_process() -> Iterator[None]:
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@pytest.mark.parametrize("sharded", [False, True])
def test_norms_that_add_one_count_with_their_gain(gemma: Any, sharded: bool, request: pytest.FixtureRequest) -> None:
    """Gemma's weight 0 is a gain of 1, so 0.25 is a change by a quarter; also where FSDP2 has sharded it."""
    architecture._GAIN_OFFSETS.clear()  # it is asked once for each class
    if sharded:
        request.getfixturevalue("one_process")
        fully_shard(gemma, mesh=init_device_mesh("cpu", (1,)))
        assert isinstance(gemma.model.norm.weight, DTensor)
    watch = DriftWatch(gemma, dimensions=[("model.norm", 2)])
    weight = gemma.model.norm.weight.detach()
    set_((weight.to_local() if sharded else weight)[2], to=0.25)
    assert watch.now().largest == pytest.approx(0.25)


def test_single_weights(tiny: SimpleNamespace) -> None:
    """As a scan finds them: only the named entry counts, and it is named by row and column."""
    model = tiny.llama()
    entry = CriticalDimension(GATE, None, (5, 7), 0.0, 9.0, 3.0, kind="weight")
    watch = DriftWatch(model, dimensions=[entry])
    weight = model.model.layers[0].mlp.gate_proj.weight.detach()
    weight[5, 6] += 100.0
    assert watch.now().largest == 0.0
    weight[5, 7] *= 1.5
    drift = watch.now()
    assert drift.where == f"{GATE}[5, 7]"
    assert drift.largest == pytest.approx(0.5)
    with pytest.raises(InputError, match="row, column"):
        DriftWatch(model, dimensions=[(GATE, (5, 99))])


@pytest.mark.parametrize(("axis", "label"), [(0, f"{GATE}[5]"), (1, f"{GATE}[:, 5]")])
def test_rows_and_columns_are_slices(tiny: SimpleNamespace, axis: int, label: str) -> None:
    """The change of a slice is its Euclidean norm relative to the slice."""
    model = tiny.llama()
    watch = DriftWatch(model, dimensions=[(GATE, 5, axis), (GATE, 6, axis)])
    weight = model.model.layers[0].mlp.gate_proj.weight.detach()
    weight.select(axis, 5).mul_(1.5)
    drift = watch.now()
    assert drift.largest == pytest.approx(0.5, rel=1e-5)
    assert drift.where == label


def test_gpt2_columns_are_those_of_a_linear_layer(tiny: SimpleNamespace) -> None:
    """Conv1D stores (in, out): axis 0, the outputs, is its second axis."""
    model = tiny.gpt2()
    watch = DriftWatch(model, dimensions=[("transformer.h.0.mlp.c_fc", 100, 0)])  # 128 outputs, 32 inputs
    model.transformer.h[0].mlp.c_fc.weight.detach()[:, 100].mul_(1.5)
    assert watch.now().largest == pytest.approx(0.5, rel=1e-5)


def test_all_norm_weights_are_watched_by_default(tiny: SimpleNamespace) -> None:
    """The last one too; and a model without norms is trained all the same."""
    model = tiny.llama()
    watch = DriftWatch(model)
    set_(model.model.norm.weight[31], to=3.0)
    assert watch.now().where == "model.norm.weight[31]"
    assert DriftWatch(nn.Linear(2, 2)).now().largest == 0


def test_a_core_mask_names_what_is_watched_by_default(tiny: SimpleNamespace) -> None:
    """Its strongest dimensions, at most so many; a row that the core fills is one."""
    model = tiny.llama()
    core = torch.zeros(64, 32, dtype=torch.bool)
    core[7] = True
    watch = DriftWatch(model, core_mask=CoreMask({GATE: core}))
    model.model.layers[0].mlp.gate_proj.weight.detach()[7].mul_(2.0)
    set_(model.model.norm.weight, to=5.0)
    assert watch.now().where == f"{GATE}[7]"
    many = {f"{NORM}.weight": torch.arange(32) < 31, "model.norm.weight": torch.arange(32) < 31, "model.layers.0.input_layernorm.weight": torch.arange(32) < 31}  # fmt: skip
    watched = DriftWatch(model, core_mask=CoreMask(many)).start_values()
    assert sum(len(value) for key, value in watched.items() if not key.startswith(("core|", "floor|"))) == STRONGEST


def test_the_core_is_compared_bit_by_bit(tiny: SimpleNamespace) -> None:
    """-0.0 is a change; the distance is relative to the core, and what is no core does not count."""
    model = tiny.llama()
    weight = model.model.layers[0].mlp.gate_proj.weight.detach()
    core = torch.zeros(64, 32, dtype=torch.bool)
    core[0, :4] = True
    weight[0, :4] = torch.tensor([3.0, 4.0, 0.0, 0.0])
    watch = DriftWatch(model, core_mask=CoreMask({GATE: core}), dimensions=[])
    weight[5] = 7.0
    assert (watch.now().core_moved, watch.now().core_l2) == (0.0, 0.0)
    weight[0, 2] = -0.0
    assert (watch.now().core_moved, watch.now().core_l2) == (0.25, 0.0)
    weight[0, 0] = 3.5
    assert (watch.now().core_moved, watch.now().core_l2) == (0.5, pytest.approx(0.1))


def test_the_start_can_be_given(tiny: SimpleNamespace) -> None:
    """A resumed run compares with the run's start; values of other dimensions are refused."""
    model = tiny.llama()
    start = DriftWatch(model, dimensions=[(NORM, 4)]).start_values()
    set_(model.model.layers[1].input_layernorm.weight[4], to=1.25)
    assert DriftWatch(model, dimensions=[(NORM, 4)]).now().largest == 0
    assert DriftWatch(model, dimensions=[(NORM, 4)], start=start).now().largest == 0.25
    with pytest.raises(ConfigurationError, match="other watched dimensions"):
        DriftWatch(model, dimensions=[(NORM, 5)], start=start)


def test_values_that_are_no_numbers_are_the_largest_drift(tiny: SimpleNamespace) -> None:
    """NaN must not hide behind comparisons that are always false."""
    model = tiny.llama()
    watch = DriftWatch(model)
    set_(model.model.norm.weight[3], to=float("nan"))
    assert (watch.now().largest, watch.now().where) == (float("inf"), "model.norm.weight[3]")


@pytest.mark.parametrize(
    ("dimension", "reason"),
    [
        ((NORM,), "A dimension is"),
        ((NORM, 0, 0, 0), "A dimension is"),
        (3, "A dimension is"),
        ((NORM, 32), "has 32 dimensions"),
        ((NORM, -1), "has 32 dimensions"),
        ((NORM, True), "has 32 dimensions"),
        ((NORM, 1, 1), "has the axes"),
        ((GATE, 1), "say which axis"),
        ((GATE, 40, 1), "has 32 dimensions along axis 1"),
        (("nothing", 0), "no parameter 'nothing'"),
    ],
)
def test_dimensions_that_do_not_exist_are_refused(tiny: SimpleNamespace, dimension: Any, reason: str) -> None:
    """Before training, with what is there."""
    with pytest.raises(InputError, match=reason):
        DriftWatch(tiny.llama(), dimensions=[dimension])


def test_a_mask_of_another_architecture_is_refused(tiny: SimpleNamespace) -> None:
    """As everywhere."""
    with pytest.raises(CoreMaskMismatchError):
        DriftWatch(tiny.gpt2(), core_mask=tiny.core_of(tiny.llama()))
