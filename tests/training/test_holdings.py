"""Where values are held: what a single process can show; shards over processes are in tests/distributed."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

from hf_langcore.architecture import Weight, bare_weights
from hf_langcore.errors import ModelChangedError, UnsupportedModelError
from hf_langcore.masks import CoreMask
from hf_langcore.training import CoreFreezer
from hf_langcore.training.anchor import Anchor
from hf_langcore.training.holdings import holdings, is_sharded, whole_value


@pytest.fixture
def mesh() -> Iterator[DeviceMesh]:
    """A mesh of this process alone: DTensors without a second process."""
    os.environ.update(MASTER_ADDR="localhost", MASTER_PORT="0", RANK="0", WORLD_SIZE="1")
    store = dist.HashStore()
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    dist.destroy_process_group()
    for name in ("MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE"):
        del os.environ[name]


def fragment_of(parameter: nn.Parameter, start: int, count: int) -> SimpleNamespace:
    """What DeepSpeed links to a parameter: a float32 master of some of its values."""
    master = parameter.detach().reshape(-1)[start : start + count].float().clone()
    address = SimpleNamespace(start=start, numel=count)
    return SimpleNamespace(lp_fragment_address=address, get_hp_fragment=lambda: master)


def test_a_whole_parameter_is_held_once() -> None:
    parameter = nn.Parameter(torch.arange(6.0).reshape(2, 3))
    (held,) = holdings("w", parameter)
    assert held.live().data_ptr() == parameter.data_ptr()
    assert held.part_of(torch.arange(6).reshape(2, 3)).tolist() == [0, 1, 2, 3, 4, 5]
    assert not is_sharded(parameter)


def test_values_out_of_order_are_refused() -> None:
    parameter = nn.Parameter(torch.arange(6.0).reshape(2, 3).t())
    with pytest.raises(UnsupportedModelError, match="not contiguous"):
        holdings("w", parameter)


def test_a_master_is_restored_with_its_parameter() -> None:
    parameter = nn.Parameter(torch.tensor([1.0, -0.0, 3.0, 4.0, 5.0], dtype=torch.bfloat16))
    parameter._hp_mapping = fragment_of(parameter, 1, 3)
    core = CoreMask({"w": torch.tensor([True, True, False, True, False])})
    freezer = CoreFreezer({"w": Weight("w", parameter, nn.Module())}, core)
    master = parameter._hp_mapping.get_hp_fragment()
    parameter.data += 0.5
    master += 0.5
    assert freezer.changed() == {"w": 3 + 2}
    freezer.restore()
    assert parameter.tolist() == [1.0, 0.0, 3.5, 4.0, 5.5]
    assert torch.signbit(parameter)[1]
    assert master.tolist() == [0.0, 3.5, 4.0]
    assert torch.signbit(master)[0]
    assert freezer.values()["w"].tolist() == [1.0, 0.0, 4.0]


def test_an_anchor_pulls_the_master_and_not_what_is_rounded_from_it() -> None:
    parameter = nn.Parameter(torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.bfloat16))
    parameter._hp_mapping = fragment_of(parameter, 2, 2)
    anchor = Anchor({"w": Weight("w", parameter, nn.Module())})
    master = parameter._hp_mapping.get_hp_fragment()
    master += 1
    parameter.data += 1
    anchor.pull(0.5)
    assert master.tolist() == [3.5, 4.5]
    assert parameter.tolist() == [2.0, 3.0, 4.0, 5.0]


def test_a_process_without_a_fragment_pulls_nothing() -> None:
    parameter = nn.Parameter(torch.ones(3))
    parameter._hp_mapping = None  # another process has the master
    anchor = Anchor({"w": Weight("w", parameter, nn.Module())})
    parameter.data += 1
    anchor.pull(0.5)
    assert parameter.tolist() == [2.0, 2.0, 2.0]
    assert anchor.nbytes() == 0


def test_a_shard_is_cut_without_communication_and_restored(mesh: DeviceMesh) -> None:
    whole = torch.arange(12.0).reshape(3, 4)
    parameter = nn.Parameter(distribute_tensor(whole, mesh, [Shard(0)]))
    core = CoreMask({"w": torch.rand(3, 4, generator=torch.Generator().manual_seed(0)) < 0.4})
    assert is_sharded(parameter)
    assert torch.equal(whole_value(parameter), whole)
    freezer = CoreFreezer({"w": Weight("w", parameter, nn.Module())}, core)
    parameter.data.to_local().add_(1)
    assert freezer.changed() == {"w": core.count()}
    freezer.restore()
    assert torch.equal(whole_value(parameter), torch.where(core["w"], whole, whole + 1))
    assert torch.equal(freezer.values()["w"], whole[core["w"]])


def test_gradients_of_shards_are_masked(mesh: DeviceMesh) -> None:
    parameter = nn.Parameter(distribute_tensor(torch.ones(3, 4), mesh, [Shard(0)]))
    core = CoreMask({"w": torch.eye(3, 4, dtype=torch.bool)})
    freezer = CoreFreezer({"w": Weight("w", parameter, nn.Module())}, core)
    handles = freezer.mask_gradients()
    (parameter * 2).sum().backward()
    gradient: Any = parameter.grad
    assert torch.equal(gradient.full_tensor(), torch.where(core["w"], 0.0, 2.0))
    for handle in handles:
        handle.remove()
    parameter.grad = None
    (parameter * 2).sum().backward()
    assert (parameter.grad.full_tensor() == 2).all()


def test_an_average_gets_the_core(tiny: SimpleNamespace) -> None:
    model = tiny.llama()
    core = tiny.core_of(model)
    freezer = CoreFreezer({name: bare_weights(model)[name] for name in core}, core)
    average = copy.deepcopy(model)
    before = tiny.bits_of(average)
    for parameter in average.parameters():
        parameter.data += 1
    freezer.restore_into(bare_weights(average))
    changed, complement = tiny.changed_bits(before, average, core)
    assert changed == 0
    assert complement > 0
    with pytest.raises(ModelChangedError, match="no 'model"):
        freezer.restore_into(bare_weights(tiny.gpt2()))
