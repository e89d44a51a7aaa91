"""Do something right after somebody imports a module, without importing it.

Extending another library needs that library to be imported, and importing it here would cost seconds and gigabytes in every
process that imports hf_langcore. Instead a finder on `sys.meta_path` waits for the import and acts when the module's own
code has run.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


def after_import(name: str, act: Callable[[], None]) -> None:
    """Call `act` now if the module `name` is imported, else as soon as it is.

    Calling it again does no harm, and neither does a module that is not installed.
    """
    if is_ready(sys.modules.get(name)):
        act()
    elif not any(isinstance(finder, WaitingFinder) and finder.name == name for finder in sys.meta_path):
        sys.meta_path.insert(0, WaitingFinder(name, act))


class WaitingFinder(MetaPathFinder):
    """Finds one module as everybody else would, and has its loader call back.

    Attributes:
        name: Of the module.
        act: What to do when it is imported.
    """

    def __init__(self, name: str, act: Callable[[], None]) -> None:
        self.name = name
        self.act = act

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The module's spec with a loader that calls back; None for any other module."""
        if fullname != self.name:
            self._catch_up()
            return None
        for finder in [other for other in sys.meta_path if not isinstance(other, WaitingFinder)]:
            spec = finder.find_spec(fullname, path, target) if hasattr(finder, "find_spec") else None
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _CallingLoader(spec.loader, self)
                return spec
        return None

    def _catch_up(self) -> None:
        """Act late where this finder came while the module was half imported, so that its loader was out of reach."""
        if self in sys.meta_path and is_ready(sys.modules.get(self.name)):
            self.finish()

    def finish(self) -> None:
        """Step aside, then act: what is imported for that must not come back here."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)
        self.act()


class _CallingLoader(Loader):
    """Runs a module's own loader, puts it back into its place, then calls the finder."""

    def __init__(self, original: Loader, finder: WaitingFinder) -> None:
        self._original = original
        self._finder = finder

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._original.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self._original
        if module.__spec__ is not None:
            module.__spec__.loader = self._original
        self._original.exec_module(module)
        self._finder.finish()

    def __getattr__(self, name: str) -> Any:
        if name == "_original":  # not there yet while the loader is being copied
            raise AttributeError(name)
        return getattr(self._original, name)


def is_ready(module: ModuleType | None) -> bool:
    """Whether `module` is imported to its end."""
    return module is not None and not getattr(getattr(module, "__spec__", None), "_initializing", False)
