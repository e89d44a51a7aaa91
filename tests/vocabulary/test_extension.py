"""A model and its tokenizer, extended together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, T5Config, T5ForConditionalGeneration

from hf_langcore.editing import perturb
from hf_langcore.errors import CorpusError, InputError, UnsupportedModelError
from hf_langcore.mask_builder import freeze_mask
from hf_langcore.vocabulary import extend_vocabulary, learn_tokens


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_old_weights_keep_every_bit(
    make_model: Any, make_tokenizer: Any, chinese: list[str], tmp_path: Path, *, tied: bool, dtype: torch.dtype
) -> None:
    """New rows are the means of their pieces, padding is the mean of all, and all of it survives saving."""
    model, old = make_model(300, tie_word_embeddings=tied).to(dtype), make_tokenizer("byte level")
    before = {name: one.clone() for name, one in model.state_dict().items()}
    same, tokenizer, done = extend_vocabulary(model, old, chinese, num_tokens=10, pad_to_multiple_of=8)
    assert same is model
    assert (done.rows_before, done.rows_after, done.first_id, done.num_merges) == (300, 312, 300, 10)
    assert done.is_tied is tied
    assert (model.lm_head.weight is model.model.embed_tokens.weight) is tied
    for name, one in model.state_dict().items():
        assert torch.equal(one[:300] if name in {"lm_head.weight", "model.embed_tokens.weight"} else one, before[name])
    pieces = old.convert_tokens_to_ids([*done.tokens[0]])
    for table in (model.lm_head.weight, model.model.embed_tokens.weight):
        assert table.requires_grad
        known = table[:300].detach().float()
        assert torch.equal(table[300], known[pieces].mean(dim=0).to(dtype))
        assert torch.equal(table[310:], known.mean(dim=0).to(dtype).expand(2, -1))
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    again, tokens = AutoModelForCausalLM.from_pretrained(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    ids = tokens(chinese[0], return_tensors="pt", add_special_tokens=False)["input_ids"]
    assert ids.shape[1] < len(old(chinese[0], add_special_tokens=False)["input_ids"])
    assert int(ids.max()) >= 300
    saved = again.state_dict()
    assert all(torch.equal(saved[name], one) for name, one in model.state_dict().items())


@pytest.mark.parametrize(("initialisation", "expected"), [("zero", 0.0), ("mean", None), ("normal", None)])
def test_initialisations(
    make_model: Any, make_tokenizer: Any, chinese: list[str], initialisation: Any, expected: Any
) -> None:
    model, _, done = extend_vocabulary(
        make_model(300), make_tokenizer("byte level"), chinese, num_tokens=5, initialisation=initialisation
    )
    rows, centre = model.lm_head.weight[300:], model.lm_head.weight[:300].mean(dim=0)
    assert done.initialisation == initialisation
    if expected is not None:
        assert bool((rows == expected).all())
    else:
        assert torch.allclose(rows, centre.expand(5, -1), atol=1e-6) is (initialisation == "mean")


def test_a_head_with_a_bias_and_spare_rows(make_model: Any, make_tokenizer: Any, chinese: list[str]) -> None:
    """The bias goes with the row; rows that a model has to spare are taken, and those behind them become padding."""
    model = make_model(304, tie_word_embeddings=False)
    model.lm_head = torch.nn.Linear(16, 304)
    before = model.lm_head.bias.detach().clone()
    old = make_tokenizer("byte level")
    _, _, done = extend_vocabulary(model, old, chinese, num_tokens=3)
    assert (done.first_id, done.rows_after) == (300, 304)
    pieces = old.convert_tokens_to_ids([*done.tokens[0]])
    assert torch.allclose(model.lm_head.bias[300], before[pieces].mean())
    assert torch.equal(model.lm_head.bias[:300], before[:300])
    _, _, done = extend_vocabulary(model, old, chinese, num_tokens=9)
    assert done.rows_after == 309
    assert torch.allclose(model.lm_head.bias[300], before[pieces].mean())


def test_lengths_by_language(make_model: Any, make_tokenizer: Any, chinese: list[str], english: list[str]) -> None:
    """The language becomes shorter, the other stays."""
    texts = {"zh": chinese, "en": english}
    _, _, done = extend_vocabulary(
        make_model(300), make_tokenizer("byte level"), chinese, num_tokens=10, measure_on=texts
    )
    found = done.tokens_per_byte
    assert found["zh"][0] == 1.0
    assert found["zh"][1] < 0.8
    assert found["en"][0] == found["en"][1]
    assert done.after["zh"].identical == done.after["zh"].texts == len(chinese)
    assert done.to_dict()["after"]["zh"]["tokens"] == done.after["zh"].tokens


def test_a_core_mask_still_fits(make_model: Any, make_tokenizer: Any, chinese: list[str]) -> None:
    """Cores lie in the layers, and these have not changed."""
    model = make_model(300)
    tokenizer = make_tokenizer("byte level")
    mask = freeze_mask(model, layers=[1])
    with perturb(model, mask), pytest.raises(InputError, match="has been edited"):
        extend_vocabulary(model, tokenizer, chinese, num_tokens=4)
    extend_vocabulary(model, tokenizer, chinese, num_tokens=4)
    with perturb(model, mask):
        assert bool((model.model.layers[1].self_attn.q_proj.weight == 0).all())


def test_encoder_decoders(make_tokenizer: Any, chinese: list[str]) -> None:
    """T5's embeddings are shared by both halves."""
    shape = {"d_model": 16, "d_kv": 4, "d_ff": 24, "num_layers": 1, "num_heads": 2, "decoder_start_token_id": 0}
    model = T5ForConditionalGeneration(T5Config(vocab_size=300, **shape))
    extend_vocabulary(model, make_tokenizer("byte level"), chinese, num_tokens=6)
    assert len(model.encoder.embed_tokens.weight) == len(model.decoder.embed_tokens.weight) == 306
    ids = torch.tensor([[305, 301]])
    assert model(input_ids=ids, labels=ids).logits.shape[-1] == 306


