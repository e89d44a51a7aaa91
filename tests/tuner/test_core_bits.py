"""The promise of the method, on a hundred models, masks and adapters drawn at random: not one bit of a core changes."""

from __future__ import annotations

import copy
import operator
import random
from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel, get_peft_model
from torch import nn
from transformers import AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D

from hf_langcore.architecture import bare_weights
from hf_langcore.masks import CoreMask
from hf_langcore.tuner import CoreRegionConfig
from hf_langcore.tuner.layer import tuner_layers

Wrap = Callable[..., Any]
Bits = dict[str, torch.Tensor]

pytestmark = [
    pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`"),
    pytest.mark.filterwarnings("ignore:Model with `tie_word_embeddings=True`"),
    pytest.mark.filterwarnings("ignore:Input and output embeddings are no longer tied"),
    pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers` to `True`"),
    pytest.mark.filterwarnings("ignore:A.* adapters (are already|were) merged"),
]

KINDS = ["llama", "llama-tied", "gpt2", "opt", "qwen3", "gemma3", "gpt-neox", "mixtral", "qwen3-moe", "gpt-oss"]
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
NAMES = ["first", "second"]
TABLES = {"model.embed_tokens.weight", "model.decoder.embed_tokens.weight", "transformer.wte.weight"}
NANS = {2: [0x7FFF, -1], 4: [0x7FC00000, -0x3FEDCC]}  # two payloads: plain, and with the sign and many bits set


def _drawn_mask(model: nn.Module, dice: random.Random) -> CoreMask:
    """Any entries, whole rows or the largest entries; from none to all of a tensor."""
    numbers = torch.Generator().manual_seed(dice.randrange(10**6))
    kind, share = dice.choice(["any", "any", "rows", "largest"]), dice.choice([0.0, 0.002, 0.03, 0.03, 0.3, 0.9, 1.0])
    planes = {}
    for name, weight in bare_weights(model).items():
        values = weight.parameter.detach().float()
        if kind == "any":
            planes[name] = torch.rand(values.shape, generator=numbers) < share
        elif kind == "rows":
            rows = torch.rand(len(values), generator=numbers) < share
            planes[name] = rows.view(-1, *[1] * (values.dim() - 1)).expand(values.shape).clone()
        else:
            order = values.abs().flatten().argsort(descending=True)[: round(share * values.numel())]
            planes[name] = torch.zeros(values.numel(), dtype=torch.bool)
            planes[name][order] = True
            planes[name] = planes[name].view(values.shape)
    return CoreMask(planes)


def _drawn_targets(model: Any, dice: random.Random) -> list[str]:
    """Some of the layers that can be adapted, embeddings and the LM head among them."""
    known = [
        name
        for name, module in model.named_modules()
        if isinstance(module, (nn.Linear, Conv1D, nn.Embedding)) and not name.endswith("embed_positions")
    ]
    return dice.sample(known, dice.randint(1, min(5, len(known))))


def _drawn_parameters(model: nn.Module, dice: random.Random) -> list[str] | None:
    """Some of the experts."""
    known = [name for name, value in model.named_parameters() if value.dim() == 3]
    return dice.sample(known, dice.randint(0, len(known))) or None


