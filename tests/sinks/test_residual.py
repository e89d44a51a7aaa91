"""The residual stream is seen with its tokens, and left alone afterwards."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from hf_langcore.data import Window
from hf_langcore.errors import InputError, UnsupportedModelError
from hf_langcore.evaluation import prepare_scoring
from hf_langcore.sinks.residual import Batch, decoder_layers, hidden_width, observe, watching, windows_of

WINDOWS = [Window((1, 5, 9, 40), 1), Window((1, 30), 1)]


def test_layers_are_those_of_the_stack(llama: Any, gpt2: Any) -> None:
    assert decoder_layers(llama) == list(llama.model.layers)
    assert decoder_layers(gpt2) == list(gpt2.transformer.h)


def test_layers_of_a_wrapped_model(llama: Any) -> None:
    from peft import LoraConfig, get_peft_model

    layers = list(llama.model.layers)
    assert decoder_layers(get_peft_model(llama, LoraConfig(target_modules=["q_proj"]))) == layers


def test_every_layer_is_seen_with_the_tokens_of_its_batch(model: Any) -> None:
    seen: list[tuple[int, tuple[int, ...], list[list[int]], list[list[bool]]]] = []
    observe(
        model,
        WINDOWS,
        lambda layer, hidden, batch: seen.append(
            (layer, tuple(hidden.shape), batch.ids.tolist(), batch.present.tolist())
        ),
        2,
    )
    ids, present = [[1, 5, 9, 40], [1, 30, 1, 1]], [[True] * 4, [True, True, False, False]]
    assert seen == [(0, (2, 4, 32), ids, present), (1, (2, 4, 32), ids, present)]


def test_what_is_seen_is_float32_whatever_the_model_is(llama: Any) -> None:
    dtypes = set()
    observe(llama.to(torch.bfloat16), WINDOWS, lambda _layer, hidden, _batch: dtypes.add(hidden.dtype), 1)
    assert dtypes == {torch.float32}


def test_what_is_given_back_replaces_the_hidden_states(model: Any) -> None:
    ids = torch.tensor([[1, 5, 9]])
    with torch.no_grad():
        plain = model(input_ids=ids).logits
        with watching(model, lambda layer, hidden, _batch: hidden * 0 if layer == 1 else None):
            changed = model(ids).logits
        after = model(input_ids=ids).logits
    assert torch.allclose(changed[0, 0], changed[0, 2], atol=1e-6)
    assert not torch.allclose(plain, changed)
    assert torch.equal(plain, after)


def test_no_hook_is_left_where_the_body_raises(llama: Any) -> None:
    with pytest.raises(KeyboardInterrupt), watching(llama, lambda *_: None):
        raise KeyboardInterrupt
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in llama.modules())


def test_the_start_is_the_first_token_that_is_no_padding() -> None:
    ids = torch.tensor([[1, 2, 3], [0, 1, 2]])
    batch = Batch(ids, torch.tensor([[1, 1, 1], [0, 1, 1]]), continues=False)
    assert batch.starts.tolist() == [[True, False, False], [False, True, False]]
    assert not Batch(ids, None, continues=True).starts.any()


def test_prefixes_are_the_same_for_the_same_text_and_differ_elsewhere() -> None:
    present = torch.tensor([[1, 1, 1], [0, 1, 1], [1, 1, 1]])
    batch = Batch(torch.tensor([[1, 2, 3], [0, 1, 2], [2, 1, 3]]), present, continues=False)
    one, padded, other = batch.prefixes()
    assert one[:2] == padded[1:]
    assert not set(one) & set(other)
    assert len(set(one)) == 3


def test_width_and_windows(llama: Any, tokenizer: Any, texts: Any) -> None:
    task = prepare_scoring(llama, tokenizer, texts, block_size=32)
    assert hidden_width(llama, task) == 32
    assert windows_of(task) == [*task.windows["en"], *task.windows["de"]]
    with pytest.raises(InputError, match="no texts to look at"):
        windows_of([])


def test_embeddings_instead_of_tokens_are_refused(llama: Any) -> None:
    with watching(llama, lambda *_: None), pytest.raises(UnsupportedModelError, match="without input_ids"):
        llama(inputs_embeds=torch.zeros(1, 2, 32))
