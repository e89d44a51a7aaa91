"""A fingerprint of a model's weights, so that a mask can tell whether it belongs to them.

It hashes a strided sample of every tensor, rounded to bfloat16, so that it costs milliseconds and a model loaded
in float32 and in bfloat16 has the same one. Magnitudes below 2**-16 count as zero, because float16 cannot hold
them exactly; a bfloat16 checkpoint loaded in float16 therefore agrees too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

ALGORITHM = "sha256/bfloat16/strided-1024"

_SAMPLES = 1024
_FLUSH_BELOW = 2.0**-16


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Digests of named tensors.

    Attributes:
        tensors: Tensor name -> 16 hex digits of its digest.
        algorithm: What the digests were made with; two of different algorithms cannot be compared.
    """

    tensors: Mapping[str, str] = field(repr=False)
    algorithm: str = ALGORITHM

    @property
    def total(self) -> str:
        """One hex sha256 over all tensors."""
        lines = "".join(f"{name}={digest};" for name, digest in sorted(self.tensors.items()))
        return hashlib.sha256(f"{self.algorithm}|{lines}".encode()).hexdigest()

    def differing(self, other: Fingerprint) -> list[str]:
        """Names of this fingerprint's tensors that differ from `other`'s or are missing there."""
        return [name for name, digest in self.tensors.items() if other.tensors.get(name) != digest]


def fingerprint(tensors: Mapping[str, torch.Tensor]) -> Fingerprint:
    """Fingerprint named tensors of any floating dtype and device."""
    return Fingerprint({name: digest_of(name, tensor) for name, tensor in tensors.items()})


def digest_of(name: str, tensor: torch.Tensor) -> str:
    """The digest of one tensor: 16 hex digits."""
    flat = tensor.detach().reshape(-1)
    sample = flat[:: max(1, flat.numel() // _SAMPLES)].to(torch.bfloat16).float()
    sample = torch.where(sample.abs() < _FLUSH_BELOW, 0.0, sample)
    head = f"{name}|{list(tensor.shape)}|".encode()
    return hashlib.sha256(head + sample.cpu().numpy().tobytes()).hexdigest()[:16]
