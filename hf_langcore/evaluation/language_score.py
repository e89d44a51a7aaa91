"""One figure: how well a model predicts the text of one language."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class LanguageScore:
    """One measurement.

    Attributes:
        nll: Mean negative log-likelihood per token, in nats.
        tokens: Number of scored tokens.
        bytes: UTF-8 bytes of exactly the text that these tokens stand for; None where that is not known.
    """

    nll: float
    tokens: int
    bytes: int | None = None

    @property
    def perplexity(self) -> float:
        """exp(nll); infinite where that is no float."""
        return exp_or_inf(self.nll)

    @property
    def bits_per_byte(self) -> float | None:
        """Bits that the model needs per byte of text, which tokenizers do not change; None where the bytes are not known."""
        return self.nll * self.tokens / math.log(2) / self.bytes if self.bytes else None

    def to_dict(self) -> dict[str, Any]:
        """As JSON values; infinite figures become the string "inf"."""
        values = {"nll": number_or_inf(self.nll), "perplexity": number_or_inf(self.perplexity), "tokens": self.tokens}
        return values if self.bytes is None else {**values, "bytes": self.bytes}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> LanguageScore:
        """The reverse of `to_dict`; older reports have no bytes."""
        size = values.get("bytes")
        return cls(float(values["nll"]), int(values["tokens"]), None if size is None else int(size))


def exp_or_inf(value: float) -> float:
    """exp(value), infinite where that is no float."""
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf


def number_or_inf(value: float) -> float | str:
    """A number as JSON has it; infinity, which JSON lacks, as the string "inf"."""
    return value if math.isfinite(value) else str(value)
