"""Reads the metadata of a README as the Hub does: what is wrong with it, and which tags follow from it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import yaml
from loopback.store import Files

_LICENSES = """
apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0 bigcode-openrail-m
afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda cc cc0-1.0 cc-by-2.0 cc-by-2.5
cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0
cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0 cdla-permissive-1.0
cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 agpl-3.0 gfdl gpl gpl-2.0 gpl-3.0
lgpl lgpl-2.1 lgpl-3.0 isc h-research intel-research lppl-1.3c ms-pl apple-ascl apple-amlr mpl-2.0 odc-by odbl
openmdw-1.0 openrail++ osl-3.0 postgresql ofl-1.1 ncsa unlicense zlib pddl lgpl-lr deepfloyd-if-license
fair-noncommercial-research-license llama2 llama3 llama3.1 llama3.2 llama3.3 llama4 gemma unknown other
"""
LICENSES = frozenset(_LICENSES.split())
RELATIONS = ("adapter", "merge", "quantized", "finetune")
REPO_ID = re.compile(r"(?:[\w-][\w.-]*/)?[\w-][\w.-]*", re.ASCII)
LANGUAGE = re.compile(r"[a-z]{2,3}|code|multilingual")
FRONT_MATTER = re.compile(r"\A\s*---[ \t]*\r?\n(.*?)^---[ \t]*$", re.DOTALL | re.MULTILINE)

Errors = Iterator[str]


class _Loader(yaml.SafeLoader):
    """YAML as the Hub's parser reads it: `no` is a word (and a language), a key may stand only once."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"duplicated mapping key {key!r}", node.start_mark)
        return super().construct_mapping(node, deep=deep)


_BOOLEAN = "tag:yaml.org,2002:bool"
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != _BOOLEAN]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(_BOOLEAN, re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))


def read(content: str) -> Any:
    """What stands between the dashes, or None.

    Raises:
        yaml.YAMLError: Where it is no YAML.
    """
    match = FRONT_MATTER.match(content)
    return yaml.load(match[1], Loader=_Loader) if match else None  # noqa: S506, a safe loader


def metadata_of(files: Files) -> dict[str, Any]:
    """The metadata of a repository; empty where the card cannot be read."""
    try:
        metadata = read(files["README.md"].data.decode())
    except (KeyError, ValueError, yaml.YAMLError):
        return {}
    return metadata if isinstance(metadata, dict) else {}


def validate(content: str) -> tuple[list[str], list[str]]:
    """Errors and warnings about a card."""
    try:
        metadata = read(content)
    except (yaml.YAMLError, ValueError) as error:
        return [f"Invalid YAML: {error}"], []
    if metadata is None:
        return [], ["empty or missing yaml metadata in repo card"]
    if not isinstance(metadata, dict):
        return ['"metadata" must be of type object'], []
    return [error for key, check in CHECKS.items() if key in metadata for error in check(key, metadata[key])], []


def _text(key: str, value: Any) -> Errors:
    if not isinstance(value, str) or not value:
        yield f'"{key}" must be a non-empty string'


def _texts(check: Callable[[str, Any], Errors], *, single: bool = True) -> Callable[[str, Any], Errors]:
    def run(key: str, value: Any) -> Errors:
        if isinstance(value, str) and single:
            yield from check(key, value)
        elif not isinstance(value, list):
            yield f'"{key}" must be an array' + (" or a string" if single else "")
        else:
            for index, item in enumerate(value):
                yield from check(f"{key}[{index}]", item)

    return run


def _matching(pattern: re.Pattern[str], advice: str) -> Callable[[str, Any], Errors]:
    def run(key: str, value: Any) -> Errors:
        if not isinstance(value, str):
            yield f'"{key}" must be a string'
        elif not pattern.fullmatch(value):
            yield f'"{key}" with value "{value}" is not valid. {advice}'

    return run


def _one_of(allowed: Any) -> Callable[[str, Any], Errors]:
    def run(key: str, value: Any) -> Errors:
        if not isinstance(value, str) or value not in allowed:
            yield f'"{key}" must be one of [{", ".join(sorted(allowed))}]'

    return run


