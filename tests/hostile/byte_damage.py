"""Damage to the bytes of files: what disks, networks and editors do."""

from __future__ import annotations

import random

from artifact import SPECIAL, Files, content_of, ordinary


def flip(rng: random.Random, files: Files) -> Files:
    """One to four changed bytes, often by a single bit."""
    name = rng.choice(ordinary(files))
    content = bytearray(content_of(files, name))
    for _ in range(rng.choice((1, 1, 2, 4))):
        content[_place(rng, len(content))] ^= rng.choice((1 << rng.randrange(8), rng.randrange(1, 256)))
    return {**files, name: bytes(content)}


def truncate(rng: random.Random, files: Files) -> Files:
    """The end of a file is missing, or all of it."""
    name = rng.choice(ordinary(files))
    content = content_of(files, name)
    kept = rng.choice((0, 1, 7, 8, 9, len(content) - 1, len(content) // 2, rng.randrange(len(content))))
    return {**files, name: content[: min(kept, len(content) - 1)]}


def splice(rng: random.Random, files: Files) -> Files:
    """A range is inserted, doubled, left out, zeroed, or two ranges change places."""
    name = rng.choice(ordinary(files))
    content = content_of(files, name)
    start, stop = sorted(_place(rng, len(content)) for _ in range(2))
    stop = max(stop, start + 1)
    part = content[start:stop]
    how = rng.randrange(5)
    if how == 0:
        inserted = rng.choice((rng.randbytes(rng.randrange(1, 40)), b"\x00" * 9, b"," * 3, b"}" * 2, b"PK\x03\x04"))
        return {**files, name: content[:start] + inserted + content[start:]}
    if how == 1:
        return {**files, name: content[:stop] + part + content[stop:]}
    if how == 2:
        return {**files, name: content[:start] + content[stop:]}
    if how == 3:
        return {**files, name: content[:start] + b"\x00" * len(part) + content[stop:]}
    middle = start + len(part) // 2
    return {**files, name: content[:start] + content[middle:stop] + content[start:middle] + content[stop:]}


def other_file_type(rng: random.Random, files: Files) -> Files:
    """A file that is missing, empty, a folder, a pipe, or a link to somewhere else."""
    name = rng.choice(ordinary(files))
    return {**files, name: rng.choice((*SPECIAL, b"", rng.randbytes(200)))}


def _place(rng: random.Random, length: int) -> int:
    """A place in a file; heads are as likely as all the rest."""
    return rng.randrange(min(length, 64)) if rng.random() < 0.3 else rng.randrange(length)
