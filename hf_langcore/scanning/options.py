"""How candidates are verified."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hf_langcore.scanning.candidates import Candidate


@dataclass(frozen=True, slots=True)
class Options:
    """How candidates are verified; see `find_critical_dimensions`."""

    factors: tuple[float, ...] = (0.0, 10.0)
    matrix_factors: tuple[float, ...] = (0.0,)
    confirm: int = 32
    controls: int = 8
    min_ratio: float = 2.0
    seed: int = 0

    def factors_of(self, candidate: Candidate) -> tuple[float, ...]:
        """What a candidate is multiplied by."""
        return self.factors if candidate.kind == "norm" else self.matrix_factors

    def to_dict(self) -> dict[str, Any]:
        """As JSON values, for the settings of a result."""
        return {
            "factors": list(self.factors),
            "matrix_factors": list(self.matrix_factors),
            "confirm": self.confirm,
            "controls": self.controls,
            "min_ratio": self.min_ratio,
        }
