"""The code is as short as the probabilities allow, and no longer than it may be read."""

from __future__ import annotations

import math
import random
import struct
from typing import Any

import pytest
import torch

from hf_langcore.compression.arithmetic import Coded, Way, decode_tokens, encode_tokens
from hf_langcore.errors import InputError


def test_the_code_is_as_long_as_its_information(coder_llama: Any) -> None:
    """Within 1 % and a few bytes of the sum of -log2 p, which a parallel pass gives."""
    ids = [random.Random(1).randrange(4, 280) for _ in range(240)]
    coded = encode_tokens(coder_llama, ids, Way(0, 31, 30, 8))
    rows = torch.tensor([[0, *ids[first : first + 30]] for first in range(0, 240, 30)])
    with torch.inference_mode():
        chances = coder_llama(rows).logits[:, :-1].log_softmax(-1)
    ideal = -float(chances.gather(-1, rows[:, 1:, None]).sum()) / math.log(2)
    assert ideal / 8 - 1 <= len(coded.payload) <= 1.01 * ideal / 8 + 8


@pytest.mark.parametrize("way", [Way(0, 31, 30, 8), Way(0, 9, 50, 2), Way(0, 64, 1, 3)])
def test_tokens_come_back(coder_llama: Any, way: Way) -> None:
    """In one batch or several, within the context or beyond."""
    ids = [random.Random(2).randrange(4, 280) for _ in range(70)]
    assert decode_tokens(coder_llama, encode_tokens(coder_llama, ids, way), 70, way) == ids


def test_a_code_gives_no_more_than_it_holds(coder_llama: Any) -> None:
    """A few bytes that claim millions of tokens are given up at once."""
    way = Way(0, 64, 1 << 20, 4)
    coded = encode_tokens(coder_llama, [5, 6, 7, 8], way)
    done: list[int] = []
    with pytest.raises(InputError, match="ends before"):
        decode_tokens(coder_llama, coded, 1 << 20, way, advance=done.append)
    assert sum(done) < 400


def test_any_payload_is_survived(coder_llama: Any) -> None:
    """Random words give tokens or a clear error."""
    way = Way(0, 16, 8, 4)
    good = encode_tokens(coder_llama, list(range(4, 30)), way)
    drawn = random.Random(3)
    for size in (0, 1, 5, 40):
        payload = struct.pack(f"<{size}I", *(drawn.getrandbits(32) for _ in range(size)))
        try:
            found = decode_tokens(coder_llama, Coded(payload, good.probe), 26, way)
        except InputError:
            continue
        assert len(found) == 26
