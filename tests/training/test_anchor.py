"""The anchor: what it does to weights, with every way of holding them that one process has."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from datasets import Dataset
from torch import nn
from transformers import Trainer

from hf_langcore.architecture import Weight, bare_weights
from hf_langcore.errors import ConfigurationError, InputError, ModelChangedError
from hf_langcore.masks import ImportanceScores, Provenance
from hf_langcore.training import AnchorCallback, CoreFreezeCallback
from hf_langcore.training.anchor import ANCHOR_FILE, Anchor


def weight_of(values: list[float], dtype: torch.dtype = torch.float32) -> Weight:
    return Weight("w", nn.Parameter(torch.tensor(values, dtype=dtype)), nn.Module())


def distance(model: nn.Module, base: dict[str, torch.Tensor]) -> float:
    squares = [(p.detach().float() - base[n].float()).square().sum() for n, p in model.named_parameters()]
    return float(torch.stack(squares).sum().sqrt())


def copied(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


@pytest.fixture
def train(plain_args: Callable[..., Any], token_rows: Dataset) -> Callable[..., Trainer]:
    def run(model: nn.Module, *callbacks: Any, resume: str | None = None, **changes: Any) -> Trainer:
        trainer = Trainer(model=model, args=plain_args(**changes), train_dataset=token_rows, callbacks=list(callbacks))
        trainer.train(resume_from_checkpoint=resume)
        return trainer

    return run


def test_the_pull_is_a_share_of_the_distance() -> None:
    weight = weight_of([1.0, 2.0, -4.0])
    anchor = Anchor({"w": weight})
    weight.parameter.data += torch.tensor([1.0, -2.0, 4.0])
    anchor.pull(0.25)
    assert weight.parameter.tolist() == [1.75, 0.5, -1.0]
    anchor.pull(1.0)
    assert weight.parameter.tolist() == [1.0, 2.0, -4.0]


def test_importance_weights_the_pull_and_is_capped_at_the_whole_distance() -> None:
    weight = weight_of([0.0, 0.0, 0.0, 0.0])
    anchor = Anchor({"w": weight}, importance={"w": torch.tensor([0.0, 1.0, 2.0, 13.0])})  # the mean is 4
    weight.parameter.data.fill_(1.0)
    anchor.pull(0.4)
    # 0.4 * I / 4, the last one 1.3 and so 1; relative strengths are kept in bfloat16
    assert weight.parameter.tolist() == pytest.approx([1.0, 0.9, 0.8, 0.0], abs=1e-3)


def test_parameters_without_scores_are_pulled_as_the_mean() -> None:
    scored, other = weight_of([0.0, 0.0]), weight_of([0.0, 0.0])
    anchor = Anchor({"a": scored, "b": other}, importance={"a": torch.tensor([1.0, 3.0])})
    scored.parameter.data.fill_(1.0)
    other.parameter.data.fill_(1.0)
    anchor.pull(0.5)
    assert scored.parameter.tolist() == pytest.approx([0.75, 0.25])
    assert other.parameter.tolist() == [0.5, 0.5]


def test_base_values_are_kept_short_only_where_that_is_exact() -> None:
    short, long = weight_of([1.0, -2.5]), weight_of([1.0, 0.1])
    assert Anchor({"w": short}).nbytes() == 2 * 2
    kept = Anchor({"w": long})
    assert kept.nbytes() == 2 * 4
    long.parameter.data.fill_(9.0)
    kept.pull(1.0)
    assert torch.equal(long.parameter.data, torch.tensor([1.0, 0.1]))


def test_a_given_base_is_what_weights_are_pulled_to() -> None:
    weight = weight_of([1.0, 1.0])
    Anchor({"w": weight}, base={"w": torch.tensor([3.0, 5.0])}).pull(0.5)
    assert weight.parameter.tolist() == [2.0, 3.0]
    with pytest.raises(ModelChangedError, match="another shape of 'w'"):
        Anchor({"w": weight}, base={"w": torch.zeros(3)})
    with pytest.raises(ModelChangedError, match="no 'w'"):
        Anchor({"w": weight}, base={})


@pytest.mark.parametrize("optim", ["adamw_torch", "sgd", "adafactor"])
def test_training_stays_nearer_to_the_base_and_still_learns(
    train: Callable[..., Trainer], tiny: SimpleNamespace, optim: str
) -> None:
    distances, losses = [], []
    for strength in (0.0, 0.1, 0.5):
        model = tiny.llama()
        base = copied(model)
        trainer = train(model, AnchorCallback(strength), optim=optim, max_steps=6)
        distances.append(distance(model, base))
        losses.append(trainer.state.log_history[-1]["train_loss"])
    assert distances[0] > 1.1 * distances[1] > 1.1 * distances[2] > 0


def test_no_anchor_and_one_of_strength_zero_are_the_same(train: Callable[..., Trainer], tiny: SimpleNamespace) -> None:
    free, anchored = tiny.llama(), tiny.llama()
    train(free)
    train(anchored, AnchorCallback(0.0))
    assert all(torch.equal(p, q) for p, q in zip(free.parameters(), anchored.parameters(), strict=True))


def test_the_pull_follows_the_schedule(train: Callable[..., Trainer], tiny: SimpleNamespace) -> None:
    strengths: list[float] = []

    class Recorder(AnchorCallback):
        def on_optimizer_step(self, *args: Any, **kwargs: Any) -> None:
            pull, anchor = self.anchor.pull, self.anchor
            anchor.pull = lambda strength: (strengths.append(strength), pull(strength))  # type: ignore[method-assign]
            super().on_optimizer_step(*args, **kwargs)
            anchor.pull = pull  # type: ignore[method-assign]

    train(tiny.llama(), Recorder(0.2), max_steps=4, lr_scheduler_type="linear", warmup_steps=2)
    assert strengths == pytest.approx([0.0, 0.1, 0.2, 0.1])


def test_the_frozen_core_has_the_last_word(train: Callable[..., Trainer], tiny: SimpleNamespace) -> None:
    model = tiny.llama()
    core = tiny.core_of(model)
    base = copied(model)
    before = tiny.bits_of(model)
    train(model, AnchorCallback(0.3), CoreFreezeCallback(core))
    assert tiny.changed_bits(before, model, core)[0] == 0
    assert distance(model, base) > 0


def test_resuming_pulls_towards_the_first_base(
    train: Callable[..., Trainer], tiny: SimpleNamespace, tmp_path: Path
) -> None:
    base_folder = tmp_path / "base"
    tiny.llama().save_pretrained(base_folder)
    from transformers import AutoModelForCausalLM

    def fresh() -> nn.Module:
        return AutoModelForCausalLM.from_pretrained(base_folder)

    whole = fresh()
    train(whole, AnchorCallback(0.3), max_steps=4, output_dir=str(tmp_path / "whole"))
    first = fresh()
    halves = {"output_dir": str(tmp_path / "halves"), "save_strategy": "steps", "save_steps": 2}
    train(first, AnchorCallback(0.3), max_steps=2, **halves)
    second = AutoModelForCausalLM.from_pretrained(tmp_path / "halves" / "checkpoint-2")
    second.config._name_or_path = "somewhere else"
    train(second, AnchorCallback(0.3), max_steps=4, resume=str(tmp_path / "halves" / "checkpoint-2"), **halves)
    for name, parameter in whole.named_parameters():
        assert torch.allclose(parameter, dict(second.named_parameters())[name], atol=1e-6), name


def test_resuming_needs_the_base(train: Callable[..., Trainer], tiny: SimpleNamespace, tmp_path: Path) -> None:
    steps = {"save_strategy": "steps", "save_steps": 2}
    train(tiny.llama(), AnchorCallback(0.3), max_steps=2, **steps)
    checkpoint = str(tmp_path / "out" / "checkpoint-2")
    with pytest.raises(ConfigurationError, match="anchor's base '' cannot be loaded"):
        train(tiny.llama(), AnchorCallback(0.3), max_steps=4, resume=checkpoint, **steps)
    other = tiny.llama()
    nn.init.normal_(other.lm_head.weight)
    with pytest.raises(ConfigurationError, match="anchored to other weights"):
        train(tiny.llama(), AnchorCallback(0.3, base_values=other), max_steps=4, resume=checkpoint, **steps)
    train(tiny.llama(), AnchorCallback(0.3, base_values=tiny.llama()), max_steps=4, resume=checkpoint, **steps)
    (tmp_path / "out" / ANCHOR_FILE).unlink()
    with pytest.raises(ConfigurationError, match=r"anchor\.json cannot be read"):
        train(tiny.llama(), AnchorCallback(0.3), max_steps=4, resume=checkpoint, **steps)


def test_scores_may_come_from_a_folder_and_have_to_fit(
    train: Callable[..., Trainer], tiny: SimpleNamespace, tmp_path: Path
) -> None:
    model = tiny.llama()
    scores = ImportanceScores(
        {name: torch.rand_like(weight.parameter) for name, weight in bare_weights(model).items() if "layers." in name},
        provenance=Provenance(method="fisher"),
    )
    scores.save_pretrained(tmp_path / "scores")
    train(model, AnchorCallback(0.3, importance=tmp_path / "scores"))
    same = tiny.llama()
    train(same, AnchorCallback(0.3, importance=scores))
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), same.parameters(), strict=True))
    name = next(iter(scores))
    wrong = ImportanceScores({name: torch.ones(2, 2)}, provenance=Provenance(method="fisher"))
    with pytest.raises(InputError, match="another shape"):
        train(tiny.llama(), AnchorCallback(0.3, importance=wrong))
    with pytest.raises(InputError, match="no name is the same"):
        train(tiny.gpt2(), AnchorCallback(0.3, importance=scores))


def test_all_zero_scores_say_nothing() -> None:
    with pytest.raises(InputError, match="mean importance is 0"):
        Anchor({"w": weight_of([1.0])}, importance={"w": torch.zeros(1)})


@pytest.mark.parametrize("strength", [-0.1, 1.5, float("nan"), "much", True])
def test_a_strength_is_a_share(strength: Any) -> None:
    with pytest.raises(InputError, match="from 0 to 1"):
        AnchorCallback(strength)


def test_an_anchor_that_comes_too_late_says_so(tiny: SimpleNamespace, plain_args: Callable[..., Any]) -> None:
    with pytest.raises(ConfigurationError, match="while training was running"):
        AnchorCallback(0.1).on_optimizer_step(plain_args(), None, None)
