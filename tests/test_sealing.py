"""Any change of the content breaks a seal, and no change of the layout does."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_langcore.sealing import SEAL, is_intact, sealed

VALUES: dict[str, Any] = {"b": [1, 2.5, None, True, "ü"], "a": {"x": "1", "y": 1e-300, "z": 2**70}}

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3))


def test_layout_does_not_matter() -> None:
    """Other spaces, another order, escapes or none."""
    given = sealed(VALUES)
    for text in (json.dumps(given, indent=3), json.dumps(dict(sorted(given.items())), ensure_ascii=False)):
        assert is_intact(json.loads(text))


@given(values=st.dictionaries(st.text(), JSON, max_size=4))
def test_any_json_round_trips(values: dict[str, Any]) -> None:
    assert is_intact(json.loads(json.dumps(sealed(values))))


@given(data=st.data())
def test_no_flipped_bit_of_the_content_is_missed(data: st.DataObject) -> None:
    """Wherever it is: the file is no JSON any more, it says the same, or the seal is broken."""
    given = sealed(VALUES)
    content = bytearray(json.dumps(given).encode())
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        values = json.loads(content)
    except ValueError:
        return
    assert not isinstance(values, dict) or values == given or not is_intact(values)


def test_types_count() -> None:
    """1, 1.0, True and "1" are different words."""
    for one, other in ((1, 1.0), (1, True), (1, "1"), (None, False), (0.0, -0.0)):
        given = {**sealed({"x": one}), "x": other}
        assert not is_intact(given), (one, other)


def test_a_missing_seal() -> None:
    assert not is_intact(VALUES)
    assert is_intact(VALUES, may_lack=True)
    assert not is_intact({**VALUES, SEAL: "0" * 64}, may_lack=True)
    assert sealed(sealed(VALUES)) == sealed(VALUES)


def test_what_is_no_json() -> None:
    """It cannot be sealed, and what somebody made of a sealed file is not intact."""
    assert not is_intact({**sealed({"x": 1}), "x": float("inf")})
    with pytest.raises(ValueError, match="JSON"):
        sealed({"x": float("nan")})
