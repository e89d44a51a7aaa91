"""Damage to zip archives and to the pickles in them: bombs, members under other names, programs instead of data."""

from __future__ import annotations

import io
import os
import pickle
import random
import struct
import zipfile
from typing import Any

from artifact import Files, content_of, ordinary
from json_damage import NAMES

_MEBI = 1 << 20


class Runs:
    """Unpickling it calls something."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def members(content: bytes) -> dict[str, bytes]:
    """Name -> content of an archive."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def archive_of(contents: list[tuple[str, bytes]], *, compress: bool = False) -> bytes:
    """An archive; names may stand twice."""
    target = io.BytesIO()
    method = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
    with zipfile.ZipFile(target, "w", method) as archive:
        for name, content in contents:
            info = zipfile.ZipInfo(name or "x")
            info.filename = name
            info.compress_type = method
            archive.writestr(info, content)
    return target.getvalue()


def archive_damage(rng: random.Random, files: Files) -> Files:
    """Members that are compressed, encrypted, doubled, renamed, missing or of another size than declared."""
    name = rng.choice([name for name in ordinary(files) if content_of(files, name).startswith(b"PK")])
    content = content_of(files, name)
    found = list(members(content).items())
    place = rng.randrange(len(found))
    member, inside = found[place]
    how = rng.randrange(7)
    if how == 0:
        found[place] = (member, bytes(rng.choice((2, 100)) * _MEBI))
        return {**files, name: archive_of(found, compress=True)}
    if how == 1:
        return {**files, name: archive_of([*found, (member, rng.choice((inside, b"", b"other")))])}
    if how == 2:
        found[place] = (rng.choice((*(one for one in NAMES if "\ud800" not in one), "n" * 60_000)), inside)
    elif how == 3:
        del found[place]
    elif how == 4:
        found[place] = (member, inside[: len(inside) // 2] if rng.random() < 0.5 else inside * 2)
    elif how == 5:
        return {**files, name: _directory_changed(rng, content)}
    else:
        return {**files, name: archive_of(found, compress=True)}
    return {**files, name: archive_of(found)}


def _directory_changed(rng: random.Random, content: bytes) -> bytes:
    """One field of an entry of the archive's directory is another number."""
    start = content.index(b"PK\x01\x02")
    data = bytearray(content)
    offset, width = rng.choice(((8, 2), (10, 2), (16, 4), (20, 4), (24, 4), (28, 2), (30, 2), (42, 4)))
    data[start + offset : start + offset + width] = rng.choice(
        (b"\xff" * width, b"\x01" + bytes(width - 1), rng.randbytes(width))
    )
    return bytes(data)


def _big(code: bytes, length: int, width: int) -> bytes:
    return b"\x80\x02" + code + length.to_bytes(width, "little") + b"abc."


PROGRAMS: tuple[bytes, ...] = (
    *(pickle.dumps(Runs(os.system, "touch canary-system"), protocol) for protocol in range(6)),
    pickle.dumps(Runs(eval, "open('canary-eval', 'w')"), 2),
    pickle.dumps(Runs(exec, "open('canary-exec', 'w')"), 2),
    pickle.dumps({"a": [Runs(open, "canary-open", "w")]}, 2),
    pickle.dumps(Runs(bytearray, 10**12), 2),
    pickle.dumps(Runs(getattr, str, "join"), 2),
    pickle.dumps([object()], 2),
    pickle.dumps({1: {2, 3}}, 2),
    pickle.dumps(Runs(__import__, "antigravity"), 2),
    b"\x80\x02ctorch.serialization\nload\n(X\x01\x00\x00\x00xtR.",
    b"\x80\x02ctorch.hub\nload\n(X\x01\x00\x00\x00xtR.",
    b"\x80\x02cos\nsystem\n.",
    b"\x80\x02c__builtin__\neval\n(X\x0a\x00\x00\x00open('can')tR.",
    b"(S'touch canary-inst'\nios\nsystem\n.",
    b"\x80\x02(cos\nsystem\nX\x05\x00\x00\x00touchtoq\x00.",
    b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x05touch\x85R.",
    b"\x80\x02\x82\x01.", b"\x80\x02]q\x00h\x00a.", b"\x80\x02" + b"]q\x00" + b"h\x00a" * 1000 + b".",
    b"\x80\x02" + b"(" * 100_000 + b".", b"\x80\x02" + b"]" * 300_000 + b".", b"\x80\x02" + b"2" * 1000 + b".",
    b"\x80\x02" + b"}" + b"(K\x01K\x02" * 1000 + b"u.", b"\x80\x02N0.", b"\x80\x02.", b".", b"", b"\x80", b"\x80\x09N.", b"\x80\x02N",
    _big(b"X", 2**32 - 1, 4), _big(b"\x8d", 2**60, 8), _big(b"B", 2**31, 4), _big(b"\x8e", 2**62, 8), _big(b"\x8b", 2**31 - 1, 4),
    _big(b"\x8a", 255, 1), _big(b"r", 2**32 - 1, 4), _big(b"j", 2**32 - 1, 4), _big(b"\x95", 2**63, 8), _big(b"T", 2**31 - 1, 4),
    b"\x80\x02I" + b"9" * 100_000 + b"\n.", b"\x80\x02L" + b"9" * 5000 + b"L\n.", b"\x80\x02F1e999\n.", b"\x80\x02V\\ud800\n.",
    b"\x80\x02}q\x00(X\x01\x00\x00\x00aK\x01X\x01\x00\x00\x00aK\x02u.",
    b"\x80\x02ccollections\nOrderedDict\n)R}q\x00b.", b"\x80\x02ctorch\nSize\n(J\xff\xff\xff\xfftR.",
)  # fmt: skip
"""Pickles that call something, ask for memory, or are no program at all."""


def program(rng: random.Random, files: Files) -> Files:
    """The pickle is a program."""
    name = rng.choice([name for name in ordinary(files) if content_of(files, name).startswith(b"PK")])
    found = members(content_of(files, name))
    pickles = [member for member in found if member.endswith("data.pkl")]
    if not pickles:
        return {**files, name: rng.choice(PROGRAMS)}
    choice = rng.choice(PROGRAMS)
    if rng.random() < 0.2:
        return {**files, name: choice}
    return {
        **files,
        name: archive_of([(member, choice if member in pickles else one) for member, one in found.items()]),
    }


def pickle_damage(rng: random.Random, files: Files) -> Files:
    """Bytes, numbers or names in the pickle are others; the archive's checksums are right."""
    name = rng.choice([name for name in ordinary(files) if content_of(files, name).startswith(b"PK")])
    found = members(content_of(files, name))
    key = next(member for member in found if member.endswith("data.pkl"))
    data = bytearray(found[key])
    how = rng.randrange(4)
    if how == 0:
        for _ in range(rng.choice((1, 1, 3))):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif how == 1:
        del data[rng.randrange(len(data)) :]
    elif how == 2:
        places = [place for place, byte in enumerate(data[:-4]) if byte in b"KJM"]
        place = rng.choice(places)
        data[place : place + 2] = rng.choice(
            (
                b"J" + struct.pack("<i", rng.choice((-1, 2**31 - 1, -(2**31), 10**6))),
                b"K\xff",
                b"\x8a\x08" + b"\xff" * 7 + b"\x3f",
                b"N",
                b"\x88",
            )
        )
    else:
        place = rng.randrange(len(data))
        data[place:place] = rng.randbytes(rng.randrange(1, 9))
    return {
        **files,
        name: archive_of([(member, bytes(data) if member == key else one) for member, one in found.items()]),
    }


def npy_bomb(rng: random.Random, files: Files) -> Files:
    """Headers of numpy arrays that declare too much, or hold a program; compressed where they are in an archive."""
    name = rng.choice(ordinary(files))
    shape = rng.choice(
        (
            "(10**20,)",
            "(100000000000,)",
            "(-1,)",
            "(1.5,)",
            "()",
            "(2, 3)",
            "__import__('os').system('touch canary')",
            "(" * 3000,
        )
    )
    descr = rng.choice(
        ("'|b1'", "'|O'", "'<f8'", "'>i8'", "'<U1000000'", "'|V9'", "[('a', '<f8')]", "'b'", "5", "lambda: 0")
    )
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    version, width = rng.choice(((1, 2), (2, 4), (3, 4), (9, 4)))
    length = rng.choice((len(header), len(header), 2 ** (8 * width) - 1, 0))
    array = b"\x93NUMPY" + bytes((version, 0)) + length.to_bytes(width, "little") + header + bytes(100)
    if rng.random() < 0.3:
        array = b"\x93NUMPY\x02\x00" + (400 * _MEBI).to_bytes(4, "little") + b" " * (200 * _MEBI)
        if not name.endswith(".npz"):
            array = array[:1000]
    if not name.endswith(".npz"):
        return {**files, name: array}
    found = members(content_of(files, name))
    return {**files, name: archive_of([*[*found.items()][1:], (next(iter(found)), array)], compress=True)}