def test_refusals_change_nothing(make_model: Any, make_tokenizer: Any, chinese: list[str]) -> None:
    """One clear error for each."""
    model, tokenizer = make_model(300), make_tokenizer("byte level")
    wrong: list[tuple[Any, Any, Any, dict[str, Any], type[Exception], str]] = [
        (model, tokenizer, chinese, {"initialisation": "ones"}, InputError, "initialisation must be"),
        (model, tokenizer, chinese, {"num_tokens": 9_999}, CorpusError, "fewer"),
        (model, tokenizer, chinese, {"pad_to_multiple_of": 0}, InputError, "pad_to_multiple_of"),
        (model, tokenizer, [], {}, CorpusError, "empty|no text"),
        (model, tokenizer, {"zh": chinese}, {}, CorpusError, "one language"),
        (model, tokenizer, chinese, {"measure_on": {"en": [""]}}, CorpusError, "empty"),
        (model, object(), chinese, {}, UnsupportedModelError, "not a fast tokenizer"),
        (make_model(200), tokenizer, chinese, {}, InputError, "do not belong together"),
        (torch.nn.Linear(2, 2), tokenizer, chinese, {}, UnsupportedModelError, "no resize_token_embeddings"),
        (make_model(300).to("meta"), tokenizer, chinese, {}, UnsupportedModelError, "quantised or hold no values"),
    ]
    for one, its, texts, options, error, message in wrong:
        with pytest.raises(error, match=message):
            extend_vocabulary(one, its, texts, **{"num_tokens": 5, **options})
    assert len(model.lm_head.weight) == 300
    assert len(tokenizer) == 300


def test_adapters_are_refused(make_model: Any, make_tokenizer: Any, chinese: list[str]) -> None:
    """They have layers of the old size, whether the wrapper is given or what it wraps."""
    from peft import LoraConfig, get_peft_model

    adapted = get_peft_model(make_model(300), LoraConfig(target_modules=["q_proj"]))
    for one in (adapted, adapted.base_model.model):
        with pytest.raises(UnsupportedModelError, match="adapters"):
            extend_vocabulary(one, make_tokenizer("byte level"), chinese, num_tokens=5)


def test_learned_tokens_serve_many_models(make_model: Any, make_tokenizer: Any, chinese: list[str]) -> None:
    """What was learned once is given rows in any copy."""
    from hf_langcore.vocabulary import add_rows

    learned = learn_tokens(make_tokenizer("byte level"), chinese, num_tokens=4)
    first, second = make_model(300), make_model(300)
    add_rows(first, learned)
    add_rows(second, learned, initialisation="normal", seed=1)
    assert torch.equal(first.lm_head.weight[:300], second.lm_head.weight[:300])
    assert not torch.equal(first.lm_head.weight[300:], second.lm_head.weight[300:])
