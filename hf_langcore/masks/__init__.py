"""Core masks: which weights are core, how they are selected, compared, stored and bound to a base model."""

from __future__ import annotations

from hf_langcore.masks.bits import PackedBits, bits_of, unpack_bits
from hf_langcore.masks.dimensions import Dimension
from hf_langcore.masks.fingerprint import Fingerprint, fingerprint
from hf_langcore.masks.mask import CoreMask
from hf_langcore.masks.provenance import Provenance
from hf_langcore.masks.scores import ImportanceScores

__all__ = [
    "CoreMask",
    "Dimension",
    "Fingerprint",
    "ImportanceScores",
    "PackedBits",
    "Provenance",
    "bits_of",
    "fingerprint",
    "unpack_bits",
]
