"""Importance scores on disk: one safetensors file of float32 tensors, and `importance_config.json`, format version 1.

The arrays lie in a file that is named by its sha256, and the JSON file names it; replacing scores is one rename, that
of the JSON file. Scores take four bytes a weight, so they are read tensor by tensor when they are asked for.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from hf_langcore.errors import ArtifactExistsError, CoreMaskFormatError, InputError
from hf_langcore.files import replace_file, replace_json, sha256_of
from hf_langcore.masks.provenance import Provenance
from hf_langcore.sealing import SEAL, is_intact, sealed
from hf_langcore.strict_json import read_json

FORMAT = "hf_langcore.importance"
FORMAT_VERSION = 1
CONFIG_FILE = "importance_config.json"

_LIMIT = 1 << 25
_KEYS = {"format", "format_version", "scores_file", "scores_sha256", "provenance", "tensors", SEAL}
_LOOKS = 3  # a save may replace the files between two reads
_STAGING = ".importance_scores.new"
_ARRAYS = re.compile(r"importance_scores\.[0-9a-f]{16}\.safetensors")


class StoredScores(Mapping[str, torch.Tensor]):
    """The tensors of a safetensors file, each read when it is asked for.

    The file is held open, so that the scores stay what they are when somebody replaces it.
    """

    def __init__(self, path: Path, names: list[str]) -> None:
        self._file: Any = safe_open(path, framework="pt")
        self._names = dict.fromkeys(names)

    def __getitem__(self, name: str) -> torch.Tensor:
        if name not in self._names:
            raise KeyError(name)
        mapped: torch.Tensor = self._file.get_tensor(name)
        return mapped.clone()  # all looks at a mapped file share their memory

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def shapes(self) -> dict[str, list[int]]:
        """Shapes and dtypes as the file's header tells them, without reading a tensor."""
        slices = {name: self._file.get_slice(name) for name in self._file.keys()}  # noqa: SIM118 not a dict
        return {name: part.get_shape() for name, part in slices.items() if part.get_dtype() == "F32"}


def save(tensors: Mapping[str, torch.Tensor], provenance: Provenance, folder: Path, *, overwrite: bool) -> None:
    """Write scores into `folder`; see `ImportanceScores.save_pretrained`."""
    _require_folder(folder)
    arrays = {name: np.ascontiguousarray(value.numpy()) for name, value in tensors.items()}
    staging = folder / _STAGING
    replace_file(staging, lambda path: save_file(arrays, path))
    try:
        sha256 = sha256_of(staging)
        if not overwrite:
            _require_same(folder, sha256)
        scores_file = f"importance_scores.{sha256[:16]}.safetensors"
        staging.replace(folder / scores_file)
    finally:
        staging.unlink(missing_ok=True)
    config = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "scores_file": scores_file,
        "scores_sha256": sha256,
        "provenance": provenance.to_dict(),
        "tensors": {name: list(array.shape) for name, array in arrays.items()},
    }
    replace_json(folder / CONFIG_FILE, sealed(config))
    stale = [path for path in folder.iterdir() if _ARRAYS.fullmatch(path.name) and path.name != scores_file]
    for left_over in (*stale, *folder.glob(f".{_STAGING}.*.tmp"), *folder.glob(f".{CONFIG_FILE}.*.tmp")):
        left_over.unlink(missing_ok=True)


def load(folder: Path) -> tuple[StoredScores, Provenance]:
    """Check the scores in `folder` and open them; see `ImportanceScores.from_pretrained`."""
    for _ in range(_LOOKS - 1):
        with contextlib.suppress(CoreMaskFormatError):
            return _load(folder, read_config(folder))
    return _load(folder, read_config(folder))


def read_config(folder: Path) -> dict[str, Any]:
    """The JSON half, checked for format and version.

    Raises:
        InputError: There are no scores in `folder`.
        CoreMaskFormatError: The file is damaged or of a newer format.
    """
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise InputError(
            f"There are no importance scores in {str(folder)!r}: expected a folder with {CONFIG_FILE}, as written by "
            "ImportanceScores.save_pretrained."
        )
    try:
        config = read_json(path, limit=_LIMIT)
    except ValueError as error:
        raise CoreMaskFormatError(f"{path} is no valid JSON ({error}). Compute the scores again.") from error
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise CoreMaskFormatError(f'{path} does not describe importance scores: expected "format": "{FORMAT}".')
    version = config.get("format_version")
    if type(version) is not int or version != FORMAT_VERSION:
        raise CoreMaskFormatError(
            f"{path} has format version {repr(version)[:80]}; this hf_langcore reads version {FORMAT_VERSION}. Update "
            "hf_langcore."
        )
    if not is_intact(config, may_lack=True) or not config.keys() <= _KEYS:
        raise CoreMaskFormatError(
            f"{path} was damaged or altered after it was written: its content has another checksum than it names. Compute "
            "the scores again."
        )
    return config


def _load(folder: Path, config: Mapping[str, Any]) -> tuple[StoredScores, Provenance]:
    name, shapes = config.get("scores_file"), config.get("tensors")
    if not isinstance(name, str) or not _ARRAYS.fullmatch(name) or not isinstance(shapes, dict) or not shapes:
        raise CoreMaskFormatError(
            f"{folder / CONFIG_FILE} does not name its file and tensors correctly: it was altered. Compute the scores "
            "again."
        )
    path = folder / name
    try:
        if not path.is_file():  # a pipe or a device would be read for ever
            raise OSError("it is missing or no ordinary file")  # noqa: TRY301 one message for all
        if sha256_of(path) != config.get("scores_sha256"):
            raise CoreMaskFormatError(
                f"{path} does not have the sha256 that its config names: it was truncated or altered. Compute the "
                "scores again."
            )
        stored = StoredScores(path, list(shapes))
        if stored.shapes() != shapes:
            raise CoreMaskFormatError(f"{path} holds other tensors than {CONFIG_FILE} says. Compute the scores again.")
    except (SafetensorError, OSError) as error:
        raise CoreMaskFormatError(f"{path} cannot be read ({error}). Compute the scores again.") from error
    return stored, Provenance.from_dict(config.get("provenance", {}))


def _require_folder(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise ArtifactExistsError(f"Cannot save scores into {str(folder)!r}: it is a file. Name a folder.")


def _require_same(folder: Path, sha256: str) -> None:
    """Refuse to replace other scores than those that are about to be saved."""
    if not (folder / CONFIG_FILE).exists():
        return
    with contextlib.suppress(CoreMaskFormatError):
        if read_config(folder).get("scores_sha256") == sha256:
            return
    raise ArtifactExistsError(
        f"{str(folder)!r} already holds other importance scores. Save into a new folder, or pass overwrite=True."
    )
