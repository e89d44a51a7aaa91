"""Damage to the values of JSON files: wrong types and numbers, and text that no ordinary writer produces."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator
from typing import Any

from artifact import Files, content_of, json_of, ordinary

DEEP = 100_000
_RAW = "raw text \u2603 "

RAW: dict[str, Callable[[random.Random], str]] = {
    "NaN": lambda _: "NaN",
    "Infinity": lambda _: "-Infinity",
    "too large a float": lambda _: "1e999",
    "many digits": lambda rng: "9" * rng.choice((19, 39, 400, 4301, 10_000)),
    "nesting": lambda rng: _nested(rng.choice((100, 900, 3000, 20_000, DEEP)), rng.choice("[{")),
    "unclosed nesting": lambda _: "[" * DEEP,
    "lone surrogate": lambda _: '"\\ud800"',
    "null character": lambda _: '"a\\u0000b"',
    "long text": lambda rng: f'"{rng.choice("a/ ") * rng.choice((3000, 1_000_000))}"',
    "trailing comma": lambda _: "1,",
    "hexadecimal": lambda _: "0x10",
    "leading zero": lambda _: "012",
}

VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 3, 7, 2**31, 2**53, 2**63, -(2**63), 2**64, 10**30, 0.5, 1.0, 1e308, -0.0, "", "0", "1",
    "a", "../../outside", "/etc/passwd", "\u0000", "rice", "bits", "empty", "elias-fano", [], [[]], [0], [-1], [2**40, 2**40],
    [1, 1], [1.5], ["1"], [True], {}, {"a": 1}, {"shape": [2**62]}, "x" * 500,
)  # fmt: skip

NAMES = (
    "../../../outside", "/etc/passwd", "..", ".", "", "a/b", "a\\b", "C:\\windows", "a\u0000b", "\ud800", "CON", "~root",
    "file:///etc/passwd", "a" * 5000, "model.layers.0.mlp.up_proj.weight:bits", "\u202egnp", "$(touch canary)", "%2e%2e/",
    "__metadata__", "__class__", "{0.__class__}", "%s%n", "a\nb\r\nc", "\x1b[2J",
)  # fmt: skip

VERSIONS = (2, 3, 99, 0, -1, 2**63, 10**300, 1.0, 1.5, "1", "2", "", None, True, [1], {"major": 1}, "1e0")


def wrong_value(rng: random.Random, files: Files) -> Files:
    """One value of a JSON file is another one, is missing, or is there in addition."""
    name = rng.choice(ordinary(files, ".json"))
    values = json_of(files, name)
    change_one(rng, values)
    return {**files, name: dump(values)}


def change_one(rng: random.Random, values: Any) -> None:
    """Change one value somewhere, in place."""
    holder, key = rng.choice(list(places(values)))
    how = rng.randrange(8)
    if how == 0:
        del holder[key]
    elif how == 1 and isinstance(holder, dict):
        holder[rng.choice(("extra", *NAMES[:4]))] = rng.choice(VALUES)
    elif how == 1:
        holder.insert(key, rng.choice(VALUES))
    elif how <= 4 and _is_number(holder[key]):
        holder[key] += rng.choice((1, -1, 8, -8, 0.5, 1e-4, 2**31, -(2**40)))
    elif how == 5 and isinstance(holder[key], str) and holder[key]:
        place = rng.randrange(len(holder[key]))
        holder[key] = holder[key][:place] + chr(rng.randrange(33, 126)) + holder[key][place + 1 :]
    else:
        holder[key] = rng.choice(VALUES)


def no_json(rng: random.Random, files: Files) -> Files:
    """A value that JSON does not have, that no program can hold, or that is nested too deeply."""
    name = rng.choice(ordinary(files, ".json"))
    values = json_of(files, name)
    holder, key = rng.choice(list(places(values)))
    kind = rng.choice(list(RAW))
    raw = RAW[kind](rng)
    if isinstance(holder, dict) and rng.random() < 0.2:
        holder["extra"] = _RAW
    else:
        holder[key] = _RAW
    return {**files, name: dump(values).replace(json.dumps(_RAW, ensure_ascii=False).encode(), raw.encode())}


def encoding(rng: random.Random, files: Files) -> Files:
    """Bytes that are no UTF-8, another encoding, a byte order mark, a null byte, or something after the end."""
    name = rng.choice(ordinary(files, ".json"))
    content = content_of(files, name)
    place = rng.randrange(len(content))
    text = content.decode()
    variants = (
        content[:place] + rng.choice((b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\x00", b"\xf5")) + content[place:],
        text.encode(rng.choice(("utf-16", "utf-32", "utf-7"))).replace(b"+", b"\xfe"),
        b"\xef\xbb\xbf" + content,
        content + rng.choice((b"{}", b"]", b"\x00", content, b"//")),
        rng.choice((b"null", b"[]", b"0", b'""', b"{}", b"true", b"[" * DEEP, b'{"a":' * DEEP, b"\x00" * 500)),
    )
    return {**files, name: rng.choice(variants)}


def doubled_key(rng: random.Random, files: Files) -> Files:
    """An object in which a key stands twice, with the same or another value, before or after the right one."""
    name = rng.choice(ordinary(files, ".json"))
    values = json_of(files, name)
    objects = [(holder, key) for holder, key in places(values) if isinstance(holder, dict)]
    holder, key = rng.choice(objects)
    again = rng.choice((json.dumps(holder[key]), json.dumps(rng.choice(VALUES))))
    entry = f"{json.dumps(key)}: {again}"
    mark = {_RAW: 0}
    items = [*mark.items(), *holder.items()] if rng.random() < 0.5 else [*holder.items(), *mark.items()]
    holder.clear()
    holder.update(items)
    found = re.compile(re.escape(json.dumps(_RAW, ensure_ascii=False)).encode() + rb": 0")
    return {**files, name: found.sub(lambda _: entry.encode(), dump(values))}


def evil_name(rng: random.Random, files: Files) -> Files:
    """A key or a text is a path, a null character, ten million characters long, or not for terminals."""
    name = rng.choice(ordinary(files, ".json"))
    values = json_of(files, name)
    evil = rng.choice((*NAMES, "n" * 10_000_000)) if rng.random() < 0.1 else rng.choice(NAMES)
    if rng.random() < 0.5:
        holder, key = rng.choice([(h, k) for h, k in places(values) if isinstance(h, dict)])
        items = [(evil if one == key else one, value) for one, value in holder.items()]
        holder.clear()
        holder.update(items)
    else:
        holder, key = rng.choice([(h, k) for h, k in places(values) if isinstance(h[k], str)])
        holder[key] = evil
    return {**files, name: dump(values)}


def other_version(rng: random.Random, files: Files) -> Files:
    """A format version of the future, of the past, or none."""
    name = rng.choice(ordinary(files, ".json"))
    values = json_of(files, name)
    values["format_version"] = rng.choice(VERSIONS)
    return {**files, name: dump(values)}


def same_meaning(rng: random.Random, files: Files) -> Files:
    """The same values in another order and layout: what a formatter does."""
    name = rng.choice(ordinary(files, ".json"))
    values = json_of(files, name)
    return {
        **files,
        name: json.dumps(values, indent=rng.choice((None, 1, 4)), ensure_ascii=rng.random() < 0.5).encode(),
    }


def places(values: Any) -> Iterator[tuple[Any, Any]]:
    """Every place of a value: what holds it, and its key or number."""
    pairs = list(values.items()) if isinstance(values, dict) else list(enumerate(values))
    for key, value in pairs:
        yield values, key
        if isinstance(value, (dict, list)):
            yield from places(value)


def dump(values: Any) -> bytes:
    """As JSON, also lone surrogates and infinite numbers."""
    return json.dumps(values, ensure_ascii=False).encode("utf-8", "surrogatepass")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _nested(depth: int, bracket: str) -> str:
    return "[" * depth + "]" * depth if bracket == "[" else '{"a":' * depth + "1" + "}" * depth


JSON_DAMAGES = {
    "wrong values": wrong_value,
    "text that is no JSON": no_json,
    "encoding": encoding,
    "keys that stand twice": doubled_key,
    "names": evil_name,
    "other versions": other_version,
    "another layout": same_meaning,
}