def _model_index(key: str, value: Any) -> Errors:
    for index, model in _mappings(key, value):
        yield from _required(index, model, "name")
        for place, result in _mappings(f"{index}.results", model.get("results")):
            for part, fields in (("task", ["type"]), ("dataset", ["type", "name"])):
                if isinstance(result.get(part), dict):
                    yield from _required(f"{place}.{part}", result[part], *fields)
                else:
                    yield f'"{place}.{part}" must be of type object'
            for spot, metric in _mappings(f"{place}.metrics", result.get("metrics")):
                yield from _required(spot, metric, "type")
                if metric.get("value") is None:
                    yield f'"{spot}.value" is required'
            yield from _not_mappings(f"{place}.metrics", result.get("metrics"))
        yield from _not_mappings(f"{index}.results", model.get("results"))
    yield from _not_mappings(key, value)


def _mappings(key: str, value: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    for index, item in enumerate(value if isinstance(value, list) else []):
        if isinstance(item, dict):
            yield f"{key}[{index}]", item


def _not_mappings(key: str, value: Any) -> Errors:
    if not isinstance(value, list):
        yield f'"{key}" must be an array'
    else:
        yield from (
            f'"{key}[{n}]" must be of type object' for n, item in enumerate(value) if not isinstance(item, dict)
        )


def _required(key: str, mapping: dict[str, Any], *fields: str) -> Errors:
    for name in fields:
        if name not in mapping:
            yield f'"{key}.{name}" is required'
        else:
            yield from _text(f"{key}.{name}", mapping[name])


CHECKS: dict[str, Callable[[str, Any], Errors]] = {
    "language": _texts(
        _matching(LANGUAGE, "It must be an ISO 639-1, 639-2 or 639-3 code (two/three lowercase letters)")
    ),
    "license": _texts(_one_of(LICENSES)),
    "base_model": _texts(_matching(REPO_ID, "Use a model id from the Hub.")),
    "base_model_relation": _one_of(RELATIONS),
    "datasets": _texts(_matching(REPO_ID, "Use a dataset id from the Hub.")),
    "tags": _texts(_text, single=False),
    "metrics": _texts(_text, single=False),
    "library_name": _text,
    "license_name": _text,
    "license_link": _text,
    "pipeline_tag": _matching(re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*"), "Use a task of the Hub."),
    "model-index": _model_index,
}


def library_of(files: Files) -> str | None:
    """The library that a repository is for: as the card says, or as its files tell."""
    named = metadata_of(files).get("library_name")
    if named:
        return str(named)
    return "peft" if "adapter_config.json" in files else "transformers" if "config.json" in files else None


def tags_of(kind: str, files: Files) -> list[str]:
    """The tags under which a repository is found, those that the Hub derives included."""
    metadata = metadata_of(files)
    tags = [*filter(None, [library_of(files)]), *_list(metadata.get("tags"))]
    tags += ["safetensors"] if any(path.endswith(".safetensors") for path in files) else []
    tags += ["model-index"] if "model-index" in metadata else []
    if kind == "models":
        tags += _list(metadata.get("language")) + _list(metadata.get("pipeline_tag"))
    else:
        tags += [f"{key}:{item}" for key in ("language", "task_categories") for item in _list(metadata.get(key))]
    tags += [f"dataset:{item}" for item in _list(metadata.get("datasets"))]
    tags += [f"license:{item}" for item in _list(metadata.get("license"))]
    bases = _list(metadata.get("base_model"))
    relation = metadata.get("base_model_relation") or _guess(bases, files)
    tags += [f"base_model:{base}" for base in bases] + [f"base_model:{relation}:{base}" for base in bases]
    return list(dict.fromkeys([*tags, "region:us"]))


def _guess(bases: list[str], files: Files) -> str:
    if "adapter_config.json" in files:
        return "adapter"
    return "merge" if len(bases) > 1 else "finetune"


def _list(value: Any) -> list[str]:
    return [str(item) for item in (value if isinstance(value, list) else [] if value is None else [value])]
