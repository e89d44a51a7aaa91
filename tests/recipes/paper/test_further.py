"""Further pretraining: what is seen, what is frozen, when it is measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from hf_langcore.editing import perturb
from hf_langcore.errors import InputError, NonFiniteError
from hf_langcore.evaluation import prepare_scoring
from hf_langcore.importance import compute_core_mask
from hf_langcore.recipes.bench.texts import Texts
from hf_langcore.recipes.bench.workbench import Bench, BenchSettings
from hf_langcore.recipes.bits import copy_weights, count_changed
from hf_langcore.recipes.paper.further import (
    FurtherTraining,
    fresh_copy,
    in_order,
    losses_of,
    pretrain_further,
    rate_for,
)

HOW = FurtherTraining(1e-2, batch_size=2, warmup_steps=1)


@pytest.fixture
def samples() -> torch.Tensor:
    return torch.randint(3, 120, (6, 8), generator=torch.Generator().manual_seed(0))


def test_every_sample_is_seen_once_in_order(model: Any, samples: torch.Tensor) -> None:
    """Batches follow the samples; in training nothing else is fed."""
    seen = []
    embedding = model.get_input_embeddings()
    hook = embedding.register_forward_pre_hook(lambda _, given: seen.append(given[0].clone()))
    before = [parameter.detach().clone() for parameter in model.parameters()]
    assert pretrain_further(model, samples, HOW) == {}
    hook.remove()
    assert torch.equal(torch.cat(seen), samples)
    assert [len(batch) for batch in seen] == [2, 2, 2]
    assert not any(torch.equal(one, other) for one, other in zip(before, model.parameters(), strict=True))
    assert not model.training


def test_steps_are_those_of_adamw(llama: Any, samples: torch.Tensor) -> None:
    """Rate, decay, betas and warm-up are the given ones: a loop of one's own ends at the same weights."""
    import copy

    how = FurtherTraining(1e-2, batch_size=2, weight_decay=0.3, betas=(0.8, 0.9), warmup_steps=2)
    other = copy.deepcopy(llama).train()
    matrices = [parameter for parameter in other.parameters() if parameter.dim() > 1]
    vectors = [parameter for parameter in other.parameters() if parameter.dim() == 1]
    groups = [{"params": matrices, "weight_decay": 0.3}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-2, betas=(0.8, 0.9), fused=True)
    for step in range(3):
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 * min(1.0, step / 2)
        batch = samples[2 * step : 2 * step + 2]
        other(input_ids=batch, labels=batch).loss.backward()
        nn.utils.clip_grad_norm_(other.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    pretrain_further(llama, samples, how)
    for one, expected in zip(llama.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(one, expected)


def test_it_is_measured_on_the_way(llama: Any, samples: torch.Tensor) -> None:
    """After the given numbers of samples, with the weights of then; 0 is before the first step."""
    start = llama.model.norm.weight.detach().clone()
    looks = pretrain_further(
        llama, samples, HOW, look=lambda now: now.model.norm.weight.detach().clone(), look_at=(0, 4, 6)
    )
    assert sorted(looks) == [0, 4, 6]
    assert torch.equal(looks[0], start)
    assert not torch.equal(looks[4], looks[6])
    assert torch.equal(looks[6], llama.model.norm.weight)


def test_mixed_precision_is_for_training_only(llama: Any, samples: torch.Tensor) -> None:
    """Forward passes of training are in bf16, those of measuring and those afterwards are not; weights are float32."""
    kinds = []
    hook = llama.model.layers[0].mlp.register_forward_hook(lambda _, __, out: kinds.append(out.dtype))
    how = FurtherTraining(1e-2, batch_size=2, bf16=True)
    pretrain_further(llama, samples, how, look=lambda now: now(input_ids=samples[:1]), look_at=(0, 2))
    llama(input_ids=samples[:1])
    hook.remove()
    bf16, fp32 = torch.bfloat16, torch.float32
    assert kinds == [fp32, bf16, fp32, bf16, bf16, fp32]
    assert {parameter.dtype for parameter in llama.parameters()} == {fp32}


def test_a_broken_core_stays_broken(model: Any, tokenizer: Any, texts: Any, samples: torch.Tensor) -> None:
    """What is frozen is what the core holds now, although the mask's fingerprint is of the unbroken model."""
    core_mask = compute_core_mask(model, tokenizer, texts, fraction=0.05, block_size=16, progress=False)
    perturb(model, core_mask, how="reinit").keep()
    broken = copy_weights(model, core_mask)
    pretrain_further(model, samples, HOW, core_mask=core_mask)
    changed = count_changed(model, broken, core_mask)
    assert changed.core == 0
    assert changed.complement > 0.9 * core_mask.complement().count()
    pretrain_further(model, samples, HOW)
    assert count_changed(model, broken, core_mask).core > 0.9 * core_mask.count()


def test_what_cannot_be_measured_is_refused(llama: Any, samples: torch.Tensor) -> None:
    """Numbers between batches, numbers that there are not, and a last batch that is not whole."""
    with pytest.raises(InputError, match="6 samples in batches of 2 cannot be measured after \\[3, 8\\]"):
        pretrain_further(llama, samples, HOW, look_at=(0, 3, 8))
    with pytest.raises(InputError, match="whole"):
        pretrain_further(llama, samples[:5], HOW)
    for rate, size in ((0.0, 2), (1e-3, 0)):
        with pytest.raises(InputError, match="batch_size of at least 1"):
            FurtherTraining(rate, batch_size=size)


def test_no_samples_leave_the_model_as_it_is(llama: Any, samples: torch.Tensor) -> None:
    """It is still looked at."""
    assert pretrain_further(llama, samples[:0], HOW, look=lambda _: "seen", look_at=(0,)) == {0: "seen"}


def test_a_breakdown_is_an_error(llama: Any, samples: torch.Tensor) -> None:
    """NaN weights are not reported as a result."""
    with torch.no_grad():
        llama.model.norm.weight[0] = float("nan")
    with pytest.raises(NonFiniteError, match="ended in NaN or infinite weights"):
        pretrain_further(llama, samples, HOW)


def test_rates_and_batches(llama: Any) -> None:
    """Small models get the higher rate, large ones the published one; numbers are rounded to whole batches."""
    assert rate_for(llama, None) == 5e-4
    assert rate_for(llama, 3e-3) == 3e-3
    assert rate_for(nn.Linear(10_000, 10_001, device="meta"), None) == 5e-5
    assert [HOW.up(count) for count in (0, 1, 2, 3)] == [0, 2, 2, 4]
    assert [HOW.down(count) for count in (0, 1, 2, 3)] == [0, 0, 2, 2]
    assert HOW.to_dict() == {
        "learning_rate": 1e-2,
        "batch_size": 2,
        "weight_decay": 1e-3,
        "betas": [0.9, 0.95],
        "warmup_steps": 1,
        "bf16": False,
        "seed": 0,
    }


def test_each_pass_has_an_order_of_its_own() -> None:
    """Every sample once a pass; the first pass does not depend on how many follow."""
    order = in_order(50, seed=1, passes=2)
    assert sorted(order[:50].tolist()) == sorted(order[50:].tolist()) == list(range(50))
    assert not torch.equal(order[:50], order[50:])
    assert torch.equal(order[:50], in_order(50, seed=1))
    assert not torch.equal(order[:50], in_order(50, seed=2))


def test_losses_are_json_values(llama: Any, tokenizer: Any, texts: Any) -> None:
    """Those of the report, and infinity as a string."""
    task = prepare_scoring(llama, tokenizer, texts, block_size=16)
    found = losses_of(llama, {"test": task})
    assert set(found["test"]) == {"en", "de"}
    assert all(0 < loss < 20 for loss in found["test"].values())
    with torch.no_grad():
        llama.model.norm.weight[:] = float("inf")
    assert losses_of(llama, {"test": task}) == {"test": {"en": "inf", "de": "inf"}}


def test_copies_are_trained_in_float32(llama: Any, tokenizer: Any, texts: Any, tmp_path: Path) -> None:
    """The bench's own model keeps its bits and its dtype."""
    parted = Texts(texts, texts, "tiny")
    bench = Bench(llama.bfloat16(), tokenizer, parted, output=tmp_path, settings=BenchSettings(block_size=16))
    copy = fresh_copy(bench)
    assert {parameter.dtype for parameter in copy.parameters()} == {torch.float32}
    assert copy.lm_head.weight is not llama.lm_head.weight
    assert {parameter.dtype for parameter in llama.parameters()} == {torch.bfloat16}
