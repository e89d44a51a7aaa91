"""Make PEFT know CORE_REGION as soon as PEFT is there, without loading it.

PEFT has no entry points for methods that live in other packages, so something has to register them. Importing PEFT
here would cost seconds and gigabytes of libraries in every process that imports hf_langcore. Instead a finder on
`sys.meta_path` waits for `import peft` and registers the method right after PEFT's own code has run.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_PEFT = "peft"
_TUNER = "hf_langcore.tuner"
_REGISTRATION = f"{_TUNER}.registration"


def install() -> None:
    """Register CORE_REGION with PEFT now if PEFT is imported, else as soon as it is.

    Calling it again does no harm, and neither does a missing PEFT.
    """
    if _is_ready(sys.modules.get(_PEFT)):
        _register()
    elif not any(isinstance(finder, _PeftFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _PeftFinder())


class _PeftFinder(MetaPathFinder):
    """Finds `peft` as everybody else would, and has its loader call back."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != _PEFT:
            self._catch_up()
            return None
        for finder in [other for other in sys.meta_path if not isinstance(other, _PeftFinder)]:
            spec = finder.find_spec(fullname, path, target) if hasattr(finder, "find_spec") else None
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _RegisteringLoader(spec.loader, self)
                return spec
        return None

    def _catch_up(self) -> None:
        """Register late where this finder came while PEFT was half imported, so that its loader was out of reach."""
        if self in sys.meta_path and _is_ready(sys.modules.get(_PEFT)):
            self.finish()

    def finish(self) -> None:
        """Step aside, then register: what the registration imports must not come back here."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)
        _register()


class _RegisteringLoader(Loader):
    """Runs PEFT's own loader, puts it back into its place, then registers the method."""

    def __init__(self, original: Loader, finder: _PeftFinder) -> None:
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


def _is_ready(module: ModuleType | None) -> bool:
    """Whether `module` is imported to its end."""
    return module is not None and not getattr(getattr(module, "__spec__", None), "_initializing", False)


def _register() -> None:
    """Import the registration; whatever goes wrong there must not break somebody's `import peft`."""
    if _TUNER in sys.modules and not _is_ready(sys.modules[_TUNER]):
        return  # the tuner itself is what imports PEFT just now, and it registers when it is complete
    try:
        importlib.import_module(_REGISTRATION).register()
    except Exception as error:  # noqa: BLE001 PEFT works without this method, so PEFT's import must go through
        warnings.warn(
            f"hf_langcore could not register its method CORE_REGION with PEFT: {error!r}. PEFT works without it; to "
            "load CORE_REGION adapters install versions of peft and hf_langcore that fit together.",
            RuntimeWarning,
            stacklevel=2,
        )
