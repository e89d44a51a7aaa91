"""Pairs of source and target: reading, refusing, cutting, padding."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset

from hf_langcore.data import (
    cut_pairs,
    decoder_start,
    model_inputs,
    num_scored,
    pad_pairs,
    pair_texts,
    predictions,
    read_pairs,
    require_decoder_only,
)
from hf_langcore.errors import CorpusError, InputError, UnsupportedModelError
from tests.conftest import build_bart, build_llama, build_t5

PAIRS = [("a cat", "eine Katze"), ("two old trees there", "zwei Bäume"), ("b", "c")]


def test_unequal_numbers_are_refused() -> None:
    """Three sources and nine targets must not be trained as if they belonged together."""
    with pytest.raises(CorpusError, match="3 sources and 9 targets"):
        pair_texts(["a"] * 3, ["b"] * 9)
    with pytest.raises(CorpusError, match="sources must be a list"):
        pair_texts("abc", ["x", "y", "z"])
    with pytest.raises(CorpusError, match="expected a source and a target"):
        pair_texts(["a"], [("b",)])  # type: ignore[list-item]
    assert pair_texts(["a"], ["b"]) == [{"source": "a", "target": "b"}]


def test_every_form_gives_the_same_pairs(tmp_path: Path) -> None:
    rows = [{"question": one, "answer": other} for one, other in PAIRS]
    lines = tmp_path / "de.jsonl"
    lines.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    table = tmp_path / "de.parquet"
    Dataset.from_list(rows).to_parquet(table)
    for source in (rows, PAIRS, [list(pair) for pair in PAIRS], Dataset.from_list(rows), lines, str(table)):
        assert list(read_pairs("de", source, columns=("question", "answer"))) == PAIRS
    shuffled = list(read_pairs("de", PAIRS * 5, seed=3))
    assert shuffled != PAIRS * 5
    assert sorted(shuffled) == sorted(PAIRS * 5)
    assert list(read_pairs("de", [("a", " "), ("", "b"), ("a", "b")])) == [("a", "b")]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (["a text"], "Encoder-decoder models need pairs"),
        ([("a", "b", "c")], "a source and a target"),
        ([("a", 3)], "a source and a target"),
        ([{"source": "a"}], "a source and a target"),
        (Dataset.from_dict({"source": ["a"]}), "no column 'target'"),
    ],
)
def test_what_is_no_pair_is_refused(source: Any, message: str) -> None:
    with pytest.raises(CorpusError, match=message):
        list(read_pairs("de", source))


def test_files_without_the_columns_are_refused(tmp_path: Path) -> None:
    (tmp_path / "de.txt").write_text("a\n")
    with pytest.raises(CorpusError, match="one text a line"):
        list(read_pairs("de", tmp_path / "de.txt"))
    (tmp_path / "de.jsonl").write_text('{"source": "a", "target": "b"}\n{"source": "a"}\n')
    with pytest.raises(CorpusError, match=r"line 2 .* 'source' and a 'target'"):
        list(read_pairs("de", tmp_path / "de.jsonl"))


def test_cutting_keeps_the_end_token(tokenizer: Any) -> None:
    class WithEnd(type(tokenizer)):  # type: ignore[misc]
        def __call__(self, text: str, *, add_special_tokens: bool = True) -> dict[str, list[int]]:
            return {"input_ids": [*super().__call__(text, add_special_tokens=False)["input_ids"], 2]}

    cut = cut_pairs("de", [("a long source", "a long target")], WithEnd(), block_size=6)
    (window,) = cut.windows
    assert (len(window.ids), window.ids[-1], window.num_scored) == (6, 2, 6)
    assert window.source is not None
    assert (len(window.source), window.source[-1]) == (6, 2)
    assert cut.num_bytes is None
    assert cut_pairs("de", [("s", "äb")], WithEnd(), block_size=6).num_bytes == 3
    kept = cut_pairs("de", [("s", "abc"), ("s", "abc"), ("s", "abc")], WithEnd(), block_size=6, max_tokens=8).windows
    assert len(kept) == 2
    with pytest.raises(CorpusError, match="no pair"):
        cut_pairs("de", [], WithEnd(), block_size=6)
    with pytest.raises(InputError, match="max_tokens"):
        cut_pairs("de", PAIRS, WithEnd(), block_size=6, max_tokens=0)
    with pytest.raises(UnsupportedModelError, match="input_ids"):
        cut_pairs("de", PAIRS, lambda text: [1], block_size=6)


@pytest.mark.parametrize("build", [build_t5, build_bart])
def test_padding_changes_nothing(build: Any, tokenizer: Any) -> None:
    """A batch of pairs gives the losses that each pair has alone, and the model's own loss says the same."""
    model = build()
    blocks = pad_pairs(cut_pairs("de", PAIRS, tokenizer, block_size=32).windows)
    with torch.no_grad():
        together = torch.nn.functional.cross_entropy(*predictions(model, blocks), reduction="none")
        alone = [
            torch.nn.functional.cross_entropy(*predictions(model, one), reduction="none") for one in blocks.split(1)
        ]
        inputs = model_inputs(blocks, torch.device("cpu"))
        assert float(together.mean()) == pytest.approx(float(model(**inputs).loss), rel=1e-5)
    assert torch.allclose(together, torch.cat(alone), atol=1e-5)
    assert num_scored(blocks) == sum(map(num_scored, blocks.split(2))) == len(together)
    assert blocks.numel() == sum(one.numel() for one in blocks.split(1))
    assert blocks.split(1)[2].shape == (1, 4)  # BOS and one letter on each side


def test_what_a_target_starts_with(tokenizer: Any) -> None:
    """The labels are shifted right by one, behind the start token: the prediction of a token never sees it."""
    model = build_t5()
    assert (decoder_start(model).id, decoder_start(model).source) == (0, "decoder start")
    one, other = (
        pad_pairs(cut_pairs("de", [("s", text)], tokenizer, block_size=8).windows) for text in ("abcX", "abcY")
    )
    with torch.no_grad():
        assert torch.equal(predictions(model, one)[0], predictions(model, other)[0])
    model.config.decoder_start_token_id = None
    with pytest.raises(UnsupportedModelError, match="decoder_start_token_id"):
        decoder_start(model)
    model.config.decoder_start_token_id, model.config.pad_token_id = 0, None
    with pytest.raises(UnsupportedModelError, match="no pad_token_id"):
        decoder_start(model)


def test_where_only_one_stack_is_understood() -> None:
    require_decoder_only(build_llama(), "This")
    with pytest.raises(UnsupportedModelError, match="This takes causal language models; T5ForConditionalGeneration"):
        require_decoder_only(build_t5(), "This")
