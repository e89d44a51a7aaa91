"""The error tree: as it is drawn, documented, and catchable by people who do not know this library."""

from __future__ import annotations

import builtins
import inspect
import re

import pytest

from hf_langcore import errors
from hf_langcore.errors import LangCoreError

CLASSES = {
    name: value
    for name, value in vars(errors).items()
    if inspect.isclass(value) and issubclass(value, Exception) and value.__module__ == errors.__name__
}


def drawn() -> dict[str, tuple[str | None, str | None]]:
    """Class -> (parent, built-in base), as the module's docstring draws them."""
    tree: dict[str, tuple[str | None, str | None]] = {}
    path: list[str] = []
    for line in str(errors.__doc__).splitlines():
        found = re.match(r"(?P<indent>[│├└─ ]*)(?P<name>\w+Error)\b(?: \((?P<base>\w+)\))?", line)
        if found:
            depth = len(found["indent"]) // 4
            path[depth:] = [found["name"]]
            tree[found["name"]] = (path[depth - 1] if depth else None, found["base"])
    return tree


def test_the_drawing_is_complete() -> None:
    """Every class is drawn, and every drawn class exists."""
    assert drawn().keys() == CLASSES.keys()


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_each_class_has_the_bases_that_are_drawn(name: str) -> None:
    """The parent above it, and beside it the built-in class in brackets, no others."""
    parent, builtin = drawn()[name]
    expected = [CLASSES[parent]] if parent else [Exception]
    if builtin:
        expected.append(getattr(builtins, builtin))
    assert list(CLASSES[name].__bases__) == expected


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_each_class_is_documented_and_derived(name: str) -> None:
    """One sentence of its own, the common base, and nothing added: code and message are enough."""
    cls = CLASSES[name]
    assert issubclass(cls, LangCoreError)
    assert cls.__doc__
    assert cls.__doc__.rstrip().endswith(".")
    assert str(cls("what happened")) == "what happened"


def test_the_builtin_base_catches() -> None:
    """Callers who catch ValueError or ImportError need no import from here."""
    with pytest.raises(ValueError, match="bad"):
        raise errors.CorpusError("bad")
    with pytest.raises(ImportError, match="gone"):
        raise errors.MissingExtraError("gone")
    with pytest.raises(FileExistsError, match="there"):
        raise errors.ArtifactExistsError("there")
