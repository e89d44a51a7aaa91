"""Writing files and folders so that a killed process leaves the old content or the new, never half."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hf_langcore.errors import ArtifactExistsError, LangCoreError, WriteError

_READ_SIZE = 1 << 20
_REASONS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "your share of the disk is full",
    errno.EROFS: "the disk is read-only",
    errno.EACCES: "you may not write there",
    errno.EPERM: "you may not write there",
}


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then rename it onto `path` in one step.

    The content is flushed to disk before the rename, so that the name never points to an unwritten file.

    Raises:
        WriteError: The disk is full, or the place may not be written to.
    """
    try:
        _replace_file(path, write)
    except OSError as error:
        if error.errno not in _REASONS or isinstance(error, LangCoreError):
            raise
        raise WriteError(
            f"Cannot write {str(path)!r}: {_REASONS[error.errno]}. What was there before is still there; free some space, or name "
            "another place."
        ) from error


def _replace_file(path: Path, write: Callable[[Path], object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def replace_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8 to `path`, all or nothing."""
    replace_file(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def replace_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON to `path`, all or nothing. NaN and infinity are not JSON and raise."""
    json_text(value, path)


def json_text(value: Any, path: str | Path | None = None, *, indent: int = 2) -> str:
    """`value` as indented JSON; also written to `path`, all or nothing, where one is given. NaN and infinity raise."""
    text = json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False) + "\n"
    if path is not None:
        replace_text(Path(path), text)
    return text


def require_free(folder: str | Path, *, overwrite: bool) -> Path:
    """The folder to write, without symbolic links.

    Raises:
        ArtifactExistsError: It is a file, or it is not empty and `overwrite` is False.
    """
    target = Path(folder).resolve()
    if target.exists() and not target.is_dir():
        raise ArtifactExistsError(f"Cannot save into {str(target)!r}: it is a file. Name a folder.")
    if target.is_dir() and any(target.iterdir()) and not overwrite:
        raise ArtifactExistsError(
            f"{str(target)!r} exists and is not empty. Name a new folder, or pass overwrite=True to replace the weights "
            "in it."
        )
    return target


@contextmanager
def new_folder(folder: str | Path, *, overwrite: bool, last: str, stale: str) -> Iterator[Path]:
    """A temporary folder beside `folder`; becomes `folder` when everything is written, and vanishes if not.

    A folder that does not exist yet appears complete, in one step. In one that exists the new files replace the old
    ones within moments: weights that were there go first, `last` comes last, so that a process killed in between leaves
    a folder that cannot be loaded, never a mixture. Other files stay.

    Args:
        folder: Where to.
        overwrite: Replace weights that are there.
        last: Name of the file without which nobody can load the folder.
        stale: Regular expression for the names of files that must not stay beside the new ones.

    Raises:
        ArtifactExistsError: It is a file, or it is not empty and `overwrite` is False.
    """
    target = require_free(folder, overwrite=overwrite)
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = target.parent / f".{target.name}.{uuid.uuid4().hex[:8]}.tmp"
    staging.mkdir()
    try:
        yield staging
        for path in _files_in(staging):
            with path.open("rb") as written:
                os.fsync(written.fileno())
        if target.exists():
            _replace_files(staging, target, last, stale)
        else:
            staging.replace(target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as source:
        while chunk := source.read(_READ_SIZE):
            digest.update(chunk)
    return digest.hexdigest()


def _replace_files(staging: Path, target: Path, last: str, stale: str) -> None:
    (target / last).unlink(missing_ok=True)
    for path in list(target.iterdir()):
        if path.is_file() and re.fullmatch(stale, path.name):
            path.unlink()
    for path in sorted(_files_in(staging), key=lambda path: path == staging / last):
        place = target / path.relative_to(staging)
        place.parent.mkdir(parents=True, exist_ok=True)
        path.replace(place)


def _files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def _umask() -> int:
    """The process's umask; mkstemp makes private files, artifacts are to have ordinary permissions."""
    current = os.umask(0)
    os.umask(current)
    return current
