"""What a hostile author does: checksums and seals are made right again after content was changed."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from typing import Any

from artifact import Damage, Damaged, Files, content_of, json_of
from json_damage import change_one, dump

from hf_langcore.sealing import SEAL, seal_of

Change = Callable[[random.Random, Any], object]


def resealed(files: Files, name: str) -> Files:
    """With the right seal in a JSON file that had one."""
    values = json_of(files, name)
    if isinstance(values, dict) and SEAL in values:
        values[SEAL] = seal_of(values)
    return {**files, name: dump(values)}


def rehashed(files: Files, name: str, key: str, of: str) -> Files:
    """With the right sha256 of one file in another one."""
    values = json_of(files, name)
    if of in files and isinstance(files[of], bytes):
        values[key] = hashlib.sha256(content_of(files, of)).hexdigest()
    return {**files, name: dump(values)}


def signed_change(name: str, change: Change, sign: Callable[[Files], Files], *, may_differ: bool = False) -> Damage:
    """A damage that changes the values of a JSON file and signs them.

    Args:
        name: Of the file.
        change: What is done to its values, in place.
        sign: Makes all checksums right.
        may_differ: The change may give another artifact that is right in itself.
    """

    def damage(rng: random.Random, files: Files) -> Damaged:
        values = json_of(files, name)
        change(rng, values)
        return Damaged(sign({**files, name: dump(values)}), may_differ=may_differ)

    return damage


def any_change(name: str, sign: Callable[[Files], Files]) -> Damage:
    """Any change of one value by whoever signs it: refused, or read as what it says."""
    return signed_change(name, change_one, sign, may_differ=True)
