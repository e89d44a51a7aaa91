"""The schema and the reading of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hf_langcore.registry import schema
from hf_langcore.registry.schema import require_valid, the_schema

HOME = Path(schema.__file__).parent


def keywords(part: Any) -> set[str]:
    """Every keyword that a schema uses."""
    if not isinstance(part, dict):
        return set()
    found = set(part)
    for name in ("properties", "$defs"):
        found |= {word for one in part.get(name, {}).values() for word in keywords(one)}
    for one in (part.get("items"), part.get("additionalProperties"), *part.get("anyOf", ())):
        found |= keywords(one)
    return found


def test_every_keyword_of_the_schema_is_enforced() -> None:
    """None is there for show; one that is unknown is an error, not a rule that nobody enforces."""
    assert keywords(the_schema()) - schema._ANNOTATIONS <= set(schema._RULES)
    with pytest.raises(NotImplementedError, match="multipleOf"):
        list(schema._problems(3, {"multipleOf": 2}, ""))


def test_the_schema_names_itself_and_the_data_file_names_it() -> None:
    """Editors find the schema from the data file."""
    data = json.loads((HOME / "critical_coordinates.json").read_text(encoding="utf-8"))
    assert (HOME / data["$schema"]).is_file()
    assert the_schema()["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_a_valid_entry_passes(fields: Callable[..., Any]) -> None:
    """Also inside a file."""
    require_valid(fields(), part="entry")
    require_valid({"format": "hf_langcore/critical_coordinates", "format_version": 1, "entries": [fields()]})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"id": "Two Words"}, "'id' should look like"),
        ({"kind": "magic"}, "'kind' should be one of 'super_weight'"),
        ({"layer": -1}, "'layer' should be at least 0, got -1"),
        ({"layer": 1.5}, "'layer' should be integer or null, got 1.5"),
        ({"layer": True}, "'layer' should be integer or null, got True"),
        ({"axis": True}, "'axis' should be one of 0, 1, None, got True"),
        ({"index": [1]}, "should have at least 2 items"),
        ({"index": [1, 2, 3, 4]}, "should have at most 3 items"),
        ({"index": [1, "x"]}, r"'index\[1\]' should be integer, got 'x'"),
        ({"source": ""}, "'source' should have at least 1 characters"),
        ({"colour": "red"}, "has the unknown field 'colour'"),
        ({"effect": {"metric": "perplexity"}}, "'effect' lacks 'data'"),
        ({"provenance": {"date": "today", "versions": {}}}, "'provenance.date' should look like"),
        ({"provenance": {"date": "2026-01-02T03:04:05Z", "versions": {"torch": 2}}}, "'provenance.versions.torch' should be"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(fields: Callable[..., Any], changes: dict[str, Any], message: str) -> None:
    """Where, what was expected, what came."""
    with pytest.raises(ValueError, match=message):
        require_valid(fields(**changes), part="entry")


def test_a_missing_field_and_another_format() -> None:
    """At the top of the file too."""
    with pytest.raises(ValueError, match="the whole lacks 'format_version', 'entries'"):
        require_valid({"format": "hf_langcore/critical_coordinates"})
    with pytest.raises(ValueError, match="'format' should be 'hf_langcore/critical_coordinates', got 'x'"):
        require_valid({"format": "x", "format_version": 1, "entries": []})
    with pytest.raises(ValueError, match="the whole should be object"):
        require_valid([])
