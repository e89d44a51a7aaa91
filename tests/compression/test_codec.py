"""Whatever goes in comes out, and nothing else ever does."""

from __future__ import annotations

import copy
import io
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from hf_langcore.compression import codec, compress, compress_file, decompress, decompress_file
from hf_langcore.errors import InputError, LangCoreError, NonFiniteError, UnsupportedModelError

quick = settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
WORDS = st.lists(st.sampled_from(["the cat", " Katze ", "\n", "</s>", "<s>", "ﬁ", "Å", "猫", "\u0301"]), max_size=4)


@quick
@given(data=st.one_of(st.binary(max_size=30), WORDS.map(lambda words: "".join(words).encode())))
@example(data=b"")
@example(data=b"\xff the cat sat on the mat \xc3")
def test_any_bytes_come_back(coder_llama: Any, exact: Any, normalising: Any, data: bytes) -> None:
    """Valid UTF-8 or not, special tokens written out, signs that a tokenizer folds or does not know."""
    for tokenizer in (exact, normalising):
        blob = compress(coder_llama, tokenizer, data, context=8, chunk=11, streams=3)
        assert decompress(coder_llama, tokenizer, blob) == data


@quick
@given(text=st.one_of(st.text(st.characters(), max_size=20), WORDS.map("".join)))
@example(text="half a pair \ud800 of surrogates")
@example(text="")
def test_any_text_comes_back(coder_gpt2: Any, exact: Any, text: str) -> None:
    """Text as text, also what has no UTF-8."""
    back = decompress(coder_gpt2, exact, compress(coder_gpt2, exact, text))
    assert isinstance(back, str)
    assert back == text


@pytest.mark.parametrize("chunk", [1, 23, 24, 200])
def test_texts_longer_than_the_context(coder_gpt2: Any, exact: Any, chunk: int) -> None:
    """Rows beyond the 24 positions of the model slide; what is asked of the context is cut down to them."""
    text = "the cat sat on the mat. " * 3
    blob = compress(coder_gpt2, exact, text, chunk=chunk, context=10_000)
    assert decompress(coder_gpt2, exact, blob) == text


def test_bfloat16(coder_llama: Any, exact: Any) -> None:
    """Another dtype is another model, and as lossless."""
    model = copy.deepcopy(coder_llama).to(torch.bfloat16)
    text = "the cat sat on the mat and looked at the moon"
    blob = compress(model, exact, text, streams=2, chunk=8)
    assert decompress(model, exact, blob) == text
    with pytest.raises(InputError, match="another model"):
        decompress(coder_llama, exact, blob)


def test_other_models_and_tokenizers_are_refused(coder_llama: Any, exact: Any, normalising: Any) -> None:
    """One changed bit of one weight is another model."""
    blob = compress(coder_llama, exact, "the cat")
    other = copy.deepcopy(coder_llama)
    with torch.no_grad():
        other.model.norm.weight[3] += 1e-6
    with pytest.raises(InputError, match="another model"):
        decompress(other, exact, blob)
    with pytest.raises(InputError, match="another tokenizer"):
        decompress(coder_llama, normalising, blob)


def test_damage_anywhere_is_found(coder_llama: Any, exact: Any) -> None:
    """Each byte of the data matters, and each length; nothing wrong comes out."""
    blob = compress(coder_llama, exact, b"the cat sat on \xff the mat", context=8)
    drawn = random.Random(0)
    for place in [*range(0, len(blob), 17), *range(len(blob) - 45, len(blob), 4)]:
        changed = bytearray(blob)
        changed[place] ^= 1 << drawn.randrange(8)
        with pytest.raises(LangCoreError):
            decompress(coder_llama, exact, bytes(changed))
    for length in range(0, len(blob), 37):
        with pytest.raises(LangCoreError):
            decompress(coder_llama, exact, blob[:length])
    with pytest.raises(LangCoreError, match="follows"):
        decompress(coder_llama, exact, blob + b"x")


