"""What plain `json` lets pass is refused, in a short sentence; everything else is read as it reads it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_langcore import strict_json
from hf_langcore.strict_json import parse_json, read_json

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(values)
def test_good_json_is_read(value: object) -> None:
    text = json.dumps(value)
    assert parse_json(text) == parse_json(text.encode()) == value


@pytest.mark.parametrize(
    "text, problem",
    [
        ('{"a": 1, "b": {"c": 1, "c": 1}}', "the key 'c' stands twice"),
        ('{"a": NaN}', "NaN is no JSON"),
        ("[-Infinity]", "-Infinity is no JSON"),
        ("1e999", "1e999 is too large"),
        ("9" * 5000, "4300 digits"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 100_000 + "1" + "}" * 100_000, "nested too deeply"),
        (b"\xff", "can't decode byte"),
        ("", "Expecting value"),
        ("{} {}", "Extra data"),
    ],
)
def test_bad_json_is_refused(text: str | bytes, problem: str) -> None:
    with pytest.raises(ValueError, match=problem) as caught:
        parse_json(text)
    assert len(str(caught.value)) < 300
    assert caught.value.__suppress_context__


def test_long_keys_are_not_repeated() -> None:
    key = json.dumps("k" * 10_000)
    with pytest.raises(ValueError, match="stands twice") as caught:
        parse_json(f"{{{key}: 1, {key}: 2}}")
    assert len(str(caught.value)) < 300


def test_only_ordinary_files_of_bounded_size_are_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not a pipe, which would wait for ever, nor a device without end."""
    (tmp_path / "good").write_text("[1]")
    assert read_json(tmp_path / "good", limit=3) == [1]
    with pytest.raises(ValueError, match="it has 3 bytes, at most 2 are read"):
        read_json(tmp_path / "good", limit=2)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zeros").symlink_to("/dev/zero")
    (tmp_path / "loop").symlink_to("loop")
    for name in ("pipe", "zeros", "loop", "nothing", "."):
        with pytest.raises(ValueError, match=r"no ordinary file|cannot be opened"):
            read_json(tmp_path / name, limit=100)
    monkeypatch.setattr(strict_json, "_MOST_VALUES", 3)
    with pytest.raises(ValueError, match="more than 3 values"):
        parse_json("[1, 2, 3, 4]")
