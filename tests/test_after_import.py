"""Acting after somebody else's import: seen on modules made for it."""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest

from hf_langcore.after_import import WaitingFinder, after_import, is_ready

NAME = "a_module_of_somebody"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where modules are found, without any from before; afterwards nobody waits any more."""
    monkeypatch.syspath_prepend(str(tmp_path))
    finders = list(sys.meta_path)
    yield tmp_path
    sys.meta_path[:] = finders
    for name in [name for name in sys.modules if name.split(".")[0] == NAME]:
        del sys.modules[name]


def write(folder: Path, text: str, *, name: str = NAME) -> None:
    folder.joinpath(f"{name}.py").write_text(text)
    importlib.invalidate_caches()


def test_it_waits_for_the_import(folder: Path) -> None:
    """The action comes when the module's own code has run, once, and leaves the module as it is."""
    write(folder, "value = 1")
    seen: list[int] = []
    after_import(NAME, lambda: seen.append(sys.modules[NAME].value))
    assert seen == []
    module = importlib.import_module(NAME)
    assert seen == [1]
    assert type(module.__loader__).__name__ == type(module.__spec__.loader).__name__ == "SourceFileLoader"
    importlib.reload(module)
    assert seen == [1]


def test_it_acts_at_once_where_the_module_is_there(folder: Path) -> None:
    write(folder, "")
    importlib.import_module(NAME)
    seen: list[int] = []
    after_import(NAME, lambda: seen.append(1))
    assert seen == [1]
    assert not any(isinstance(finder, WaitingFinder) and finder.name == NAME for finder in sys.meta_path)


def test_modules_inside_of_packages(folder: Path) -> None:
    """The parent is imported meanwhile, and others may wait at the same time."""
    package = folder / NAME
    package.mkdir()
    write(package, "", name="__init__")
    write(package, "value = 2", name="inner")
    seen: list[str] = []
    after_import(f"{NAME}.inner", lambda: seen.append("inner"))
    after_import(NAME, lambda: seen.append("outer"))
    importlib.import_module(NAME)
    assert seen == ["outer"]
    importlib.import_module(f"{NAME}.inner")
    assert seen == ["outer", "inner"]


def test_asking_twice_waits_once(folder: Path) -> None:
    write(folder, "")
    seen: list[int] = []
    for number in range(3):
        after_import(NAME, lambda number=number: seen.append(number))  # type: ignore[misc]
    importlib.import_module(NAME)
    assert seen == [0]


def test_a_module_that_is_half_imported(folder: Path) -> None:
    """Who asks from inside of it is answered at the next import after it."""
    seen: list[int] = []
    asking = (
        "import sys; from hf_langcore.after_import import after_import; after_import(__name__, sys.act); sys.seen()"
    )
    write(folder, asking)
    sys.act, sys.seen = (lambda: seen.append(1)), (lambda: seen.append(0))  # type: ignore[attr-defined]
    try:
        importlib.import_module(NAME)
        assert seen == [0]
        write(folder, "", name=f"{NAME}_2")
        importlib.import_module(f"{NAME}_2")
        assert seen == [0, 1]
    finally:
        del sys.act, sys.seen  # type: ignore[attr-defined]


def test_a_failed_import_can_be_tried_again(folder: Path) -> None:
    write(folder, "raise ImportError('broken')")
    seen: list[int] = []
    after_import(NAME, lambda: seen.append(1))
    with pytest.raises(ImportError, match="broken"):
        importlib.import_module(NAME)
    assert seen == []
    write(folder, "value = 'longer than before'")
    importlib.import_module(NAME)
    assert seen == [1]


def test_a_module_that_nobody_finds(folder: Path) -> None:
    """None for modules that are not there, also past old finders without find_spec, and for every other module."""
    finder = WaitingFinder(NAME, lambda: None)
    old: Any = types.SimpleNamespace()
    sys.meta_path[:] = [old, finder]
    assert finder.find_spec(NAME) is None
    assert finder.find_spec("something_else") is None


def test_a_namespace_package_is_passed_on(folder: Path) -> None:
    """A spec without a loader is returned as it is."""
    spec = ModuleSpec(NAME, None)
    other: Any = types.SimpleNamespace(find_spec=lambda *_: spec)
    sys.meta_path[:] = [other]
    assert WaitingFinder(NAME, lambda: None).find_spec(NAME) is spec


def test_what_is_ready() -> None:
    assert is_ready(sys)
    assert not is_ready(None)
    half = types.ModuleType("half")
    half.__spec__ = ModuleSpec("half", None)
    half.__spec__._initializing = True  # type: ignore[attr-defined]
    assert not is_ready(half)
