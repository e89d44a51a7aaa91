"""What general compressors make of the same text: gzip, zstd and xz at their strongest usual levels."""

from __future__ import annotations

import gzip
import lzma
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from hf_langcore.errors import InputError
from hf_langcore.extras import require

ARCHIVERS = ("gzip", "zstd", "xz")
"""gzip -9, zstd -19, xz -9 (extreme)."""


@dataclass(frozen=True, slots=True)
class Archived:
    """Bytes that a compressor needs.

    Attributes:
        by_document: Each document on its own, as a model without context of other documents sees it.
        whole: All documents of a language in one file, a line break between them.
    """

    by_document: int
    whole: int


def archive(name: str, documents: Sequence[str]) -> Archived:
    """Compress the documents of one language with a general compressor.

    Args:
        name: One of `ARCHIVERS`.
        documents: Texts.

    Raises:
        InputError: There is no such compressor.
        MissingExtraError: zstandard is not installed.
    """
    pack = _packer(name)
    raw = [document.encode("utf-8", "surrogatepass") for document in documents]
    return Archived(sum(len(pack(one)) for one in raw), len(pack(b"\n".join(raw))))


def require_archivers(names: Sequence[str]) -> None:
    """Check names of compressors, and that they are installed, before work that would be lost.

    Raises:
        InputError: One is none.
        MissingExtraError: zstandard is not installed.
    """
    for name in names:
        _packer(name)


def _packer(name: str) -> Callable[[bytes], bytes]:
    if name == "gzip":
        return lambda data: gzip.compress(data, 9, mtime=0)
    if name == "xz":
        return lambda data: lzma.compress(data, preset=9 | lzma.PRESET_EXTREME)
    if name == "zstd":
        zstandard: Any = require("zstandard", extra="compression", feature="Comparing with zstd")
        pack: Callable[[bytes], bytes] = zstandard.ZstdCompressor(level=19).compress
        return pack
    raise InputError(f"Compressors to compare with are {', '.join(ARCHIVERS)}, got {name!r}.")
