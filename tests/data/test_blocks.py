"""Blocks and windows: where every token goes, what stands at the start, and that nothing is scored twice."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import BatchEncoding

from hf_langcore.data import (
    StartToken,
    Window,
    cut_text,
    encode,
    pack_blocks,
    start_token,
    usable_block_size,
)
from hf_langcore.errors import CorpusError, InputError, UnsupportedModelError

BOS = StartToken(1, "bos")
TEXTS = st.lists(st.text(alphabet="abcdefgh", max_size=40), max_size=6)


class Letters:
    """One token per letter: a is 10, b is 11; an underscore is none. A start token would be added if not forbidden."""

    bos_token_id = 1
    eos_token_id = 2

    def __call__(self, text: str, *, add_special_tokens: bool = True) -> dict[str, list[int]]:
        special = [self.bos_token_id] if add_special_tokens else []
        return {"input_ids": special + [ord(letter) - 87 for letter in text if letter != "_"]}


def pack(texts: list[str], block_size: int, max_tokens: int | None = None) -> list[list[int]]:
    blocks = pack_blocks("en", texts, Letters(), start=BOS, block_size=block_size, max_tokens=max_tokens)
    assert blocks.dtype == torch.int64
    return blocks.tolist()


def cut(texts: list[str], block_size: int, stride: int, max_tokens: int | None = None) -> list[Window]:
    return cut_text(
        "en", texts, Letters(), start=BOS, block_size=block_size, stride=stride, max_tokens=max_tokens
    ).windows


def test_encode_adds_nothing() -> None:
    """No special tokens; Python integers whatever the tokenizer returns."""
    assert encode(Letters(), "abc") == [10, 11, 12]

    def arrays(text: str, *, add_special_tokens: bool) -> dict[str, Any]:
        return {"input_ids": torch.tensor([5, 6])}

    ids = encode(arrays, "x")
    assert ids == [5, 6]
    assert {type(token) for token in ids} == {int}


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ([5, 6], [5, 6]),
        ((5, 6), [5, 6]),
        ([[5, 6]], [5, 6]),
        ([[5]], [5]),
        (torch.tensor([5, 6]), [5, 6]),
        (torch.tensor([[5, 6]]), [5, 6]),
        (np.array([5, 6]), [5, 6]),
        (np.array([[5, 6]], dtype=np.int32), [5, 6]),
        ([torch.tensor([5, 6])], [5, 6]),
        ([np.int64(5), np.int64(6)], [5, 6]),
        ([], []),
        ([[]], []),
        (torch.zeros(1, 0), []),
    ],
    ids=repr,
)
def test_ids_in_every_container(ids: Any, expected: list[int]) -> None:
    """Lists, arrays and tensors, with or without a batch axis of one row."""
    found = encode(lambda text, add_special_tokens: BatchEncoding({"input_ids": ids}), "x")
    assert found == expected
    assert {type(token) for token in found} <= {int}


@pytest.mark.parametrize(
    "tokenizer",
    [
        lambda text: {"input_ids": [1]},
        lambda text, add_special_tokens: [1, 2],
        lambda text, add_special_tokens: {"ids": [1]},
        lambda text, add_special_tokens: {"input_ids": [[1], [2]]},
        lambda text, add_special_tokens: {"input_ids": ["a"]},
        lambda text, add_special_tokens: {"input_ids": "ab"},
        lambda text, add_special_tokens: {"input_ids": [1.5]},
        lambda text, add_special_tokens: {"input_ids": 7},
        lambda text, add_special_tokens: None,
        object(),
    ],
)
def test_other_interfaces_are_refused(tokenizer: Any) -> None:
    """The message says what a tokenizer has to take and to give."""
    with pytest.raises(UnsupportedModelError, match=r"tokenizer\(text, add_special_tokens=False\) gives a mapping"):
        encode(tokenizer, "x")


@pytest.mark.parametrize(
    ("bos", "eos", "given_id", "expected"),
    [
        (1, 2, None, StartToken(1, "bos")),
        (0, 2, None, StartToken(0, "bos")),
        (None, 2, None, StartToken(2, "eos")),
        (1, 2, 7, StartToken(7, "given")),
        (None, None, 0, StartToken(0, "given")),
        (None, [7, 8], None, StartToken(7, "eos")),
        ([3, 4], 2, None, StartToken(3, "bos")),
        ([], (2, 5), None, StartToken(2, "eos")),
        (1, 2, [9, 8], StartToken(9, "given")),
    ],
)
def test_start_tokens(bos: int | None, eos: int | None, given_id: int | None, expected: StartToken) -> None:
    """BOS, else EOS, and what is given goes before both; id 0 is a token too."""
    tokenizer = SimpleNamespace(bos_token_id=bos, eos_token_id=eos)
    assert start_token(tokenizer, given_id) == expected


@pytest.mark.parametrize("tokenizer", [SimpleNamespace(bos_token_id=None, eos_token_id=None), object()])
def test_no_start_token_is_refused(tokenizer: Any) -> None:
    """The message names the argument that helps."""
    with pytest.raises(UnsupportedModelError, match=r"neither a BOS nor an EOS.*bos_token_id="):
        start_token(tokenizer)


def test_block_sizes_fit_the_model(llama: Any, gpt2: Any) -> None:
    """At most the context of the model, whatever its config calls it; without a limit as asked."""
    assert usable_block_size(llama, 512) == 64
    assert usable_block_size(gpt2, 512) == 64
    assert usable_block_size(llama, 20) == 20
    for model in (object(), SimpleNamespace(config=SimpleNamespace(max_position_embeddings=10**30))):
        assert usable_block_size(model, 512) == 512


def test_block_sizes_of_nested_configs() -> None:
    """Multimodal models keep the context of their language model in a config of its own."""
    text_config = SimpleNamespace(max_position_embeddings=32)
    model = SimpleNamespace(config=SimpleNamespace(get_text_config=lambda: text_config))
    assert usable_block_size(model, 512) == 32


@pytest.mark.parametrize("block_size", [2, 1, 0, -5, True, 3.0, "512", None])
def test_block_sizes_that_leave_no_room(llama: Any, block_size: Any) -> None:
    """A start token, one of context and one to score are the least."""
    assert usable_block_size(llama, 3) == 3
    with pytest.raises(InputError, match="at least 3 tokens"):
        usable_block_size(llama, block_size)


def test_the_layout_of_blocks() -> None:
    """Start token first in every block, one between documents, none before a document that begins a block."""
    assert pack(["abc", "de", "fghi"], 4) == [[1, 10, 11, 12], [1, 13, 14, 1], [1, 15, 16, 17]]
    assert pack(["abcdef"], 4) == [[1, 10, 11, 12], [1, 13, 14, 15]]


def test_documents_without_tokens_leave_no_trace() -> None:
    """No doubled start tokens."""
    assert pack(["ab", "_", "", "c"], 5) == [[1, 10, 11, 1, 12]]


@given(TEXTS, st.integers(3, 20))
def test_blocks_hold_the_texts_in_order(texts: list[str], block_size: int) -> None:
    """Without start tokens the blocks are the texts one after the other, but for less than a block at the end."""
    expected = [token for text in texts for token in encode(Letters(), text)]
    if len(expected) < 2:
        return
    blocks = pack(texts, block_size)
    kept = [token for block in blocks for token in block if token != 1]
    assert kept == expected[: len(kept)]
    assert len(expected) - len(kept) < block_size - 1 or len(blocks) == 1
    assert all(block[0] == 1 for block in blocks)
    assert len({len(block) for block in blocks}) == 1
    assert len(blocks[0]) == block_size or len(blocks) == 1
    assert not any(pair == (1, 1) for block in blocks for pair in itertools.pairwise(block[1:]))


@given(TEXTS, st.integers(3, 20), st.integers(3, 100))
def test_max_tokens_is_never_exceeded(texts: list[str], block_size: int, max_tokens: int) -> None:
    """The blocks are the first ones of those without a limit; a limit below one block makes one shorter block."""
    if sum(map(len, texts)) < 2:
        return
    blocks = pack(texts, block_size, max_tokens)
    assert sum(map(len, blocks)) <= max_tokens
    unlimited = pack(texts, min(block_size, max_tokens))
    assert blocks == unlimited[: max_tokens // min(block_size, max_tokens)]


def test_max_tokens_stops_reading() -> None:
    """No document is read that is not needed: streams may be endless."""
    read: list[int] = []

    def stream() -> Any:
        for number in range(100):
            read.append(number)
            yield "abcdef"

    pack_blocks("en", stream(), Letters(), start=BOS, block_size=7, max_tokens=21)
    assert len(read) <= 4
    read.clear()
    cut_text("en", stream(), Letters(), start=BOS, block_size=7, stride=3, max_tokens=18)
    assert len(read) == 3


def test_a_short_text_is_one_shorter_block() -> None:
    """Small corpora are used as they are, not dropped."""
    assert pack(["ab"], 512) == [[1, 10, 11]]
    assert pack(["a", "b"], 512) == [[1, 10, 1, 11]]


@pytest.mark.parametrize("texts", [[], [""], ["a"], ["a", "_"], ["_", "_", "_"]])
def test_fewer_than_two_tokens_are_refused(texts: list[str]) -> None:
    """The message names the language and counts; start tokens do not count."""
    count = sum(text == "a" for text in texts)
    for read in (lambda: pack(texts, 8), lambda: cut(texts, 8, 4)):
        with pytest.raises(CorpusError, match=rf"'en': the texts have {count} tokens? to score"):
            read()


@pytest.mark.parametrize("max_tokens", [2, 1, 0, -1, 8.0, "8", True])
def test_limits_that_leave_no_room(max_tokens: int) -> None:
    """A limit that no block fits is a mistake, not a block that is larger."""
    with pytest.raises(InputError, match="max_tokens must be at least 3"):
        pack(["abcdef"], 4, max_tokens)


@pytest.mark.parametrize("max_tokens", [0, -1, 8.0, "8", True])
def test_limits_of_windows(max_tokens: Any) -> None:
    """A positive whole number or none at all."""
    with pytest.raises(InputError, match="max_tokens must be at least 1, a whole number, or None"):
        cut(["abcdef"], 4, 2, max_tokens)


@pytest.mark.parametrize("stride", [0, -1, 4, 5, 1.0, "2", True, None])
def test_strides_that_do_not_fit(stride: Any) -> None:
    """A stride of 0 would never end, and one beyond the window would leave tokens out."""
    with pytest.raises(InputError, match=r"stride must be a whole number from 1 to block_size - 1 = 3"):
        cut(["abcdef"], 4, stride)


def test_the_layout_of_windows() -> None:
    """Each document for itself; the first window scores all of its tokens, later ones `stride` more."""
    assert cut(["abcdefg", "ab"], 5, 2) == [
        Window((1, 10, 11, 12, 13), 1),
        Window((1, 12, 13, 14, 15), 3),
        Window((1, 13, 14, 15, 16), 4),
        Window((1, 10, 11), 1),
    ]
    assert [window.num_scored for window in cut(["abcdefg"], 5, 2)] == [4, 2, 1]


@given(TEXTS, st.integers(3, 20), st.data())
def test_every_token_is_scored_exactly_once(texts: list[str], block_size: int, data: st.DataObject) -> None:
    """For any size and stride: the scored tokens of all windows are the documents, and the windows fit."""
    stride = data.draw(st.integers(1, block_size - 1))
    documents = [encode(Letters(), text) for text in texts]
    if sum(map(len, documents)) < 2:
        return
    windows = cut(texts, block_size, stride)
    assert [token for window in windows for token in window.ids[window.first_scored :]] == list(
        itertools.chain(*documents)
    )
    assert all(len(window.ids) <= block_size and window.ids[0] == 1 for window in windows)
    assert all(window.num_scored >= 1 for window in windows)
    assert sum(window.num_scored for window in windows) == sum(map(len, documents))


@given(st.integers(1, 60), st.integers(3, 20), st.data())
def test_every_token_has_its_context(length: int, block_size: int, data: st.DataObject) -> None:
    """What stands before a scored token in its window is what stands before it in the document, and long enough."""
    stride = data.draw(st.integers(1, block_size - 1))
    ids = list(range(10, 10 + length + 1))
    done = 0
    for window in cut(["".join(chr(token + 87) for token in ids)], block_size, stride):
        text = list(window.ids[1:])
        end = done + window.num_scored
        assert text == ids[end - len(text) : end]
        assert window.first_scored - 1 >= min(done, block_size - 1 - stride)
        done = end
    assert done == len(ids)


@given(TEXTS, st.integers(3, 12), st.integers(2, 80))
def test_windows_up_to_a_limit(texts: list[str], block_size: int, max_tokens: int) -> None:
    """Exactly the first `max_tokens` tokens are scored, the last document cut there."""
    expected = [token for text in texts for token in encode(Letters(), text)][:max_tokens]
    if len(expected) < 2:
        return
    windows = cut(texts, block_size, block_size // 2, max_tokens)
    assert [token for window in windows for token in window.ids[window.first_scored :]] == expected


def test_with_a_tokenizer_of_bytes(tokenizer: Any, texts: dict[str, list[str]]) -> None:
    """The special tokens of a real call are switched off, so that BOS stands once."""
    blocks = pack_blocks("de", texts["de"], tokenizer, start=start_token(tokenizer), block_size=16)
    assert bool((blocks[:, 0] == 1).all())
    assert not bool(((blocks[:, 1:] == 1) & (blocks[:, :-1] == 1)).any())
    assert tokenizer.calls == texts["de"]


@pytest.mark.parametrize("wrong", [None, {"en": ["a text"]}, "gpt2"])
def test_what_is_no_tokenizer_is_named(wrong: Any) -> None:
    """Swapped arguments are told apart from a tokenizer without special tokens."""
    with pytest.raises(UnsupportedModelError, match="model, tokenizer, corpora"):
        start_token(wrong)
