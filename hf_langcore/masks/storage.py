"""The mask artifact: `core_mask.safetensors` and `core_mask_config.json`, format version 1.

The safetensors file holds the Elias-Fano arrays of every tensor, the JSON file says what they mean: shapes,
counts, provenance, fingerprint of the base weights, and the sha256 of the first file. Replacing an artifact is
one rename of the JSON file: the new arrays lie beside the old ones under a name that holds their sha256 until
then, and a reader that comes in between, or after a killed save, still finds the pair that belongs together.
One process at a time may write into a folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from hf_langcore.errors import ArtifactExistsError, CoreMaskFormatError, InputError
from hf_langcore.files import replace_file, replace_json, sha256_of
from hf_langcore.masks.bits import Bytes, PackedBits
from hf_langcore.masks.encoding import Entry, check_entry, decode, encode
from hf_langcore.masks.provenance import Provenance

FORMAT = "hf_langcore.core_mask"
FORMAT_VERSION = 1
MASK_FILE = "core_mask.safetensors"
CONFIG_FILE = "core_mask_config.json"

_LOOKS = 3  # a save may replace the files between two reads; what is damaged stays so however often one looks
_NAME = re.compile(r"[A-Za-z0-9_.\-]{1,512}")


def save(
    planes: Mapping[str, PackedBits], provenance: Provenance, folder: Path, *, digest: str, overwrite: bool
) -> None:
    """Write the artifact into `folder`; see `CoreMask.save_pretrained`."""
    _require_writable(folder, digest=digest, overwrite=overwrite)
    entries, arrays = _encode_all(planes)
    staging = folder / f".{MASK_FILE}.new"
    # One key only: safetensors writes several in random order, and the same mask is to be the same file.
    replace_file(staging, lambda path: save_file(arrays, path, metadata={FORMAT: digest}))
    sha256 = sha256_of(staging)
    arriving = staging.replace(_arriving(folder, sha256))
    size = sum(plane.size for plane in planes.values())
    config = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "mask_file": MASK_FILE,
        "mask_sha256": sha256,
        "digest": digest,
        "density": sum(plane.count() for plane in planes.values()) / size if size else 0.0,
        "provenance": provenance.to_dict(),
        "tensors": {name: asdict(entry) for name, entry in entries.items()},
    }
    replace_json(folder / CONFIG_FILE, config)
    arriving.replace(folder / MASK_FILE)
    for pattern in (f".{MASK_FILE}.*", f"..{MASK_FILE}.*.tmp", f".{CONFIG_FILE}.*.tmp"):  # of killed saves
        for left_over in folder.glob(pattern):
            left_over.unlink(missing_ok=True)


def digest_of(planes: Mapping[str, PackedBits]) -> str:
    """Hex sha256 of names, shapes and bits: the identity of a mask, however it is stored."""
    digest = hashlib.sha256()
    for name, plane in sorted(planes.items()):
        digest.update(f"{name}|{list(plane.shape)}|".encode())
        digest.update(plane.data.tobytes())
    return digest.hexdigest()


def load(folder: Path) -> tuple[dict[str, PackedBits], Provenance]:
    """Read and check the artifact in `folder`; see `CoreMask.from_pretrained`."""
    for _ in range(_LOOKS - 1):
        with contextlib.suppress(CoreMaskFormatError):
            return _load(folder, read_config(folder))
    return _load(folder, read_config(folder))


def _load(folder: Path, config: Mapping[str, Any]) -> tuple[dict[str, PackedBits], Provenance]:
    entries = _entries(config)
    path = _mask_path(folder, config)
    try:
        with safe_open(path, framework="numpy") as file:
            planes = _decode_all(file, entries)
    except (SafetensorError, OSError) as error:
        raise CoreMaskFormatError(f"{path} is no readable safetensors file ({error}). Download it again.") from error
    if digest_of(planes) != config.get("digest"):
        raise CoreMaskFormatError(
            f"{folder / CONFIG_FILE} describes another mask than its digest names: it was altered. Download it again."
        )
    return planes, Provenance.from_dict(config.get("provenance", {}))


def read_config(folder: Path) -> dict[str, Any]:
    """The JSON half of an artifact, checked for format and version.

    Raises:
        InputError: There is no mask in `folder`.
        CoreMaskFormatError: The file is damaged or of a newer format.
    """
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise InputError(
            f"There is no core mask in {str(folder)!r}: expected a folder with {CONFIG_FILE} and {MASK_FILE}, as "
            "written by CoreMask.save_pretrained or `langcore find`."
        )
    try:
        config = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_unique_keys)
    except (ValueError, UnicodeDecodeError, RecursionError) as error:
        raise CoreMaskFormatError(f"{path} is no valid JSON ({error}). Download or compute the mask again.") from error
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise CoreMaskFormatError(f'{path} does not describe a core mask: expected "format": "{FORMAT}".')
    if config.get("format_version") != FORMAT_VERSION:
        raise CoreMaskFormatError(
            f"{path} has format version {config.get('format_version')!r}; this hf_langcore reads version "
            f"{FORMAT_VERSION}. Update hf_langcore."
        )
    return config


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


def _encode_all(planes: Mapping[str, PackedBits]) -> tuple[dict[str, Entry], dict[str, Bytes]]:
    entries: dict[str, Entry] = {}
    arrays: dict[str, Bytes] = {}
    for name, plane in planes.items():
        if not _NAME.fullmatch(name):
            raise InputError(f"{name!r} is no parameter name: letters, digits, '_', '-' and '.' only.")
        entries[name], parts = encode(plane)
        arrays |= {f"{name}:{part}": array for part, array in parts.items()}
    return entries, arrays


def _entries(config: Mapping[str, Any]) -> dict[str, Entry]:
    entries = {}
    try:
        for name, fields in config["tensors"].items():
            entry = Entry(**{**fields, "shape": tuple(map(_whole, fields["shape"]))})
            _whole(entry.count), _whole(entry.low_bits)
            if not _NAME.fullmatch(name):
                raise CoreMaskFormatError(f"{name!r} in {CONFIG_FILE} is no parameter name. The file was altered.")
            check_entry(name, entry)
            entries[name] = entry
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, CoreMaskFormatError):
            raise
        raise CoreMaskFormatError(
            f"{CONFIG_FILE} does not describe its tensors correctly ({error!r}). Download or compute the mask again."
        ) from error
    if not entries:
        raise CoreMaskFormatError(f"{CONFIG_FILE} lists no tensors. Download or compute the mask again.")
    return entries


def _mask_path(folder: Path, config: Mapping[str, Any]) -> Path:
    """The arrays that belong to `config`: the named file, or the one that an interrupted save left beside it."""
    expected = str(config.get("mask_sha256"))
    candidates = [folder / MASK_FILE]
    if _NAME.fullmatch(expected):
        candidates.insert(0, _arriving(folder, expected))  # first, because a running save moves it to the second
    problem = "is missing"
    for path in candidates:
        with contextlib.suppress(FileNotFoundError, IsADirectoryError):
            if sha256_of(path) == expected:
                return path
            problem = "does not have the sha256 that its config names: it was truncated or altered"
    raise CoreMaskFormatError(f"{folder / MASK_FILE} {problem}. Download or compute the mask again.")


def _arriving(folder: Path, sha256: str) -> Path:
    return folder / f".{MASK_FILE}.{sha256[:16]}"


def _decode_all(file: Any, entries: Mapping[str, Entry]) -> dict[str, PackedBits]:
    expected = {f"{name}:{part}" for name, entry in entries.items() for part in entry.part_shapes()}
    if expected != set(file.keys()):
        odd = min(expected.symmetric_difference(file.keys()))
        raise CoreMaskFormatError(
            f"{MASK_FILE} and {CONFIG_FILE} name different arrays, the first is {odd!r}. Download the mask again."
        )
    planes = {}
    for name, entry in entries.items():
        parts = {part: np.asarray(file.get_tensor(f"{name}:{part}")) for part in entry.part_shapes()}
        planes[name] = decode(name, entry, parts)
    return planes


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    if len(set(keys)) != len(keys):
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} stands twice")
    return dict(pairs)


def _whole(value: Any) -> int:
    if type(value) is not int:
        raise TypeError(f"expected a whole number, got {value!r}")
    return value
