"""Masks from plain words: exactly what is named, nothing else, and frozen to the bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from datasets import Dataset
from transformers import Trainer, TrainingArguments

from hf_langcore import CoreFreezeCallback, CoreMask, compute_core_mask
from hf_langcore.architecture import decoder_weights
from hf_langcore.binding import bind
from hf_langcore.errors import CoreMaskMismatchError, InputError, UnsupportedModelError
from hf_langcore.heads import attention_heads
from hf_langcore.mask_builder import freeze_mask
from hf_langcore.masks.groups import part_of
from hf_langcore.scanning import CriticalDimension

Q = "model.layers.1.self_attn.q_proj.weight"
C_FC = "transformer.h.0.mlp.c_fc.weight"


def chosen(mask: CoreMask) -> set[str]:
    """Names of tensors that are in the mask as a whole; there must be no others."""
    whole = {name for name in mask if mask.density(name) == 1}
    assert mask.count() == sum(mask.count(name) for name in whole)
    return whole


def test_norms_and_biases(llama: Any, gpt2: Any) -> None:
    """All of them, the final norm and the biases of norms included."""
    assert chosen(freeze_mask(llama, norms=True)) == {name for name, _ in llama.named_parameters() if "norm" in name}
    names = {name for name, _ in gpt2.named_parameters()}
    assert chosen(freeze_mask(gpt2, norms=True)) == {name for name in names if ".ln_" in name}
    assert chosen(freeze_mask(gpt2, biases=True)) == {name for name in names if name.endswith(".bias")}
    both = freeze_mask(gpt2, norms=True, biases=True)
    assert both == freeze_mask(gpt2, norms=True) | freeze_mask(gpt2, biases=True)


def test_parameters_by_name_and_pattern(llama: Any) -> None:
    """Names of parameters and modules, and patterns; one or several."""
    assert chosen(freeze_mask(llama, parameters=Q)) == {Q}
    assert chosen(freeze_mask(llama, parameters=[Q.removesuffix(".weight"), "lm_head"])) == {Q, "lm_head.weight"}
    down = {f"model.layers.{layer}.mlp.down_proj.weight" for layer in range(2)}
    assert chosen(freeze_mask(llama, parameters=["model.layers.*.mlp.down_proj.weight", "lm_h[e]ad.weight"])) == {
        *down,
        "lm_head.weight",
    }


def test_layers(model: Any) -> None:
    """All tensors of a decoder layer and no other's."""
    names = {name for name in decoder_weights(model) if ".1." in name}
    assert chosen(freeze_mask(model, layers=1)) == names
    assert chosen(freeze_mask(model, layers=range(2))) == set(decoder_weights(model))


def test_rows_and_columns_in_linear_orientation(llama: Any, gpt2: Any) -> None:
    """Rows are outputs, columns inputs, also where GPT-2 stores (in, out)."""
    mask = freeze_mask(llama, rows={Q: [0, 5]}, columns={"lm_head": 3})
    assert mask[Q].all(1).nonzero().view(-1).tolist() == [0, 5]
    assert mask["lm_head.weight"].all(0).nonzero().view(-1).tolist() == [3]
    assert mask.count() == 2 * 32 + 120
    mask = freeze_mask(gpt2, rows={C_FC: [100]})
    assert mask[C_FC].all(0).nonzero().view(-1).tolist() == [100]
    assert mask.count() == 32
    assert freeze_mask(gpt2, columns={C_FC: torch.tensor([4])})[C_FC].all(1).nonzero().view(-1).tolist() == [4]


def test_dimensions(llama: Any, gpt2: Any) -> None:
    """Tuples, critical dimensions and what CoreMask.dimensions lists."""
    norm = "model.layers.0.input_layernorm"
    critical = CriticalDimension(f"{norm}.weight", 0, 7, 10.0, 9.0, 3.0)
    mask = freeze_mask(llama, dimensions=[(norm, 2), critical, (Q, 4, 1), [Q, 6, 0]])
    assert mask[f"{norm}.weight"].nonzero().view(-1).tolist() == [2, 7]
    expected = torch.zeros(32, 32, dtype=torch.bool)
    expected[:, 4] = expected[6] = True
    assert torch.equal(mask[Q], expected)
    assert mask.count() == 2 + 63
    with torch.no_grad():
        gpt2.get_parameter(C_FC)[5] = 50.0  # one input, stored as a row
    found = compute_core_mask(gpt2, method="magnitude", fraction=0.03).dimensions(limit=1)
    assert freeze_mask(gpt2, dimensions=found)[C_FC].all(1).nonzero().view(-1).tolist() == [5]


