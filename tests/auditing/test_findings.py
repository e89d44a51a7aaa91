"""Names of checks and kinds."""

from __future__ import annotations

from hf_langcore.auditing.findings import CHECKS, KINDS


def test_every_kind_belongs_to_one_check() -> None:
    """A report counts by kind alone."""
    kinds = [kind for each in KINDS.values() for kind in each]
    assert len(kinds) == len(set(kinds))
    assert tuple(KINDS) == CHECKS
