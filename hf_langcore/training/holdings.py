"""Where this process holds the values of a parameter: whole, as a shard, or twice because of a float32 master copy.

| strategy | what this process holds |
| --- | --- |
| one device, DDP | the parameter |
| FSDP2, tensor parallelism (DTensor) | its local shard |
| DeepSpeed ZeRO-1, ZeRO-2 | the parameter, and the float32 master of a part of it |
| DeepSpeed ZeRO-3 | a part, the float32 master of that part, and sometimes a gathered copy of the whole |

Source of the layouts: `torch.distributed.tensor`, `deepspeed.utils.tensor_fragment` and
`deepspeed.runtime.zero.partition_parameters`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from hf_langcore.errors import UnsupportedModelError


@dataclass(frozen=True, slots=True)
class Holding:
    """One tensor in which this process holds a parameter or a part of it.

    Attributes:
        live: Gives the values as a flat tensor that shares the memory; None where there are none at this moment.
        part_of: Cuts what this holding covers out of a tensor of the whole parameter's shape; flat.
        is_master: Whether it is the float32 copy that the optimizer steps, from which the parameter is rounded.
        put: Hands a changed copy back, where `live` cannot share the memory (a master that is offloaded).
    """

    live: Callable[[], torch.Tensor | None]
    part_of: Callable[[torch.Tensor], torch.Tensor]
    is_master: bool = False
    put: Callable[[torch.Tensor], None] | None = None


def holdings(name: str, parameter: nn.Parameter) -> list[Holding]:
    """All places in which this process holds values of a parameter, the one that the model computes with first.

    Args:
        name: For messages.
        parameter: The live parameter, after the strategy has prepared it.

    Raises:
        UnsupportedModelError: The values are held in a form that cannot be written to in place.
    """
    if hasattr(parameter, "ds_id"):
        return _zero3(name, parameter)
    if hasattr(parameter, "placements"):
        return [_shard(name, parameter)]
    if not parameter.is_contiguous():
        raise UnsupportedModelError(
            f"{name!r} is not contiguous in memory. Call `parameter.data = parameter.data.contiguous()` first."
        )
    return [Holding(lambda: parameter.detach().view(-1), _flat), *_zero2(parameter)]


def whole_value(parameter: nn.Parameter) -> torch.Tensor:
    """The parameter's values as one tensor of its full shape; of a sharded one collective, so all processes must call."""
    if hasattr(parameter, "ds_id"):
        from deepspeed.runtime.zero import GatheredParameters

        with GatheredParameters([parameter]):
            return parameter.detach().clone()
    if hasattr(parameter, "placements"):
        sharded: Any = parameter.detach()
        gathered: torch.Tensor = sharded.full_tensor()
        return gathered
    return parameter.detach()


def local_part(tensor: Any) -> torch.Tensor:
    """What this process has of a tensor: its shard of a DTensor, all of any other; detached, sharing the memory."""
    held: torch.Tensor = tensor.detach().to_local() if hasattr(tensor, "placements") else tensor.detach()
    return held


def is_sharded(parameter: nn.Parameter) -> bool:
    """Whether this process holds only a part of the parameter."""
    return hasattr(parameter, "ds_id") or hasattr(parameter, "placements")


def reshard(model: nn.Module) -> None:
    """Put FSDP2 modules that are gathered (after an evaluation, say) back into shards, so that these are found."""
    for module in model.modules():
        if hasattr(module, "reshard") and hasattr(module, "unshard"):
            fsdp: Any = module
            fsdp.reshard()


def _flat(whole: torch.Tensor) -> torch.Tensor:
    return whole.reshape(-1)


def _shard(name: str, parameter: nn.Parameter) -> Holding:
    """A DTensor. Every process cuts its part out of the same whole, so that nothing is communicated."""
    from torch.distributed.tensor import distribute_tensor

    held: Any = parameter
    mesh, placements = held.device_mesh, held.placements

    def part_of(whole: torch.Tensor) -> torch.Tensor:
        placed = whole.to(mesh.device_type)
        return local_part(distribute_tensor(placed, mesh, placements, src_data_rank=None)).reshape(-1)

    if not local_part(held).is_contiguous():
        raise UnsupportedModelError(
            f"The shard of {name!r} is not contiguous in memory (placements {placements}), so that single weights cannot "
            "be written back. Shard along the first axis, which is what FSDP2 does unless it is told otherwise."
        )
    return Holding(lambda: local_part(held).view(-1), part_of)


def _zero2(parameter: nn.Parameter) -> list[Holding]:
    """The float32 master of ZeRO-1 and ZeRO-2: a fragment in the flat partition of this process, if it has any."""
    fragment: Any = getattr(parameter, "_hp_mapping", None)
    if fragment is None:
        return []
    address = fragment.lp_fragment_address
    return [
        Holding(
            lambda: fragment.get_hp_fragment().detach(),
            lambda whole: whole.reshape(-1)[address.start : address.start + address.numel],
            is_master=True,
        )
    ]


def _zero3(name: str, parameter: nn.Parameter) -> list[Holding]:
    from deepspeed.runtime.zero.partition_parameters import ZeroParamStatus
    from deepspeed.utils import safe_get_local_fp32_param, safe_set_local_fp32_param

    held: Any = parameter
    if getattr(held, "ds_secondary_tensor", None) is not None:
        raise UnsupportedModelError(
            f"{name!r} has a secondary partition (ZeRO++, zero_hpz_partition_size), a third copy that the freeze does "
            "not reach. Set zero_hpz_partition_size to 1."
        )
    size = held.ds_tensor.ds_numel
    start = size * torch.distributed.get_rank(held.ds_process_group)
    filled = max(0, min(size, held.ds_numel - start))  # parts are of one size, so that the last ones are padded

    def part_of(whole: torch.Tensor) -> torch.Tensor:
        return whole.reshape(-1)[start : start + size]

    def gathered() -> torch.Tensor | None:
        is_here = held.ds_status is ZeroParamStatus.AVAILABLE
        return held.detach().view(-1) if is_here else None

    def master() -> torch.Tensor | None:
        value: torch.Tensor | None = safe_get_local_fp32_param(held)
        return None if value is None else value.detach().view(-1)[:filled]

    def put(value: torch.Tensor) -> None:
        safe_set_local_fp32_param(held, nn.functional.pad(value, (0, size - filled)))

    found = [Holding(lambda: held.ds_tensor.detach().view(-1)[:filled], part_of), Holding(gathered, _flat)]
    if not held.requires_grad or getattr(held, "_z3_optimizer", None) is None:
        return found
    first, second = master(), master()
    is_copy = first is not None and second is not None and first.data_ptr() != second.data_ptr()
    return [*found, Holding(master, part_of, is_master=True, put=put if is_copy else None)]
