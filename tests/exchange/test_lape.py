from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hf_langcore.errors import (
    ConfigurationError,
    CoreMaskFormatError,
    CoreMaskMismatchError,
    InputError,
    UnsupportedModelError,
)
from hf_langcore.exchange import import_core_mask
from hf_langcore.masks import CoreMask

Save = Callable[..., Path]
LANGUAGES = [[[1, 5], []], [[0, 47], [5, 7]], [[], [3]]]  # three languages, two layers


def tensors(numbers: Any) -> list[list[torch.Tensor]]:
    return [[torch.tensor(one, dtype=torch.int64) for one in layers] for layers in numbers]


def expected(model: Any, layers: list[list[int]]) -> dict[str, torch.Tensor]:
    """Written down for Llama: rows of gate and up, columns of down."""
    planes = {}
    for index, neurons in enumerate(layers):
        for role in ("gate_proj", "up_proj", "down_proj"):
            name = f"model.layers.{index}.mlp.{role}.weight"
            planes[name] = torch.zeros(model.get_parameter(name).shape, dtype=torch.bool)
            plane = planes[name].t() if role == "down_proj" else planes[name]
            plane[neurons] = True
    return planes


@pytest.mark.parametrize("language", [0, 1, 2])
def test_one_language(language: int, saved: Save, llama: Any) -> None:
    mask = import_core_mask(saved(tensors(LANGUAGES)), llama, language=language)
    assert mask == CoreMask(expected(llama, LANGUAGES[language]))
    assert mask.provenance.operation == f"imported lape neurons, language {language}, from 'foreign.pth'"


def test_languages_by_code(saved: Save, llama: Any) -> None:
    path = saved(tensors(LANGUAGES))
    mask = import_core_mask(path, llama, language="zh", languages=["en", "zh", "fr"])
    assert mask == import_core_mask(path, llama, language=1)
    assert "language zh" in str(mask.provenance.operation)
    named = saved(dict(zip(["en", "zh", "fr"], tensors(LANGUAGES), strict=True)), "named.pth")
    assert import_core_mask(named, llama, language="zh") == mask
    with pytest.raises(ConfigurationError, match="names its languages itself"):
        import_core_mask(named, llama, language="zh", languages=["en", "zh", "fr"])


def test_all_languages(saved: Save, llama: Any) -> None:
    path = saved(tensors(LANGUAGES))
    every = import_core_mask(path, llama)
    one, two, three = (import_core_mask(path, llama, language=index) for index in range(3))
    assert every == one | two | three
    assert "all 3 languages" in str(every.provenance.operation)


def test_parts(saved: Save, llama: Any) -> None:
    path = saved(tensors(LANGUAGES))
    rows = import_core_mask(path, llama, language=1, parts="rows")
    columns = import_core_mask(path, llama, language=1, parts=["columns"])
    assert all("down_proj" not in name for name in rows)
    assert all("down_proj" in name for name in columns)
    assert (rows.count(), columns.count()) == (4 * 2 * 32, 4 * 32)
    both = import_core_mask(path, llama, language=1)
    assert both.restricted_to(set(rows)) == rows
    assert "rows only" in str(rows.provenance.operation)


def test_conv1d_with_biases(saved: Save, gpt2: Any) -> None:
    """GPT-2 stores (in, out): a neuron is a column of c_fc, an entry of its bias and a row of c_proj."""
    mask = import_core_mask(saved(tensors([[[3], [127]]])), gpt2, language=0)
    where = {name: mask[name].nonzero() for name in mask if name.startswith("transformer.h.0")}
    assert where["transformer.h.0.mlp.c_fc.weight"].tolist() == [[row, 3] for row in range(32)]
    assert where["transformer.h.0.mlp.c_fc.bias"].tolist() == [[3]]
    assert where["transformer.h.0.mlp.c_proj.weight"].tolist() == [[3, column] for column in range(32)]
    assert set(mask.provenance.transposed) == {name for name in mask if name.endswith("weight")}


def test_one_language_alone(saved: Save, llama: Any) -> None:
    mask = import_core_mask(saved(tensors(LANGUAGES)[1]), llama)
    assert mask == CoreMask(expected(llama, LANGUAGES[1]))


@given(
    st.lists(
        st.lists(st.lists(st.integers(0, 47), unique=True, max_size=5), min_size=2, max_size=2), min_size=1, max_size=3
    )
)
def test_any_lists(tmp_path_factory: pytest.TempPathFactory, numbers: list[list[list[int]]]) -> None:
    path = tmp_path_factory.mktemp("lape") / "neurons"
    torch.save(tensors(numbers), path)
    model = _llama()
    assert import_core_mask(path, model, format="lape", language=0) == CoreMask(expected(model, numbers[0]))


@cache
def _llama() -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    with torch.device("meta"):
        return LlamaForCausalLM(
            LlamaConfig(vocab_size=9, hidden_size=8, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2)
        )


@pytest.mark.parametrize(
    ("content", "error", "reason"),
    [
        ([[[48], []]], CoreMaskMismatchError, "neuron 48 of layer 0"),
        ([[[], [-1]]], CoreMaskMismatchError, "neuron -1 of layer 1"),
        ([[[1], [2], [3]]], CoreMaskMismatchError, "3 layers, and the model has 2"),
        ([[[1]]], CoreMaskMismatchError, "1 layers, and the model has 2"),
        ([[[1, 2, 1], []]], CoreMaskFormatError, "stands twice"),
        ([[list(range(49)), []]], CoreMaskFormatError, "at most 48"),
    ],
)
def test_numbers_that_cannot_be(content: Any, error: type[Exception], reason: str, saved: Save, llama: Any) -> None:
    with pytest.raises(error, match=reason):
        import_core_mask(saved(tensors(content)), llama)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ([[torch.tensor([[1]]), torch.tensor([1])]], "tensor of shape"),
        ([[torch.tensor([1.5]), torch.tensor([1])]], "no whole numbers"),
        ([[torch.tensor([float("nan")]), torch.tensor([1])]], "no whole numbers"),
        ([[torch.tensor([True]), torch.tensor([1])]], "booleans"),
        ([[[1], torch.tensor([1])]], "got a list"),
        ([["a", "b"]], "got a str"),
        ([1, 2], "expected for each language"),
        ([], "expected for each language"),
        ([[torch.tensor([1])] * 2] * 1001, "expected for each language"),
    ],
)
def test_contents_that_cannot_be(content: Any, reason: str, saved: Save, llama: Any) -> None:
    with pytest.raises(CoreMaskFormatError, match=reason):
        import_core_mask(saved(content), llama, format="lape")


def test_wrong_options(saved: Save, llama: Any) -> None:
    path = saved(tensors(LANGUAGES))
    for language in ("zh", 3, -1, True):
        with pytest.raises(InputError, match=r"holds 3 languages: 0, 1, 2\. Name them with languages"):
            import_core_mask(path, llama, language=language)
    with pytest.raises(InputError, match="holds 3 languages, and languages= names 1"):
        import_core_mask(path, llama, languages=["en"])
    with pytest.raises(InputError, match="parts names"):
        import_core_mask(path, llama, parts="rowz")


def test_experts(saved: Save) -> None:
    from transformers import MixtralConfig, MixtralForCausalLM

    with torch.device("meta"):
        model = MixtralForCausalLM(
            MixtralConfig(vocab_size=9, hidden_size=8, intermediate_size=8, num_hidden_layers=2, num_attention_heads=2)
        )
    with pytest.raises(UnsupportedModelError, match="mixture of experts"):
        import_core_mask(saved(tensors(LANGUAGES)), model)
