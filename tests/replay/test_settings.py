"""Settings with which nothing could be written are refused."""

from __future__ import annotations

from typing import Any

import pytest

from hf_langcore.errors import InputError
from hf_langcore.replay import ReplaySettings


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_new_tokens": 0},
        {"max_new_tokens": True},
        {"seed_tokens": 0},
        {"seed": -1},
        {"temperature": 0},
        {"temperature": float("inf")},
        {"top_p": 0},
        {"top_p": 1.1},
    ],
    ids=str,
)
def test_values_out_of_range_are_named(wrong: dict[str, Any]) -> None:
    """With the value that came."""
    (name,) = wrong
    with pytest.raises(InputError, match=f"{name} must be .*got"):
        ReplaySettings(**wrong)
