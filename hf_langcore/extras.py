"""Optional dependencies: one message for all of them."""

from __future__ import annotations

import importlib
from types import ModuleType

from hf_langcore.errors import MissingExtraError


def require(module: str, *, extra: str, feature: str) -> ModuleType:
    """Import an optional dependency or say which extra of hf_langcore brings it.

    Args:
        module: Name of the module to import.
        extra: The extra that installs it, as in `pip install "hf_langcore[train]"`.
        feature: What the caller wanted to do, for the message.

    Raises:
        MissingExtraError: The module is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != module.split(".", maxsplit=1)[0]:
            raise
        raise MissingExtraError(
            f"{feature} needs the package {module!r}, which is not installed. Install it with "
            f'`pip install "hf_langcore[{extra}]"`.'
        ) from error