def test_single_weights(llama: Any, gpt2: Any) -> None:
    """Row and column in nn.Linear orientation, also where the matrix is stored the other way round."""
    entry = CriticalDimension(Q, None, (3, 20), 0.0, 9.0, 3.0, kind="weight")
    assert freeze_mask(llama, dimensions=[entry, (Q, (4, 1))])[Q].nonzero().tolist() == [[3, 20], [4, 1]]
    mask = freeze_mask(gpt2, dimensions=[(C_FC, (100, 7))])
    assert mask[C_FC].nonzero().tolist() == [[7, 100]]
    for wrong, message in (((1, 2, 3), "row, column"), ((0, 32), "columns of"), ((32, 0), "rows of")):
        with pytest.raises(InputError, match=message):
            freeze_mask(llama, dimensions=[(Q, wrong)])
    with pytest.raises(InputError, match="row, column"):
        freeze_mask(llama, dimensions=[("model.norm", (1, 2))])


def test_heads_with_grouped_queries(llama: Any) -> None:
    """A query head, and the key-value head that it reads; two that share it do not have it twice."""
    mask = freeze_mask(llama, heads={1: 3})
    rows = {name: mask[f"model.layers.1.self_attn.{name}_proj.weight"] for name in "qkvo"}
    assert rows["q"].all(1).nonzero().view(-1).tolist() == list(range(24, 32))
    assert (
        rows["k"].all(1).nonzero().view(-1).tolist()
        == rows["v"].all(1).nonzero().view(-1).tolist()
        == list(range(8, 16))
    )
    assert rows["o"].all(0).nonzero().view(-1).tolist() == list(range(24, 32))
    assert mask.count() == 4 * 8 * 32
    assert freeze_mask(llama, heads={1: [2, 3]}).count() == 6 * 8 * 32


def test_heads_inside_a_fused_matrix(gpt2: Any) -> None:
    """GPT-2 keeps queries, keys and values in one transposed matrix, with biases."""
    mask = freeze_mask(gpt2, heads={0: [1]})
    prefix = "transformer.h.0.attn"
    outputs = [32 * part + 8 + i for part in range(3) for i in range(8)]
    assert mask[f"{prefix}.c_attn.weight"].all(0).nonzero().view(-1).tolist() == outputs
    assert mask[f"{prefix}.c_attn.bias"].nonzero().view(-1).tolist() == outputs
    assert mask[f"{prefix}.c_proj.weight"].all(1).nonzero().view(-1).tolist() == list(range(8, 16))
    assert mask.count() == 24 * 32 + 24 + 8 * 32


