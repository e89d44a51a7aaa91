"""The ways of fine-tuning that the experiment on protection compares."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

from peft import PeftConfig

from hf_langcore.errors import ConfigurationError
from hf_langcore.recipes.protection.adapters import Adapter
from hf_langcore.recipes.protection.shields import Frozen

FULL = "full fine-tuning"
ANCHOR = "anchor, uniform"
WEIGHTED = "anchor, by Fisher importance"
GENERAL = "general data, 5 times"

_RATE = 5e-4
_RANK = 16


@dataclass(frozen=True, slots=True)
class Method:
    """One way of fine-tuning.

    Attributes:
        name: For tables; different for each method.
        curve: Methods that differ in one strength only share a curve; empty for a method that stands alone.
        learning_rate: Its peak.
        frozen: The weights that stay what they are.
        general_data_ratio: How many times as many tokens of general data as of the task.
        adapter: Train an adapter instead of the weights: any config of PEFT, or its fields as a mapping with `peft_type`. One of
            the type CORE_REGION that names no core mask protects the core of the run.
        anchor_strength: The share of the distance to the base that is taken back in a step; None for no anchor.
        weighted: The anchor pulls in proportion to the Fisher importance.
    """

    name: str
    curve: str = ""
    learning_rate: float = _RATE
    frozen: Frozen | None = None
    general_data_ratio: float = 0.0
    adapter: Adapter | None = None
    anchor_strength: float | None = None
    weighted: bool = False

    def __post_init__(self) -> None:
        if not _is_number(self.learning_rate) or self.learning_rate <= 0:
            raise ConfigurationError(
                f"The learning rate of {self.name!r} must be a number above 0, got {self.learning_rate!r}."
            )
        self._require_options()
        if self.adapter is not None and (self.frozen or self.anchor_strength is not None):
            raise ConfigurationError(
                f"{self.name!r} has an adapter, which leaves the weights alone, and freezes or anchors them as well. Leave out "
                "one of the two; an adapter of the type CORE_REGION keeps off the core."
            )

    def _require_options(self) -> None:
        """Refuse before anything is trained what a run would stumble over, or pass over in silence."""
        ratio, strength = self.general_data_ratio, self.anchor_strength
        expected = {
            f"frozen as one of {', '.join(get_args(Frozen))}": self.frozen in (None, *get_args(Frozen)),
            "general_data_ratio as a number of at least 0": _is_number(ratio) and ratio >= 0,
            "anchor_strength as a number from 0 to 1": strength is None
            or (_is_number(strength) and 0 <= strength <= 1),
            "weighted as true or false, and true only beside anchor_strength": isinstance(self.weighted, bool)
            and (strength is not None or not self.weighted),
            "adapter as a config of PEFT, or its fields with peft_type": self.adapter is None
            or isinstance(self.adapter, (PeftConfig, Mapping)),
        }
        wrong = next((what for what, holds in expected.items() if not holds), None)
        if wrong is not None:
            value = getattr(self, wrong.split(maxsplit=1)[0])
            raise ConfigurationError(f"The method {self.name!r} needs {wrong}; got {value!r}.")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def standard_methods() -> list[Method]:
    """Frozen cores, controls of equal size, adapters, general data, and anchors of several strengths."""
    rates = (1e-3, _RATE, 2.5e-4, 1e-4, 5e-5)
    uniform, weighted = (0.01, 0.03, 0.1), (0.03, 0.1, 0.3, 1.0)
    return [
        *(Method(f"{FULL}, learning rate {rate:g}", FULL, rate) for rate in rates),
        Method("frozen core, 3 %", frozen="core"),
        Method("frozen random weights, 3 %", frozen="random"),
        Method("frozen largest weights, 3 %", frozen="magnitude"),
        Method("frozen columns by Wanda, 50 %", frozen="columns"),
        Method("frozen random columns, 50 %", frozen="random columns"),
        *(Method(f"{ANCHOR}, {share:g}", ANCHOR, anchor_strength=share) for share in uniform),
        *(Method(f"{WEIGHTED}, {share:g}", WEIGHTED, anchor_strength=share, weighted=True) for share in weighted),
        Method(f"{ANCHOR}, 0.03, and frozen core", anchor_strength=0.03, frozen="core"),
        *_adapters("LORA", f"LoRA, r={_RANK}"),
        *_adapters("CORE_REGION", f"masked adapter, r={_RANK}"),
        Method(GENERAL, GENERAL, general_data_ratio=5),
        Method(f"{GENERAL}, learning rate 0.0001", GENERAL, 1e-4, general_data_ratio=5),
        Method(f"{GENERAL}, and frozen core", general_data_ratio=5, frozen="core"),
        Method(f"{GENERAL}, and {ANCHOR}, 0.03", general_data_ratio=5, anchor_strength=0.03),
    ]


def _adapters(kind: str, title: str) -> list[Method]:
    options: dict[str, Any] = {"r": _RANK, "lora_alpha": 2 * _RANK, "target_modules": "all-linear"}
    adapter = {"peft_type": kind, **options}
    return [Method(f"{title}, learning rate {rate:g}", title, rate, adapter=adapter) for rate in (5e-3, 2e-3, 1e-3)]