def test_other_arithmetic_is_refused(coder_llama: Any, exact: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that computes other last bits says so at once, and gives nothing."""
    from hf_langcore.compression import rows

    blob = compress(coder_llama, exact, "the cat sat on the mat")
    softmax = rows._probabilities
    monkeypatch.setattr(rows, "_probabilities", lambda logits: softmax(logits * (1 + 1e-6)))
    with pytest.raises(InputError, match="computes other probabilities"):
        decompress(coder_llama, exact, blob)


def test_other_versions_are_warned_of(coder_llama: Any, exact: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The header says with what it was made; where the bits agree it is decoded all the same."""
    facts = codec.machine_facts
    monkeypatch.setattr(codec, "machine_facts", lambda model: {**facts(model), "torch": "1.0"})
    blob = compress(coder_llama, exact, "the cat")
    with pytest.warns(UserWarning, match="torch 1.0"):
        assert decompress(coder_llama, exact, blob) == "the cat"


def test_the_threads_of_the_encoder_are_used(coder_llama: Any, exact: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the caller's number comes back."""
    before = torch.get_num_threads()
    facts = codec.machine_facts
    monkeypatch.setattr(codec, "machine_facts", lambda model: {**facts(model), "threads": before + 1})
    blob = compress(coder_llama, exact, "the cat")
    seen: list[int] = []
    hook = coder_llama.register_forward_hook(lambda *_: seen.append(torch.get_num_threads()))
    decompress(coder_llama, exact, blob)
    hook.remove()
    assert set(seen) == {before + 1}
    assert torch.get_num_threads() == before


class _Drips(io.BytesIO):
    """A pipe: gives fewer bytes than asked for."""

    def read(self, size: int | None = -1) -> bytes:
        return super().read(min(7, size) if size and size > 0 else size)


def test_files_block_by_block(coder_llama: Any, exact: Any, tmp_path: Path) -> None:
    """Also from a pipe, whose blocks end nowhere in particular; and with no spaces to cut at."""
    data = "猫坐在垫子上看着月亮".encode() * 5 + b"the cat sat on the mat\n" * 3
    target, back = io.BytesIO(), io.BytesIO()
    sizes = compress_file(coder_llama, exact, _Drips(data), target, block_bytes=64)
    assert (sizes.original, sizes.compressed) == (len(data), len(target.getvalue()))
    decompress_file(coder_llama, exact, _Drips(target.getvalue()), back)
    assert back.getvalue() == data
    (tmp_path / "in").write_bytes(data)
    compress_file(coder_llama, exact, tmp_path / "in", tmp_path / "packed", block_bytes=64)
    decompress_file(coder_llama, exact, tmp_path / "packed", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == data
    assert (tmp_path / "packed").read_bytes() == target.getvalue()


def test_a_damaged_file_leaves_what_was_there(coder_llama: Any, exact: Any, tmp_path: Path) -> None:
    """The output is replaced only by all of the right content."""
    (tmp_path / "out").write_text("before")
    blob = bytearray(compress(coder_llama, exact, b"the cat " * 20, block_bytes=64))
    blob[-1] ^= 1
    (tmp_path / "packed").write_bytes(blob)
    with pytest.raises(InputError, match="checksum of the whole"):
        decompress_file(coder_llama, exact, tmp_path / "packed", tmp_path / "out")
    assert (tmp_path / "out").read_text() == "before"
    with pytest.raises(InputError, match="no file"):
        compress_file(coder_llama, exact, tmp_path / "missing", tmp_path / "new")


def test_small_data_that_becomes_large_is_refused(coder_llama: Any, exact: Any) -> None:
    """A limit of what is made."""
    blob = compress(coder_llama, exact, b"\xff" * 20_000)
    assert len(blob) < 1000
    with pytest.raises(InputError, match="max_bytes=1,000"):
        decompress(coder_llama, exact, blob, max_bytes=1000)


def test_incompressible_bytes_hardly_grow(coder_llama: Any, exact: Any) -> None:
    """Also text that the model expects nothing of."""
    data = random.Random(0).randbytes(3000)
    overhead = len(compress(coder_llama, exact, b""))
    assert len(compress(coder_llama, exact, data)) < len(data) + overhead + 60
    runs = "x" * 1500
    assert len(compress(coder_llama, exact, runs, streams=256, chunk=8)) < overhead + 100


@pytest.mark.parametrize(
    "options", [{"chunk": 0}, {"streams": 0}, {"streams": 257}, {"block_bytes": 3}, {"context": 2}, {"chunk": True}]
)
def test_options_out_of_range(coder_llama: Any, exact: Any, options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(options)) if "context" not in options else "block_size"):
        compress(coder_llama, exact, "the cat", **options)


def test_broken_models_are_refused(coder_llama: Any, exact: Any) -> None:
    """NaN codes nothing."""
    model = copy.deepcopy(coder_llama)
    with torch.no_grad():
        model.model.norm.weight[0] = float("nan")
    with pytest.raises(NonFiniteError, match="NaN"):
        compress(model, exact, "the cat")


def test_models_with_an_encoder_are_refused(coder_llama: Any, exact: Any) -> None:
    model = copy.deepcopy(coder_llama)
    model.config.is_encoder_decoder = True
    with pytest.raises(UnsupportedModelError, match="encoder"):
        compress(model, exact, "the cat")


def test_a_tokenizer_that_cannot_decode(llama: Any, tokenizer: Any) -> None:
    """Then everything stays bytes."""
    blob = compress(llama, tokenizer, "the cat")
    assert decompress(llama, tokenizer, blob) == "the cat"
