"""An artifact in memory: what lies in a folder, to be damaged and written elsewhere."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Special = Literal["missing", "folder", "fifo", "outside", "loop", "dangling", "zeros"]
SPECIAL: tuple[Special, ...] = ("missing", "folder", "fifo", "outside", "loop", "dangling", "zeros")
Files = dict[str, "bytes | Special"]

SECRET = b'{"format": "secret of another folder"}'
"""Content of the file outside that a link may point to; no message may repeat it."""


@dataclass(frozen=True)
class Damaged:
    """What a trial loads.

    Attributes:
        files: The files.
        may_differ: It may be read as something else: its author has signed it, or its format has no checksum and
            an independent reader says the same.
    """

    files: Files
    may_differ: bool = False


Damage = Callable[[random.Random, Files], "Files | Damaged"]


@dataclass(frozen=True)
class Kind:
    """A kind of artifact.

    Attributes:
        name: For the table.
        variants: Intact artifacts, file name -> content.
        load: What the library makes of a folder: a value that can be compared.
        damages: Name -> how the files are damaged.
        reference: What an independent reader makes of the files, for formats without a checksum. Raises where it cannot
            read them.
    """

    name: str
    variants: tuple[Files, ...]
    load: Callable[[Path], Any]
    damages: Mapping[str, Damage]
    reference: Callable[[Path], Any] | None = None


def read_folder(folder: Path) -> Files:
    """All files below a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def write_folder(folder: Path, files: Files, outside: Path) -> None:
    """Write an artifact into a new folder.

    Args:
        folder: Its place.
        files: Its files.
        outside: A file in another folder, for links.
    """
    folder.mkdir(parents=True)
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            _write_special(path, content, outside)


def _write_special(path: Path, kind: Special, outside: Path) -> None:
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "outside":
        path.symlink_to(outside)
    elif kind == "loop":
        path.symlink_to(path.name)
    elif kind == "dangling":
        path.symlink_to("nowhere")
    elif kind == "zeros":
        path.symlink_to("/dev/zero")


def content_of(files: Files, name: str) -> bytes:
    """The content of an ordinary file."""
    content = files[name]
    assert isinstance(content, bytes)
    return content


def ordinary(files: Files, suffix: str = "") -> list[str]:
    """Names of the files that have content, by the end of their names."""
    return [
        name for name, content in files.items() if isinstance(content, bytes) and content and name.endswith(suffix)
    ]


def json_of(files: Files, name: str) -> Any:
    """A JSON file as values."""
    return json.loads(content_of(files, name))
