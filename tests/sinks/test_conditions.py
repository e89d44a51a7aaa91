"""What each condition does to the weights and to the hidden states."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch

from hf_langcore.architecture import bare_weights
from hf_langcore.editing import perturb
from hf_langcore.errors import InputError
from hf_langcore.evaluation import ScoringTask, prepare_scoring
from hf_langcore.masks import CoreMask
from hf_langcore.modes import alterations
from hf_langcore.sinks import rows as names
from hf_langcore.sinks.conditions import (
    NEED_SINK,
    controls_of,
    edits_of,
    find_sink,
    nearest_outliers,
    why_nothing,
)
from hf_langcore.sinks.massive import find_massive_activations

DIMENSION, SETTINGS = 6, (100.0, 0.0, "auto")
GATE, DOWN = "model.layers.1.mlp.gate_proj.weight", "model.layers.1.mlp.down_proj.weight"


@pytest.fixture
def task(llama: Any, tokenizer: Any, texts: Any) -> ScoringTask:
    return prepare_scoring(llama, tokenizer, texts, block_size=32)


@pytest.fixture
def core_mask(llama: Any) -> CoreMask:
    generator = torch.Generator().manual_seed(0)
    shapes = {name: bare_weights(llama)[name].shape for name in (GATE, DOWN)}
    return CoreMask({name: torch.rand(shape, generator=generator) < 0.3 for name, shape in shapes.items()})


def plant(llama: Any) -> None:
    with torch.no_grad():
        llama.get_input_embeddings().weight[1, DIMENSION] = 900.0  # the start token


def test_without_massive_activations_there_is_no_sink(llama: Any, task: ScoringTask, core_mask: CoreMask) -> None:
    assert find_sink(llama, task, core_mask, [], None, SETTINGS) is None
    edits = edits_of(llama, core_mask, None, partial(perturb, llama))
    assert not set(edits) & set(NEED_SINK)
    nearest = nearest_outliers(llama, task)
    assert [one.ratio for one in nearest] == sorted((one.ratio for one in nearest), reverse=True)
    assert len({one.dimension for one in nearest}) == len(nearest)
    words = why_nothing(llama, task, 100.0, "auto")
    assert f"the largest is {nearest[0].ratio:.0f} times the median" in words
    assert f"dimensions={[one.dimension for one in nearest[:3]]}" in words


def test_the_sink_parts_the_core_by_rows_and_columns(llama: Any, task: ScoringTask, core_mask: CoreMask) -> None:
    plant(llama)
    sink = find_sink(llama, task, core_mask, find_massive_activations(llama, task), None, SETTINGS)
    assert (sink.dimensions, sink.positions) == ((DIMENSION,), "massive")
    assert sink.part[GATE].any(0).nonzero().view(-1).tolist() == [DIMENSION]
    assert sink.part[DOWN].any(1).nonzero().view(-1).tolist() == [DIMENSION]
    assert sink.part | sink.rest == core_mask
    assert (sink.part & sink.rest).count() == 0
    edits = edits_of(llama, core_mask, sink, partial(perturb, llama))
    assert set(edits) == {*NEED_SINK, names.CORE_MEAN}


def test_what_was_asked_for_is_taken_where_it_is_massive(llama: Any, task: ScoringTask, core_mask: CoreMask) -> None:
    plant(llama)
    massive = find_massive_activations(llama, task)
    both = find_sink(llama, task, core_mask, massive, [20, DIMENSION], SETTINGS)
    assert (both.dimensions, both.positions) == ((DIMENSION, 20), "massive")
    assert both.activations().union == (DIMENSION,)
    other = find_sink(llama, task, core_mask, massive, [20], SETTINGS)
    assert (other.positions, other.activations().dimensions) == ("all", {0: (20,), 1: (20,)})
    with pytest.raises(InputError, match="dimensions is empty"):
        find_sink(llama, task, core_mask, massive, [], SETTINGS)


@pytest.mark.parametrize("condition", [names.CORE_MEAN, *NEED_SINK])
def test_every_condition_is_open_while_it_is_and_leaves_nothing(
    llama: Any, task: ScoringTask, core_mask: CoreMask, condition: str
) -> None:
    plant(llama)
    sink = find_sink(llama, task, core_mask, find_massive_activations(llama, task), None, SETTINGS)
    weights, edit = edits_of(llama, core_mask, sink, partial(perturb, llama))[condition]
    before = {name: bare_weights(llama)[name].parameter.detach().clone() for name in (GATE, DOWN)}
    clean = sink.activations()
    with edit():
        assert alterations(llama)
        changed = sum(int((bare_weights(llama)[name].parameter != value).sum()) for name, value in before.items())
    assert changed == weights
    assert alterations(llama) == []
    assert all(torch.equal(bare_weights(llama)[name].parameter, value) for name, value in before.items())
    assert sink.activations() is clean


def test_the_mean_that_is_held_is_that_of_the_unedited_model(
    llama: Any, task: ScoringTask, core_mask: CoreMask
) -> None:
    plant(llama)
    massive = find_massive_activations(llama, task)
    sink = find_sink(llama, task, core_mask, massive, None, SETTINGS)
    _, held = edits_of(llama, core_mask, sink, partial(perturb, llama))[names.HELD]
    with held():
        pass  # measured when it was first needed, before the core was edited
    fresh = find_sink(llama, task, core_mask, massive, None, SETTINGS)
    assert sink.activations().start_means == fresh.activations().start_means


def test_controls_differ_by_what_they_share(llama: Any, core_mask: CoreMask) -> None:
    drawn = {name: draw(1) for name, draw in controls_of(llama, core_mask).items()}
    assert tuple(drawn) == names.CONTROLS
    for matched in drawn.values():
        assert [matched.core_mask.count(name) for name in core_mask] == [core_mask.count(name) for name in core_mask]
    sums = {name: torch.equal(one.core_mask[GATE].sum(0), core_mask[GATE].sum(0)) for name, one in drawn.items()}
    assert sums == {names.RANDOM: False, names.MAGNITUDE: False, names.PROFILE: True, names.BOTH: True}
    assert drawn[names.RANDOM].core_mask == core_mask.random_like(seed=1)
    assert 0.2 < drawn[names.RANDOM].overlap < 0.4
