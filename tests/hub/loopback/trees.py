"""Files of a commit as the Hub shows them, and which files become large objects."""

from __future__ import annotations

import hashlib
from fnmatch import fnmatch
from typing import Any

from loopback.store import Commit, File, Files

LARGE = 10 * 1024 * 1024
"""Bytes above which every file is a large object."""


def is_large(files: Files, path: str, sample: bytes, size: int) -> bool:
    """Whether a file goes to large-object storage: by size, by .gitattributes, or because it is binary."""
    attributes = files.get(".gitattributes")
    rules = (
        [line.split()[0] for line in attributes.data.decode().splitlines() if "filter=lfs" in line]
        if attributes
        else []
    )
    listed = any(fnmatch(path, rule) or fnmatch(path.rsplit("/", 1)[-1], rule) for rule in rules)
    return listed or size > LARGE or b"\0" in sample


def file_entry(path: str, file: File) -> dict[str, Any]:
    """One file in a listing."""
    entry: dict[str, Any] = {"type": "file", "oid": file.oid, "size": file.size, "path": path}
    if file.lfs:
        entry["lfs"] = {"oid": file.sha256, "size": file.size, "pointerSize": len(file.pointer)}
    if file.xet:
        entry["xetHash"] = file.xet
    return entry


def folder_entry(files: Files, path: str) -> dict[str, Any]:
    """One folder in a listing; its hash is that of the names and contents below it."""
    inside = "".join(f"{name} {file.oid}\n" for name, file in sorted(files.items()) if name.startswith(f"{path}/"))
    oid = hashlib.sha1(inside.encode(), usedforsecurity=False).hexdigest()
    return {"type": "directory", "oid": oid, "size": 0, "path": path}


def folders_of(files: Files) -> set[str]:
    """All folders, at any depth."""
    return {path[:end] for path in files for end, letter in enumerate(path) if letter == "/"}


def listing(files: Files, folder: str, *, recursive: bool) -> list[dict[str, Any]]:
    """Files and folders below a folder, sorted; only its direct children unless `recursive`."""
    prefix = f"{folder}/" if folder else ""
    entries = {path: file_entry(path, file) for path, file in files.items()}
    entries |= {path: folder_entry(files, path) for path in folders_of(files)}
    return [
        entry
        for path, entry in sorted(entries.items())
        if path.startswith(prefix) and (recursive or "/" not in path[len(prefix) :])
    ]


def last_commit(commit: Commit) -> dict[str, str]:
    """A commit as listings with details show it."""
    return {"id": commit.sha, "title": commit.title, "date": commit.date}
