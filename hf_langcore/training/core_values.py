"""`core_values.safetensors`: the values that a frozen core had when training began.

It lies in the output folder of a run. Resuming takes the core from it and not from the checkpoint, so that a
checkpoint in which the core has drifted is put right instead of being believed.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from hf_langcore.errors import ConfigurationError
from hf_langcore.files import replace_file

CORE_VALUES_FILE = "core_values.safetensors"
FORMAT = "hf_langcore.core_values"
FORMAT_VERSION = "1"

_TRUE, _FALSE = "true", "false"
_KEYS = {"format", "format_version", "digest", "from_base", "content_sha256"}

_REMEDY = (
    "Copy the file from the output folder in which the run began, name the base model with base_values=, or start "
    "again without resume_from_checkpoint."
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CoreValues:
    """What a run began with.

    Attributes:
        values: Parameter name -> values of its core weights, in storage order.
        from_base: Whether the run began from the weights that the mask was found on, or from ones derived from them.
    """

    values: dict[str, torch.Tensor]
    from_base: bool


def write_core_values(folder: Path, values: Mapping[str, torch.Tensor], *, digest: str, from_base: bool) -> None:
    """Write the values of a core into an output folder, all or nothing.

    Args:
        folder: The output folder.
        values: Parameter name -> values of its core weights, in storage order.
        digest: Digest of the core mask.
        from_base: Whether the run begins from the mask's base; a resumed run cannot tell from its drifted weights.
    """
    path = folder / CORE_VALUES_FILE
    if path.is_file() and _metadata(path).get("digest") != digest:
        logger.warning(
            "%s belongs to another core mask and is replaced: a new run starts in this output folder. Older "
            "checkpoints in it can no longer be resumed with their own mask, except with base_values=.",
            path,
        )
    on_cpu = {name: value.detach().cpu().contiguous() for name, value in values.items()}
    metadata = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "digest": digest,
        "from_base": _TRUE if from_base else _FALSE,
    }
    metadata["content_sha256"] = _checksum(on_cpu, metadata)
    replace_file(path, lambda temporary: save_file(on_cpu, temporary, metadata=metadata))


def read_core_values(folder: Path, *, digest: str) -> CoreValues:
    """Read what a run began with.

    Args:
        folder: The output folder.
        digest: Digest of the core mask of this run.

    Raises:
        ConfigurationError: The file is missing, damaged, of a newer format or of another core mask.
    """
    path = folder / CORE_VALUES_FILE
    if not path.is_file():
        raise ConfigurationError(
            f"Training resumes from a checkpoint, but {path} is missing: without the values that the core had when "
            f"the run began it cannot be told whether the checkpoint still has them. {_REMEDY}"
        )
    metadata = _metadata(path)
    if metadata.get("format") != FORMAT or metadata.get("format_version") != FORMAT_VERSION:
        raise ConfigurationError(
            f"{path} is damaged or was written by another version of hf_langcore: expected {FORMAT!r}, version "
            f"{FORMAT_VERSION}, got {_shown(metadata)}. {_REMEDY}"
        )
    if metadata.get("digest") != digest:
        raise ConfigurationError(
            f"{path} belongs to another core mask: its digest is {str(metadata.get('digest'))[:80]!r}, that of core_mask is "
            f"{digest}. Resume with the mask that the run began with, or start a new run in another output_dir."
        )
    with safe_open(path, framework="pt") as file:
        values = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 the handle is no dict
    # Files of before there was a checksum have none.
    if metadata.get("content_sha256", found := _checksum(values, metadata)) != found or not metadata.keys() <= _KEYS:
        raise ConfigurationError(f"{path} was damaged or altered after it was written. {_REMEDY}")
    return CoreValues(values, metadata.get("from_base") == _TRUE)


def began_from_base(folder: Path, *, digest: str) -> bool | None:
    """Whether the run in an output folder began from the mask's base; None where no file says so for this mask."""
    path = folder / CORE_VALUES_FILE
    metadata = _metadata(path) if path.is_file() else {}
    if metadata.get("format") != FORMAT or metadata.get("digest") != digest:
        return None
    return metadata.get("from_base") == _TRUE


def _checksum(values: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> str:
    """Hex sha256 of all values and of what is said about them."""
    digest = hashlib.sha256(f"{metadata.get('digest')}|{metadata.get('from_base')}".encode())
    for name, value in sorted(values.items()):
        digest.update(f"|{name}|{value.dtype}|{list(value.shape)}|".encode())
        digest.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().data if value.numel() else b"")
    return digest.hexdigest()


def _metadata(path: Path) -> dict[str, str]:
    """The header of the file; empty where it cannot be read."""
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError):
        return {}


def _shown(metadata: Mapping[str, str]) -> str:
    return repr(metadata)[:200] if metadata else "no such header"
