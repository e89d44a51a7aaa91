"""Rows that say what an earlier row said: exactly, or nearly (MinHash over phrases of three words)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from hf_langcore.auditing.findings import Check, Finding
from hf_langcore.auditing.parts import View, excerpt
from hf_langcore.auditing.units import units
from hf_langcore.extras import require

_PHRASE = 3
_FEWEST_WORDS = 10
_PERMUTATIONS = 128
_DIGEST_BYTES = 16


class DuplicateCheck(Check):
    """Finds rows whose text an earlier row has; the first of them is not reported.

    Args:
        similarity: Estimated Jaccard similarity of the sets of phrases of three words from which two rows are near
            duplicates; rows of less than ten words are compared exactly only.
    """

    def __init__(self, *, similarity: float) -> None:
        self.similarity = similarity
        self._library = require("datasketch", extra="audit", feature="Finding near-duplicates")
        self._index = self._library.MinHashLSH(threshold=similarity, num_perm=_PERMUTATIONS)
        self._signatures: dict[int, Any] = {}
        self._seen: dict[bytes, int] = {}

    def examine(self, view: View) -> Iterable[Finding]:
        """The first earlier row that says the same."""
        words = [word for part in view.parts for word in (f"\0{part.role}", *units(part.text))]
        said = [word for word in words if not word.startswith("\0")]
        if not said:
            return
        digest = hashlib.blake2b("\0".join(words).encode(errors="surrogatepass"), digest_size=_DIGEST_BYTES).digest()
        first = self._seen.setdefault(digest, view.number)
        if first != view.number:
            yield _finding(view, "exact_duplicate", first, 1.0)
        elif len(said) >= _FEWEST_WORDS:
            yield from self._near(view, said)

    def _near(self, view: View, words: list[str]) -> Iterator[Finding]:
        phrases = {" ".join(words[index : index + _PHRASE]) for index in range(len(words) - _PHRASE + 1)}
        signature = self._library.MinHash(num_perm=_PERMUTATIONS, hashfunc=_hash)
        signature.update_batch([phrase.encode(errors="surrogatepass") for phrase in phrases])
        candidates = self._index.query(signature)
        likeness = {row: float(np.mean(self._signatures[row] == signature.hashvalues)) for row in candidates}
        twin = max(likeness, key=lambda row: (likeness[row], -row), default=None)
        if twin is not None and likeness[twin] >= self.similarity:
            yield _finding(view, "near_duplicate", twin, likeness[twin])
            return
        self._index.insert(view.number, signature)
        self._signatures[view.number] = signature.hashvalues.copy()


def _hash(value: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(value, digest_size=4).digest(), "little")


def _finding(view: View, kind: str, twin: int, likeness: float) -> Finding:
    shown = excerpt(next((part.text for part in reversed(view.parts) if part.text.strip()), ""))
    detail = f"like row {twin}" + ("" if kind == "exact_duplicate" else f" (similarity {likeness:.2f})")
    return Finding(view.number, "duplicates", kind, "row", detail, shown, likeness)
