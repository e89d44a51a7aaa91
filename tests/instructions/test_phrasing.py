"""Questions in English."""

from __future__ import annotations

import re

import pytest

from hf_langcore.instructions.phrasing import worded
from hf_langcore.instructions.working import Problem


@pytest.mark.parametrize("operation", ["+", "-", "*", "/"])
def test_numbers_stand_in_their_order(operation: str) -> None:
    """Each wording has the two numbers, in order, and no placeholder; there are many of them."""
    wordings = {worded(Problem(81, operation, 9), choice) for choice in range(200)}
    assert len(wordings) >= 27
    for wording in wordings:
        assert re.findall(r"\d+", wording) == ["81", "9"]
        assert not set("{}") & set(wording)
