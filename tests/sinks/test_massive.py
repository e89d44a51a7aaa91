"""Massive activations are planted where a token meets a row of a matrix, found there, held, and let go."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from hf_langcore.data import Window
from hf_langcore.errors import InputError, UnsupportedModelError
from hf_langcore.evaluation import prepare_scoring, window_losses
from hf_langcore.modes import alterations
from hf_langcore.sinks.massive import (
    Activations,
    MassiveActivation,
    dimensions_by_layer,
    find_massive_activations,
    mean_activations,
    measure_activations,
    zero_activations,
)
from hf_langcore.sinks.residual import decoder_layers

DIMENSION, START, DELIMITER = 11, 1, 40
WINDOWS = [Window((START, 5, 9, DELIMITER, 7, 8), 1), Window((START, 30, 31), 1), Window((START, 12, DELIMITER, 3), 1)]


def plant(model: Any, tokens: tuple[int, ...] = (START,), *, size: float = 400.0, layer: int = 0) -> None:
    """A bias-like addition behind one layer, at the tokens that stand in `tokens`."""
    seen: list[torch.Tensor] = []
    model.register_forward_pre_hook(lambda _m, _a, options: seen.append(options["input_ids"]), with_kwargs=True)

    def add(_module: Any, _inputs: Any, output: Any) -> Any:
        hidden = (output[0] if isinstance(output, tuple) else output).clone()
        there = torch.isin(seen[-1], torch.tensor(tokens))
        hidden[..., DIMENSION] += size * there
        return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

    decoder_layers(model)[layer].register_forward_hook(add)


def hidden_states(model: Any, window: Window) -> list[torch.Tensor]:
    kept: list[torch.Tensor] = []
    handles = [
        layer.register_forward_hook(lambda _m, _i, out: kept.append(out[0] if isinstance(out, tuple) else out))
        for layer in decoder_layers(model)
    ]
    with torch.no_grad():
        model(input_ids=torch.tensor([window.ids]))
    for handle in handles:
        handle.remove()
    return kept


def test_nothing_is_massive_in_an_untrained_model(model: Any, tokenizer: Any, texts: Any) -> None:
    task = prepare_scoring(model, tokenizer, texts, block_size=32)
    assert find_massive_activations(model, task) == []


def test_a_planted_activation_is_found_with_its_size_and_place(model: Any) -> None:
    plant(model)
    found = find_massive_activations(model, WINDOWS, batch_size=2)
    assert dimensions_by_layer(found) == {0: (DIMENSION,), 1: (DIMENSION,)}
    first = next(one for one in found if one.layer == 0)
    states = [hidden_states(model, window)[0][0] for window in WINDOWS]
    largest = max(float(state[0, DIMENSION]) for state in states)
    assert first.largest == pytest.approx(largest, rel=1e-4)
    medians = [float(state.abs().median()) for state in states]
    assert min(medians) * 0.99 <= first.median <= max(medians) * 1.01
    assert first.ratio == pytest.approx(first.largest / first.median)
    assert (first.positions, first.start_positions, first.start_share) == (3, 3, 1.0)


def test_each_window_is_held_against_its_own_median_whatever_batch_it_is_in(llama: Any) -> None:
    plant(llama)
    alone = find_massive_activations(llama, WINDOWS, batch_size=1)
    together = find_massive_activations(llama, WINDOWS, batch_size=3)
    assert [(one.layer, one.dimension, one.positions) for one in alone] == [
        (one.layer, one.dimension, one.positions) for one in together
    ]
    assert [one.median for one in alone] == pytest.approx([one.median for one in together], rel=1e-4)


def test_delimiters_count_beside_the_start(llama: Any) -> None:
    plant(llama, (START, DELIMITER), size=-400.0)
    first = find_massive_activations(llama, WINDOWS)[0]
    assert first.largest < -350
    assert (first.positions, first.start_positions) == (5, 3)
    assert first.start_share == pytest.approx(0.6)


def test_negative_values_keep_their_sign_and_the_largest_ratio_comes_first(llama: Any) -> None:
    plant(llama, size=-300.0)
    plant(llama, size=3000.0, layer=1)
    found = find_massive_activations(llama, WINDOWS)
    assert [(one.layer, one.largest > 0) for one in found] == [(1, True), (0, False)]


def test_thresholds_decide(llama: Any) -> None:
    plant(llama, size=90.0)
    found = find_massive_activations(llama, WINDOWS, ratio=30)
    assert {one.dimension for one in found} == {DIMENSION}
    assert not any(one.is_massive_as_published for one in found)
    assert find_massive_activations(llama, WINDOWS, ratio=30, magnitude=200) == []
    assert find_massive_activations(llama, WINDOWS, ratio=100_000) == []


@pytest.mark.parametrize(
    ("largest", "median", "expected"),
    [(150.0, 0.1, True), (-150.0, 0.1, True), (90.0, 0.01, False), (150.0, 0.2, False)],
)
def test_the_published_definition_needs_both_thresholds(largest: float, median: float, expected: bool) -> None:
    assert MassiveActivation(0, 1, largest, median, 1, 1).is_massive_as_published is expected


def test_the_means_of_starts_and_others_are_kept_apart(llama: Any) -> None:
    plant(llama, (START, DELIMITER))
    noted = measure_activations(llama, WINDOWS, {0: [DIMENSION]})
    states = [hidden_states(llama, window)[0][0][:, DIMENSION] for window in WINDOWS]
    starts = [float(state[0]) for state in states]
    others = [float(states[0][3]), float(states[2][2])]
    assert noted.start_means[0][0] == pytest.approx(sum(starts) / 3, rel=1e-5)
    assert noted.other_means[0][0] == pytest.approx(sum(others) / 2, rel=1e-5)
    assert (noted.width, noted.union) == (32, (DIMENSION,))


@pytest.mark.parametrize("positions", ["massive", "start", "all"])
def test_zero_and_mean_hold_exactly_the_positions_that_were_noted(model: Any, positions: Any) -> None:
    plant(model, (START, DELIMITER))
    noted = measure_activations(model, WINDOWS, {0: [DIMENSION]}, positions=positions)
    before = hidden_states(model, WINDOWS[0])[0][0]
    where = {"massive": [0, 3], "start": [0], "all": [0, 1, 2, 3, 4, 5]}[positions]
    for context, starts, others in (
        (zero_activations, 0.0, 0.0),
        (mean_activations, noted.start_means[0][0], noted.other_means[0][0]),
    ):
        with context(model, noted):
            held = hidden_states(model, WINDOWS[0])[0][0]
        expected = before.clone()
        expected[where, DIMENSION] = torch.tensor([starts if place == 0 else others for place in where])
        assert torch.allclose(held, expected, rtol=1e-6, atol=1e-6)


def test_padding_does_not_move_what_is_held(llama: Any) -> None:
    plant(llama, (START, DELIMITER))
    noted = measure_activations(llama, WINDOWS, {0: [DIMENSION]})
    with zero_activations(llama, noted):
        alone = window_losses(llama, WINDOWS, pad_id=0, batch_size=1)
        together = window_losses(llama, WINDOWS, pad_id=0, batch_size=3)
    for one, other in zip(alone, together, strict=True):
        assert torch.allclose(one, other, atol=1e-4)


def test_left_padding_moves_the_start(llama: Any) -> None:
    plant(llama, (START,))
    noted = measure_activations(llama, WINDOWS, {0: [DIMENSION]})
    kept: list[torch.Tensor] = []
    with zero_activations(llama, noted):
        handle = decoder_layers(llama)[0].register_forward_hook(lambda _m, _i, out: kept.append(out))
        with torch.no_grad():
            llama(
                input_ids=torch.tensor([[0, 0, START, 30, 31]]),
                attention_mask=torch.tensor([[0, 0, 1, 1, 1]]),
            )
        handle.remove()
    assert kept[0][0, 2, DIMENSION] == 0.0
    assert kept[0][0, 3, DIMENSION] != 0.0


def test_everything_is_as_before_once_the_context_is_closed(model: Any) -> None:
    plant(model)
    noted = measure_activations(model, WINDOWS, {0: [DIMENSION]})
    before = hidden_states(model, WINDOWS[0])

    def interrupted() -> None:
        with mean_activations(model, noted):
            assert alterations(model) == [f"mean: activations {DIMENSION} behind 1 layer, massive"]
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert alterations(model) == []
    for one, other in zip(before, hidden_states(model, WINDOWS[0]), strict=True):
        assert torch.equal(one, other)


def test_other_texts_share_the_start_token_and_nothing_else(llama: Any) -> None:
    plant(llama, (START, DELIMITER))
    noted = measure_activations(llama, WINDOWS, {0: [DIMENSION]})
    with zero_activations(llama, noted):
        held = hidden_states(llama, Window((START, 99, DELIMITER), 1))[0][0]
    assert held[0, DIMENSION] == 0.0
    assert held[2, DIMENSION] > 350


def test_generation_with_a_cache_is_held_at_its_prompt(llama: Any) -> None:
    plant(llama)
    noted = measure_activations(llama, WINDOWS, {0: [DIMENSION]})
    kept: list[torch.Tensor] = []
    with zero_activations(llama, noted):
        handle = decoder_layers(llama)[0].register_forward_hook(lambda _m, _i, out: kept.append(out.clone()))
        llama.generate(torch.tensor([[START, 30]]), attention_mask=torch.ones(1, 2), max_new_tokens=3, do_sample=False)
        handle.remove()
    assert [one.shape[1] for one in kept] == [2, 1, 1]
    assert kept[0][0, 0, DIMENSION] == 0.0
    assert all(one[0, 0, DIMENSION] != 0.0 for one in kept[1:])


def test_dimensions_that_are_never_massive_are_left_alone(llama: Any) -> None:
    noted = measure_activations(llama, WINDOWS, {1: [3]})
    assert (noted.start_means, noted.other_means, noted.prefixes) == ({1: (None,)}, {1: (None,)}, {})
    before = hidden_states(llama, WINDOWS[0])
    with mean_activations(llama, noted):
        held = hidden_states(llama, WINDOWS[0])
    assert all(torch.equal(one, other) for one, other in zip(before, held, strict=True))


def test_models_in_bfloat16_and_wrapped_ones_are_looked_at(llama: Any) -> None:
    from peft import LoraConfig, get_peft_model

    plant(llama)
    wrapped = get_peft_model(llama.to(torch.bfloat16), LoraConfig(target_modules=["q_proj"], task_type="CAUSAL_LM"))
    found = find_massive_activations(wrapped, WINDOWS)
    assert dimensions_by_layer(found) == {0: (DIMENSION,), 1: (DIMENSION,)}
    noted = measure_activations(wrapped, WINDOWS, dimensions_by_layer(found))
    with zero_activations(wrapped, noted):
        assert find_massive_activations(wrapped, WINDOWS) == []
        assert len(alterations(llama)) == 1


def test_a_stack_of_experts_is_looked_at() -> None:
    from transformers import MixtralConfig, MixtralForCausalLM

    torch.manual_seed(0)
    config = MixtralConfig(
        vocab_size=120, hidden_size=32, intermediate_size=16, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, num_local_experts=3, num_experts_per_tok=2, pad_token_id=0,
    )  # fmt: skip
    mixtral = MixtralForCausalLM(config).eval()
    assert find_massive_activations(mixtral, WINDOWS) == []
    plant(mixtral, size=3000.0)
    assert dimensions_by_layer(find_massive_activations(mixtral, WINDOWS))[0] == (DIMENSION,)


@pytest.mark.parametrize(
    ("options", "words"), [({"ratio": 1.0}, "ratio must be above 1"), ({"magnitude": -1.0}, "at least 0")]
)
def test_senseless_thresholds_are_refused(llama: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        find_massive_activations(llama, WINDOWS, **options)
    with pytest.raises(InputError, match=words):
        measure_activations(llama, WINDOWS, {0: [1]}, **options)


@pytest.mark.parametrize(
    ("dimensions", "words"),
    [({2: [1]}, "layers 0 to 1"), ({}, "at least one layer"), ({0: [32]}, "0 to 31"), ({0: [-1]}, "0 to 31")],
)
def test_what_the_model_does_not_have_is_refused(llama: Any, dimensions: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        measure_activations(llama, WINDOWS, dimensions)


def test_no_texts_unknown_positions_and_embeddings_are_refused(llama: Any) -> None:
    with pytest.raises(InputError, match="no texts"):
        find_massive_activations(llama, [])
    with pytest.raises(InputError, match="positions must be one of"):
        measure_activations(llama, WINDOWS, {0: [1]}, positions="delimiters")  # type: ignore[arg-type]
    noted = Activations({0: (1,)}, 32, "start", {0: (1.0,)}, {0: (None,)}, {})
    with zero_activations(llama, noted), pytest.raises(UnsupportedModelError, match="without input_ids"):
        llama(inputs_embeds=torch.zeros(1, 2, 32))
    assert not llama._forward_pre_hooks
