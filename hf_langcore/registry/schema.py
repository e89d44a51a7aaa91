"""Checking values against the data file's JSON Schema: the part of draft 2020-12 that the schema uses, with short messages.

The schema file is the one description of the format. A keyword that is not understood here is an error rather than a rule
that nobody enforces.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

_SCHEMA = Path(__file__).with_name("critical_coordinates.schema.json")
_SHOWN = 80
_ANNOTATIONS = {"$schema", "title", "description", "$defs"}
_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "null": type(None),
}


@cache
def the_schema() -> dict[str, Any]:
    """The schema of critical coordinates."""
    return dict(json.loads(_SCHEMA.read_text(encoding="utf-8")))


def require_valid(value: Any, *, part: str | None = None) -> None:
    """Check JSON values.

    Args:
        value: The values.
        part: Which definition they are to fit, such as "entry"; the whole file if None.

    Raises:
        ValueError: They do not fit; the message says where, what was expected and what came.
    """
    schema = the_schema() if part is None else the_schema()["$defs"][part]
    problem = next(_problems(value, schema, ""), None)
    if problem is not None:
        raise ValueError(problem)


def _problems(value: Any, schema: Mapping[str, Any], place: str) -> Iterator[str]:
    for keyword, rule in schema.items():
        if keyword in _ANNOTATIONS:
            continue
        if keyword not in _RULES:
            raise NotImplementedError(f"The schema uses {keyword!r}, which is not checked.")
        yield from _RULES[keyword](value, rule, schema, place)


def _is_type(value: Any, name: str) -> bool:
    if isinstance(value, bool):
        return name == "boolean"
    return isinstance(value, _TYPES[name])


def _type(value: Any, rule: str | list[str], _schema: Any, place: str) -> Iterator[str]:
    names = [rule] if isinstance(rule, str) else rule
    if not any(_is_type(value, name) for name in names):
        yield f"{_at(place)} should be {' or '.join(names)}, got {_shown(value)}"


def _const(value: Any, rule: Any, _schema: Any, place: str) -> Iterator[str]:
    if not _same(value, rule):
        yield f"{_at(place)} should be {_shown(rule)}, got {_shown(value)}"


def _enum(value: Any, rule: list[Any], _schema: Any, place: str) -> Iterator[str]:
    if not any(_same(value, one) for one in rule):
        yield f"{_at(place)} should be one of {', '.join(map(_shown, rule))}, got {_shown(value)}"


def _any_of(value: Any, rule: list[Any], _schema: Any, place: str) -> Iterator[str]:
    found = [next(_problems(value, one, place), None) for one in rule]
    if None not in found:
        yield "; or ".join(str(one) for one in found)


def _ref(value: Any, rule: str, _schema: Any, place: str) -> Iterator[str]:
    yield from _problems(value, the_schema()["$defs"][rule.removeprefix("#/$defs/")], place)


def _required(value: Any, rule: list[str], _schema: Any, place: str) -> Iterator[str]:
    missing = [name for name in rule if name not in value] if isinstance(value, dict) else []
    if missing:
        yield f"{_at(place)} lacks {', '.join(map(repr, missing))}"


def _properties(value: Any, rule: Mapping[str, Any], _schema: Any, place: str) -> Iterator[str]:
    for name in value if isinstance(value, dict) else ():
        if name in rule:
            yield from _problems(value[name], rule[name], f"{place}.{name}")


def _additional(value: Any, rule: Any, schema: Mapping[str, Any], place: str) -> Iterator[str]:
    known = schema.get("properties", {})
    for name in value if isinstance(value, dict) else ():
        if name in known:
            continue
        if rule is False:
            yield f"{_at(place)} has the unknown field {_shown(name)}"
        else:
            yield from _problems(value[name], rule, f"{place}.{name}")


def _items(value: Any, rule: Mapping[str, Any], _schema: Any, place: str) -> Iterator[str]:
    for number, one in enumerate(value if isinstance(value, list) else ()):
        yield from _problems(one, rule, f"{place}[{number}]")


def _pattern(value: Any, rule: str, _schema: Any, place: str) -> Iterator[str]:
    if isinstance(value, str) and re.search(rule, value) is None:
        yield f"{_at(place)} should look like {rule}, got {_shown(value)}"


def _minimum(value: Any, rule: float, _schema: Any, place: str) -> Iterator[str]:
    if _is_type(value, "number") and value < rule:
        yield f"{_at(place)} should be at least {rule}, got {_shown(value)}"


def _shortest(value: Any, rule: int, _schema: Any, place: str) -> Iterator[str]:
    if isinstance(value, (str, list)) and len(value) < rule:
        yield f"{_at(place)} should have at least {rule} {'characters' if isinstance(value, str) else 'items'}"


def _longest(value: Any, rule: int, _schema: Any, place: str) -> Iterator[str]:
    if isinstance(value, list) and len(value) > rule:
        yield f"{_at(place)} should have at most {rule} items"


_RULES: Mapping[str, Callable[[Any, Any, Any, str], Iterator[str]]] = {
    "type": _type,
    "const": _const,
    "enum": _enum,
    "anyOf": _any_of,
    "$ref": _ref,
    "required": _required,
    "properties": _properties,
    "additionalProperties": _additional,
    "items": _items,
    "pattern": _pattern,
    "minimum": _minimum,
    "minLength": _shortest,
    "minItems": _shortest,
    "maxItems": _longest,
}


def _same(value: Any, other: Any) -> bool:
    """Equality of JSON, in which true is not 1."""
    return bool(value == other) and isinstance(value, bool) == isinstance(other, bool)


def _at(place: str) -> str:
    return repr(place.lstrip(".")) if place else "the whole"


def _shown(value: Any) -> str:
    return repr(value)[:_SHOWN]
