"""The mask artifact: `core_mask.safetensors` and `core_mask_config.json`, format versions 1 and 2.

The safetensors file holds the coded arrays of every tensor, the JSON file says what they mean: shapes,
counts, provenance, fingerprint of the base weights, and the sha256 of the first file; from version 2 on it is sealed. Replacing an artifact is
one rename of the JSON file: the new arrays lie beside the old ones under a name that holds their sha256 until
then, and a reader that comes in between, or after a killed save, still finds the pair that belongs together.
One process at a time may write into a folder.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hf_langcore.errors import ArtifactExistsError, CoreMaskFormatError, InputError
from hf_langcore.files import replace_file, replace_text, sha256_of
from hf_langcore.masks.arrays_file import read_arrays, write_arrays
from hf_langcore.masks.coding import Coded
from hf_langcore.masks.description import describe, entries_of, parse
from hf_langcore.masks.encoding import Entry
from hf_langcore.masks.planes import Planes
from hf_langcore.masks.provenance import Provenance
from hf_langcore.sealing import is_intact

FORMAT = "hf_langcore.core_mask"
FORMAT_VERSIONS = (1, 2)  # 2 has the form "rice" and a seal
MASK_FILE = "core_mask.safetensors"
CONFIG_FILE = "core_mask_config.json"

_LOOKS = 3  # a save may replace the files between two reads; what is damaged stays so however often one looks
_NAME = re.compile(r"[A-Za-z0-9_.\-]{1,512}")
_HEADER, _HEADER_PER_ARRAY = 1 << 16, 256  # bytes of a safetensors header, generously
_SMALL_MODEL = 1 << 34  # weights that a mask may speak about, however small its file is: an empty mask is small
_WEIGHTS_PER_BYTE = 1 << 16  # and how many more with each byte of the file
_WEIGHTS_PER_TENSOR, _LARGE_MODEL = (
    1 << 28,
    1 << 38,
)  # a few weights of a model with many tensors make a small file, too


def save(planes: Planes, provenance: Provenance, folder: Path, *, digest: str, overwrite: bool) -> None:
    """Write the artifact into `folder`; see `CoreMask.save_pretrained`."""
    _require_writable(folder, digest=digest, overwrite=overwrite)
    for name in planes:
        if not _NAME.fullmatch(name):
            raise InputError(f"{name!r} is no parameter name: letters, digits, '_', '-' and '.' only.")
    planes.shrink()
    coded = planes.coded()
    arrays = {f"{name}:{part}": array for name, one in coded.items() for part, array in one.parts.items()}
    staging = folder / f".{MASK_FILE}.new"
    replace_file(staging, lambda path: write_arrays(path, arrays, metadata={FORMAT: digest}))
    sha256 = sha256_of(staging)
    arriving = staging.replace(_arriving(folder, sha256))
    entries = {name: one.entry for name, one in coded.items()}
    config = {
        "format": FORMAT,
        "format_version": max(FORMAT_VERSIONS),
        "mask_file": MASK_FILE,
        "mask_sha256": sha256,
        "digest": digest,
        "density": _density(entries),
        "provenance": provenance.to_dict(),
    }
    replace_text(folder / CONFIG_FILE, describe(config, entries))
    arriving.replace(folder / MASK_FILE)
    for pattern in (f".{MASK_FILE}.*", f"..{MASK_FILE}.*.tmp", f".{CONFIG_FILE}.*.tmp"):  # of killed saves
        for left_over in folder.glob(pattern):
            left_over.unlink(missing_ok=True)


def load(folder: Path) -> tuple[Planes, Provenance]:
    """Read and check the artifact in `folder`; see `CoreMask.from_pretrained`."""
    for _ in range(_LOOKS - 1):
        before = _files(folder)
        config = read_config(folder)
        path = _find(folder, config)
        if path is None:
            continue
        try:
            return _load(config, path)
        except CoreMaskFormatError:
            if _files(folder) == before and (read_config(folder), _find(folder, config)) == (config, path):
                raise
    config = read_config(folder)
    return _load(config, _mask_path(folder, config))


def _files(folder: Path) -> list[tuple[int, ...]]:
    """Which files these are, so that a mask which was replaced twice by the same two is known to have been replaced."""
    found: list[tuple[int, ...]] = []
    for name in (CONFIG_FILE, MASK_FILE):
        with contextlib.suppress(OSError):
            stat = (folder / name).stat()
            found.append((stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size))
    return found


def _load(config: Mapping[str, Any], path: Path) -> tuple[Planes, Provenance]:
    provenance = Provenance.from_dict(config.get("provenance", {}))
    entries = entries_of(config, is_name=_NAME.fullmatch)
    shapes = {
        f"{name}:{part}": shape for name, entry in entries.items() for part, shape in entry.part_shapes().items()
    }
    try:
        _require_sensible_size(path, entries)
        arrays = read_arrays(path, shapes)
    except OSError as error:
        raise CoreMaskFormatError(f"{path} is no readable safetensors file ({error}). Download it again.") from error
    coded = {
        name: Coded(entry, {part: arrays[f"{name}:{part}"] for part in entry.part_shapes()})
        for name, entry in entries.items()
    }
    planes = Planes(coded)
    if planes.digest() != config.get("digest"):
        raise CoreMaskFormatError(
            f"{path.parent / CONFIG_FILE} describes another mask than its digest names: it was altered. Download it again."
        )
    return planes, provenance


def read_config(folder: Path) -> dict[str, Any]:
    """The JSON half of an artifact, checked for format and version.

    Raises:
        InputError: There is no mask in `folder`.
        CoreMaskFormatError: The file is damaged or of a newer format.
    """
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise InputError(
            f"There is no core mask in {str(folder)!r}{'' if folder.exists() else ', which does not exist'}: expected a folder with {CONFIG_FILE} and {MASK_FILE}, as "
            "written by CoreMask.save_pretrained or `langcore find`."
        )
    config = parse(path)
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise CoreMaskFormatError(f'{path} does not describe a core mask: expected "format": "{FORMAT}".')
    version = config.get("format_version")
    if type(version) is not int or version not in FORMAT_VERSIONS:
        raise CoreMaskFormatError(
            f"{path} has format version {repr(version)[:80]}; this hf_langcore reads versions "
            f"{' and '.join(map(str, FORMAT_VERSIONS))}. Update hf_langcore."
        )
    if not is_intact(config, may_lack=version == 1):
        raise CoreMaskFormatError(
            f"{path} was damaged or altered after it was written: its content has another checksum than it names. Download or "
            "compute the mask again."
        )
    return config


def largest_arrays(config: Mapping[str, Any]) -> int:
    """Bytes that `core_mask.safetensors` can have at most, so that nobody downloads more.

    Args:
        config: The JSON half.

    Raises:
        CoreMaskFormatError: It does not describe its tensors.
    """
    entries = entries_of(config, is_name=_NAME.fullmatch)
    parts = [(name, shape) for name, entry in entries.items() for shape in entry.part_shapes().values()]
    return _HEADER + sum(math.prod(shape) + len(name) + _HEADER_PER_ARRAY for name, shape in parts)


def _density(entries: Mapping[str, Entry]) -> float:
    size = sum(entry.size for entry in entries.values())
    return sum(entry.true_count for entry in entries.values()) / size if size else 0.0


def _require_writable(folder: Path, *, digest: str, overwrite: bool) -> None:
    if folder.exists() and not folder.is_dir():
        raise ArtifactExistsError(f"Cannot save a mask into {str(folder)!r}: it is a file. Name a folder.")
    if overwrite or not (folder / CONFIG_FILE).exists():
        return
    with contextlib.suppress(CoreMaskFormatError):
        if read_config(folder).get("digest") == digest:
            return
    raise ArtifactExistsError(
        f"{str(folder)!r} already holds another core mask. Save into a new folder, or pass overwrite=True "
        "(--overwrite) to replace it."
    )


def _require_sensible_size(path: Path, entries: Mapping[str, Entry]) -> None:
    """A few bytes must not keep a reader busy for hours."""
    size, by_bytes = sum(entry.size for entry in entries.values()), path.stat().st_size * _WEIGHTS_PER_BYTE
    by_tensors = min(len(entries) * _WEIGHTS_PER_TENSOR, _LARGE_MODEL)
    if size > max(by_bytes, by_tensors, _SMALL_MODEL):
        raise CoreMaskFormatError(
            f"{path} declares {size:,} weights, more than a file of {path.stat().st_size:,} bytes can speak about. "
            "It was altered; download the mask again."
        )


def _mask_path(folder: Path, config: Mapping[str, Any]) -> Path:
    """The arrays that belong to `config`: the named file, or the one that an interrupted save left beside it."""
    path = _find(folder, config)
    if path is not None:
        return path
    problem = "does not have the sha256 that its config names: it was truncated or altered"
    if not (folder / MASK_FILE).is_file():
        problem = "is missing"
    raise CoreMaskFormatError(f"{folder / MASK_FILE} {problem}. Download or compute the mask again.")


def _find(folder: Path, config: Mapping[str, Any]) -> Path | None:
    expected = str(config.get("mask_sha256"))
    candidates = [folder / MASK_FILE]
    if _NAME.fullmatch(expected):
        candidates.insert(0, _arriving(folder, expected))  # first, because a running save moves it to the second
    for path in candidates:
        with contextlib.suppress(FileNotFoundError):
            if path.is_file() and sha256_of(path) == expected:  # a pipe or a device would be read for ever
                return path
    return None


def _arriving(folder: Path, sha256: str) -> Path:
    return folder / f".{MASK_FILE}.{sha256[:16]}"
