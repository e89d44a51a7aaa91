"""The YAML block at the top of a card, read and written without losing what others put there."""

from __future__ import annotations

import copy
import functools
import re
from typing import Any

import yaml
from huggingface_hub.repocard import REGEX_YAML_BLOCK

from hf_langcore.errors import InputError

CARD_FILE = "README.md"

_LONGEST = 1 << 18  # signs
_MOST_PARTS = 8_000  # PyYAML reads some ten thousand a second
_MOST_DIGITS = 1000
_MOST_VALUES = 1 << 17
_SHOWN = 200
# PyYAML's constructors raise whatever comes up for values such as `!!int ''` and `!!bool maybe`.
_ERRORS = (yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError)
_WHOLE = "tag:yaml.org,2002:int"
_BOOLEAN = "tag:yaml.org,2002:bool"


class _Loader(yaml.SafeLoader):
    """YAML 1.1 takes no, on and y for booleans, and `language: no` is Norwegian."""


_Loader.yaml_implicit_resolvers = {
    sign: [(tag, pattern) for tag, pattern in resolvers if tag != _BOOLEAN]
    for sign, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(_BOOLEAN, re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))


def split_card(content: str) -> tuple[dict[str, Any], str]:
    """The metadata and the text of a card.

    Args:
        content: The whole file; a byte order mark and foreign line ends do no harm.

    Raises:
        InputError: The metadata is no YAML mapping.
    """
    content = content.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    found = REGEX_YAML_BLOCK.search(content)
    if found is None:
        return {}, content
    try:
        metadata = copy.deepcopy(_values(found[2]))
    except _ERRORS as error:
        said = (str(error).splitlines() or [type(error).__name__])[0][:_SHOWN]
        raise _unreadable("".join(sign if sign.isprintable() else "?" for sign in said)) from None
    if metadata is not None and not isinstance(metadata, dict):
        raise _unreadable(f"it is a {type(metadata).__name__}")
    return metadata or {}, content[found.end() :]


def share_of_limits(block: str) -> float:
    """How much a block of YAML takes of what is read of a card's metadata; more than 1 is refused."""
    return max(len(block) / _LONGEST, sum(map(block.count, "\n,[{&*")) / _MOST_PARTS)


@functools.lru_cache(maxsize=4)  # a card is looked at several times while it is updated
def _values(block: str) -> Any:
    """What a block of YAML says, of bounded size also where aliases repeat its parts."""
    if share_of_limits(block) > 1:
        raise ValueError(f"it has more than {_LONGEST:,} signs, or more than {_MOST_PARTS:,} lines, items and aliases")
    loader = _Loader(block)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        if _expanded(node, {}) > _MOST_VALUES:
            raise ValueError(f"its aliases stand for more than {_MOST_VALUES:,} values")
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _expanded(node: yaml.Node, known: dict[int, int]) -> int:
    """Number of values that a node stands for, parts that are repeated by aliases counted each time."""
    if id(node) in known:
        if not known[id(node)]:
            raise ValueError("an anchor stands inside itself")
        return known[id(node)]
    if isinstance(node, yaml.ScalarNode) and node.tag == _WHOLE and len(node.value) > _MOST_DIGITS:
        raise ValueError(f"a number has more than {_MOST_DIGITS:,} digits")  # Python could not write it again
    known[id(node)] = 0  # not finished
    inner = node.value if isinstance(node, yaml.CollectionNode) else []
    parts = [part for pair in inner for part in pair] if isinstance(node, yaml.MappingNode) else inner
    known[id(node)] = 1 + sum(_expanded(part, known) for part in parts)
    return known[id(node)]


def join_card(metadata: dict[str, Any], text: str) -> str:
    """A card of metadata and text; keys in the order of the mapping."""
    block = yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True, width=10_000) if metadata else ""
    return f"---\n{block}---\n\n{text.strip()}\n" if metadata else f"{text.strip()}\n"


def as_list(value: Any) -> list[Any]:
    """A value that the Hub takes as one item or as a list of them."""
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]


def union(*groups: Any) -> list[Any]:
    """All items of several such values, each once, in order."""
    seen: list[Any] = []
    for item in [item for group in groups for item in as_list(group)]:
        if item not in seen:
            seen.append(item)
    return seen


def _unreadable(reason: str) -> InputError:
    return InputError(
        f"The block between the --- lines at the top of README.md is no YAML mapping ({reason}), so that the card cannot be "
        "updated without losing it. Put it right, or remove the file."
    )
