"""Loaders that do what no loader may do, so that it can be seen that the harness notices."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from artifact import Kind
from byte_damage import flip

from hf_langcore.errors import InputError

_FILES = {"file.json": b'{"a": 1}'}


def _accepts(folder: Path) -> Any:
    return (folder / "file.json").read_bytes()


def _raises(folder: Path) -> Any:
    if _accepts(folder) != _FILES["file.json"]:
        raise KeyError("a")


def _mumbles(folder: Path) -> Any:
    if _accepts(folder) != _FILES["file.json"]:
        raise InputError("no")


def _repeats(folder: Path) -> Any:
    if _accepts(folder) != _FILES["file.json"]:
        raise InputError(f"expected another file, got {'x' * 5000}. Download it again.")


def _runs(folder: Path) -> Any:
    _refuse(folder, lambda: Path("canary").write_text(""))


def _peeks(folder: Path) -> Any:
    _refuse(folder, (folder.parent / "outside").read_bytes)


def _writes(folder: Path) -> Any:
    _refuse(folder, lambda: (folder / "cache").write_text(""))


def _dies(folder: Path) -> Any:
    _refuse(folder, lambda: os._exit(7))


def _dawdles(folder: Path) -> Any:
    def wait() -> None:
        end = time.process_time() + 4.5
        while time.process_time() < end:
            pass

    _refuse(folder, wait)


def _refuse(folder: Path, action: Callable[[], object] = bool) -> None:
    if _accepts(folder) != _FILES["file.json"]:
        action()
        raise InputError("the file was damaged or altered. Download it again, or write it anew.")


def _allocated(folder: Path) -> Any:
    if _accepts(folder) != _FILES["file.json"]:
        np.ones(20_000_000)
        raise InputError("the file was damaged or altered. Download it again, or write it anew.")


EXPECTED = {
    "accepts": ("accepted", _accepts), "raises": ("error", _raises), "mumbles": ("error", _mumbles), "repeats": ("error", _repeats),
    "allocates": ("large", _allocated), "runs": ("not alone", _runs), "peeks": ("not alone", _peeks),
    "writes": ("not alone", _writes), "dawdles": ("slow", _dawdles), "dies": ("crash", _dies),
}  # fmt: skip


def rogue(name: str) -> Callable[[], Kind]:
    """The kind of artifact that such a loader loads."""
    return lambda: Kind(f"rogue {name}", (_FILES,), EXPECTED[name][1], {"bytes": flip})
