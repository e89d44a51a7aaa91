"""Edits that are really made: figures, restored bits, and passes that begin at the layer of the edit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from hf_langcore.editing import scale_dimension
from hf_langcore.errors import InputError
from hf_langcore.evaluation import prepare_scoring
from hf_langcore.modes import alterations
from hf_langcore.scanning.candidates import Candidate, norm_candidate, slice_candidate
from hf_langcore.scanning.losses import measure
from hf_langcore.scanning.tensors import Tensors
from hf_langcore.scanning.text import PreparedText
from hf_langcore.scanning.verification import Edit, Session


def bits(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: one.detach().clone().view(torch.int32) for name, one in model.named_parameters()}


def same(model: nn.Module, before: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one.detach().view(torch.int32), before[name]) for name, one in model.named_parameters())


@pytest.fixture
def task(model: Any, tokenizer: Any, texts: Any) -> Any:
    return prepare_scoring(model, tokenizer, texts, block_size=32, max_tokens=60)


def some(tensors: Tensors) -> list[Candidate]:
    """Several places of each kind in the last layer, and a gain behind it."""
    last = len(tensors.layers) - 1
    norms = [name for name in tensors.norms if tensors.layer(name) in {last, None}]
    matrices = [name for name in tensors.matrices if tensors.layer(name) == last]
    return [
        *(norm_candidate(name, index, "given") for name in norms for index in range(6)),
        *(slice_candidate(name, "row", (3,), "given") for name in matrices),
        *(slice_candidate(name, "column", (5,), "given") for name in matrices),
        *(slice_candidate(name, "weight", (3, 5), "given") for name in matrices),
    ]


@pytest.mark.parametrize("reuse", ["auto", "off"])
def test_figures_are_those_of_the_edit(model: Any, task: Any, reuse: Any) -> None:
    """As scale_dimension makes it, in nn.Linear orientation, for rows, columns and gains."""
    tensors = Tensors.of(model)
    before = bits(model)
    text = PreparedText(model, task)
    edits = [Edit.of(one, factor) for one in some(tensors) for factor in (0.0, 3.0)]
    with Session(model, tensors, reuse=reuse) as session:
        session.measure(text)
        found = dict(session.measure_edits(text, edits))
    assert same(model, before)
    assert found.keys() == set(edits)
    for edit, losses in found.items():
        candidate, factor = edit.changes[0]
        if candidate.kind == "weight" or factor == 3.0:
            continue
        with scale_dimension(model, candidate.parameter, candidate.index, factor=factor, axis=candidate.axis):
            expected = measure(model, task)
        assert losses.mean_nll() == pytest.approx(expected.mean_nll(), rel=1e-5)
    assert (session.num_shortened > 0) == (reuse == "auto")


def test_shortened_passes_give_the_same_bits(model: Any, task: Any) -> None:
    """Every loss of every edit, and about half of the passes are shortened."""
    tensors, text = Tensors.of(model), PreparedText(model, task)
    edits = [Edit.of(one, 0.0) for one in some(tensors)]
    found = []
    for reuse in ("auto", "off"):
        with Session(model, tensors, reuse=reuse) as session:  # type: ignore[arg-type]
            session.measure(text)
            found.append(dict(session.measure_edits(text, edits)))
        assert all("forward" not in vars(module) for module in model.modules())
    for edit in edits:
        for language, sums in found[0][edit].nll_sums.items():
            assert np.array_equal(sums, found[1][edit].nll_sums[language])


def test_layers_that_look_below_are_run_as_a_whole(llama: Any, tokenizer: Any, texts: Any) -> None:
    """A model whose last layer reads something that a lower one left behind is measured by whole passes."""
    left: list[torch.Tensor] = []
    first, last = llama.model.layers
    first.mlp.register_forward_hook(lambda _module, _inputs, output: left.append(output))
    last.register_forward_hook(lambda _module, _inputs, output: output + left.pop() if left else output)
    tensors = Tensors.of(llama)
    inside = [one for one in some(tensors) if tensors.layer(one.parameter) == 1]
    text = PreparedText(llama, prepare_scoring(llama, tokenizer, texts, block_size=32, max_tokens=60))
    with Session(llama, tensors) as session:
        session.measure(text)
        found = dict(session.measure_edits(text, [Edit.of(one, 0.0) for one in inside]))
    shortened = session.num_shortened
    with Session(llama, tensors, reuse="off") as session:
        session.measure(text)
        expected = dict(session.measure_edits(text, found))
    assert all(found[edit].mean_nll() == expected[edit].mean_nll() for edit in found)
    assert shortened <= 2


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_every_bit_comes_back_whatever_happens(model: Any, task: Any, error: type[BaseException]) -> None:
    """In the middle of an edit, in the middle of a joint one, and between edits; the model says that it is under an edit."""
    tensors, text = Tensors.of(model), PreparedText(model, task)
    before = bits(model)
    joint = Edit(tuple((one, 7.0) for one in some(tensors)))
    with pytest.raises(error), Session(model, tensors) as session, session.written(joint):  # noqa: PT012
        assert not same(model, before)
        assert alterations(model)
        raise error
    assert same(model, before)
    assert not alterations(model)
    edits = [Edit.of(one, 0.0) for one in some(tensors)]
    with pytest.raises(error), Session(model, tensors) as session:  # noqa: PT012
        session.measure(text)
        for number, _ in enumerate(session.measure_edits(text, edits)):
            if number == len(edits) - 1:
                raise error
    assert same(model, before)
    assert all("forward" not in vars(module) for module in model.modules())


def test_overlapping_places_are_restored(model: Any, task: Any) -> None:
    """A weight, its row and its column in one edit."""
    tensors, text = Tensors.of(model), PreparedText(model, task)
    name = next(iter(tensors.matrices))
    before = bits(model)
    places = [
        slice_candidate(name, "weight", (1, 2), "given"),
        slice_candidate(name, "row", (1,), "given"),
        slice_candidate(name, "column", (2,), "given"),
    ]
    with Session(model, tensors) as session, session.written(Edit(tuple((one, 2.0) for one in places))):
        values = tensors.matrices[name].values()
        old = before[name].view(torch.float32)
        old = old.T if tensors.matrices[name].is_transposed else old
        assert values[1, 2] == pytest.approx(8 * float(old[1, 2]))
        assert values[1, 3] == pytest.approx(2 * float(old[1, 3]))
        session.measure(text)
    assert same(model, before)


def test_adapters_are_part_of_the_weights(llama: Any, tokenizer: Any, texts: Any) -> None:
    """With an active adapter the effective weights are edited, and the adapter comes out again bit for bit."""
    from peft import LoraConfig, get_peft_model

    wrapped = get_peft_model(llama, LoraConfig(target_modules=["down_proj"], init_lora_weights=False)).eval()
    task = prepare_scoring(wrapped, tokenizer, texts, block_size=32, max_tokens=60)
    before = bits(wrapped)
    tensors, text = Tensors.of(wrapped), PreparedText(wrapped, task)
    row = slice_candidate("model.layers.1.mlp.down_proj.weight", "row", (4,), "given")
    with Session(wrapped, tensors) as session:
        base = session.measure(text)
        ((_, found),) = session.measure_edits(text, [Edit.of(row, 0.0)])
    assert same(wrapped, before)
    assert base.mean_nll() == pytest.approx(measure(wrapped, task).mean_nll(), rel=1e-4)
    with scale_dimension(wrapped, row.parameter, 4, factor=0.0, axis=0):
        assert found.mean_nll() == pytest.approx(measure(wrapped, task).mean_nll(), rel=1e-4)


def test_reuse_is_auto_or_off(llama: Any) -> None:
    """Anything else is named."""
    with pytest.raises(InputError, match="'always'"):
        Session(llama, Tensors.of(llama), reuse="always")  # type: ignore[arg-type]
