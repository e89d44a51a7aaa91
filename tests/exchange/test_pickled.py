from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hf_langcore.errors import CoreMaskFormatError
from hf_langcore.exchange import pickled
from hf_langcore.exchange.pickled import read_pickle

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**80), 2**80) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4) | st.tuples(inner)
    ),
    max_leaves=12,
)


def read(data: bytes) -> Any:
    return read_pickle(data, Path("file.pth"), lambda *_: pytest.fail("no storage was promised"))


def saved_pickle(value: Any) -> bytes:
    """The pickle inside a file of torch.save."""
    buffer = io.BytesIO()
    torch.save(value, buffer)
    with zipfile.ZipFile(buffer) as archive:
        return archive.read(next(name for name in archive.namelist() if name.endswith("data.pkl")))


@given(PLAIN)
def test_plain_data_comes_back(value: Any) -> None:
    assert read(saved_pickle(value)) == value


def test_what_state_dicts_and_sparse_differences_hold() -> None:
    """Ordered dicts with a state of their own, sizes, and whole numbers of numpy."""
    state = OrderedDict(a=1)
    state._metadata = {"version": 1}  # type: ignore[attr-defined]
    found = read(
        saved_pickle({"s": state, "size": torch.Size([3, 4]), "n": [np.int64(-5), np.uint8(200), np.int32(7)]})
    )
    assert found == {"s": {"a": 1}, "size": (3, 4), "n": [-5, 200, 7]}
    assert type(found["s"]) is dict


class Hostile:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize(
    ("function", "arguments", "name"),
    [
        (open, ("made", "w"), "io.open|_io.open"),
        (eval, ("open('made', 'w')",), "eval"),
        (bytearray, (1 << 40,), "bytearray"),
        (torch.Tensor, (1 << 20, 1 << 20), "torch.Tensor"),
        (np.zeros, ((1 << 40,),), "zeros"),
        (torch.storage.UntypedStorage, (1 << 40,), "UntypedStorage"),
        (getattr, ("", "join"), "getattr"),
    ],
)
def test_nothing_is_called(
    function: Any, arguments: Any, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither what runs code nor what only takes memory, which torch's own safe loader allows."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CoreMaskFormatError, match=f"asks for '.*({name})'.*Nothing was run"):
        read(pickle.dumps([Hostile(function, *arguments)], protocol=2))
    assert not (tmp_path / "made").exists()


def test_a_name_alone_is_refused() -> None:
    with pytest.raises(CoreMaskFormatError, match=r"posix\.system"):
        read(b"\x80\x02cposix\nsystem\n.")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (pickle.dumps([1, 2], protocol=4), "protocol 4"),
        (b"\x80\x02]q\x00h\x05.", "damaged"),  # a memo that is not there
        (b"\x80\x02e.", "damaged"),  # items without a mark
        (b"\x80\x02]", "damaged"),  # no end
        (b"", "damaged"),
        (b"\x80\x02.", "damaged"),  # nothing on the stack
        (b"\x80\x02]}s.", "damaged"),  # an item of nothing
        (b"\x80\x02}(]K\x01u.", "a key is a list"),
        (b"\x80\x02}(K\x01K\x01K\x01K\x02u.", "stands twice"),
        (b"\x80\x02K\x01)R.", "damaged"),  # a number is called
        (b"\x80\x02K\x01}b.", "gives a state"),
        (b"\x80\x02(X\x04\x00\x00\x00oopsK\x01K\x01K\x01K\x01tQ.", "refers to"),
        (b"\x80\x02\x8f.", "EMPTY_SET"),
        (b"\x80\x02I" + b"9" * 50 + b"\n.", "uses INT"),
    ],
)
def test_damage_is_named(data: bytes, reason: str) -> None:
    with pytest.raises(CoreMaskFormatError, match=reason):
        read(data)


@given(st.binary(max_size=40))
def test_noise_is_refused(data: bytes) -> None:
    """Any bytes at all are data or refused."""
    with suppress(CoreMaskFormatError):
        read(b"\x80\x02" + data + b".")


@given(st.integers(0, 300), st.integers(0, 255))
def test_one_changed_byte_is_read_or_refused(place: int, byte: int) -> None:
    data = bytearray(saved_pickle({"size": torch.Size([3]), "steps": [np.int64(4), 1], "names": ["a", ("b", 2.5)]}))
    data[place % len(data)] = byte
    with suppress(CoreMaskFormatError):
        read(bytes(data))


def test_depth_and_cycles_do_no_harm() -> None:
    deep = b"\x80\x02" + b"]" * 50_000 + b"a" * 49_999 + b"."
    found, depth = read(deep), 0
    while found:
        found, depth = found[0], depth + 1
    assert depth == 49_999
    cycle = read(b"\x80\x02]q\x00h\x00a.")
    assert cycle[0] is cycle


def test_the_number_of_containers_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """One byte of a file would be 64 of memory."""
    monkeypatch.setattr(pickled, "_MOST_CONTAINERS", 100)
    assert len(read(b"\x80\x02](" + b"}" * 98 + b"e.")) == 98
    with pytest.raises(CoreMaskFormatError, match="more than 100"):
        read(b"\x80\x02](" + b"}" * 99 + b"e.")
    with pytest.raises(CoreMaskFormatError, match="more than 100"):
        read(b"\x80\x02" + b"(" * 101 + b".")
