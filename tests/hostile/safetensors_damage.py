"""Damage to safetensors files: headers that promise too much, ranges that overlap, tensors under other names."""

from __future__ import annotations

import json
import random
from typing import Any

from artifact import Files, content_of, ordinary
from json_damage import NAMES

SUFFIX = ".safetensors"


def split(content: bytes) -> tuple[dict[str, Any], bytes]:
    """Header and data."""
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def join(header: dict[str, Any] | bytes, data: bytes) -> bytes:
    """A file of a header, also of one that is wrong, and data."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode("utf-8", "surrogatepass")
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data


def bomb(rng: random.Random, files: Files) -> Files:
    """A header that declares more than there is."""
    name = rng.choice(ordinary(files, SUFFIX))
    content = content_of(files, name)
    header, data = split(content)
    tensor = rng.choice([key for key in header if key != "__metadata__"])
    how = rng.randrange(7)
    if how == 0:
        length = rng.choice(
            (2**60, 2**63, 2**64 - 1, 2**40, 99_999_999, 100_000_001, len(content), len(content) - 7, 0, 1)
        )
        return {**files, name: length.to_bytes(8, "little") + content[8:]}
    if how == 1:
        header[tensor]["shape"] = rng.choice(
            ([2**62], [2**31, 2**31], [2**63, 2], [0, 2**63], [-1], [1.5], ["1"], [], [[1]], None)
        )
    elif how == 2:
        end = header[tensor]["data_offsets"][1]
        header[tensor]["data_offsets"] = rng.choice(
            ([0, 2**60], [2**60, 2**61], [end, 0], [0, end + 1], [-1, 3], [0], "0", [0.5, 1])
        )
    elif how == 3:
        header[tensor]["dtype"] = rng.choice(
            ("U8", "F64", "I64", "F4", "F8_E4M3", "C64", "OBJECT", "", None, 8, "BOOL", "F32")
        )
    elif how == 4:
        first = next(one for one in header if one != "__metadata__")
        header = {**header, "again": dict(header[first])}
    elif how == 5:
        return {
            **files,
            name: join(rng.choice((b"[" * 100_000, b"{" * 9, b"", b"[]", b'{"a":1}', b"\xff" * 40)), data),
        }
    else:
        many = {f"t{number}": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]} for number in range(20_000)}
        header = {**many, **header}
    return {**files, name: join(header, data)}


def swap(rng: random.Random, files: Files) -> Files:
    """Two tensors change places, names or bytes; or two files do."""
    name = rng.choice(ordinary(files, SUFFIX))
    header, data = split(content_of(files, name))
    tensors = [key for key in header if key != "__metadata__"]
    if len(tensors) < 2 or rng.random() < 0.2:
        names = ordinary(files)
        first, second = rng.choice(names), rng.choice(names)
        return {**files, first: files[second], second: files[first]}
    first, second = rng.sample(tensors, 2)
    if rng.random() < 0.5:
        header[first], header[second] = header[second], header[first]
    else:
        header[first]["data_offsets"], header[second]["data_offsets"] = (
            header[second]["data_offsets"],
            header[first]["data_offsets"],
        )
    return {**files, name: join(header, data)}


def renamed(rng: random.Random, files: Files) -> Files:
    """A tensor under another name, that of another tensor, or that of a file."""
    name = rng.choice(ordinary(files, SUFFIX))
    header, data = split(content_of(files, name))
    tensor = rng.choice([key for key in header if key != "__metadata__"])
    new = rng.choice((*NAMES, f"{tensor} ", tensor.upper(), "n" * rng.choice((10_000, 10_000_000))))
    text = json.dumps({(new if key == tensor else key): value for key, value in header.items()}, ensure_ascii=False)
    return {**files, name: join(text.encode("utf-8", "surrogatepass"), data)}


def metadata(rng: random.Random, files: Files) -> Files:
    """The notes in the header say something else, or the header says one thing twice."""
    name = rng.choice(ordinary(files, SUFFIX))
    header, data = split(content_of(files, name))
    notes = dict(header.get("__metadata__") or {})
    how = rng.randrange(4)
    if notes and how == 0:
        notes.pop(rng.choice(list(notes)))
    elif notes and how == 1:
        notes[rng.choice(list(notes))] = rng.choice(("", "2", "false", "x" * 100_000, *NAMES))
    elif how == 2:
        notes[rng.choice(("extra", "format", "digest"))] = rng.choice(("", "2", "pt", *NAMES))
    else:
        entry = next(key for key in header if key != "__metadata__")
        text = json.dumps(header)[:-1] + f", {json.dumps(entry)}: {json.dumps(header[rng.choice(list(header))])}}}"
        return {**files, name: join(text.encode(), data)}
    return {**files, name: join({**header, "__metadata__": notes}, data)}


SAFETENSORS_DAMAGES = {"header bombs": bomb, "swapped": swap, "tensor names": renamed, "header notes": metadata}