def _plant(model: nn.Module, mask: CoreMask, dice: random.Random) -> None:
    """-0.0 and NaNs of two kinds anywhere, and at the first entries of every core."""
    with torch.no_grad():
        for name, weight in bare_weights(model).items():
            flat = weight.parameter.view(-1)
            bits = flat.view(torch.int16 if flat.element_size() == 2 else torch.int32)
            core = mask[name].flatten().nonzero().flatten().tolist()
            first, second = NANS[flat.element_size()]
            flat[dice.sample(range(flat.numel()), flat.numel() // 9)] = -0.0
            flat[core[2:12]] = -0.0
            if dice.random() < 0.3:
                for place, value in zip(
                    [*core[:2], *dice.sample(range(flat.numel()), 2)], [first, second] * 2, strict=False
                ):
                    bits[place] = value


def _count(differs: torch.Tensor) -> int:
    return int(differs.sum())


def _require_same(before: Bits, after: Bits) -> None:
    assert after.keys() == before.keys()
    differing = {name: int((before[name] != after[name]).sum()) for name in before}
    assert not sum(differing.values()), differing


def _changed_entries(before: Bits, after: Bits, core: CoreMask, adapted: set[str]) -> int:
    """How many entries differ, after checking that no core entry of adapted weights and none of other weights does."""
    changed = 0
    for name, now in after.items():
        # The second user of a tied table has a name of its own while the table's first user has a merged copy.
        known = name if name in before else next(iter(adapted & TABLES))
        differs = before[known] != now
        wrong = differs & core[known] if known in adapted else differs
        assert not wrong.any(), f"{name}: {int(wrong.sum())} of {int(core[known].sum())} core entries"
        changed += int(differs.sum())
    return changed


def _loaded_adapters(base: Any, folder: Path, names: list[str], **options: Any) -> Any:
    model = PeftModel.from_pretrained(base, str(folder / names[0]), adapter_name=names[0], **options)
    for name in names[1:]:
        model.load_adapter(str(folder / name), name, **options)
    model.base_model.set_adapter(names)
    return model


def _drawn_adapters(base: Any, masks: list[CoreMask], dice: random.Random) -> Any:
    """A model with one or two adapters, all active."""
    model: Any = None
    names, parameters = NAMES[: len(masks)], _drawn_parameters(base, dice)
    targets = [_drawn_targets(base, dice) for _ in masks]
    if dice.random() < 0.5:
        targets[-1] = targets[0]
    for name, mask, modules in zip(names, masks, targets, strict=True):
        ranks = {"r": dice.choice([0, 1, 4]), "rank_pattern": {modules[0]: 2} if dice.random() < 0.2 else {}}
        options = {"target_modules": modules, "target_parameters": parameters, "init_weights": dice.random() < 0.5}
        config = CoreRegionConfig(core_mask=mask, **ranks, **options)
        if model is None:
            model = get_peft_model(base, config, adapter_name=name)
        else:
            model.add_adapter(name, config)
    model.base_model.set_adapter(names)
    return model


@pytest.mark.parametrize("seed", range(100))
def test_no_bit_of_the_core_changes(
    seed: int, build_model: Wrap, tokens: torch.Tensor, train: Wrap, snapshot: Callable[..., Bits], tmp_path: Path
) -> None:
    """Trained, merged, saved, loaded and unmerged: cores keep every bit, and the base comes back with every bit."""
    dice = random.Random(seed)
    dtype = dice.choice(DTYPES)
    base = build_model(KINDS[seed % len(KINDS)]).to(dtype)
    masks = [_drawn_mask(base, dice) for _ in range(dice.choice([1, 1, 2]))]
    core, names = reduce(operator.or_, masks), NAMES[: len(masks)]
    planted = dice.choice(["before training", "after training", "never"])
    if planted == "before training":
        _plant(base, core, dice)
    before = snapshot(base)
    model = _drawn_adapters(base, masks, dice)

    train(model, tokens, steps=2)
    _require_same(before, snapshot(model))
    if planted == "after training":
        _plant(base, core, dice)
        before = snapshot(model)
    bare = copy.deepcopy(model).unload()
    _require_same(before, snapshot(bare))

    known = {id(weight.parameter): name for name, weight in bare_weights(model).items()}
    adapted = {known[id(layer.adapted)] for layer in tuner_layers(model)}
    steps = dice.choice([[None], [names], [[name] for name in names], [[name] for name in names[::-1]]])
    for some in steps:
        model.merge_adapter(some)
    merged = snapshot(model)
    changed = _changed_entries(before, merged, core, adapted)
    assert (changed > 0) == any((~core[name]).any() for name in adapted)

    copy.deepcopy(model).merge_and_unload().save_pretrained(tmp_path / "merged")
    loaded = snapshot(AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=dtype))
    kept = {name for name in merged if loaded[name].dtype == merged[name].dtype}
    assert kept >= adapted  # GPT-OSS has its norms in float32, whatever one asks for
    _require_same({name: merged[name] for name in kept}, {name: loaded[name] for name in kept})

    model.save_pretrained(str(tmp_path))
    # Loading without memory rounds adapters to the dtype of the base, as in LoRA.
    low_cpu_mem_usage = dtype == torch.float32 and dice.random() < 0.5
    again = _loaded_adapters(bare, tmp_path, names, low_cpu_mem_usage=low_cpu_mem_usage)
    _require_same(before, snapshot(again))
    for some in steps:
        again.merge_adapter(some)
    _require_same(merged, snapshot(again))

    for one in (model, again):
        one.unmerge_adapter()
        _require_same(before, snapshot(one))
