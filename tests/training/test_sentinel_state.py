"""The last good state: every bit of what is trained, and nothing else."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from transformers import Adafactor

from hf_langcore.errors import ConfigurationError, ModelChangedError
from hf_langcore.training.sentinel_state import (
    GOOD_STATE_FILE,
    GoodState,
    forget_momentum,
    lower_learning_rate,
    require_learning_rate,
)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("on_disk", [False, True])
def test_every_bit_comes_back(tiny: SimpleNamespace, tmp_path: Path, dtype: torch.dtype, on_disk: bool) -> None:
    """NaN with its payload and -0.0 too; tied weights once."""
    model = tiny.llama(dtype, tie=True)
    whole = {2: torch.int16, 4: torch.int32}[dtype.itemsize]
    odd = {2: [-32768, 0x7FC1 if dtype is torch.bfloat16 else 0x7E01], 4: [-(2**31), 0x7FC00123]}[dtype.itemsize]
    model.model.norm.weight.data.view(whole)[:2] = torch.tensor(odd, dtype=whole)
    state, before = GoodState(tmp_path if on_disk else None), tiny.bits_of(model)
    state.keep(model, 5)
    for parameter in model.parameters():
        parameter.data.fill_(1)
    assert state.restore(model) == 5
    after = tiny.bits_of(model)
    assert all(torch.equal(before[name], after[name]) for name in before)
    size = sum(parameter.nbytes for parameter in model.parameters())
    assert state.nbytes() == (0 if on_disk else size)
    assert [path.name for path in tmp_path.iterdir()] == ([GOOD_STATE_FILE] if on_disk else [])


def test_only_what_is_trained_is_kept(tiny: SimpleNamespace) -> None:
    """Frozen parameters cost nothing and are not touched."""
    model = tiny.llama().requires_grad_(False)
    model.model.norm.requires_grad_(True)
    state = GoodState()
    state.keep(model, 0)
    assert state.nbytes() == model.model.norm.weight.nbytes
    model.lm_head.weight.data.fill_(2)
    model.model.norm.weight.data.fill_(2)
    state.restore(model)
    assert bool((model.lm_head.weight == 2).all())
    assert not bool((model.model.norm.weight == 2).any())


def test_the_newest_state_is_the_one(tiny: SimpleNamespace) -> None:
    """Keeping again overwrites, in the same memory."""
    model, state = tiny.llama(), GoodState()
    state.keep(model, 1)
    where = {name: value.data_ptr() for name, value in state._values.items()}
    model.model.norm.weight.data.fill_(3)
    state.keep(model, 2)
    model.model.norm.weight.data.fill_(4)
    assert state.restore(model) == 2
    assert bool((model.model.norm.weight == 3).all())
    assert where == {name: value.data_ptr() for name, value in state._values.items()}


def test_going_back_to_nothing_is_refused(tiny: SimpleNamespace, tmp_path: Path) -> None:
    """Nothing kept, or other parameters trained since."""
    model = tiny.llama()
    for state in (GoodState(), GoodState(tmp_path)):
        with pytest.raises(ModelChangedError, match="kept 0 parameters"):
            state.restore(model)
    state = GoodState()
    state.keep(model, 0)
    model.model.norm.requires_grad_(False)
    with pytest.raises(ModelChangedError, match="requires_grad"):
        state.restore(model)


def test_momentum_does_not_push_on() -> None:
    """With its state dropped, a zero gradient moves nothing."""
    weight = nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([weight], lr=0.1, weight_decay=0.0)
    weight.grad = torch.ones(3)
    optimizer.step()
    before = weight.detach().clone()
    forget_momentum(optimizer)
    weight.grad = torch.zeros(3)
    optimizer.step()
    assert torch.equal(weight, before)


def test_the_schedule_follows_the_lower_rate() -> None:
    """The next rates are those of the schedule times the factor."""
    weight = nn.Parameter(torch.ones(3))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / 10)
    lower_learning_rate(optimizer, scheduler, 0.5)
    assert optimizer.param_groups[0]["lr"] == 0.5
    optimizer.step()
    scheduler.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.45)


def test_an_optimizer_without_a_rate_is_refused() -> None:
    """Adafactor with relative steps chooses its own."""
    weight = nn.Parameter(torch.ones(3))
    require_learning_rate(torch.optim.SGD([weight], lr=0.1))
    with pytest.raises(ConfigurationError, match="Adafactor chooses its own"):
        require_learning_rate(Adafactor([weight], lr=None))
