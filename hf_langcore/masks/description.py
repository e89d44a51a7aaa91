"""The JSON half of a mask artifact: written so that people can read it, read as if an enemy had written it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, astuple
from pathlib import Path
from typing import Any

from hf_langcore.errors import CoreMaskFormatError
from hf_langcore.masks.encoding import Block, Entry, check_entry
from hf_langcore.sealing import SEAL, seal_of
from hf_langcore.strict_json import parse_json

_MAX_BYTES = 1 << 25  # about a hundred thousand tensors
_MAX_VALUES = 1 << 22  # numbers, texts, lists and objects in it
_AGAIN = "Download or compute the mask again."
_FIELDS = {"shape", "count", "kind", "inverted", "low_bits"}  # of format version 1


def describe(config: Mapping[str, Any], entries: Mapping[str, Entry]) -> str:
    """The text of the file: indented, with one line for each tensor, and sealed."""
    tensors = {name: _to_dict(entry) for name, entry in entries.items()}
    seal = seal_of({**config, "tensors": tensors})
    head = json.dumps({**config, SEAL: seal}, indent=2, ensure_ascii=False, allow_nan=False).removesuffix("\n}")
    lines = ",\n".join(f"    {json.dumps(name)}: {json.dumps(fields)}" for name, fields in tensors.items())
    return f'{head},\n  "tensors": {{\n{lines}\n  }}\n}}\n'


def parse(path: Path) -> Any:
    """Read a JSON file of bounded size and depth, in which no key stands twice and every number is finite.

    Raises:
        CoreMaskFormatError: It is none.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES or content.count(b",") + content.count(b"[") + content.count(b"{") > _MAX_VALUES:
            raise ValueError(f"it is larger than {_MAX_BYTES} bytes or {_MAX_VALUES} values")  # noqa: TRY301 one message
        return parse_json(content)
    except ValueError as error:
        raise CoreMaskFormatError(f"{path} is no valid JSON ({error}). {_AGAIN}") from error


def entries_of(config: Mapping[str, Any], *, is_name: Callable[[str], object]) -> dict[str, Entry]:
    """The checked descriptions of all tensors.

    Args:
        config: The parsed file.
        is_name: Whether a text can be a parameter name.

    Raises:
        CoreMaskFormatError: One is wrong, or there is none.
    """
    entries = {}
    try:
        for name, fields in config["tensors"].items():
            if not is_name(name):
                raise CoreMaskFormatError(
                    f"{name[:80]!r} in the mask's JSON file is no parameter name. The file was altered."
                )
            entries[name] = _from_dict(fields, version=config["format_version"])
            check_entry(name, entries[name])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, CoreMaskFormatError):
            raise
        raise CoreMaskFormatError(
            f"The mask's JSON file does not describe its tensors correctly ({repr(error)[:200]}). {_AGAIN}"
        ) from error
    if not entries:
        raise CoreMaskFormatError(f"The mask's JSON file lists no tensors. {_AGAIN}")
    return entries


def _to_dict(entry: Entry) -> dict[str, Any]:
    if entry.kind != "rice":
        return {name: value for name, value in asdict(entry).items() if name in _FIELDS}
    blocks = [[int(value) for value in astuple(block)] for block in entry.blocks]
    fields: dict[str, Any] = {"shape": entry.shape, "count": entry.count, "kind": entry.kind}
    if entry.inverted:
        fields["inverted"] = True
    if entry.has_classes():
        fields["classes"] = entry.classes
    return {**fields, "blocks": blocks}


def _from_dict(fields: Mapping[str, Any], *, version: int) -> Entry:
    values = dict(fields)
    shape = tuple(map(_whole, values.pop("shape")))
    classes = tuple(map(_whole, values.pop("classes", (1, 1))))
    blocks = tuple(map(_block, values.pop("blocks", ())))
    if len(classes) != 2:  # noqa: PLR2004 rows and columns
        raise ValueError(f"classes {classes}")
    entry = Entry(shape=shape, classes=(classes[0], classes[1]), blocks=blocks, **values)
    _whole(entry.count), _whole(entry.low_bits)
    if entry.kind == "rice" and version == 1:
        raise ValueError(f"{entry.kind!r} in format version {version}")
    return entry


def _block(values: Any) -> Block:
    count, low_bits, high_bytes, inverted = map(_whole, values)
    if inverted not in {0, 1}:
        raise ValueError(f"a block is inverted or not, got {inverted}")
    return Block(count, low_bits, high_bytes, bool(inverted))


def _whole(value: Any) -> int:
    if type(value) is not int:
        raise TypeError(f"expected a whole number, got {repr(value)[:80]}")
    return value