def test_masks_of_heads_come_from_scores(model: Any) -> None:
    """Half of all heads, with their key-value heads; the random control draws heads too."""
    groups = attention_heads(model)
    for which in ("top", "random"):
        mask = compute_core_mask(model, method="magnitude", fraction=0.5, granularity="heads", which=which, seed=1)
        whole = [group for group in groups if all(part_of(mask[slab.parameter], slab).all() for slab in group.slabs)]
        assert len(whole) == len(groups) // 2
        sizes = [part_of(mask[slab.parameter], slab).numel() for group in whole for slab in group.slabs]
        assert mask.count() == sum(sizes)
        assert set(mask) == set(decoder_weights(model))
    means = []
    for group in groups:
        parts = [part_of(model.get_parameter(slab.parameter).detach(), slab) for slab in group.slabs]
        means.append(sum(part.abs().double().sum() for part in parts) / sum(part.numel() for part in parts))
    top = compute_core_mask(model, method="magnitude", fraction=0.5, granularity="heads")
    best = torch.stack(means).argsort(descending=True)[: len(groups) // 2].tolist()
    assert all(part_of(top[slab.parameter], slab).all() for index in best for slab in groups[index].slabs)


def test_it_combines_with_any_mask_of_the_model(llama: Any) -> None:
    """Also where the core does not cover what is named: the union covers both, and still knows its model."""
    core = compute_core_mask(llama, method="magnitude", fraction=0.05)
    named = freeze_mask(llama, norms=True, parameters=["lm_head"])
    for both in (core | named, named | core):
        assert set(both) == set(core) | set(named)
        assert both.count() == core.count() + named.count() - (core & named.restricted_to(set(core))).count()
        assert set(bind(llama, both)) == set(both)
        assert both.provenance.base_fingerprint is not None
    with torch.no_grad():
        llama.lm_head.weight.mul_(2)
    with pytest.raises(CoreMaskMismatchError, match=r"lm_head\.weight"):
        bind(llama, core | named)
    bind(llama, core)


def test_it_knows_its_model_and_says_what_it_is(llama: Any, tmp_path: Path) -> None:
    """Other weights are refused; the words travel with the file."""
    mask = freeze_mask(llama, norms=True, layers=[0])
    assert mask.provenance.summary() == "(given norms + layers)"
    mask.save_pretrained(tmp_path)
    assert CoreMask.from_pretrained(tmp_path).provenance == mask.provenance
    with torch.no_grad():
        llama.model.layers[1].mlp.up_proj.weight.mul_(2)
    with pytest.raises(CoreMaskMismatchError, match="other weights"):
        bind(llama, mask)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({}, "names nothing"),
        ({"biases": True}, "names nothing"),
        ({"parameters": ["model.layers.0.self_attn.q_prj.weight"]}, r"Nearest names: .*q_proj"),
        ({"parameters": ["*.q_prj.weight"]}, r"matches '\*\.q_prj\.weight'. Nearest names: .*q_proj"),
        ({"parameters": [3]}, "takes names"),
        ({"dimensions": [(Q, 3)]}, "say which axis"),
        ({"dimensions": 5}, "a list of dimensions"),
        ({"dimensions": [(Q, 32, 0)]}, "got 32, and the axis 0 of .* are numbered 0 to 31"),
        ({"dimensions": [(Q, 0, 2)]}, "axis: got 2"),
        ({"dimensions": [(Q, -1, 0)]}, "got -1"),
        ({"dimensions": [(Q, 1.5, 0)]}, r"whole number, got 1\.5"),
        ({"dimensions": [Q]}, "A dimension is"),
        ({"rows": {Q: [32]}}, "got 32, and the rows of .* 0 to 31"),
        ({"rows": {"model.norm": [0]}}, "takes matrices"),
        ({"columns": {"q_proj": [0]}}, "Nearest names"),
        ({"columns": [(Q, 0)]}, "columns maps names of matrices"),
        ({"heads": {0: [4]}}, "got 4, and the query heads of layer 0 are numbered 0 to 3"),
        ({"heads": {2: [0]}}, r"no attention in layer 2; layers with one: \[0, 1\]"),
        ({"heads": [0]}, "heads maps numbers of layers"),
        ({"layers": [2]}, "decoder layers are numbered 0 to 1"),
        ({"layers": [True]}, "got True"),
    ],
    ids=str,
)
def test_unknown_words_are_refused(llama: Any, words: dict[str, Any], message: str) -> None:
    """Each with what there is instead."""
    with pytest.raises(InputError, match=message):
        freeze_mask(llama, **words)


def test_ambiguous_words_are_refused(gpt2: Any) -> None:
    """A second name of a tied tensor, and numbers where there are two stacks of layers."""
    with pytest.raises(UnsupportedModelError, match="tied"):
        freeze_mask(gpt2, parameters=["lm_head"])
    config = transformers.T5Config(vocab_size=60, d_model=16, d_kv=4, d_ff=8, num_layers=1, num_heads=4)
    t5 = transformers.T5ForConditionalGeneration(config)
    with pytest.raises(InputError, match="several stacks"):
        freeze_mask(t5, layers=[0])
    with pytest.raises(InputError, match="several attentions"):
        freeze_mask(t5, heads={0: [0]})
    assert freeze_mask(t5, parameters=["decoder.block.0.*"]).count() > 0


def test_what_is_named_stays_in_training(model: Any, tmp_path: Path) -> None:
    """A Trainer with the callback changes everything else and not one bit of a head, a column, norms and a layer."""
    name = next(name for name in decoder_weights(model) if name.endswith(("down_proj.weight", "mlp.c_proj.weight")))
    words = {"norms": True, "biases": True, "heads": {0: [1]}, "columns": {name: [1, 2]}, "layers": [1]}
    words = {key: value for key, value in words.items() if key != "biases" or "c_proj" in name}
    mask = freeze_mask(model, **words)
    before = {key: model.get_parameter(key).detach().clone().view(torch.int32) for key in mask}
    ids = torch.randint(3, 100, (8, 12), generator=torch.Generator().manual_seed(0)).tolist()
    arguments = TrainingArguments(
        output_dir=str(tmp_path), max_steps=3, learning_rate=0.05, weight_decay=0.1, report_to=[], disable_tqdm=True,
        save_strategy="no", use_cpu=True, per_device_train_batch_size=4, optim="adamw_torch",
    )  # fmt: skip
    data = Dataset.from_dict({"input_ids": ids, "labels": ids})
    Trainer(model=model, args=arguments, train_dataset=data, callbacks=[CoreFreezeCallback(mask)]).train()
    for key, old in before.items():
        changed = model.get_parameter(key).detach().view(torch.int32) != old
        assert not (changed & mask[key]).any()
        assert changed[~mask[key]].float().mean() > 0.9 or bool(mask[key].all())
